"""FLOOR 2. The control plane: admin API, /me, health, metrics, dashboard. It writes rows; the gateway hears NOTIFY."""
