"""Monthly partitions of usage records: made ahead of time, and dropped whole when their retention is over.

Any number of workers may call any of this at once. A lock that isn't to be had within seconds raises LockNotAvailable
(a PostgresError): try again later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from proxy.store.postgres import Pool, statements

MONTHS_AHEAD = 3
STRAYS_AHEAD_DAYS = 400
"""Records that claim to begin later than this stay in the default partition: some clock is wrong."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One month of records."""

    name: str
    starts: datetime
    ends: datetime
    rows_estimate: int
    bytes: int
    """Indexes included."""


async def not_ahead(pool: Pool, now: datetime) -> datetime:
    """`now`, or Postgres' time where that is earlier: a clock that jumped ahead must make nothing look old."""
    found: datetime = await pool.fetchval(statements("partitions")["not_ahead"], now)
    return found


async def make_ahead(pool: Pool, now: datetime, oldest: datetime) -> list[datetime]:
    """Make the partitions of this month and the MONTHS_AHEAD next, and of months with records in the default one.

    `oldest`: records before it are about to go, so that they get none. Returns the months made, by their first moment.
    """
    named = statements("partitions")
    months = {_month_later(now, count) for count in range(MONTHS_AHEAD + 1)}
    strays = await pool.fetch(named["strays"], oldest, now + timedelta(days=STRAYS_AHEAD_DAYS))
    months |= {row["month"] for row in strays}
    return [month for month in sorted(months) if await pool.fetchval(named["make"], month)]


async def all_of(pool: Pool) -> list[Partition]:
    """Every monthly partition, the oldest first."""
    return [Partition(*row) for row in await pool.fetch(statements("partitions")["list"])]


async def expired(pool: Pool, cutoff: datetime) -> list[Partition]:
    """Those whose records all began before `cutoff`: what `drop` would remove."""
    return [each for each in await all_of(pool) if each.ends <= cutoff]


async def drop(pool: Pool, name: str, cutoff: datetime) -> bool:
    """Drop one partition, at once and for ever. False: it is gone already, or has younger records."""
    return bool(await pool.fetchval(statements("partitions")["drop"], name, cutoff))


async def count_strays(pool: Pool, cutoff: datetime) -> int:
    """How many records before `cutoff` lie in the default partition."""
    return int(await pool.fetchval(statements("partitions")["count_strays_before"], cutoff))


async def delete_strays(pool: Pool, cutoff: datetime) -> int:
    """Delete them, in small steps; returns how many there were."""
    total = 0
    while deleted := int(await pool.fetchval(statements("partitions")["delete_strays_before"], cutoff)):
        total += deleted
    return total


def _month_later(moment: datetime, months: int) -> datetime:
    count = moment.year * 12 + moment.month - 1 + months
    return datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)
