"""Reprice: compute the costs of a period anew by the prices that hold now, and let sums and quotas follow.

`preview` only tells the difference; `apply` makes it, a batch of records in a transaction, so that each record, the
rollups it is in and the quota windows it counts in always say the same. Both may be repeated: what was done is not
done again. Left as they are: records that used nothing, and void ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from proxy.core.price import Cost, PriceBook, price_list_of
from proxy.core.usage import Usage
from proxy.store import audit
from proxy.store.postgres import RETRYABLE, Connection, Pool, statements
from proxy.store.repriced_quotas import CostWindows
from proxy.store.rows import Row

_SQL = statements("reprice")
BATCH = 1_000
MODELS_MAX = 1_000
"""Models told apart in a report; what comes after them is summed as "…"."""
TRIES_MAX = 5
_FIRST = UUID(int=0)
_COUNTS = (
    "input_tokens",
    "output_tokens",
    "total_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_12h_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "input_image_tokens",
    "cached_image_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Period:
    """Which records: those begun from `start` until `end`, narrowed by what else is given."""

    start: datetime
    end: datetime
    provider: str | None = None
    model: str | None = None
    """Served, else requested; may hold `*`."""
    unpriced_only: bool = False

    @property
    def subject(self) -> str:
        """For the audit log."""
        return f"{self.start.isoformat()}/{self.end.isoformat()}"

    @property
    def filters(self) -> dict[str, Any]:
        """For the audit log."""
        return {"provider": self.provider, "model": self.model, "unpriced_only": self.unpriced_only}


@dataclass(slots=True)
class Difference:
    """Sums before and after, over some records. Money in nano-dollars; what is unpriced counts as 0 in it."""

    records: int = 0
    changed: int = 0
    before_nanousd: int = 0
    after_nanousd: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0

    def add(self, before: int | None, after: Cost, *, changed: bool) -> None:
        """Take in one record."""
        self.records += 1
        self.changed += changed
        self.before_nanousd += before or 0
        self.after_nanousd += after.nanousd or 0
        self.unpriced_before += before is None
        self.unpriced_after += after.nanousd is None


@dataclass(slots=True)
class Report:
    """What a reprice would change, or has changed."""

    total: Difference = field(default_factory=Difference)
    models: dict[str, Difference] = field(default_factory=dict)
    without_sum: int = 0
    """Records whose row of the rollups is gone; their own cost was changed all the same."""

    def add(self, model: str, before: int | None, after: Cost, *, changed: bool) -> None:
        """Take in one record."""
        if model not in self.models and len(self.models) >= MODELS_MAX:
            model = "…"
        for difference in (self.total, self.models.setdefault(model, Difference())):
            difference.add(before, after, changed=changed)


@dataclass(frozen=True, slots=True)
class _Change:
    row: Row
    cost: Cost


async def preview(
    pool: Pool, book: PriceBook, period: Period, *, on_progress: Progress | None = None
) -> Report:
    """What `apply` would change now. Reads only."""
    report = Report()
    after: tuple[datetime, UUID] = (period.start, _FIRST)
    while True:
        rows = await pool.fetch(_SQL["page"], *_where(period, after))
        _compute(rows, book, report)
        if on_progress is not None:
            on_progress(report.total.records)
        if len(rows) < BATCH:
            return report
        after = (rows[-1]["started_at"], rows[-1]["id"])


async def apply(
    pool: Pool,
    book: PriceBook,
    period: Period,
    *,
    actor: str,
    address: str | None = None,
    rollup_tags: tuple[str, ...] = (),
    on_progress: Progress | None = None,
) -> Report:
    """Change the costs of the period. A conflict with other writers is tried again.

    The audit log is told when it begins and when it is over, since its batches are committed one by one.
    """
    await _note(
        pool, audit.Entry(actor, address, "usage.reprice.begin", period.subject, None, period.filters)
    )
    report = Report()
    windows = CostWindows()
    after: tuple[datetime, UUID] | None = (period.start, _FIRST)
    while after is not None:
        for attempt in range(1, TRIES_MAX + 1):
            try:
                async with pool.acquire() as connection, connection.transaction():
                    batch, following = await _apply_batch(
                        connection, book, period, after, windows, rollup_tags
                    )
                break
            except RETRYABLE:
                if attempt == TRIES_MAX:
                    raise
        _join(report, batch)
        after = following
        if on_progress is not None:
            on_progress(report.total.records)
    await _note(pool, _entry(actor, address, period, report))
    return report


def usage_of(row: Mapping[str, Any]) -> Usage:
    """The usage of a row of usage_records."""
    counts = {name: row[name] for name in _COUNTS}
    return Usage(**counts, units=tuple(sorted(row["units"].items())))


async def _note(pool: Pool, entry: audit.Entry) -> None:
    async with pool.acquire() as connection:
        await audit.write(connection, [entry])


async def _apply_batch(
    connection: Connection,
    book: PriceBook,
    period: Period,
    after: tuple[datetime, UUID],
    windows: CostWindows,
    rollup_tags: tuple[str, ...],
) -> tuple[Report, tuple[datetime, UUID] | None]:
    """Change the batch after `after`; returns what was changed, and after which record the next one begins."""
    report = Report()
    rows = await connection.fetch(_SQL["page_for_update"], *_where(period, after))
    await _write(connection, _compute(rows, book, report), report, windows, rollup_tags)
    return report, (rows[-1]["started_at"], rows[-1]["id"]) if len(rows) == BATCH else None


def _where(period: Period, after: tuple[datetime, UUID]) -> tuple[Any, ...]:
    model = None
    if period.model is not None:
        model = period.model.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%")
    return (period.start, period.end, *after, period.provider, model, period.unpriced_only, BATCH)


def _compute(rows: list[Row], book: PriceBook, report: Report) -> list[_Change]:
    changes = []
    for row in rows:
        model = row["served_model"] or row["requested_model"]
        cost = book.cost(
            price_list_of(row["provider"], row["endpoint"]),
            model,
            row["service_tier"],
            usage_of(row),
            row["started_at"].timestamp(),
        )
        after = (cost.nanousd, cost.price_id, cost.cache_saved_nanousd)
        changed = after != (row["cost_nanousd"], row["price_id"], row["cache_saved_nanousd"])
        report.add(model or "", row["cost_nanousd"], cost, changed=changed)
        if changed:
            changes.append(_Change(row, cost))
    return changes


async def _write(
    connection: Connection,
    changes: list[_Change],
    report: Report,
    windows: CostWindows,
    rollup_tags: tuple[str, ...],
) -> None:
    if not changes:
        return
    await windows.read(connection, [change.row for change in changes])
    charges: list[str | None] = []
    amounts: list[tuple[str, str, float, int]] = []
    for change in changes:
        settled, differences = windows.charge(change.row, change.cost.nanousd or 0)
        charges.append(orjson.dumps(settled).decode() if settled else None)
        amounts += differences
    await connection.execute(
        _SQL["set_costs"],
        [change.row["started_at"] for change in changes],
        [change.row["id"] for change in changes],
        [change.cost.nanousd for change in changes],
        [change.cost.price_id for change in changes],
        charges,
        [change.cost.cache_saved_nanousd for change in changes],
    )
    sums = [_sum(change) for change in changes]
    columns = [list(column) for column in zip(*sums, strict=True)]
    report.without_sum += await connection.fetchval(
        _SQL["add_to_sums"], *columns[:11], list(rollup_tags), *columns[11:]
    )
    if amounts:
        await connection.execute(
            _SQL["add_to_windows"], *(list(column) for column in zip(*amounts, strict=True))
        )


def _sum(change: _Change) -> tuple[Any, ...]:
    """The key of a record's row in usage_hourly, as the recorder makes it, and the differences."""
    row, cost = change.row, change.cost
    return (
        row["started_at"].astimezone(UTC).replace(minute=0, second=0, microsecond=0),
        row["user_id"],
        row["key_id"],
        row["group_id"] or "",
        row["provider"],
        (row["served_model"] or row["requested_model"] or "")[:200],
        row["endpoint"],
        (row["operation"] or "")[:128],
        row["status"],
        orjson.dumps(row["tags"]).decode(),
        (cost.nanousd or 0) - (row["cost_nanousd"] or 0),
        (cost.nanousd is None) - (row["cost_nanousd"] is None),
        cost.cache_saved_nanousd - row["cache_saved_nanousd"],
    )


def _join(report: Report, batch: Report) -> None:
    report.without_sum += batch.without_sum
    for model, difference in [("", batch.total), *batch.models.items()]:
        if difference is batch.total:
            target = report.total
        else:
            known = model in report.models or len(report.models) < MODELS_MAX
            target = report.models.setdefault(model if known else "…", Difference())
        for name in Difference.__slots__:
            setattr(target, name, getattr(target, name) + getattr(difference, name))


def _entry(actor: str, address: str | None, period: Period, report: Report) -> audit.Entry:
    total = report.total
    before = {"cost_nanousd": total.before_nanousd, "unpriced": total.unpriced_before}
    after = {
        "cost_nanousd": total.after_nanousd,
        "unpriced": total.unpriced_after,
        "records": total.records,
        "changed": total.changed,
    } | period.filters
    return audit.Entry(actor, address, "usage.reprice", period.subject, before, after)
