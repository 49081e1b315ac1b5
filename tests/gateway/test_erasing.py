from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import orjson

from proxy.core.spoolformat import decode_record, encode_record
from proxy.gateway.erasing import erase_from_files
from proxy.gateway.jsonl import DailyLog
from proxy.gateway.upkeep import Upkeep
from proxy.settings import Settings
from proxy.store import erasures
from tests.exchanges import START_US, make_record

DAY_US = 86_400_000_000


def fill(data_dir: Path) -> None:
    for day in range(3):
        records = [
            make_record(n, user_id=f"user_{n}", started_at_us=START_US + day * DAY_US) for n in range(3)
        ]
        DailyLog(data_dir).write([encode_record(record) for record in records], replayed=False)
    rejected = decode_record(encode_record(make_record(1, user_id="user_1")))
    (data_dir / "rejected.jsonl").write_bytes(orjson.dumps(rejected) + b"\n")


def everything(data_dir: Path) -> bytes:
    return b"".join(path.read_bytes() for path in data_dir.rglob("*") if path.is_file())


async def test_an_erased_user_is_nowhere_in_the_data_dir(pool: asyncpg.Pool, tmp_path: Path) -> None:
    fill(tmp_path)
    assert await erase_from_files(pool, tmp_path) == 0
    await erasures.add(pool, "user_1")
    assert await erase_from_files(pool, tmp_path) == 4
    assert b"user_1" not in everything(tmp_path)
    assert everything(tmp_path).count(b'"user_id":"user_2"') == 3


async def test_each_erasure_is_done_for_an_hour_and_those_missed_are_caught_up_with(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    for user in ("user_1", "user_2"):
        await erasures.add(pool, user)
    fill(tmp_path)
    assert await erase_from_files(pool, tmp_path) == 7
    fill(tmp_path)  # lines that were on their way
    assert await erase_from_files(pool, tmp_path) == 7
    await pool.execute("update erasures set at = at - interval '2 hours'")
    assert await erase_from_files(pool, tmp_path) == 0
    fill(tmp_path)
    assert await erase_from_files(pool, tmp_path) == 0
    await erasures.add(pool, "user_0")
    assert await erase_from_files(pool, tmp_path) == 9


async def test_a_worker_hears_of_an_erasure_and_does_it_at_once(pool: asyncpg.Pool, tmp_path: Path) -> None:
    fill(tmp_path)
    upkeep = Upkeep(pool, Settings(data_dir=tmp_path, retention_jsonl_days=10_000))
    await upkeep.run_once()
    upkeep.start()
    await erasures.add(pool, "user_1")
    upkeep.hurry()
    async with asyncio.timeout(20):
        while b"user_1" in everything(tmp_path):
            await asyncio.sleep(0.02)
    await upkeep.stop()
