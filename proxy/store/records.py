"""Usage records: the recorder's flush, which may be repeated, and voiding, which takes a record out of all sums."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import asyncpg
import orjson

from proxy.core.spoolformat import RECORD_FIELDS
from proxy.store import objects
from proxy.store.postgres import Connection, Pool, statements
from proxy.store.transactions import bounded

_USER_AT = RECORD_FIELDS.index("user_id")
# A record that Postgres will never take, however often it is sent; anything else may go away by itself.
REJECTED: tuple[type[BaseException], ...] = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
)


async def store(
    pool: Pool,
    payloads: Sequence[bytes],
    rollup_tags: Sequence[str] = (),
    *,
    timeout_s: float = 30.0,
    stored: list[bytes] | None = None,
) -> int:
    """Store records, given as spool payloads, in one transaction with their rollups and what they settle.

    `stored` is given the payloads as they were stored: one that shows the usage of an object that another record bills
    has none. Those of users who were erased are not among them.

    Returns how many were new; repeating it changes nothing. Raises one of REJECTED when a record among them is
    impossible, else an error that may be retried.
    """
    named = statements("records")
    async with bounded(pool, timeout_s) as connection:
        payloads = await objects.settle(connection, payloads)
        row = await connection.fetchrow(named["store_records"], as_array(payloads), list(rollup_tags))
        if row["inserted"]:
            await connection.execute(named["settle_records"], row["charges"], row["ids"])
    if stored is not None:
        gone = set(row["erased"] or ())
        stored += (
            [each for each in payloads if orjson.loads(each)[_USER_AT] not in gone] if gone else payloads
        )
    return int(row["inserted"])


def as_array(payloads: Sequence[bytes]) -> bytes:
    """One JSON array of payloads. `store_records` takes it as it is: a batch is a megabyte, and as bytes it is copied least."""
    return b"[%b]" % b",".join(payloads)


async def void(
    connection: Connection | Pool, record_id: UUID, reason: str, rollup_tags: Sequence[str] = ()
) -> bool:
    """Mark a record and its parts void, and take them out of every rollup and quota. False: there is none, or it is void
    already. More than one statement: belongs into a transaction.
    """
    named, tags = statements("records"), list(rollup_tags)
    if not await connection.fetchval(named["void_record"], record_id, reason, tags):
        return False
    for row in await connection.fetch(named["fetch_parts"], record_id):
        await connection.fetchval(named["void_record"], row["id"], reason, tags)
    return True
