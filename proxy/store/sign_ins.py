"""Browsers signed in to the dashboard: a random cookie that stands for an admin key, a proxy key or a token.

Any worker of any replica accepts it, because it is a row. It ends with the credential it was made with, after IDLE without
use, after LONGEST in any case, and when its user signs out. Only digests are stored.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime, timedelta

from proxy.store.postgres import Connection, Pool, statements
from proxy.store.rows import Row

IDLE = timedelta(hours=1)
LONGEST = timedelta(hours=12)
COOKIE_BYTES = 32
_SQL = statements("sign_ins")


async def create(
    connection: Connection,
    *,
    kind: str,
    credential: str | None,
    subject: str,
    name: str | None = None,
    scope: str | None = None,
    group_id: str | None = None,
    expires_at: datetime | None = None,
) -> tuple[Row, str]:
    """A sign-in and its cookie's value, which is not stored. `credential` None: a token that ends at `expires_at`."""
    cookie = secrets.token_urlsafe(COOKIE_BYTES)
    await connection.execute(_SQL["prune"], IDLE)
    row: Row = await connection.fetchrow(
        _SQL["create"],
        digest(cookie),
        kind,
        None if credential is None else digest(credential),
        subject,
        name,
        scope,
        group_id,
        LONGEST,
        expires_at,
    )
    return row, cookie


async def live(pool: Pool | Connection, cookie: str) -> Row | None:
    """The sign-in of a cookie, with `owner`: the live row of its key (None for a token). None: it is over."""
    row: Row | None = await pool.fetchrow(_SQL["live"], digest(cookie), IDLE)
    if row is None:
        return None
    found = dict(row) | {"owner": None}
    if row["kind"] != "jwt":
        sql = statements("people")["live_key"] if row["kind"] == "user" else statements("admin_keys")["live"]
        found["owner"] = await pool.fetchrow(sql, row["credential"])
        if found["owner"] is None:
            return None
    if row["worn"]:
        await pool.execute(_SQL["touch"], row["digest"])
    return found


async def end(connection: Connection, cookie: str) -> bool:
    """Sign out. False: it was over already."""
    return await connection.fetchval(_SQL["end"], digest(cookie)) is not None


def digest(text: str) -> bytes:
    """SHA-256."""
    return hashlib.sha256(text.encode()).digest()
