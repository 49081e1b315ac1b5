"""Erasing users: nothing in the database names them any more, and every sum stays what it was.

It has two parts. `begin` belongs into one transaction: from its commit on the user, their keys and quotas are gone, the audit
log knows ids only, and what is stored about them later, from whichever spool, is stored as nobody's. `finish` makes what
was stored before nobody's too, in steps, and may be repeated or be continued by any worker. Each server takes them out of
its own files by the same list; see proxy/gateway/erasing.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from proxy.store.postgres import Connection, Pool, statements
from proxy.store.rows import Row

STEP_RECORDS = 5_000
STEP_TIMEOUT_S = 300.0
ERASED = "erased"
"""Whose the usage of those who were erased is; as in erasures.sql and records.sql."""
_SQL = statements("erasures")


async def add(connection: Pool | Connection, user_id: str) -> int:
    """Tell every server; returns the erasure's number. Call it in the transaction that erases the user's rows."""
    return int(await connection.fetchval(_SQL["add"], user_id))


async def begin(connection: Connection, user: Row) -> tuple[int, int]:
    """Erase a user, given as their row, in the caller's transaction; returns the erasure's number and how many keys went."""
    user_id = user["id"]
    key_ids = await connection.fetchval(_SQL["key_ids"], user_id)
    texts = sorted({user[name].lower() for name in ("name", "email", "external_id") if user[name]})
    await connection.execute(_SQL["allow_scrubbing"])
    await connection.execute(_SQL["scrub_audit"], user_id, key_ids, texts)
    await connection.execute(_SQL["end_sign_ins"], user_id)
    await connection.execute(_SQL["delete_answers"], user_id, key_ids)
    # Flushes lock sums first and windows last: so does this, or one would wait for the other in a circle.
    await connection.execute(_SQL["lock_flushes"])
    number = await add(connection, user_id)
    await connection.execute(_SQL["delete_windows"], user_id, key_ids)
    await connection.execute(_SQL["delete_quotas"], user_id, key_ids)
    await connection.execute(_SQL["delete_keys"], user_id)
    await connection.execute(_SQL["delete_user"], user_id)
    return number, len(key_ids)


async def finish(pool: Pool, on_progress: Callable[[int, int], None] | None = None) -> int:
    """Do what is left of every erasure in this database; returns how many records became nobody's.

    `on_progress(done, all)` is called after each step, with counts of records of the user at hand.
    """
    total = 0
    for erasure in await pool.fetch(_SQL["open"]):
        total += await _finish(pool, erasure, on_progress)
    return total


async def sweep(pool: Pool) -> None:
    """Take away what workers wrote about users erased lately that had not heard of it yet."""
    await pool.execute(_SQL["sweep"])


async def fetch(connection: Pool | Connection, number: int) -> Row | None:
    """An erasure: `id`, `user_id`, `at`, and `ended_at` once nothing is left in the database."""
    row: Row | None = await connection.fetchrow(_SQL["fetch"], number)
    return row


async def after(pool: Pool, number: int) -> list[tuple[int, str, bool]]:
    """(number, user id, fresh) of erasures behind `number`, at most 1,000. Lines about fresh ones may still come."""
    return [(row["id"], row["user_id"], row["fresh"]) for row in await pool.fetch(_SQL["after"], number)]


async def _finish(pool: Pool, erasure: Any, on_progress: Callable[[int, int], None] | None) -> int:
    user_id, key_ids = erasure["user_id"], erasure["key_ids"]
    count = 0
    left = await pool.fetchval(_SQL["count_records"], user_id, timeout=STEP_TIMEOUT_S) if on_progress else 0
    while step := await pool.fetchval(
        _SQL["anonymise_records"], user_id, key_ids, STEP_RECORDS, timeout=STEP_TIMEOUT_S
    ):
        count += step
        if on_progress is not None:
            on_progress(count, left)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(_SQL["wait_for_folds"], timeout=STEP_TIMEOUT_S)
        await connection.execute(_SQL["forget_folded_tags"], user_id, timeout=STEP_TIMEOUT_S)
        for sums in ("anonymise_sums", "anonymise_folds", "anonymise_spans"):
            await connection.execute(_SQL[sums], user_id, key_ids, timeout=STEP_TIMEOUT_S)
        await connection.execute(_SQL["disown_objects"], [user_id])
        await connection.execute(_SQL["end"], erasure["id"])
    return count
