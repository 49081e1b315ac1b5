"""A transaction for the control plane: bounded in time, planned for its own parameters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from proxy.store.postgres import Connection, Pool, statements

_SQL = statements("session")
ACQUIRE_TIMEOUT_S = 5.0


@asynccontextmanager
async def transaction(
    pool: Pool, *, statement_timeout_s: float, one_moment: bool = False
) -> AsyncIterator[Connection]:
    """A connection in a transaction, committed at the end. `one_moment`: all its statements see the database as it was when it began.
    Raises one of UNAVAILABLE when there is none to be had.
    """
    async with (
        pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection,
        connection.transaction(isolation="repeatable_read" if one_moment else "read_committed"),
    ):
        await connection.fetchrow(_SQL["begin"], str(round(statement_timeout_s * 1000)))
        yield connection
