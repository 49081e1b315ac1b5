"""The audit log: written in the transaction of what it tells of, never changed, read by administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row

_SQL = statements("audit")
EXPORT_BATCH = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """One action. `before` and `after` are JSON values and hold no secret: keys appear masked."""

    actor: str
    """`admin_key:admin_…`, `jwt:<subject>`, `user:user_…` or `cli:<login>`."""
    address: str | None
    action: str
    """Kind and verb: `user.create`, `key.revoke`, `records.read`."""
    subject: str
    before: Any = None
    after: Any = None


async def write(connection: Connection, entries: Iterable[Entry]) -> None:
    """Add the entries."""
    rows = [
        (each.actor, each.address, each.action, each.subject, each.before, each.after) for each in entries
    ]
    if rows:
        await connection.executemany(_SQL["write"], rows)


async def list_audit(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """One page, newest first, and how many entries there are on all pages."""
    where = (actor, action, subject, start, end)
    rows = await connection.fetch(_SQL["list"], *where, limit, offset)
    return rows, await connection.fetchval(_SQL["count"], *where)


async def export_audit(
    connection: Connection,
    *,
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
) -> AsyncIterator[list[Row]]:
    """All entries, newest first, in batches, within the caller's transaction."""
    cursor = await connection.cursor(_SQL["list"], actor, action, subject, start, end, None, 0)
    while rows := await cursor.fetch(EXPORT_BATCH):
        yield rows
