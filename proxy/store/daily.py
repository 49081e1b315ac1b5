"""Sums by day: made of the hourly ones when a day is long over, dropped by whatever changes one of its hours.

Reports read them where they can, and the hourly ones elsewhere, so that their answers don't depend on whether, or when, the
daily ones were made.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from proxy.store.postgres import Connection, Pool, statements

_SQL = statements("daily")
DAYS_MAX = 2000
"""Made in one go; the rest next time."""
DAY = timedelta(days=1)
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)


async def make_due(pool: Pool, now: datetime) -> int:
    """Make the sums of every day that is over since three days or longer and has none; returns how many were made."""
    made = 0
    for row in await pool.fetch(_SQL["due"], now, DAYS_MAX):
        async with pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SQL["lock"], row["day"]):
                await connection.execute(_SQL["clear"], row["day"])
                await connection.execute(_SQL["make"], row["day"])
                await connection.execute(_SQL["made"], row["day"])
                made += 1
    return made


async def stretch(connection: Connection, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """The longest stretch of whole UTC days within [start, end) that have sums; (end, end) when there is none."""
    first = _FIRST + -(-(start - _FIRST) // DAY) * DAY
    last = _FIRST + (end - _FIRST) // DAY * DAY
    row = await connection.fetchrow(_SQL["stretch"], first, last) if first < last else None
    return (row["first"], row["last"]) if row is not None else (end, end)
