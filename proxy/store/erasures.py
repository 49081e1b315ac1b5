"""Erasures: which users' traces every server must take out of its own files."""

from __future__ import annotations

from proxy.store.postgres import Connection, Pool, statements


async def add(connection: Pool | Connection, user_id: str) -> None:
    """Tell every server. Call it in the transaction that erases the user's rows."""
    await connection.execute(statements("erasures")["add"], user_id)


async def after(pool: Pool, number: int) -> list[tuple[int, str]]:
    """(number, user id) of erasures behind `number`, at most 1,000."""
    return [(row["id"], row["user_id"]) for row in await pool.fetch(statements("erasures")["after"], number)]
