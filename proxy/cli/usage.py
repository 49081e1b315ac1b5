"""`openai-proxy usage`: what the dashboard shows, as a table with bars, as JSON or CSV, or live."""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli import show
from proxy.cli.api import AdminKey, AsJson, Server, on_api
from proxy.core.table import csv_row

DAYS = 7
BAR_CHARS = 20
ROW_COLUMNS = (
    "requests", "errors", "input_tokens", "cached_input_tokens", "output_tokens", "total_tokens", "cost_usd",
)  # fmt: skip
_SORTED_BY = {"cost": "cost_usd", "tokens": "total_tokens"}

Days = Annotated[
    int | None, typer.Option(min=1, help=f"The last days, today included; {DAYS} when nothing is said.")
]
Start = Annotated[str | None, typer.Option(help="A date or time in ISO 8601, instead of --days.")]
End = Annotated[str | None, typer.Option(help="A date, which is included, or a time, which is not.")]
Zone = Annotated[str, typer.Option("--tz", help="Whose days, e.g. Europe/Berlin.")]
Many = list[str] | None
User = Annotated[Many, typer.Option("--user", help="Id, external id or e-mail address.")]
Group = Annotated[Many, typer.Option("--group", help="Id, external id or name.")]
Key = Annotated[Many, typer.Option("--key", help="Id of a key.")]
Model = Annotated[Many, typer.Option("--model")]
Endpoint = Annotated[Many, typer.Option("--endpoint", help="E.g. /v1/responses.")]
Operation = Annotated[Many, typer.Option("--operation")]
Provider = Annotated[Many, typer.Option("--provider")]
Status = Annotated[list[int] | None, typer.Option("--status", help="HTTP status.")]
EndUser = Annotated[Many, typer.Option("--end-user")]
Tag = Annotated[Many, typer.Option("--tag", help="NAME=VALUE.")]
Streamed = Annotated[bool | None, typer.Option("--streamed/--not-streamed")]
ServiceTier = Annotated[Many, typer.Option("--service-tier", help="default, flex, priority …")]
FinishReason = Annotated[Many, typer.Option("--finish-reason")]
UsageSource = Annotated[Many, typer.Option("--usage-source", help="reported, estimated or none.")]
Outcome = Annotated[Many, typer.Option("--outcome", help="success, upstream_error, refused, lost …")]
Active = Annotated[str | None, typer.Option("--active", help="false: what was voided; all: this too.")]


def filters(
    *, days: int | None, start: str | None, end: str | None, tz: str, tag: Many, **more: Any
) -> dict[str, Any]:
    """The query of the options that statistics and exports share."""
    if days is None and start is None:
        days = DAYS
    tags = {f"tag.{name}": value for name, value in (show.pairs(tag, "tag") or {}).items()}
    return {"days": days, "start": start, "end": end, "tz": tz, **tags, **more}


def usage(
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
    tag: Tag = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            help="One or two of user, group, key, model, endpoint, operation, provider, status, year, month, day, hour, "
            "tag.NAME; e.g. model or model,day."
        ),
    ] = None,
    sort: Annotated[str | None, typer.Option(help="cost, requests, tokens, errors, name …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    live: Annotated[
        bool, typer.Option("--live", help="Show new requests as they come; Ctrl-C ends.")
    ] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    server: Server = None,
    admin_key: AdminKey = None,
    as_json: AsJson = False,
) -> None:
    """Show usage: requests, tokens and cost of a period, whole or by dimension."""
    query = filters(
        days=days, start=start, end=end, tz=tz, tag=tag, user=user, group=group, key=key, model=model, endpoint=endpoint,
        operation=operation, provider=provider, status=status, end_user=end_user, streamed=streamed,
        service_tier=service_tier, finish_reason=finish_reason, usage_source=usage_source, outcome=outcome, active=active,
    )  # fmt: skip
    if live:
        from proxy.cli.live import watch

        shown = {name: value for name, value in query.items() if name not in {"days", "start", "end"}}
        return watch(lambda work: on_api("usage", work, server, admin_key), shown, as_json=as_json)
    if group_by is None:
        overview = on_api("usage", lambda api: api.get("/admin/stats/overview", query), server, admin_key)
        return _print_overview(overview, as_json=as_json, as_csv=as_csv)
    query |= {"group_by": group_by, "sort": sort, "limit": limit}
    answer = on_api("usage", lambda api: api.get("/admin/stats/by", query), server, admin_key)
    return _print_grouped(answer, sort, as_json=as_json, as_csv=as_csv)


def _print_overview(answer: dict[str, Any], *, as_json: bool, as_csv: bool) -> None:
    sums = answer["sums"]
    if as_json:
        show.as_json(answer)
    elif as_csv:
        sys.stdout.write(csv_row(sums) + csv_row(sums.values()))
    else:
        period, before = answer["period"], answer["before"]
        print(f"{show.cell(period['start'])} to {show.cell(period['end'])} ({period['tz']})\n")
        rows = [
            {"": name.replace("_", " "), "this period": sums[name], "the one before": before[name]}
            for name in sums
            if sums[name] is not None
        ]
        users = answer["users"]
        rows.append(
            {"": "users", "this period": f"{users['active']}, {users['new']} new", "the one before": None}
        )
        show.table(rows, ("", "this period", "the one before"))


def _print_grouped(answer: dict[str, Any], sort: str | None, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        show.as_json(answer)
    elif as_csv:
        _print_csv(answer)
    else:
        _print_rows(answer, _SORTED_BY.get(sort or "cost", sort or "cost_usd"))


def _print_rows(answer: dict[str, Any], measure: str) -> None:
    two = len(answer["group_by"]) > 1
    if measure not in ROW_COLUMNS:
        measure = "cost_usd"
    table = Table(*answer["group_by"], box=None, pad_edge=False)
    for column in ROW_COLUMNS:
        table.add_column(column.replace("_", " "), justify="right")
    table.add_column("")
    largest = max((Decimal(row[measure]) for row in answer["data"]), default=Decimal(0))
    for row in answer["data"]:
        names = [row["name"] or row["key"] or "-"] + (
            [row["second_name"] or row["second_key"] or "-"] if two else []
        )
        table.add_row(
            *names, *(show.cell(row[column]) for column in ROW_COLUMNS), bar(Decimal(row[measure]), largest)
        )
    Console().print(table)
    if answer["total_pages"] > 1:
        print(f"{len(answer['data'])} of {answer['total']} rows; --limit shows more", file=sys.stderr)


def bar(value: Decimal, largest: Decimal) -> str:
    """A bar of up to BAR_CHARS characters, in eighths; the largest value fills it."""
    eighths = int(value / largest * BAR_CHARS * 8) if largest else 0
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _print_csv(answer: dict[str, Any]) -> None:
    two = len(answer["group_by"]) > 1
    skipped = {"second_key", "second_name"} if not two else set()
    names = [name for name in (answer["data"] or [{}])[0] if name not in skipped]
    names.sort(key=lambda name: name not in {"key", "name", "second_key", "second_name"})
    sys.stdout.write(csv_row(names))
    for row in answer["data"]:
        sys.stdout.write(csv_row(row[name] for name in names))
