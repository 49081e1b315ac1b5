"""Records at the edges of hours, days and months, and records that come long after their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from proxy.core.period import Period
from proxy.core.quota import Charge
from proxy.core.spoolformat import encode_record
from proxy.store import folds, partitions, quotas, records, stats
from proxy.store.quotas import Rule
from proxy.store.stats import Grouping, Question
from tests.exchanges import make_record

MIDNIGHT = datetime(2025, 11, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
NOW = datetime(2025, 11, 20, 12, tzinfo=UTC)


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // US


async def by(pool: asyncpg.Pool, dimension: str, zone: str = "UTC") -> dict[str, int]:
    period = Period(datetime(2025, 1, 1, tzinfo=UTC), NOW, ZoneInfo(zone))
    async with pool.acquire() as connection:
        rows, _ = await stats.by(
            connection, Question(period, NOW), Grouping(dimension, sort="name", ascending=True)
        )
    return {row["first"]: row["requests"] for row in rows}


@pytest.fixture
async def at_midnight(pool: asyncpg.Pool) -> None:
    """One record in October's last microsecond, two in November's first; of the latter one ended before the former."""
    await partitions.make_ahead(pool, MIDNIGHT - timedelta(days=3), datetime(2025, 1, 1, tzinfo=UTC))
    lines = [
        make_record(1, started_at_us=micros(MIDNIGHT)),
        make_record(2, started_at_us=micros(MIDNIGHT)),
        make_record(3, started_at_us=micros(MIDNIGHT - US), duration_ms=600_000),
    ]
    for line in lines:
        await records.store(pool, [encode_record(line)])


@pytest.mark.usefixtures("at_midnight")
async def test_a_record_belongs_to_the_moment_it_began_in_every_sum_and_place(pool: asyncpg.Pool) -> None:
    assert await by(pool, "month") == {"2025-10": 1, "2025-11": 2}
    assert await by(pool, "day") == {"2025-10-31": 1, "2025-11-01": 2}
    assert await by(pool, "hour") == {"2025-10-31T23:00": 1, "2025-11-01T00:00": 2}
    assert await by(pool, "day", "America/Sao_Paulo") == {"2025-10-31": 3}
    rows = await pool.fetch(
        "select tableoid::regclass::text as name, count(*) from usage_records group by 1 order by 1"
    )
    assert [tuple(row) for row in rows] == [("usage_records_2025_10", 1), ("usage_records_2025_11", 2)]


@pytest.mark.usefixtures("at_midnight")
async def test_a_record_that_comes_when_its_day_was_summed_already_is_in_its_day(pool: asyncpg.Pool) -> None:
    assert await folds.make_due(pool, NOW) > 2
    assert await by(pool, "day") == {"2025-10-31": 1, "2025-11-01": 2}
    late = make_record(4, started_at_us=micros(MIDNIGHT - timedelta(minutes=5)), duration_ms=900_000)
    await records.store(pool, [encode_record(late)])
    assert await by(pool, "day") == {"2025-10-31": 2, "2025-11-01": 2}
    assert await folds.make_due(pool, NOW) == 1
    assert await by(pool, "day") == {"2025-10-31": 2, "2025-11-01": 2}


async def test_a_request_before_midnight_is_charged_to_the_window_it_was_admitted_in(
    pool: asyncpg.Pool,
) -> None:
    quota = await quotas.create_quota(pool, "user", "user_a", Rule("tokens", "month", 10**9))
    october = int(datetime(2025, 10, 1, tzinfo=UTC).timestamp())
    line = make_record(
        1,
        started_at_us=micros(MIDNIGHT - US),
        duration_ms=600_000,
        charges=(Charge(quota["id"], october, "user_a", 100),),
    )
    await records.store(pool, [encode_record(line)])
    rows = await pool.fetch(
        "select window_start, settled from quota_windows where quota_id = $1", quota["id"]
    )
    assert [tuple(row) for row in rows] == [(datetime(2025, 10, 1, tzinfo=UTC), 100)]


async def test_records_of_a_wrong_clock_are_kept_and_dropped_by_nobody(pool: asyncpg.Pool) -> None:
    for number, year in enumerate((1999, 2099)):
        moment = datetime(year, 6, 15, tzinfo=UTC)
        await records.store(pool, [encode_record(make_record(number, started_at_us=micros(moment)))])
    await partitions.make_ahead(pool, NOW, datetime(2025, 1, 1, tzinfo=UTC))
    rows = await pool.fetch("select tableoid::regclass::text as name from usage_records")
    assert {row["name"] for row in rows} == {"usage_records_default"}
    assert await by(pool, "year") == {}
    await records.void(
        pool, (await pool.fetchrow("select id from usage_records order by started_at desc"))["id"], "clock"
    )
    assert await pool.fetchval("select sum(requests)::int from usage_hourly") == 1
