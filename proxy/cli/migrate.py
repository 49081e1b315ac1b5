"""`openai-proxy migrate`: bring the database to the newest schema. The server does the same when it starts."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from proxy.cli.datadir import command_database
from proxy.cli.failure import CommandError
from proxy.cli.startup import described, direct_url
from proxy.settings import load
from proxy.store import migrate as migrations
from proxy.store import postgres


def migrate(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Apply the migrations that the database doesn't have yet."""
    settings = load()
    with command_database(settings, "migrate") as url:
        try:
            applied = asyncio.run(_migrate(direct_url(url, settings)))
        except migrations.MigrationError as error:
            raise CommandError(f"database: {error}") from None
        except (*postgres.UNAVAILABLE, postgres.PostgresError) as error:
            raise CommandError(f"database {described(url)}: {error or type(error).__name__}") from None
    if as_json:
        typer.echo(json.dumps({"applied": applied}))
    elif applied:
        typer.echo("\n".join(f"applied {name}" for name in applied))
    else:
        typer.echo("the database is up to date")


async def _migrate(url: str) -> list[str]:
    connection = await postgres.connect(url)
    try:
        return await migrations.migrate(connection)
    finally:
        await connection.close()
