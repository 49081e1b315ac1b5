"""The clerk's connection to Postgres: taken from the pool once and kept, every round trip bounded in time and counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from proxy.metrics import Metrics
from proxy.store.postgres import UNAVAILABLE, Connection, Pool, PostgresError

log = logging.getLogger(__name__)
TRIP_TIMEOUT_S = 2.0

T = TypeVar("T")


class Link:
    """One connection, for one user at a time. `pool` may be set later, and be another one after an outage."""

    def __init__(self, pool: Pool | None, metrics: Metrics) -> None:
        self.pool = pool
        self.round_trips = 0
        """Since the start."""
        self._metrics = metrics
        self._connection: Connection = None
        self._lender: Pool = None
        """The pool that the connection goes back to."""

    async def trip(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        """One round trip. Raises what Postgres or the network raise, and TimeoutError; then call `release(broken=True)`."""
        if self.pool is None:
            raise ConnectionError("no database yet")
        self.round_trips += 1
        self._metrics.database_round_trips.inc(("quotas",))
        async with asyncio.timeout(TRIP_TIMEOUT_S):
            if self._connection is None:
                lender = self.pool
                self._connection = await lender.acquire(timeout=TRIP_TIMEOUT_S)
                self._lender = lender
            return await call(self._connection)

    async def release(self, *, broken: bool) -> None:
        """Give the connection back to its pool; one that failed in the middle of something is cut."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        lender, self._lender = self._lender, None
        try:
            if broken:
                connection.terminate()
            await lender.release(connection, timeout=TRIP_TIMEOUT_S)
        except (*UNAVAILABLE, PostgresError) as error:
            log.debug("quota connection was lost", extra={"error": repr(error)})
