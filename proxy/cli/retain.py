"""`openai-proxy retain`: remove what is past its retention now. It shows what would go first, and asks.

The server does the same by itself every hour; this is for who wants to see it, to do it now, or to do it with other numbers.
Whole months of records are dropped, never deleted row by row; sums and the audit log stay.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proxy.cli import show
from proxy.cli.database import audited, on_database
from proxy.cli.failure import CommandError
from proxy.gateway.jsonl import DailyLog
from proxy.settings import Settings
from proxy.store import partitions
from proxy.store.partitions import Partition
from proxy.store.postgres import Pool

DAYS_MAX = 100_000
"""Longer than the calendar goes back."""
COLUMNS = ("kind", "name", "until", "records", "bytes")
Days = Annotated[int | None, typer.Option(min=1, max=DAYS_MAX, help="Instead of the setting.")]


@dataclass(frozen=True, slots=True)
class Due:
    """What is past its retention."""

    cutoff: datetime
    today: date
    jsonl_days: int
    months: list[Partition]
    strays: int
    """Records in no monthly partition."""
    files: list[tuple[str, Path]]

    def rows(self) -> list[dict[str, Any]]:
        """For people and for JSON."""
        found: list[dict[str, Any]] = [
            {
                "kind": "month",
                "name": f"{each.starts:%Y-%m}",
                "until": each.ends.isoformat().replace("+00:00", "Z"),
                "records": each.rows_estimate,
                "bytes": each.bytes,
            }
            for each in self.months
        ]
        if self.strays:
            until = self.cutoff.isoformat().replace("+00:00", "Z")
            found.append(
                {
                    "kind": "records",
                    "name": "in no month",
                    "until": until,
                    "records": self.strays,
                    "bytes": None,
                }
            )
        found += [
            {
                "kind": "daily log",
                "name": path.name,
                "until": day,
                "records": None,
                "bytes": path.stat().st_size,
            }
            for day, path in self.files
        ]
        return found


def retain(
    records_days: Days = None,
    jsonl_days: Days = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Remove it without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show it.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; removes nothing without --yes.")
    ] = False,
) -> None:
    """Remove records and daily logs that are past their retention."""

    async def work(pool: Pool, settings: Settings) -> None:
        due = await _due(
            pool,
            settings,
            records_days or settings.retention_records_days,
            jsonl_days or settings.retention_jsonl_days,
        )
        rows = due.rows()
        if not as_json:
            if rows:
                show.table(rows, COLUMNS)
            else:
                typer.echo("nothing is past its retention")
        remove = bool(rows) and not dry_run and (yes or (not as_json and _agreed(len(rows))))
        if remove:
            await _remove(pool, settings, due)
        if as_json:
            show.as_json(
                {"cutoff": due.cutoff.isoformat().replace("+00:00", "Z"), "removed": remove, "data": rows}
            )
        elif remove:
            typer.echo("removed")

    on_database("retain", work)


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        raise CommandError("nothing was removed: say --yes to remove it, or --dry-run to only look")
    return typer.confirm(f"Remove {'this' if count == 1 else f'these {count}'} for ever?")


async def _due(pool: Pool, settings: Settings, records_days: int, jsonl_days: int) -> Due:
    now = await partitions.not_ahead(pool, datetime.now(UTC))
    cutoff = now - timedelta(days=records_days)
    oldest_day = (now.date() - timedelta(days=jsonl_days)).isoformat()
    return Due(
        cutoff=cutoff,
        today=now.date(),
        jsonl_days=jsonl_days,
        months=await partitions.expired(pool, cutoff),
        strays=await partitions.count_strays(pool, cutoff),
        files=[each for each in DailyLog(settings.data_dir).files() if each[0] < oldest_day],
    )


async def _remove(pool: Pool, settings: Settings, due: Due) -> None:
    """Every step is one that the server might do at the same time, or have done already."""
    async with audited(pool) as (_, note):
        await note(
            "retention.run", "usage", after={"cutoff": due.cutoff.isoformat(), "rows": len(due.rows())}
        )
    columns = (TextColumn("removing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task("remove", total=len(due.months) + bool(due.strays) + len(due.files))
        for month in due.months:
            await partitions.drop(pool, month.name, due.cutoff)
            shown.advance(task)
        if due.strays:
            await partitions.delete_strays(pool, due.cutoff)
            shown.advance(task)
        pruned = DailyLog(settings.data_dir).prune(due.today, due.jsonl_days)
        shown.advance(task, len(pruned))
