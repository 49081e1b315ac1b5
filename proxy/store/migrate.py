"""Migrations: migrations/NNNN_name.sql, plain SQL, forward only, applied once, on a database that goes on being used.

Many replicas may start at once: an advisory lock lets one apply while the others wait and then find nothing to do.
A file that was changed after it was applied is refused (its checksum is stored), as is a database newer than this code.

A file is one transaction, unless its first line is NO_TRANSACTION. Then each of its statements is on its own, ends with a
semicolon at the end of a line, and does no harm when it is run again, since a migration that was cut is begun anew;
`create index` is done without stopping writers (proxy/store/indexes.py). Either way a lock that others hold is waited for
briefly, again and again, so that whoever queues behind us waits no longer than Patience.lock_timeout_s.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from proxy.store import indexes
from proxy.store.locks import Patience, patiently
from proxy.store.postgres import Connection, PostgresError, statements

log = logging.getLogger(__name__)
LOCK = 7_165_210_439_216_001  # any constant that nobody else takes
LOCK_POLL_S = 0.25
LOCK_WAIT_MAX_S = 86_400.0
NO_TRANSACTION = "-- no transaction"
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")
_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_SQL = statements("migrate")


class MigrationError(Exception):
    """The migrations and the database don't fit together; the message says why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of migrations/."""

    number: int
    name: str
    sql: str

    def __str__(self) -> str:
        return f"{self.number:04}_{self.name}"

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()

    @property
    def steps(self) -> list[str] | None:
        """The statements of a file without a transaction; None for one with."""
        if not self.sql.startswith(NO_TRANSACTION):
            return None
        parts = re.split(r";[ \t]*(?:\n|$)", _COMMENT.sub("", self.sql))
        return [part.strip() for part in parts if part.strip()]


def migrations_dir() -> Path:
    """In the wheel the files lie inside the package; in a checkout at the top level."""
    package = Path(__file__).parents[1]
    inside = package / "_migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def load(directory: Path | None = None) -> list[Migration]:
    """All migrations in order. Raises MigrationError when one has no number, or another's."""
    found = []
    for path in sorted((directory or migrations_dir()).glob("*.sql")):
        named = _FILE.match(path.name)
        if named is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        found.append(Migration(int(named[1]), named[2], path.read_text()))
    numbers = [migration.number for migration in found]
    if len(set(numbers)) < len(numbers):
        raise MigrationError("two migrations have the same number")
    return found


async def migrate(
    connection: Connection, directory: Path | None = None, *, patience: Patience | None = None
) -> list[str]:
    """Bring the database to the newest schema; returns the names of what was applied, in order.

    Raises MigrationError, LockNotAvailable (one of UNAVAILABLE) when patience has an end, and what Postgres raises.
    """
    available, patience = load(directory), patience or Patience()
    async with _alone(connection):
        await connection.execute(_SQL["make_table"])
        applied = {row["number"]: row["checksum"] for row in await connection.fetch(_SQL["applied"])}
        _check(available, applied)
        names = []
        for migration in available:
            if migration.number not in applied:
                began = time.monotonic()
                await _apply(connection, migration, patience)
                names.append(str(migration))
                took_s = round(time.monotonic() - began, 3)
                log.info("migration applied", extra={"migration": names[-1], "took_s": took_s})
        return names


@contextlib.asynccontextmanager
async def _alone(connection: Connection) -> AsyncIterator[None]:
    # Asked for again and again rather than waited for: a statement that waits has a snapshot, and whoever builds an index
    # concurrently waits for every older snapshot to go.
    deadline, waits = time.monotonic() + LOCK_WAIT_MAX_S, False
    while not await connection.fetchval(_SQL["try_lock"], LOCK):
        if time.monotonic() > deadline:
            raise MigrationError("another process has been migrating for a day: is it alive?")
        if not waits:
            log.info("another process migrates the database: waiting for it")
            waits = True
        await asyncio.sleep(LOCK_POLL_S)
    try:
        await connection.fetchrow(_SQL["begin"])
        with contextlib.suppress(PostgresError):  # not every platform can
            await connection.fetchval(_SQL["notice_gone_client"])
        yield
    finally:
        if not connection.is_closed():  # else the lock went with it
            await connection.fetchrow(_SQL["end"])
            await connection.fetchval(_SQL["unlock"], LOCK)


async def _apply(connection: Connection, migration: Migration, patience: Patience) -> None:
    async def note() -> None:
        await connection.execute(_SQL["note"], migration.number, migration.name, migration.checksum)

    async def whole() -> None:
        await connection.execute(migration.sql)
        await note()

    if migration.steps is None:
        await patiently(connection, patience, str(migration), whole)
        return
    for step in migration.steps:
        if (index := indexes.Index.read(step)) is not None:
            await indexes.build(connection, index, patience)
        else:
            await patiently(connection, patience, str(migration), partial(connection.execute, step))
    await note()


def _check(available: list[Migration], applied: dict[int, str]) -> None:
    known = {migration.number: migration for migration in available}
    newer = sorted(applied.keys() - known.keys())
    if newer:
        raise MigrationError(
            f"the database has migration {newer[-1]:04}, which this version does not know: run a newer version"
        )
    for number, checksum in applied.items():
        if known[number].checksum != checksum:
            raise MigrationError(f"migration {known[number]} was changed after it was applied")
