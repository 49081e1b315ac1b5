"""FLOOR 2. The data plane: the pass, the upstream connections, live keys, live quotas, the recorder and its spool."""
