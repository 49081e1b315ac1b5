"""`openai-proxy export --all DIR` and `openai-proxy import DIR`: everything, to another server or another day."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import proxy
from proxy.cli import show
from proxy.cli.database import actor, on_database
from proxy.cli.failure import CommandError
from proxy.settings import Settings
from proxy.store import archive, audit
from proxy.store.archive import ArchiveError, Table
from proxy.store.postgres import Pool

import_app = typer.Typer(name="import", pretty_exceptions_enable=False, add_completion=False)


def export_all(directory: Path) -> list[Table]:
    """Write everything into a directory. Raises CommandError."""

    async def work(pool: Pool, settings: Settings) -> list[Table]:
        del settings
        async with pool.acquire() as connection:
            await audit.write(connection, [audit.Entry(actor(), None, "everything.export", "all")])
        with _progress("exporting") as shown:
            task = shown.add_task("export", total=len(archive.TABLES))
            return await archive.write(
                pool, directory, version=proxy.__version__, on_table=lambda *_: shown.advance(task)
            )

    try:
        return on_database("export", work)
    except (ArchiveError, OSError) as error:
        raise CommandError(str(error)) from None


@import_app.command("import")
def import_all(
    directory: Annotated[Path, typer.Argument(help="What `openai-proxy export --all DIR` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Bring an export of everything into an empty database."""

    async def work(pool: Pool, settings: Settings) -> list[Table]:
        del settings
        with _progress("importing") as shown:
            task = shown.add_task("import", total=len(archive.TABLES))
            tables = await archive.read(pool, directory, on_table=lambda *_: shown.advance(task))
        async with pool.acquire() as connection:
            await audit.write(connection, [audit.Entry(actor(), None, "everything.import", "all")])
        return tables

    try:
        tables = on_database("import", work)
    except (ArchiveError, OSError) as error:
        raise CommandError(str(error)) from None
    print_tables(tables, as_json=as_json)


def print_tables(tables: list[Table], *, as_json: bool) -> None:
    """How many rows each table has."""
    rows = [{"table": each.name, "rows": each.rows} for each in tables]
    if as_json:
        show.as_json(rows)
    else:
        show.table(rows, ("table", "rows"))


def _progress(what: str) -> Progress:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True))
