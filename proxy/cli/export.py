"""`openai-proxy export`: records, the summary of users or the audit log, all about one user, or everything."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import DownloadColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from proxy.cli.api import AdminKey, Api, Server, on_api, part
from proxy.cli.failure import CommandError
from proxy.cli.usage import (
    Active,
    Days,
    End,
    Endpoint,
    EndUser,
    FinishReason,
    Group,
    Key,
    Model,
    Operation,
    Outcome,
    Provider,
    ServiceTier,
    Start,
    Status,
    Streamed,
    Tag,
    UsageSource,
    User,
    Zone,
    filters,
)

WHAT = ("records", "users", "audit")
CHUNK_BYTES = 65_536


def export(
    what: Annotated[
        str | None, typer.Argument(help="records, users or audit; with --user alone: all about that user.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file; stdout when not given.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="csv, jsonl, json or parquet.")] = "csv",
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
    streamed: Streamed = None,
    service_tier: ServiceTier = None,
    finish_reason: FinishReason = None,
    usage_source: UsageSource = None,
    outcome: Outcome = None,
    active: Active = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only records of requests that failed.")] = False,
    tag: Tag = None,
    everything: Annotated[
        Path | None,
        typer.Option("--all", metavar="DIR", help="Everything, into a directory that `import` reads."),
    ] = None,
    server: Server = None,
    admin_key: AdminKey = None,
) -> None:
    """Export usage records, the summary of users, the audit log, all about one user, or everything."""
    if everything is not None:
        return _everything(everything, alone=server is None and what is None and not user)
    if what is None and user:
        return _about(user, output, server, admin_key)
    what = what or "records"
    if what not in WHAT:
        raise CommandError(f"{what!r} is none of {', '.join(WHAT)}")
    query: dict[str, Any] = {"format": form, "start": start, "end": end}
    if what != "audit":
        query |= {"columns": columns} | filters(
            days=days, start=start, end=end, tz=tz, tag=tag, user=user, group=group, key=key, model=model,
            endpoint=endpoint, operation=operation, provider=provider, status=status, end_user=end_user, streamed=streamed,
            service_tier=service_tier, finish_reason=finish_reason, usage_source=usage_source, outcome=outcome,
            active=active,
        )  # fmt: skip
    if failed:
        query["failed"] = True
    return _save(output, f"/admin/export/{what}", query, server, admin_key)


def _everything(directory: Path, *, alone: bool) -> None:
    if not alone:
        raise CommandError("--all reads the database and takes nothing beside it")
    from proxy.cli.archive import export_all, print_tables

    print_tables(export_all(directory), as_json=False)


def _about(users: list[str], output: Path | None, server: str | None, admin_key: str | None) -> None:
    if len(users) > 1:
        raise CommandError("all about one user at a time: give one --user")
    _save(output, f"/admin/users/{part(users[0])}/data", {}, server, admin_key)


def _save(
    output: Path | None, path: str, query: dict[str, Any], server: str | None, admin_key: str | None
) -> None:
    try:
        target = output.open("wb") if output is not None else None
    except OSError as error:
        raise CommandError(f"{output}: {error.strerror}") from None
    try:
        on_api(
            "export",
            lambda api: _copy(api, path, query, target or sys.stdout.buffer, target is not None),
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
