"""Usage records: the recorder's flush, in one statement that may be repeated, and voiding, which takes one back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from proxy.store.postgres import Connection, Pool, statements

# A record that Postgres will never take, however often it is sent; anything else may go away by itself.
REJECTED: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


@dataclass(frozen=True, slots=True)
class Settled:
    """What one flush settled against one quota window."""

    quota_id: str
    scope_id: str
    window_start: int
    """Unix seconds."""
    amount: int
    """By this flush."""
    total: int
    """In the window, by everybody."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The outcome of a flush."""

    inserted: int
    """Rows that were new; the others had been stored before."""
    settled: tuple[Settled, ...]


async def store(
    connection: Connection | Pool, payloads: Sequence[bytes], rollup_tags: Sequence[str] = ()
) -> Stored:
    """Store records, given as spool payloads; all of them or, when it raises, none. Repeating it changes nothing.

    Raises one of REJECTED when a record among them is impossible, else an error that may be retried.
    """
    text = (b"[" + b",".join(payloads) + b"]").decode()
    row = await connection.fetchrow(statements("records")["store_records"], text, list(rollup_tags))
    return Stored(row["inserted"], tuple(Settled(*entry) for entry in row["settled"]))


async def void(
    connection: Connection | Pool, record_id: UUID, reason: str, rollup_tags: Sequence[str] = ()
) -> bool:
    """Mark a record void, and take it out of every rollup and quota. False: there is none, or it is void already."""
    return bool(
        await connection.fetchval(statements("records")["void_record"], record_id, reason, list(rollup_tags))
    )
