from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from proxy.core.refusal import Refusal
from proxy.core.spoolformat import encode_open, encode_record
from proxy.gateway import flusher, recorder, unread
from proxy.gateway.flusher import BATCH_MAX
from proxy.gateway.recorder import Recorder
from proxy.gateway.spool import DISK_SLICE_MAX, Batch, Spool
from proxy.metrics import Metrics
from proxy.settings import Settings
from tests.compiled import replaces
from tests.exchanges import exchange_id, make_open, make_record

MakeRecorder = Callable[..., Awaitable[Recorder]]


@pytest.fixture
async def away(database_url: str) -> asyncpg.Pool:
    """A pool that gives no connection, as when Postgres is away."""
    closed = await asyncpg.create_pool(database_url, min_size=0)
    await closed.close()
    return closed


@pytest.fixture
async def make_recorder(pool: asyncpg.Pool, tmp_path: Path) -> AsyncIterator[MakeRecorder]:
    made: list[Recorder] = []

    async def make(start: bool = True, own_pool: asyncpg.Pool | None = None, **settings: Any) -> Recorder:
        chosen = Settings(data_dir=tmp_path, **{"flush_interval_s": 0.01, **settings})
        made.append(Recorder(own_pool or pool, chosen, Metrics()))
        if start:
            await made[-1].start()
        return made[-1]

    yield make
    for each in made:
        if each._spool._descriptor >= 0:
            await each.stop(0)


async def outcomes(pool: asyncpg.Pool) -> list[tuple[str, str]]:
    rows = await pool.fetch("select id, outcome from usage_records order by id")
    return [(str(row["id"]), row["outcome"]) for row in rows]


def exchange(into: Recorder, number: int, **changes: Any) -> None:
    into.open(make_open(number))
    into.record(make_record(number, **changes))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_every_exchange_becomes_one_row(pool: asyncpg.Pool, make_recorder: MakeRecorder) -> None:
    made = await make_recorder()
    for number in range(5_000):
        exchange(made, number)
    await made.flushed()
    assert await pool.fetchval("select count(*) from usage_records") == 5_000
    assert await pool.fetchval("select sum(requests)::int from usage_hourly") == 5_000
    assert (made.queue, made.failing) == (0, False)
    assert made._metrics.recorder_written.values[()] == 5_000


async def test_a_stop_leaves_nothing_behind(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, tmp_path: Path
) -> None:
    made = await make_recorder()
    exchange(made, 1)
    assert await made.stop()
    assert await outcomes(pool) == [(exchange_id(1), "success")]
    assert list((tmp_path / "spool").iterdir()) == []


async def test_without_postgres_requests_go_on_and_the_next_worker_stores_them(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, away: asyncpg.Pool
) -> None:
    first = await make_recorder(own_pool=away)
    exchange(first, 1)
    first.open(make_open(2))
    await until(lambda: first.failing)
    assert first.queue == 1
    assert not await first.stop(0.05)
    assert await outcomes(pool) == []
    second = await make_recorder()
    await until(lambda: not (second._root / first._spool.directory.name).exists())
    assert await outcomes(pool) == [(exchange_id(1), "success"), (exchange_id(2), "lost")]
    assert second._metrics.recorder_lost.values[()] == 1


async def test_an_exchange_under_way_is_nobodys_to_adopt(
    pool: asyncpg.Pool, make_recorder: MakeRecorder
) -> None:
    first = await make_recorder()
    first.open(make_open(1))
    second = await make_recorder()
    exchange(second, 2)
    await second.flushed()
    assert await outcomes(pool) == [(exchange_id(2), "success")]


@pytest.mark.parametrize("already", [False, True])
async def test_a_left_over_spool_is_stored_once_whether_or_not_it_had_been_flushed(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, tmp_path: Path, already: bool
) -> None:
    dead = Spool(tmp_path / "spool", "0-dead", max_bytes=2**20, segment_bytes=4096)
    for number in range(40):
        dead.append_open(exchange_id(number), encode_open(make_open(number)))
        if number % 10:
            dead.append_record(exchange_id(number), encode_record(make_record(number)))
    if already:
        from proxy.store import records

        await records.store(pool, dead.read(100).payloads)
        # one of those without a record in the spool was recorded in some other way
        await records.store(pool, [encode_record(make_record(10))])
    dead.close()
    made = await make_recorder()
    await until(lambda: not dead.directory.exists())
    found = dict(await outcomes(pool))
    lost = {exchange_id(number) for number in range(0, 40, 10)} - ({exchange_id(10)} if already else set())
    assert {name for name, outcome in found.items() if outcome == "lost"} == lost
    assert len(found) == 40
    assert await pool.fetchval("select sum(requests)::int from usage_hourly") == 40
    assert made.queue == 0


async def test_an_impossible_record_is_set_aside_and_holds_nothing_up(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, tmp_path: Path
) -> None:
    made = await make_recorder(start=False)
    for number in range(20):
        exchange(made, number, **({"cost_nanousd": -1} if number == 13 else {}))
    await made.start()
    await made.flushed()
    assert await pool.fetchval("select count(*) from usage_records") == 19
    aside = [orjson.loads(line) for line in (tmp_path / "rejected.jsonl").read_bytes().splitlines()]
    assert [record["id"] for record in aside] == [exchange_id(13)]
    assert made._metrics.recorder_dropped.values[("rejected",)] == 1


async def test_a_record_that_can_not_be_written_down_never_raises(make_recorder: MakeRecorder) -> None:
    made = await make_recorder()
    made.open(make_open(1))
    made.record(make_record(1, charges=(7,)))
    assert made._metrics.recorder_dropped.values[("fault",)] == 1
    assert made._spool.open_exchanges == 0
    await made.flushed()


async def test_at_the_bound_new_exchanges_are_refused_and_old_ones_still_recorded(
    make_recorder: MakeRecorder, away: asyncpg.Pool
) -> None:
    made = await make_recorder(own_pool=away, spool_max_bytes=2**20)
    made.open(make_open(0))
    filler = {"x": "y" * 120}
    number = 1
    with pytest.raises(Refusal) as caught:
        while number < 10_000:
            exchange(made, number, tags=filler)
            number += 1
    assert (caught.value.status, caught.value.reason) == (503, "spool_full")
    assert ("retry-after", "5") in caught.value.headers
    made.commit()
    assert 2**20 <= made._spool.bytes < 2**20 + 2_000
    made.record(make_record(0))
    assert made.queue == number


async def test_at_the_bound_the_oldest_records_go_where_that_is_wanted(
    make_recorder: MakeRecorder, away: asyncpg.Pool
) -> None:
    made = await make_recorder(own_pool=away, spool_max_bytes=2**20, spool_full="drop")
    for number in range(4_000):
        exchange(made, number, tags={"x": "y" * 120})
    dropped = made._metrics.recorder_dropped.values[("spool_full",)]
    assert dropped > 0
    assert made.queue == 4_000 - dropped
    assert made._spool.bytes < 2**20 + 2_000


async def test_left_over_spools_count_towards_the_bound(
    make_recorder: MakeRecorder, away: asyncpg.Pool, tmp_path: Path
) -> None:
    dead = Spool(tmp_path / "spool", "0-dead", max_bytes=2**30)
    for number in range(1_500):
        dead.append_record(exchange_id(number), encode_record(make_record(number, tags={"x": "y" * 500})))
    dead.close()
    made = await make_recorder(own_pool=away, spool_max_bytes=2**20)
    await until(lambda: made._leftover_bytes > 2**20)
    with pytest.raises(Refusal):
        made.open(make_open(9_999))


@pytest.mark.parametrize("policy", ["refuse", "drop"])
async def test_a_full_disk_refuses_new_exchanges_and_keeps_records_in_memory(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    made = await make_recorder(start=False, spool_full=policy)
    made.open(make_open(1))
    made.commit()
    assert exchange_id(1) not in made.unopened
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if data[9:11] in (b"O ", b"R "):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    made.open(make_open(2))
    made.record(make_record(1))
    made.commit()
    refusal = made.unopened.get(exchange_id(2))
    if policy == "refuse":
        assert refusal is not None
        assert (refusal.status, refusal.reason) == (503, "spool_unwritable")
    else:
        assert refusal is None
    assert made._spool.open_exchanges == 1
    await made.start()
    await made.flushed()
    assert made._spool.open_exchanges == 0
    assert await outcomes(pool) == [(exchange_id(1), "success")]


async def test_memory_is_bounded_while_the_disk_takes_nothing(
    make_recorder: MakeRecorder, away: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await make_recorder(start=False, own_pool=away)
    monkeypatch.setattr(recorder, "UNSPOOLED_MAX", 5)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for number in range(8):
        made.record(make_record(number))
    made.commit()
    assert made.queue == 5
    assert made._metrics.recorder_dropped.values[("disk_full",)] == 3


@pytest.mark.parametrize("policy", ["always", "5ms", "never"])
async def test_every_sync_policy_records(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, policy: str
) -> None:
    made = await make_recorder(spool_fsync=policy)
    for number in range(20):
        exchange(made, number)
    await made.flushed()
    if policy == "5ms":
        await until(lambda: not made._spool.unsynced)
    assert await pool.fetchval("select count(*) from usage_records") == 20


async def test_batches_shrink_while_statements_time_out_and_grow_again(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = flusher.records.store
    sizes: list[int] = []

    async def slow(*args: Any, **options: Any) -> int:
        sizes.append(len(args[1]))
        if sizes[-1] > 500:
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        return await store(*args, **options)

    monkeypatch.setattr(flusher.records, "store", slow)
    monkeypatch.setattr(recorder, "RETRY_FIRST_S", 0.001)
    made = await make_recorder(start=False)
    for number in range(1_000):
        exchange(made, number)
    await made.start()
    await made.flushed()
    assert sizes == [1000, 1000, 500, 500]
    assert made._flusher._batch_max == 1000


async def test_a_deadlock_is_tried_again_at_once(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = flusher.records.store
    failures = [asyncpg.DeadlockDetectedError("deadlock detected"), asyncpg.SerializationError("serialize")]

    async def unlucky(*args: Any, **options: Any) -> int:
        if failures:
            raise failures.pop()
        return await store(*args, **options)

    monkeypatch.setattr(flusher.records, "store", unlucky)
    made = await make_recorder()
    exchange(made, 1)
    await made.flushed()
    assert made._metrics.recorder_failures.values[()] == 0


async def test_a_fault_of_our_own_stops_no_flushing(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Spool.read
    faults = [RuntimeError("bug")]

    def faulty(self: Spool, records_max: int) -> Any:
        if faults:
            raise faults.pop()
        return read(self, records_max)

    monkeypatch.setattr(Spool, "read", faulty)
    made = await make_recorder()
    exchange(made, 1)
    await made.flushed()
    assert await outcomes(pool) == [(exchange_id(1), "success")]


async def test_the_daily_log_has_one_line_for_each_record_also_after_a_replay(
    pool: asyncpg.Pool, make_recorder: MakeRecorder, tmp_path: Path
) -> None:
    dead = Spool(tmp_path / "spool", "0-dead", max_bytes=2**20)
    for number in (1, 2):
        dead.append_record(exchange_id(number), encode_record(make_record(number)))
    dead.close()
    from proxy.gateway.jsonl import DailyLog

    DailyLog(tmp_path).write([encode_record(make_record(1))], replayed=False)
    made = await make_recorder(jsonl_log=True)
    exchange(made, 3)
    await made.flushed()
    await until(lambda: not dead.directory.exists())
    lines = [
        orjson.loads(line) for line in (tmp_path / "token_usage_2025-10-09.jsonl").read_bytes().splitlines()
    ]
    assert sorted(line["id"] for line in lines) == [exchange_id(number) for number in (1, 2, 3)]


async def test_what_is_stored_does_not_stay_on_the_disk(
    make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "REST_S", 0.05)
    made = await make_recorder(spool_fsync="5ms")
    exchange(made, 1)
    made.open(make_open(2))
    made.commit()
    assert exchange_id(1).encode() in content(made._spool.directory)
    await until(lambda: exchange_id(1).encode() not in content(made._spool.directory))
    assert exchange_id(2).encode() in content(made._spool.directory)


def content(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.glob("*.seg"))


async def test_a_batch_is_read_from_the_disk_in_slices_between_which_the_loop_goes_on(
    make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "HELD_BYTES_MAX", 0)
    made = await make_recorder(start=False)
    for number in range(BATCH_MAX + 100):
        exchange(made, number)
    made.commit()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.get_running_loop().create_task(others())
    batch = await made._read()
    task.cancel()
    assert len(batch.payloads) == BATCH_MAX
    assert turns >= BATCH_MAX // DISK_SLICE_MAX - 1
    rest = await made._read()
    assert [len(rest.payloads), rest.end > batch.end] == [100, True]


@replaces
async def test_what_was_read_before_the_disk_failed_is_stored_first(
    make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unread, "HELD_BYTES_MAX", 0)
    made = await make_recorder(start=False)
    for number in range(2 * DISK_SLICE_MAX):
        exchange(made, number)
    made.commit()
    read, calls = made._spool.read, 0

    def fails_once(records_max: int) -> Batch:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EIO, "no")
        return read(records_max)

    monkeypatch.setattr(Spool, "read", lambda _, records_max: fails_once(records_max))
    assert len((await made._read()).payloads) == DISK_SLICE_MAX
    assert len((await made._read()).payloads) == DISK_SLICE_MAX
