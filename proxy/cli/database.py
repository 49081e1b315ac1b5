"""How a command works on the proxy's database: a small pool, failures as one line, changes in the audit log."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from proxy.cli.datadir import command_database
from proxy.cli.failure import CommandError
from proxy.cli.startup import described
from proxy.settings import Settings, load
from proxy.store import audit, postgres
from proxy.store.conflicts import MissingError, TakenError

T = TypeVar("T")
Note = Callable[..., Awaitable[None]]
"""(action, subject, before, after): an entry of the audit log, in the transaction of what it tells of."""


def on_database(command: str, work: Callable[[postgres.Pool, Settings], Awaitable[T]]) -> T:
    """Run `work(pool, settings)` on the proxy's database. Raises CommandError for what a person can mend."""
    settings = load()
    with command_database(settings, command) as url:
        try:
            return asyncio.run(_run(url, settings, work))
        except (MissingError, TakenError) as error:
            raise CommandError(str(error)) from None
        except (*postgres.UNAVAILABLE, postgres.PostgresError) as error:
            raise CommandError(f"database {described(url)}: {error or type(error).__name__}") from None


async def _run(url: str, settings: Settings, work: Callable[[postgres.Pool, Settings], Awaitable[T]]) -> T:
    pool = await postgres.open_pool(
        url,
        size_max=2,
        timeout_s=settings.database_timeout_s,
        statement_cache=settings.database_statement_cache,
    )
    try:
        return await work(pool, settings)
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def audited(pool: postgres.Pool) -> AsyncIterator[tuple[postgres.Connection, Note]]:
    """A connection in a transaction, and how to note what was done in it."""
    async with pool.acquire() as connection, connection.transaction():

        async def note(action: str, subject: str, before: Any = None, after: Any = None) -> None:
            await audit.write(connection, [audit.Entry(actor(), None, action, subject, before, after)])

        yield connection, note


def actor() -> str:
    """Who types, for the audit log."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user without a name
        return "cli"
