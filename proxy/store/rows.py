"""What statements return, and how a person's words become parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from proxy.store.conflicts import MissingError

Row: TypeAlias = Mapping[str, Any]


def like(words: str | None) -> str | None:
    """A search box's text as an `ilike` pattern that finds it anywhere; its own wildcards mean themselves."""
    if not words:
        return None
    escaped = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def found(row: Row | None, kind: str, named: str) -> Row:
    """The row, or MissingError in words: there is no user 'user_1'."""
    if row is None:
        raise MissingError(kind.replace(" ", "_"), f"there is no {kind} {named!r}")
    return row
