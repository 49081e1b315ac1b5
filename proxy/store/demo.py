"""What demo data needs of the database besides the ordinary ways in."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.store.postgres import Connection, Pool, statements
from proxy.store.records import as_array

_SQL = statements("demo")
STORE_TIMEOUT_S = 300.0
_TABLES = ("usage_records", "usage_hourly", "usage_latency_hourly", "usage_outcomes_hourly")


async def is_empty(connection: Connection) -> bool:
    """True when nobody's usage is in it."""
    return bool(await connection.fetchval(_SQL["is_empty"]))


async def store(pool: Pool, payloads: Sequence[bytes], rollup_tags: Sequence[str]) -> int:
    """Records as the recorder stores them, in larger batches, and without settling: nothing of theirs was reserved."""
    array, tags = as_array(payloads), list(rollup_tags)
    row = await pool.fetchrow(statements("records")["store_records"], array, tags, timeout=STORE_TIMEOUT_S)
    return int(row["inserted"])


async def finish(pool: Pool) -> None:
    """After the last record: when keys were used, and fresh statistics for the planner."""
    await pool.execute(_SQL["last_used"])
    for table in _TABLES:
        await pool.execute(f"analyze {table}")
