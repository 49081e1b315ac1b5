"""A transaction that ends in time, whatever the server does. One that stands still holds up nobody for longer than was said.

asyncpg asks the server politely to cancel what timed out, and then to roll back; a server that is paused, or behind a dead
network, answers neither. Here the connection is thrown away instead, and the server rolls back when it notices.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.store.postgres import READ_ONLY, UNAVAILABLE, Connection, Pool, PostgresError


@asynccontextmanager
async def bounded(
    pool: Pool, timeout_s: float, *, isolation: str = "read_committed", readonly: bool = False
) -> AsyncIterator[Connection]:
    """A connection in a transaction, committed at the end. Raises TimeoutError after `timeout_s`, begin to commit."""
    async with pool.acquire(timeout=timeout_s) as connection:
        transaction = connection.transaction(isolation=isolation, readonly=readonly)
        try:
            async with asyncio.timeout(timeout_s):
                await transaction.start()
                yield connection
                await transaction.commit()
        except READ_ONLY:
            connection.terminate()  # after a failover this one leads to a standby; the next is made anew
            raise
        except PostgresError:
            with contextlib.suppress(PostgresError, *UNAVAILABLE):
                await transaction.rollback()
            raise
        except BaseException:
            connection.terminate()
            raise
