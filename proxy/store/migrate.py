"""Migrations: migrations/NNNN_name.sql, plain SQL, forward only, each in a transaction of its own, applied once.

Many replicas may start at once: an advisory lock lets one apply while the others wait and then find nothing to do.
A file that was changed after it was applied is refused (its checksum is stored), as is a database newer than this code.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from proxy.store.postgres import Connection

log = logging.getLogger(__name__)
LOCK = 7_165_210_439_216_001  # any constant that nobody else takes
_FILE = re.compile(r"^(\d{4})_([a-z0-9_]+)\.sql$")


class MigrationError(Exception):
    """The migrations and the database don't fit together; the message says why."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of migrations/."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file's text, hexadecimal."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations_dir() -> Path:
    """In the wheel the files lie inside the package; in a checkout at the top level."""
    package = Path(__file__).parents[1]
    inside = package / "_migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def load(directory: Path | None = None) -> list[Migration]:
    """All migrations in order. Raises MigrationError when a number is missing or given twice."""
    found = []
    for path in sorted((directory or migrations_dir()).glob("*.sql")):
        named = _FILE.match(path.name)
        if named is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        found.append(Migration(int(named[1]), named[2], path.read_text()))
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise MigrationError("migrations are not numbered 0001, 0002, … without gaps")
    return found


async def migrate(connection: Connection, directory: Path | None = None) -> list[str]:
    """Bring the database to the newest schema; returns the names of what was applied, in order."""
    available = load(directory)
    await connection.execute("select pg_advisory_lock($1)", LOCK)
    try:
        await connection.execute(
            "create table if not exists schema_migrations (number integer primary key, name text not null,"
            " checksum text not null, applied_at timestamptz not null default now())"
        )
        applied = {
            row["number"]: row["checksum"]
            for row in await connection.fetch("select number, checksum from schema_migrations")
        }
        _check(available, applied)
        names = []
        for migration in available[len(applied) :]:
            async with connection.transaction():
                await connection.execute(migration.sql)
                await connection.execute(
                    "insert into schema_migrations (number, name, checksum) values ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
            names.append(f"{migration.number:04}_{migration.name}")
            log.info("migration applied", extra={"migration": names[-1]})
        return names
    finally:
        await connection.execute("select pg_advisory_unlock($1)", LOCK)


def _check(available: list[Migration], applied: dict[int, str]) -> None:
    if len(applied) > len(available):
        raise MigrationError(
            f"the database has {len(applied)} migrations, this version knows {len(available)}: run a newer version"
        )
    for migration in available[: len(applied)]:
        if applied.get(migration.number) != migration.checksum:
            raise MigrationError(
                f"migration {migration.number:04}_{migration.name} was changed after it was applied"
            )
