from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import asyncpg

from proxy.core.spoolformat import encode_record
from proxy.gateway.upkeep import Upkeep
from proxy.settings import Settings
from proxy.store import partitions, records
from tests.exchanges import make_record

NOW = dt.datetime(2025, 10, 9, 12, tzinfo=dt.UTC)


def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, retention_records_days=40, retention_jsonl_days=30)


async def test_partitions_are_made_ahead_and_what_is_too_old_goes(pool: asyncpg.Pool, tmp_path: Path) -> None:
    await records.store(pool, [encode_record(make_record(1))])
    for day in ("2025-09-08", "2025-09-09"):
        (tmp_path / f"token_usage_{day}.jsonl").touch()
    now = [NOW]
    upkeep = Upkeep(pool, settings(tmp_path), now=lambda: now[0])
    await upkeep.run_once()
    names = [each.name for each in await partitions.all_of(pool)]
    assert names == [f"usage_records_{month}" for month in ("2025_10", "2025_11", "2025_12", "2026_01")]
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["token_usage_2025-09-09.jsonl"]
    assert await pool.fetchval("select count(*) from usage_records") == 1
    now[0] = dt.datetime(2025, 12, 12, 12, tzinfo=dt.UTC)
    await upkeep.run_once()
    names = [each.name for each in await partitions.all_of(pool)]
    assert names == [
        f"usage_records_{month}" for month in ("2025_11", "2025_12", "2026_01", "2026_02", "2026_03")
    ]
    assert await pool.fetchval("select count(*) from usage_records") == 0


async def test_a_clock_that_is_ahead_makes_nothing_look_old(pool: asyncpg.Pool, tmp_path: Path) -> None:
    today = dt.datetime.now(dt.UTC)
    await records.store(pool, [encode_record(make_record(1, started_at_us=int(today.timestamp() * 1e6)))])
    (tmp_path / f"token_usage_{today:%Y-%m-%d}.jsonl").touch()
    upkeep = Upkeep(pool, settings(tmp_path), now=lambda: today + dt.timedelta(days=4_000))
    await upkeep.run_once()
    assert await pool.fetchval("select count(*) from usage_records") == 1
    # hours of today that are long over may be folded, whatever the clock says
    recent = today - dt.timedelta(hours=3)
    assert await pool.fetchval("select count(*) from usage_folded where at > $1", recent) == 0
    assert await pool.fetchval("select count(*) from usage_folded where grain <> 'hour'") == 0
    assert (await partitions.all_of(pool))[0].starts.date() == today.date().replace(day=1)
    assert len(list(tmp_path.glob("token_usage_*"))) == 1


async def test_it_begins_at_once_and_ends_when_told(pool: asyncpg.Pool, tmp_path: Path) -> None:
    upkeep = Upkeep(pool, settings(tmp_path), now=lambda: NOW)
    upkeep.start()
    async with asyncio.timeout(20):
        while len(await partitions.all_of(pool)) < 4:
            await asyncio.sleep(0.01)
    await upkeep.stop()


async def test_without_postgres_it_waits(database_url: str, tmp_path: Path) -> None:
    away = await asyncpg.create_pool(database_url, min_size=0)
    await away.close()
    upkeep = Upkeep(away, settings(tmp_path), now=lambda: NOW)
    upkeep.start()
    await asyncio.sleep(0.05)
    assert upkeep._task is not None
    assert not upkeep._task.done()
    await upkeep.stop()
