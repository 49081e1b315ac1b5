"""A migrated database that lives longer than one test: for a proxy that is started once for many."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterator

import asyncpg

from tests.conftest import database_of

_numbers = itertools.count(1)


@contextlib.contextmanager
def lasting_database(postgres_server: str) -> Iterator[str]:
    """Its URL. Must not be entered inside a running event loop."""
    name = f"lasting_{os.getpid()}_{next(_numbers)}"

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run(f"create database {name} template proxy_template"))
    yield database_of(postgres_server, name)
    asyncio.run(run(f"drop database {name} with (force)"))
