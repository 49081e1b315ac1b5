"""Proxy keys as rows: issue, change, rotate, revoke, list. The key's text is returned once and never stored."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from proxy.core import key as proxy_key
from proxy.store import conflicts
from proxy.store.ids import new_id
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row, found, like

_SQL = statements("people")


async def create_key(
    connection: Connection,
    *,
    user_id: str,
    name: str | None = None,
    expires_at: datetime | None = None,
    service: bool = False,
    creates_users: bool = False,
    default_operation: str | None = None,
    default_tags: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> tuple[Row, str]:
    """A new proxy key of a user and its text. Raises MissingError when there is no such user."""
    text = proxy_key.make_key(secrets.token_bytes(proxy_key.RANDOM_BYTES))
    with conflicts.named():
        row = await connection.fetchrow(
            _SQL["create_key"],
            new_id("key"),
            user_id,
            name,
            proxy_key.digest(text.encode()),
            proxy_key.mask(text),
            service,
            creates_users,
            default_operation,
            dict(default_tags or {}),
            dict(settings or {}),
            expires_at,
        )
    return row, text


async def change_key(connection: Connection, key_id: str, change: Mapping[str, Any]) -> Row:
    """Set the columns that `change` names. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["change_key"], key_id, dict(change)), "key", key_id)


async def fetch_key(connection: Connection, key_id: str) -> Row:
    """The key with its user's `group_id`. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["fetch_key"], key_id), "key", key_id)


async def list_keys(
    connection: Connection,
    *,
    user_id: str | None = None,
    group_id: str | None = None,
    search: str | None = None,
    live: bool | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """One page of keys in the order they were issued, and how many there are on all pages."""
    where = (user_id, group_id, like(search), live)
    rows = await connection.fetch(_SQL["list_keys"], *where, limit, offset)
    return rows, await connection.fetchval(_SQL["count_keys"], *where)


async def revoke_key(connection: Connection, key_id: str) -> Row:
    """Refused from now on, for good. Revoking twice keeps the first time. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["revoke_key"], key_id), "key", key_id)


async def rotate_key(connection: Connection, key_id: str, *, grace_s: float = 0) -> tuple[Row, str]:
    """A successor with the same rules, and the old key ended: at once, or after `grace_s` seconds.

    Run it in a transaction. Raises MissingError, or TakenError when the key is revoked or expired already.
    """
    old = found(await connection.fetchrow(_SQL["lock_key"], key_id), "key", key_id)
    if old["revoked_at"] is not None:
        raise conflicts.TakenError("id", "this key is revoked: issue a new one")
    made = await create_key(
        connection,
        user_id=old["user_id"],
        name=old["name"],
        expires_at=old["expires_at"],
        service=old["service"],
        creates_users=old["creates_users"],
        default_operation=old["default_operation"],
        default_tags=old["default_tags"],
        settings=old["settings"],
    )
    if grace_s > 0:
        await connection.fetchrow(_SQL["expire_key"], key_id, timedelta(seconds=grace_s))
    else:
        await revoke_key(connection, key_id)
    return made


async def live_key(connection: Connection, text: str) -> Row | None:
    """Who a proxy key belongs to, while key, user and group are live: `key_id, user_id, group_id, name, email …`."""
    row: Row | None = await connection.fetchrow(_SQL["live_key"], proxy_key.digest(text.encode()))
    return row
