"""CommandError: what a command says when it can't do its work because of something a person can mend."""

from __future__ import annotations

EXIT_MISUSE = 2
"""Exit code for a bad setting, a port in use, wrong database credentials: nothing that trying again would mend."""


class CommandError(Exception):
    """One line for a person, printed on stderr; the command ends with EXIT_MISUSE and no traceback."""
