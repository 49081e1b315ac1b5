from __future__ import annotations

import asyncio
import datetime as dt

import asyncpg
import pytest

from proxy.core.spoolformat import encode_record
from proxy.store import partitions, records
from proxy.store.postgres import PostgresError
from tests.exchanges import make_record

NOW = dt.datetime(2025, 10, 9, 12, tzinfo=dt.UTC)
DAY_US = 86_400_000_000


def month(year: int, number: int) -> dt.datetime:
    return dt.datetime(year, number, 1, tzinfo=dt.UTC)


async def where_records_are(pool: asyncpg.Pool) -> dict[str, int]:
    rows = await pool.fetch(
        "select tableoid::regclass::text as name, count(*) from usage_records group by 1 order by 1"
    )
    return {row["name"]: row["count"] for row in rows}


async def test_this_month_and_the_next_three_are_made_once(pool: asyncpg.Pool) -> None:
    made = await partitions.make_ahead(pool, NOW, month(2024, 1))
    assert made == [month(2025, 10), month(2025, 11), month(2025, 12), month(2026, 1)]
    assert await partitions.make_ahead(pool, NOW, month(2024, 1)) == []
    found = await partitions.all_of(pool)
    assert [(each.name, each.starts, each.ends) for each in found] == [
        ("usage_records_2025_10", month(2025, 10), month(2025, 11)),
        ("usage_records_2025_11", month(2025, 11), month(2025, 12)),
        ("usage_records_2025_12", month(2025, 12), month(2026, 1)),
        ("usage_records_2026_01", month(2026, 1), month(2026, 2)),
    ]


async def test_workers_that_make_them_at_once_make_each_once(pool: asyncpg.Pool) -> None:
    made = await asyncio.gather(*(partitions.make_ahead(pool, NOW, month(2024, 1)) for _ in range(4)))
    assert sorted(each for some in made for each in some) == [
        month(2025, 10),
        month(2025, 11),
        month(2025, 12),
        month(2026, 1),
    ]


async def test_records_that_came_before_their_partition_are_moved_into_it(pool: asyncpg.Pool) -> None:
    early = [
        make_record(n, started_at_us=make_record(n).started_at_us - n * 40 * DAY_US) for n in (0, 1, 2)
    ]  # October, August, July
    far = make_record(9, started_at_us=make_record(9).started_at_us + 900 * DAY_US)
    payloads = [encode_record(record) for record in (*early, far)]
    await records.store(pool, payloads)
    assert await where_records_are(pool) == {"usage_records_default": 4}
    await partitions.make_ahead(pool, NOW, month(2025, 8))
    assert await where_records_are(pool) == {
        "usage_records_2025_08": 1,
        "usage_records_2025_10": 1,
        "usage_records_default": 2,  # July is before `oldest`; the last has a wrong clock
    }
    assert await records.store(pool, payloads) == 0


async def test_a_partition_has_the_indexes_of_the_others(pool: asyncpg.Pool) -> None:
    await partitions.make_ahead(pool, NOW, month(2024, 1))
    counts = await pool.fetch(
        "select tablename, count(*) from pg_indexes where tablename in"
        " ('usage_records', 'usage_records_default', 'usage_records_2025_10') group by 1"
    )
    assert len({row["count"] for row in counts}) == 1
    unattached = await pool.fetchval(
        "select count(*) from pg_index i join pg_class c on c.oid = i.indrelid"
        " where c.relname = 'usage_records_2025_10' and not exists"
        " (select from pg_inherits h where h.inhrelid = i.indexrelid)"
    )
    assert unattached == 0


async def test_retention_drops_whole_months_only(pool: asyncpg.Pool) -> None:
    await partitions.make_ahead(pool, NOW, month(2024, 1))
    await records.store(pool, [encode_record(make_record(1))])
    before = dt.datetime(2025, 10, 31, tzinfo=dt.UTC)
    assert await partitions.expired(pool, before) == []
    assert not await partitions.drop(pool, "usage_records_2025_10", before)
    after = month(2025, 11)
    assert [each.name for each in await partitions.expired(pool, after)] == ["usage_records_2025_10"]
    assert await partitions.drop(pool, "usage_records_2025_10", after)
    assert not await partitions.drop(pool, "usage_records_2025_10", after)
    assert await pool.fetchval("select count(*) from usage_records") == 0
    assert await pool.fetchval("select sum(requests)::int from usage_hourly") == 1


async def test_no_other_table_can_be_dropped_by_name(pool: asyncpg.Pool) -> None:
    for name in ("users", "usage_records_default", "usage_records", "nothing"):
        assert not await partitions.drop(pool, name, month(2999, 1))


async def test_old_records_in_the_default_partition_are_deleted(pool: asyncpg.Pool) -> None:
    await records.store(pool, [encode_record(make_record(n)) for n in range(5)])
    assert await partitions.count_strays(pool, month(2025, 10)) == 0
    assert await partitions.count_strays(pool, month(2025, 11)) == 5
    assert await partitions.delete_strays(pool, month(2025, 11)) == 5
    assert await pool.fetchval("select count(*) from usage_records") == 0


async def test_a_long_report_makes_it_give_up_and_blocks_nobody(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as report, report.transaction():
        await report.execute("lock table usage_records_default in access share mode")
        with pytest.raises(PostgresError, match="lock timeout"):
            await partitions.make_ahead(pool, NOW, month(2024, 1))
    assert len(await partitions.make_ahead(pool, NOW, month(2024, 1))) == 4
