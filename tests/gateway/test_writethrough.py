from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.core.refusal import Refusal
from proxy.gateway import writethrough
from proxy.gateway.writethrough import WriteThrough
from proxy.metrics import Metrics
from proxy.settings import Settings
from tests.exchanges import exchange_id, make_open, make_record

Make = Callable[..., Awaitable[WriteThrough]]


@pytest.fixture
async def make(pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[Make]:
    made: list[WriteThrough] = []

    async def build(own_pool: asyncpg.Pool | None = None) -> WriteThrough:
        settings = Settings(data_dir=tmp_path, spool="postgres", flush_interval_s=0.01, database_timeout_s=2)
        made.append(WriteThrough(own_pool or pool, settings, Metrics()))
        await made[-1].start()
        return made[-1]

    yield build
    for each in made:
        await each.stop(1)


async def outcomes(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    return [
        (str(row["id"]), row["outcome"])
        for row in await pool.fetch("select id, outcome from usage_records order by id")
    ]


async def still_open(pool: asyncpg.Pool) -> list[str]:
    return [str(row["id"]) for row in await pool.fetch("select id from open_exchanges order by id")]


async def until(condition: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_an_exchange_is_noted_before_it_may_be_forwarded(pool: asyncpg.Pool, make: Make) -> None:
    made = await make()
    made.open(make_open(1))
    await made.secured(exchange_id(1))
    assert await still_open(pool) == [exchange_id(1)]
    made.record(make_record(1))
    await made.flushed()
    assert await still_open(pool) == []
    assert await outcomes(pool) == [(exchange_id(1), "success")]


async def test_many_at_once_share_commits(
    pool: asyncpg.Pool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    insert = writethrough.open_exchanges.insert

    async def counted(*args: Any, **options: Any) -> None:
        commits.append(len(args[2]))
        await insert(*args, **options)

    monkeypatch.setattr(writethrough.open_exchanges, "insert", counted)
    made = await make()

    async def one(number: int) -> None:
        made.open(make_open(number))
        await made.secured(exchange_id(number))
        made.record(make_record(number))

    await asyncio.gather(*(one(number) for number in range(500)))
    await made.flushed()
    assert sum(commits) == 500
    assert len(commits) <= 3
    assert await pool.fetchval("select count(*) from usage_records") == 500


async def test_without_postgres_nothing_is_forwarded(make: Make, database_url: str) -> None:
    away = await asyncpg.create_pool(database_url, min_size=0)
    await away.close()
    made = await make(away)
    made.open(make_open(1))
    with pytest.raises(Refusal) as caught:
        await made.secured(exchange_id(1))
    assert (caught.value.status, caught.value.code) == (503, "usage_not_recordable")


async def test_an_open_line_that_was_refused_is_taken_back_even_if_it_was_committed(
    pool: asyncpg.Pool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = writethrough.open_exchanges.insert

    async def unsure(*args: Any, **options: Any) -> None:
        await insert(*args, **options)
        raise ConnectionResetError("at the commit")

    monkeypatch.setattr(writethrough.open_exchanges, "insert", unsure)
    made = await make()
    made.open(make_open(1))
    with pytest.raises(Refusal):
        await made.secured(exchange_id(1))

    async def gone() -> bool:
        return await still_open(pool) == []

    await until(gone)
    assert await outcomes(pool) == []


async def test_what_a_silent_worker_left_open_is_lost_and_what_it_recorded_is_not(
    pool: asyncpg.Pool, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writethrough, "SEEN_EVERY_S", 0.05)
    first = await make()
    for number in (1, 2):
        first.open(make_open(number))
        await first.secured(exchange_id(number))
    first.record(make_record(2))
    await first.flushed()
    for task in first._tasks:
        task.cancel()
    await asyncio.gather(*first._tasks, return_exceptions=True)
    second = await make()
    await asyncio.sleep(0.2)
    assert await outcomes(pool) == [(exchange_id(2), "success")]
    await pool.execute(
        "update spool_workers set seen_at = now() - interval '61 s' where id = $1", first._worker
    )

    async def adopted() -> bool:
        return second._metrics.recorder_lost.values[()] > 0  # counted once the transaction is over

    await until(adopted)
    assert await still_open(pool) == []
    assert await outcomes(pool) == [(exchange_id(1), "lost"), (exchange_id(2), "success")]
    assert second._metrics.recorder_lost.values[()] == 1


async def test_what_a_worker_leaves_open_at_its_end_is_taken_at_once(pool: asyncpg.Pool, make: Make) -> None:
    first = await make()
    first.open(make_open(1))
    await first.secured(exchange_id(1))
    await first.stop()
    await make()

    async def adopted() -> bool:
        return await outcomes(pool) == [(exchange_id(1), "lost")]

    await until(adopted)
