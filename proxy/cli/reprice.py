"""`openai-proxy reprice`: compute the costs of a period anew. It shows the difference first, and asks before it changes."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli.database import actor, on_database
from proxy.cli.failure import CommandError
from proxy.core.money import format_nano
from proxy.core.price import PriceBook
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store import prices
from proxy.store import reprice as store
from proxy.store.reprice import Difference, Period, Report

ROWS_MAX = 50


def reprice(
    start: Annotated[
        str | None, typer.Option("--from", help="The first day, UTC; this month's first when not given.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="The day after the last; now when not given.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Only this provider's.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model's; may hold '*'.")] = None,
    unpriced: Annotated[bool, typer.Option("--unpriced", help="Only records without a cost.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Change them without asking.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the difference.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON; changes nothing without --yes.")
    ] = False,
) -> None:
    """Compute the costs of an open period anew, by the prices that hold now."""
    now = datetime.now(UTC)
    period = Period(
        start=_day(start) if start else now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        end=_day(until) if until else now,
        provider=provider,
        model=model,
        unpriced_only=unpriced,
    )
    if period.start >= period.end:
        raise CommandError("the period ends before it begins")

    async def work(pool: Any, settings: Settings) -> None:
        source = PriceSource.from_settings(settings, prices.fetch_stored)
        if not await source.reload(pool):
            raise CommandError("the database can't be reached: its prices are not known")
        before = await _preview(pool, source.book, period)
        if not as_json:
            _print(before)
        ask = not yes and not dry_run and not as_json and before.total.changed > 0
        if ask and not sys.stdin.isatty():
            raise CommandError("nothing was changed: say --yes to change it, or --dry-run to only look")
        wanted = yes or (ask and typer.confirm(f"Change {before.total.changed:,} records?"))
        applied = wanted and not dry_run and before.total.changed > 0
        report = await _apply(pool, source.book, period, settings.rollup_tags) if applied else before
        if as_json:
            typer.echo(json.dumps(_view(report, period, applied=applied), indent=2))
        elif applied:
            typer.echo(f"{report.total.changed:,} records changed")

    on_database("reprice", work)


async def _preview(pool: Any, book: PriceBook, period: Period) -> Report:
    with Console(stderr=True).status("computing …") as status:
        return await store.preview(
            pool, book, period, on_progress=lambda count: status.update(f"computing … {count:,} records")
        )


async def _apply(pool: Any, book: PriceBook, period: Period, rollup_tags: tuple[str, ...]) -> Report:
    with Console(stderr=True).status("changing …") as status:
        return await store.apply(
            pool,
            book,
            period,
            actor=actor(),
            rollup_tags=rollup_tags,
            on_progress=lambda count: status.update(f"changing … {count:,} records"),
        )


def _day(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a day such as 2026-11-01") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _print(report: Report) -> None:
    table = Table("model", "records", "changed", "before, USD", "after, USD", "difference", "unpriced")
    largest = sorted(
        report.models.items(), key=lambda each: -abs(each[1].after_nanousd - each[1].before_nanousd)
    )
    for model, difference in largest[:ROWS_MAX]:
        table.add_row(*_cells(model or "(not named)", difference))
    table.add_section()
    table.add_row(*_cells("all", report.total))
    Console().print(table)


def _cells(name: str, difference: Difference) -> tuple[str, ...]:
    change = difference.after_nanousd - difference.before_nanousd
    return (
        name,
        f"{difference.records:,}",
        f"{difference.changed:,}",
        format_nano(difference.before_nanousd),
        format_nano(difference.after_nanousd),
        f"{'+' if change > 0 else ''}{format_nano(change)}",
        f"{difference.unpriced_before:,} → {difference.unpriced_after:,}",
    )


def _view(report: Report, period: Period, *, applied: bool) -> dict[str, Any]:
    return {
        "from": period.start.isoformat(),
        "to": period.end.isoformat(),
        "applied": applied,
        "total": _numbers(report.total),
        "models": {model: _numbers(difference) for model, difference in report.models.items()},
        "without_sum": report.without_sum,
    }


def _numbers(difference: Difference) -> dict[str, Any]:
    numbers = asdict(difference)
    return {
        **{name: numbers[name] for name in ("records", "changed", "unpriced_before", "unpriced_after")},
        "before_usd": format_nano(difference.before_nanousd),
        "after_usd": format_nano(difference.after_nanousd),
    }
