"""What holds in a transaction of the control plane, and no longer."""

from __future__ import annotations

import asyncpg
import pytest

from proxy.store.session import transaction

SETTINGS = ("statement_timeout", "plan_cache_mode", "jit")


async def settings(connection: asyncpg.Connection) -> list[str]:
    return [await connection.fetchval("select current_setting($1)", name) for name in SETTINGS]


async def test_its_settings_hold_until_its_end(database_url: str) -> None:
    async with asyncpg.create_pool(
        database_url, min_size=1, max_size=1, server_settings={"jit": "on"}
    ) as pool:
        async with transaction(pool, statement_timeout_s=2.5) as connection:
            assert await settings(connection) == ["2500ms", "force_custom_plan", "off"]
        async with pool.acquire() as connection:
            assert await settings(connection) == ["0", "auto", "on"]


async def test_a_statement_that_takes_too_long_is_ended(pool: asyncpg.Pool) -> None:
    with pytest.raises(asyncpg.QueryCanceledError):
        async with transaction(pool, statement_timeout_s=0.05) as connection:
            await connection.execute("select pg_sleep(60)")
