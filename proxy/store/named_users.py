"""Users as service keys name them: found by id, external id or e-mail, and created on sight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.store.ids import new_id
from proxy.store.postgres import Pool, statements

_SQL = statements("named_users")


@dataclass(frozen=True, slots=True)
class NamedUser:
    """What binds a user that has no key of its own here."""

    id: str
    group_id: str | None
    plan_id: str | None
    active: bool
    settings: dict[str, Any]


async def find(pool: Pool, name: str, *, create: bool = False) -> NamedUser | None:
    """The user of that id, external id or e-mail; with `create`, a new one where there is none. One or three round trips."""
    row = await pool.fetchrow(_SQL["find_named_user"], name)
    if row is None and create:
        is_address = "@" in name
        await pool.execute(
            _SQL["create_named_user"],
            new_id("user"),
            name,
            None if is_address else name,
            name if is_address else None,
        )
        row = await pool.fetchrow(_SQL["find_named_user"], name)
    return None if row is None else NamedUser(**row)
