"""Exchanges under way in Postgres: noted before they are forwarded, forgotten with their record, taken from the dead."""

from __future__ import annotations

import asyncpg
import orjson
import pytest

from proxy.core.spoolformat import encode_open
from proxy.store import open_exchanges
from tests.exchanges import exchange_id, make_open

TIMEOUT_S = 10.0


def payload(number: int) -> bytes:
    return encode_open(make_open(number))


async def taken(pool: asyncpg.Pool, silent_s: float, limit: int = 100) -> list[str]:
    async with pool.acquire() as connection, connection.transaction():
        return [found for found, _ in await open_exchanges.abandoned(connection, silent_s, limit)]


async def test_what_a_worker_noted_comes_back_as_it_was_written(pool: asyncpg.Pool):
    await open_exchanges.insert(pool, "worker-1", [payload(1), payload(2)], timeout_s=TIMEOUT_S)
    await open_exchanges.ended(pool, "worker-1")

    async with pool.acquire() as connection, connection.transaction():
        found = await open_exchanges.abandoned(connection, 60, 100)

    assert [each for each, _ in found] == [exchange_id(1), exchange_id(2)]
    assert [orjson.loads(line) for _, line in found] == [orjson.loads(payload(1)), orjson.loads(payload(2))]


async def test_noting_one_twice_notes_it_once(pool: asyncpg.Pool):
    for _ in range(2):
        await open_exchanges.insert(pool, "worker-1", [payload(1)], timeout_s=TIMEOUT_S)

    assert await pool.fetchval("select count(*) from open_exchanges") == 1


async def test_what_has_its_record_is_forgotten(pool: asyncpg.Pool):
    await open_exchanges.insert(pool, "worker-1", [payload(1), payload(2)], timeout_s=TIMEOUT_S)

    await open_exchanges.delete(pool, [exchange_id(1), exchange_id(9)])

    rows = await pool.fetch("select id from open_exchanges")
    assert [str(row["id"]) for row in rows] == [exchange_id(2)]


async def test_a_worker_that_lives_keeps_what_it_opened(pool: asyncpg.Pool):
    await open_exchanges.insert(pool, "worker-1", [payload(1)], timeout_s=TIMEOUT_S)
    assert await taken(pool, silent_s=60) == []

    await pool.execute("update spool_workers set seen_at = now() - interval '61 seconds'")
    assert await taken(pool, silent_s=60) == [exchange_id(1)]

    await open_exchanges.insert(pool, "worker-1", [], timeout_s=TIMEOUT_S)  # it was only slow
    assert await taken(pool, silent_s=60) == []


async def test_two_that_ask_at_once_take_different_ones(pool: asyncpg.Pool):
    await open_exchanges.insert(pool, "worker-1", [payload(1), payload(2), payload(3)], timeout_s=TIMEOUT_S)
    await open_exchanges.ended(pool, "worker-1")

    async with pool.acquire() as one, one.transaction():
        first = [found for found, _ in await open_exchanges.abandoned(one, 60, 2)]
        assert first == [exchange_id(1), exchange_id(2)]
        assert await taken(pool, silent_s=60) == [exchange_id(3)]


@pytest.mark.parametrize(("left", "kept"), [(True, 1), (False, 0)])
async def test_a_worker_is_forgotten_after_a_day_unless_it_left_something(
    pool: asyncpg.Pool, left: bool, kept: int
):
    await open_exchanges.insert(pool, "worker-1", [payload(1)] if left else [], timeout_s=TIMEOUT_S)
    await pool.execute("update spool_workers set seen_at = now() - interval '25 hours'")

    await open_exchanges.forget_workers(pool)

    assert await pool.fetchval("select count(*) from spool_workers") == kept
