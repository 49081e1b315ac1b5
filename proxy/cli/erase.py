"""`openai-proxy erase`: erase a user everywhere. It says whom, and asks first, since nothing brings them back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proxy.cli import show
from proxy.cli.api import AdminKey, Api, AsJson, Server, on_api, part
from proxy.cli.failure import CommandError

if TYPE_CHECKING:
    from proxy.settings import Settings
    from proxy.store.postgres import Pool

COLUMNS = ("id", "name", "email", "external_id", "group_name", "tags")


def erase(
    user: Annotated[str, typer.Argument(help="Id, external id or e-mail address.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Erase without asking.")] = False,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Erase a user: keys, quotas, name, tags, and their name on everything they used. It can't be undone."""
    if not yes:
        found = on_api("erase", lambda api: api.get(f"/admin/users/{part(user)}"), server, admin_key)
        _agree(found)
    erasure = on_api("erase", lambda api: _begin(api, user), server, admin_key)
    if server is None:  # else the server does it
        from proxy.cli.database import on_database

        on_database("erase", _finish)
    if as_json:
        show.as_json({"erasure": erasure["id"], "user_id": erasure["user_id"], "complete": server is None})
    elif server is None:
        typer.echo(f"{erasure['user_id']} is erased; running servers clean their files within seconds")
    else:
        typer.echo(f"{erasure['user_id']} is being erased: see GET /admin/erasures/{erasure['id']}")


def _agree(user: dict[str, Any]) -> None:
    if not sys.stdin.isatty():
        raise CommandError(f"nothing was erased: say --yes to erase {user['id']}")
    show.table([user], COLUMNS)
    if not typer.confirm("Erase this user for ever?"):
        raise typer.Abort


async def _begin(api: Api, user: str) -> Any:
    return await api.ask("DELETE", f"/admin/users/{part(user)}/data")


async def _finish(pool: Pool, settings: Settings) -> None:
    from proxy.gateway.erasing import erase_from_files
    from proxy.store import erasures

    columns = (TextColumn("erasing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("erase", total=None)
        await erasures.finish(pool, lambda done, of: shown.update(task, completed=done, total=of))
    await erasures.sweep(pool)
    if settings.data_dir.is_dir():
        await erase_from_files(pool, settings.data_dir)
