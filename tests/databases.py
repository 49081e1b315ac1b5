"""A migrated database that lives longer than one test: for a proxy that is started once for many, or to be copied by each."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg

from proxy.store import postgres
from tests.conftest import database_of

_numbers = itertools.count(1)
_Filled = TypeVar("_Filled")


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


@contextlib.contextmanager
def filled_database(
    postgres_server: str, fill: Callable[[postgres.Pool], Awaitable[_Filled]]
) -> Iterator[tuple[str, _Filled]]:
    """Its name, for the fixture `template` of tests that have a copy each, and what `fill` made of it."""

    async def run(url: str) -> _Filled:
        pool = await postgres.open_pool(url)
        made = await fill(pool)
        await pool.close()
        return made

    with lasting_database(postgres_server) as url:
        yield urlsplit(url).path.removeprefix("/"), asyncio.run(run(url))
