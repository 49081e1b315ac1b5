"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Access = Literal["anyone", "user", "read", "write"]
"""anyone: no credential; user: a live proxy key; read and write: an administrator with at least this scope."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks. An administrator with a `group_id` sees and changes that group only."""

    kind: Literal["nobody", "user", "admin_key", "jwt", "cli"]
    id: str
    name: str | None = None
    scope: Literal["read", "write"] | None = None
    group_id: str | None = None
    user_id: str | None = None
    key_id: str | None = None


NOBODY = Actor(kind="nobody", id="nobody")
