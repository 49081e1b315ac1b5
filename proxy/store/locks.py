"""Locks that others hold, waited for without making everybody queue behind us.

A statement that wants a table for itself waits in line for whoever uses it, and all who come later wait behind it: one long
report, and nothing is recorded any more. So we wait briefly, step back to let the line through, and come again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from proxy.store.postgres import LOCKED, Connection, statements

log = logging.getLogger(__name__)
_SQL = statements("migrate")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one attempt waits for its locks, the pause after it, and how many there are: about an hour in all."""

    lock_timeout_s: float = 2.0
    pause_s: float = 2.0
    attempts: int = 900


async def patiently(
    connection: Connection, patience: Patience, what: str, work: Callable[[], Awaitable[Any]]
) -> None:
    """Run `work` in a transaction, again while its locks are not to be had. Raises LOCKED when the last attempt fails."""
    for attempt in range(1, patience.attempts + 1):
        try:
            async with connection.transaction():
                await connection.fetchval(_SQL["lock_timeout"], str(round(patience.lock_timeout_s * 1000)))
                await work()
        except LOCKED:
            if attempt == patience.attempts:
                raise
            log.warning("a lock is not to be had: trying again", extra={"for": what, "attempt": attempt})
            await asyncio.sleep(patience.pause_s)
        else:
            return
