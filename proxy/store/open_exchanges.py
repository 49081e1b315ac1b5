"""Exchanges under way in Postgres: what stands in for the spool where servers have no durable disk."""

from __future__ import annotations

from collections.abc import Sequence

from proxy.store.postgres import Connection, Pool, statements
from proxy.store.records import as_array
from proxy.store.transactions import bounded


async def insert(pool: Pool, worker: str, opened: Sequence[bytes], *, timeout_s: float) -> None:
    """Note that exchanges begin, given as payloads of open lines, and that their worker lives; committed on return."""
    named = statements("open_exchanges")
    text = as_array(opened).decode()
    async with bounded(pool, timeout_s) as connection:
        await connection.execute(named["seen"], worker)
        if opened:
            await connection.execute(named["insert"], worker, text)


async def delete(connection: Pool | Connection, ids: Sequence[str]) -> None:
    """The records of these exchanges are stored."""
    await connection.execute(statements("open_exchanges")["delete"], list(ids))


async def abandoned(connection: Connection, silent_s: float, limit: int) -> list[tuple[str, bytes]]:
    """(id, payload of its open line) of exchanges whose worker is gone, locked until the transaction's end."""
    rows = await connection.fetch(statements("open_exchanges")["abandoned"], silent_s, limit)
    return [(row["id"], row["line"].encode()) for row in rows]


async def forget_workers(pool: Pool) -> None:
    """Forget workers that were not heard of for a day."""
    await pool.execute(statements("open_exchanges")["forget_workers"])


async def ended(pool: Pool, worker: str) -> None:
    """This worker ends; what it leaves open may be taken at once."""
    await pool.execute(statements("open_exchanges")["ended"], worker)
