"""Everything in a directory of files, and back into an empty database, of this version or a newer one.

An archive is one moment of the database: `<table>.csv.gz` for each of TABLES as COPY writes them, and `manifest.json`, written
last, with columns, numbers of rows and SHA-256. What means nothing elsewhere or later stays behind: see LEFT_OUT.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from proxy.store.postgres import Connection, Pool, statements

_SQL = statements("archive")
FORMAT = 1
MANIFEST = "manifest.json"
TIMEOUT_S = 86_400.0
CHUNK_BYTES = 1 << 20
TABLES = (
    *("plans", "groups", "users", "keys", "admin_keys", "quotas", "quota_windows", "prices", "price_data"),
    *("usage_records", "usage_hourly", "usage_latency_hourly", "usage_outcomes_hourly"),
    *("objects", "billed_objects", "erasures", "audit_log"),
)
"""In an order in which each row finds those it refers to."""
LEFT_OUT = {
    "schema_migrations": "the new database has its own",
    "live_changes": "tells running workers what changed",
    "idempotency_keys": "answers of the last day",
    "sign_ins": "browsers sign in again",
    "spool_workers": "workers that live",
    "open_exchanges": "exchanges under way",
    "quota_leases": "of workers that live",
    "quota_shares": "of workers that live",
    "usage_folds": "made anew from the hourly sums",
    "usage_latency_folds": "the same",
    "usage_outcomes_folds": "the same",
    "usage_folded": "the same",
    "usage_spans": "the same",
}
"""Tables that are not in an archive, and why."""
_NUMBERED = ("audit_log", "erasures")
Progress = Callable[[str, int], None]
"""(table, rows) when a table is done."""


class ArchiveError(Exception):
    """The archive can't be used; the message says why, for a person."""


@dataclass(frozen=True, slots=True)
class Table:
    """One file of an archive, as its manifest tells."""

    name: str
    columns: list[str]
    rows: int
    sha256: str

    @property
    def file(self) -> str:
        """Its name in the directory."""
        return f"{self.name}.csv.gz"


async def write(pool: Pool, directory: Path, *, version: str, on_table: Progress) -> list[Table]:
    """Write everything into a new or empty directory. Raises ArchiveError, OSError, and what Postgres raises."""
    await asyncio.to_thread(_make_empty, directory)
    tables = []
    async with (
        pool.acquire() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        for name in TABLES:
            tables.append(await _write_table(connection, name, directory))
            on_table(name, tables[-1].rows)
        schema = [
            [row["number"], row["name"], row["checksum"]] for row in await connection.fetch(_SQL["schema"])
        ]
        months = [row["starts"].isoformat() for row in await connection.fetch(_SQL["months"])]
        at = (await connection.fetchval("select now()")).isoformat()
    manifest = {
        "format": FORMAT,
        "version": version,
        "at": at,
        "schema": schema,
        "months": months,
        "tables": [
            {"name": each.name, "columns": each.columns, "rows": each.rows, "sha256": each.sha256}
            for each in tables
        ],
    }
    (directory / MANIFEST).write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))
    return tables


async def _write_table(connection: Connection, name: str, directory: Path) -> Table:
    columns: list[str] = await connection.fetchval(_SQL["columns"], name)
    path = directory / f"{name}.csv.gz"
    # What workers hold of a window ends with them.
    chosen = ", ".join(
        "0 as held" if (name, column) == ("quota_windows", "held") else f'"{column}"' for column in columns
    )
    query = f"select {chosen} from {name}"  # noqa: S608  our own names
    with gzip.open(path, "wb", compresslevel=6) as file:

        async def take(data: bytes) -> None:
            await asyncio.to_thread(file.write, data)

        status = await connection.copy_from_query(query, output=take, format="csv", timeout=TIMEOUT_S)
    path.chmod(0o600)
    return Table(name, columns, int(status.rpartition(" ")[2]), await asyncio.to_thread(_sha256, path))


async def read(pool: Pool, directory: Path, *, on_table: Progress) -> list[Table]:
    """Bring an archive into a database that has nothing but its schema: all of it, or nothing.

    Raises ArchiveError, OSError, and what Postgres raises.
    """
    manifest = _manifest(directory)
    tables = [Table(**each) for each in manifest["tables"]]
    for table in tables:
        if table.name not in TABLES:
            raise ArchiveError(f"{directory}: the table {table.name} is not known to this version")
        if await asyncio.to_thread(_sha256, directory / table.file) != table.sha256:
            raise ArchiveError(f"{directory / table.file} is not what was written")
    async with pool.acquire() as connection, connection.transaction():
        schema = [
            [row["number"], row["name"], row["checksum"]] for row in await connection.fetch(_SQL["schema"])
        ]
        if any(each not in schema for each in manifest["schema"]):
            raise ArchiveError(
                f"{directory} is of version {manifest['version']}, which is newer or another one than this"
            )
        if not await connection.fetchval(_SQL["is_empty"]):
            raise ArchiveError(
                "the database is not empty: import into a new one, before a server starts on it"
            )
        await connection.execute(_SQL["delete_plans"])
        for month in manifest["months"]:
            await connection.execute(_SQL["make_month"], datetime.fromisoformat(month))
        for table in tables:
            await connection.copy_to_table(
                table.name,
                source=_chunks(directory / table.file),
                columns=table.columns,
                format="csv",
                timeout=TIMEOUT_S,
            )
            if table.name in _NUMBERED and table.rows:
                highest = await connection.fetchval(f"select max(id) from {table.name}")  # noqa: S608  our own names
                await connection.fetchval(_SQL["continue_numbers"], table.name, highest)
            on_table(table.name, table.rows)
    return tables


def _make_empty(directory: Path) -> None:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise ArchiveError(f"{directory} is not empty")


def _manifest(directory: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = orjson.loads((directory / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ArchiveError(
            f"{directory} has no {MANIFEST}: it is no export, or one that did not end well"
        ) from None
    except orjson.JSONDecodeError:
        raise ArchiveError(f"{directory / MANIFEST} is damaged") from None
    if manifest.get("format") != FORMAT:
        raise ArchiveError(f"{directory} is an export of another format")
    if not {"version", "schema", "months", "tables"} <= manifest.keys():
        raise ArchiveError(f"{directory / MANIFEST} is damaged")
    return manifest


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with gzip.open(path, "rb") as file:
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
