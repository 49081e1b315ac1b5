"""Users and groups: create, read, change, list.

Writers only write rows; triggers tell every gateway, so a deactivated user's keys stop within a second. Rows are returned
as mappings of the table's columns. A broken constraint is a TakenError or MissingError that names the field.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from proxy.store import conflicts
from proxy.store.admin_keys import create_admin_key
from proxy.store.ids import new_id
from proxy.store.issued_keys import create_key
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row, found, like

__all__ = [
    "change_group",
    "change_user",
    "create_admin_key",
    "create_group",
    "create_key",
    "create_user",
    "fetch_group",
    "fetch_user",
    "find_group",
    "find_user",
    "list_groups",
    "list_users",
]
_SQL = statements("people")


async def create_user(
    connection: Connection,
    *,
    name: str | None = None,
    email: str | None = None,
    external_id: str | None = None,
    group_id: str | None = None,
    plan_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    active: bool = True,
) -> Row:
    """A new user, with no name or address if need be. Raises TakenError (email, external_id) or MissingError (group, plan)."""
    with conflicts.named():
        row: Row = await connection.fetchrow(
            _SQL["create_user"],
            new_id("user"),
            name,
            email,
            external_id,
            group_id,
            plan_id,
            dict(tags or {}),
            dict(settings or {}),
            active,
        )
    return row


async def change_user(connection: Connection, user_id: str, change: Mapping[str, Any]) -> Row:
    """Set the columns that `change` names. Raises MissingError when there is no such user, or as create_user."""
    with conflicts.named():
        row = await connection.fetchrow(_SQL["change_user"], user_id, dict(change))
    return found(row, "user", user_id)


async def fetch_user(connection: Connection, user_id: str) -> Row:
    """The user with `group_name` and `plan_name`. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["fetch_user"], user_id), "user", user_id)


async def find_user(connection: Connection, named: str, *, group_id: str | None = None) -> Row:
    """A user by id, external id or e-mail address, within `group_id` when given. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["find_user"], named, group_id), "user", named)


async def list_users(
    connection: Connection,
    *,
    search: str | None = None,
    group_id: str | None = None,
    plan_id: str | None = None,
    active: bool | None = None,
    tags: Mapping[str, str] | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """One page of users in the order they were made, and how many there are on all pages."""
    where = (like(search), group_id, plan_id, active, dict(tags) if tags else None)
    rows = await connection.fetch(_SQL["list_users"], *where, limit, offset)
    return rows, await connection.fetchval(_SQL["count_users"], *where)


async def create_group(
    connection: Connection,
    *,
    name: str,
    external_id: str | None = None,
    plan_id: str | None = None,
    tags: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    active: bool = True,
) -> Row:
    """A new group. Raises TakenError (external_id) or MissingError (plan)."""
    with conflicts.named():
        row: Row = await connection.fetchrow(
            _SQL["create_group"],
            new_id("group"),
            name,
            external_id,
            plan_id,
            dict(tags or {}),
            dict(settings or {}),
            active,
        )
    return row


async def change_group(connection: Connection, group_id: str, change: Mapping[str, Any]) -> Row:
    """Set the columns that `change` names. Raises MissingError when there is no such group, or as create_group."""
    with conflicts.named():
        row = await connection.fetchrow(_SQL["change_group"], group_id, dict(change))
    return found(row, "group", group_id)


async def fetch_group(connection: Connection, group_id: str) -> Row:
    """The group with `plan_name` and its number of `users`. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["fetch_group"], group_id), "group", group_id)


async def find_group(connection: Connection, named: str) -> Row:
    """A group by id, external id or, when only one has it, name. Raises MissingError."""
    rows: list[Row] = await connection.fetch(_SQL["find_groups"], named)
    exact = [row for row in rows if named in (row["id"], row["external_id"])]
    if exact:
        return exact[0]
    if len(rows) > 1:
        raise conflicts.MissingError("group", f"several groups are named {named!r}: give an id")
    return found(rows[0] if rows else None, "group", named)


async def list_groups(
    connection: Connection,
    *,
    search: str | None = None,
    group_id: str | None = None,
    active: bool | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """One page of groups in the order they were made, and how many there are on all pages."""
    where = (like(search), group_id, active)
    rows = await connection.fetch(_SQL["list_groups"], *where, limit, offset)
    return rows, await connection.fetchval(_SQL["count_groups"], *where)
