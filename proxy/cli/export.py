"""`openai-proxy export`: records, the summary of users or the audit log, to a file or to stdout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from proxy.cli.api import AdminKey, Api, Server, on_api
from proxy.cli.failure import CommandError
from proxy.cli.usage import (
    Days,
    End,
    Endpoint,
    EndUser,
    Group,
    Key,
    Model,
    Operation,
    Provider,
    Start,
    Status,
    Tag,
    User,
    Zone,
    filters,
)

WHAT = ("records", "users", "audit")
CHUNK_BYTES = 65_536


def export(
    what: Annotated[str, typer.Argument(help="records, users or audit.")] = "records",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; stdout when not given.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv or jsonl.")] = "csv",
    columns: Annotated[
        str | None, typer.Option(help="Names separated by commas, tag.NAME among them.")
    ] = None,
    days: Days = None,
    start: Start = None,
    end: End = None,
    tz: Zone = "UTC",
    user: User = None,
    group: Group = None,
    key: Key = None,
    model: Model = None,
    endpoint: Endpoint = None,
    operation: Operation = None,
    provider: Provider = None,
    status: Status = None,
    end_user: EndUser = None,
    tag: Tag = None,
    server: Server = None,
    admin_key: AdminKey = None,
) -> None:
    """Export usage records, the summary of users, or the audit log."""
    if what not in WHAT:
        raise CommandError(f"{what!r} is none of {', '.join(WHAT)}")
    query: dict[str, Any] = {"format": form, "start": start, "end": end}
    if what != "audit":
        query |= {"columns": columns} | filters(
            days=days, start=start, end=end, tz=tz, tag=tag, user=user, group=group, key=key, model=model,
            endpoint=endpoint, operation=operation, provider=provider, status=status, end_user=end_user,
        )  # fmt: skip
    try:
        target = output.open("wb") if output is not None else None
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror}") from None
    try:
        on_api(
            "export",
            lambda api: _copy(
                api, f"/admin/export/{what}", query, target or sys.stdout.buffer, target is not None
            ),
            server,
            admin_key,
        )
    finally:
        if target is not None:
            target.close()


async def _copy(api: Api, path: str, query: dict[str, Any], target: BinaryIO, progress: bool) -> None:
    columns = (SpinnerColumn(), TextColumn("exporting"), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as shown:
        task = shown.add_task("export", total=None)
        async with api.open("GET", path, query) as response:
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                target.write(chunk)
                shown.advance(task, len(chunk))
    target.flush()
