from __future__ import annotations

import asyncio

import asyncpg
import pytest

from proxy.store.postgres import READ_ONLY, UNAVAILABLE
from proxy.store.transactions import bounded


def connections_of(pool: asyncpg.Pool) -> set[int]:
    """The server processes that the pool holds connections to."""
    return {holder._con.get_server_pid() for holder in pool._holders if holder.is_connected()}


async def test_what_was_done_is_committed(pool: asyncpg.Pool) -> None:
    async with bounded(pool, 10) as connection:
        await connection.execute("insert into users (id) values ('u')")
    assert await pool.fetchval("select count(*) from users") == 1


async def test_a_failure_rolls_back_and_leaves_the_connection_usable(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.UniqueViolationError):
        async with bounded(pool, 10) as connection:
            server = await connection.fetchval("select pg_backend_pid()")
            await connection.execute("insert into users (id) values ('u')")
            await connection.execute("insert into users (id) values ('u')")
    assert await pool.fetchval("select count(*) from users") == 0
    assert server in connections_of(pool)


async def test_what_takes_too_long_is_abandoned(pool: asyncpg.Pool) -> None:
    with pytest.raises(UNAVAILABLE):
        async with bounded(pool, 1) as connection:  # in which the first two statements must be done
            await connection.execute("insert into users (id) values ('u')")
            server = await connection.fetchval("select pg_backend_pid()")
            await connection.execute("select pg_sleep(60)")
    assert server not in connections_of(pool)
    assert await pool.fetchval("select count(*) from users") == 0


async def test_an_exhausted_pool_is_not_waited_for_longer_either(database_url: str) -> None:
    small = await asyncpg.create_pool(database_url, min_size=1, max_size=1)
    async with small.acquire():
        with pytest.raises(UNAVAILABLE):
            async with bounded(small, 0.05):
                pass
    await small.close()


async def test_a_cancelled_task_leaves_nothing_done(pool: asyncpg.Pool) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with bounded(pool, 60) as connection:
            await connection.execute("insert into users (id) values ('u')")
            begun.set()
            await connection.execute("select pg_sleep(60)")

    task = asyncio.ensure_future(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await pool.fetchval("select count(*) from users") == 0


async def test_a_connection_to_a_standby_is_not_used_again(pool: asyncpg.Pool) -> None:
    with pytest.raises(READ_ONLY):
        async with bounded(pool, 10, readonly=True) as connection:
            server = await connection.fetchval("select pg_backend_pid()")
            await connection.execute("insert into users (id) values ('u')")
    assert server not in connections_of(pool)
