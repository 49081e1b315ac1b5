"""Keys of administrators: `sk-admin-…`, stored as a hash, scoped to reading or writing and, optionally, to one group."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal

from proxy.core import key as proxy_key
from proxy.store import conflicts
from proxy.store.ids import new_id
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row, found

Scope = Literal["read", "write"]
GIVEN_CHARS_MIN = 16
_SQL = statements("admin_keys")


async def create_admin_key(
    connection: Connection,
    *,
    name: str,
    scope: Scope = "write",
    group_id: str | None = None,
    expires_at: datetime | None = None,
    key: str | None = None,
) -> tuple[Row, str]:
    """A new admin key and its text, which is not stored. `key` is one chosen by the operator (PROXY_ADMIN_KEY).

    A key that exists already is a TakenError; see ensure_admin_key.
    """
    if key is not None and len(key) < GIVEN_CHARS_MIN:
        raise ValueError(f"an admin key has at least {GIVEN_CHARS_MIN} characters")
    text = key or proxy_key.make_key(secrets.token_bytes(proxy_key.RANDOM_BYTES), proxy_key.ADMIN_PREFIX)
    with conflicts.named():
        row: Row = await connection.fetchrow(
            _SQL["create"],
            new_id("admin"),
            name,
            proxy_key.digest(text.encode()),
            proxy_key.mask(text),
            scope,
            group_id,
            expires_at,
        )
    return row, text


async def ensure_admin_key(connection: Connection, *, name: str, key: str) -> Row:
    """The row of a key from the settings, made when there is none. A revoked one stays revoked."""
    row: Row | None = await connection.fetchrow(_SQL["by_digest"], proxy_key.digest(key.encode()))
    if row is None:
        try:
            row, _ = await create_admin_key(connection, name=name, key=key)
        except conflicts.TakenError:  # another worker was first
            row = await connection.fetchrow(_SQL["by_digest"], proxy_key.digest(key.encode()))
    assert row is not None
    return row


async def any_admin_key(connection: Connection) -> bool:
    """True when somebody can administrate everything: a live key with scope write and no group."""
    return bool(await connection.fetchval(_SQL["exists_any"]))


async def live_admin_key(connection: Connection, text: str) -> Row | None:
    """The live key with this text (`id, name, scope, group_id, masked`), or None."""
    row: Row | None = await connection.fetchrow(_SQL["live"], proxy_key.digest(text.encode()))
    return row


async def fetch_admin_key(connection: Connection, admin_key_id: str) -> Row:
    """One admin key. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["fetch"], admin_key_id), "admin key", admin_key_id)


async def list_admin_keys(
    connection: Connection, *, limit: int = 100, offset: int = 0
) -> tuple[list[Row], int]:
    """One page in the order they were made, and how many there are on all pages."""
    return await connection.fetch(_SQL["list"], limit, offset), await connection.fetchval(_SQL["count"])


async def revoke_admin_key(connection: Connection, admin_key_id: str) -> Row:
    """Revoked from now on; the row stays for the audit log. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["revoke"], admin_key_id), "admin key", admin_key_id)
