"""Statistics: sums of usage over a period, whole, by one or two dimensions, and who was active.

They read daily and hourly sums, so that their time does not grow with the number of records; only what these can't answer
(the part of an hour at either end, and filters in DETAIL) reads the records, within the transaction's statement timeout.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from proxy.core.period import Period, whole_hours
from proxy.store import daily
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row

Dimension = Literal[
    "user", "group", "key", "model", "endpoint", "operation", "provider", "status",
    "year", "month", "day", "hour", "tag",
]  # fmt: skip
Sort = Literal[
    "cost",
    "requests",
    "tokens",
    "input_tokens",
    "output_tokens",
    "errors",
    "users",
    "duration",
    "last_at",
    "name",
]
DETAIL = frozenset(
    {"end_user", "streamed", "finish_reason", "service_tier", "usage_source", "outcome", "failed", "active"}
)
"""Filters of what the hourly sums don't tell apart."""
LATENCY_DETAIL = DETAIL | {"user", "key", "operation", "status", "user_active"}
"""The same for the hourly histograms of latencies, which are by group, provider, model and endpoint."""
OUTCOME_DETAIL = frozenset({"user", "key", "operation", "active", "user_active", "end_user", "failed"})
"""The same for the hourly counts of outcomes."""
SEPARATOR = "\x1f"
SUMMARY_BATCH = 500
_SQL = statements("stats")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which usage: `where` maps a column of the admin API to the values it may have; all must hold."""

    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The parameter $1 of the statements."""
        document: dict[str, Any] = {name: SEPARATOR.join(values) for name, values in self.where.items()}
        if self.tags:
            document["tags"] = dict(self.tags)
        return document


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about: a period, filters, and the moment of asking. `summed_tags`: names that rollups keep."""

    period: Period
    now: datetime
    filters: Filters = field(default_factory=Filters)
    summed_tags: frozenset[str] = frozenset()

    def parameters(
        self, *tags: str | None, detail: frozenset[str] = DETAIL, tags_summed: bool = True
    ) -> tuple[Any, ...]:
        """The parameters $1 to $5. `tags` are names of tags that are grouped by, `detail` what sums can't tell apart."""
        needed = {name for name in tags if name is not None} | set(self.filters.tags)
        start, end = self.period.start, self.period.end
        if self.filters.where.keys() & detail or needed - (self.summed_tags if tags_summed else set()):
            hours = (end, end)
        else:
            hours = whole_hours(self.period, self.now)
        return (self.filters.as_json(), start, end, *hours)

    def over(self, period: Period) -> Question:
        """The same about another period."""
        return Question(period, self.now, self.filters, self.summed_tags)


@dataclass(frozen=True, slots=True)
class Grouping:
    """How the rows are made and which are shown. `tags` are the names when a dimension is "tag"."""

    first: Dimension
    second: Dimension | None = None
    tags: tuple[str | None, str | None] = (None, None)
    sort: Sort = "cost"
    ascending: bool = False
    limit: int = 100
    offset: int = 0
    at_least: int | None = None


async def totals(connection: Connection, question: Question) -> Row:
    """One row of sums, zeros when there was nothing, and the number of `users`."""
    row: Row = await connection.fetchrow(_SQL["totals"], *await _with_days(connection, question.parameters()))
    return row


async def _with_days(
    connection: Connection, parameters: tuple[Any, ...], *, days: bool = True
) -> tuple[Any, ...]:
    """The parameters $1 to $7: with the stretch of days that daily sums answer, or without."""
    start, end = parameters[3:5]
    return (*parameters, *(await daily.stretch(connection, start, end) if days else (end, end)))


async def by(connection: Connection, question: Question, grouping: Grouping) -> tuple[list[Row], int]:
    """One page of rows (`first`, `second`, sums), and how many there are on all pages."""
    times = {grouping.first, grouping.second} & {"year", "month", "day", "hour"}
    # An hour, or another zone's day, can't be told from the sum of a UTC day.
    days = not times or ("hour" not in times and question.period.zone.key == "UTC")
    rows = await connection.fetch(
        _SQL["by"],
        *await _with_days(connection, question.parameters(*grouping.tags), days=days),
        grouping.first,
        grouping.second,
        question.period.zone.key,
        *grouping.tags,
        grouping.sort,
        grouping.ascending,
        grouping.limit,
        grouping.offset,
        grouping.at_least,
    )
    return rows, rows[0]["rows_total"] if rows else 0


async def user_summaries(connection: Connection, question: Question) -> AsyncIterator[list[Row]]:
    """Every user's sums with `user_name`, `user_email` and `group_name`, in batches, within the caller's transaction."""
    parameters = await _with_days(connection, question.parameters())
    cursor = await connection.cursor(_SQL["user_summaries"], *parameters)
    while rows := await cursor.fetch(SUMMARY_BATCH):
        yield rows


async def users_seen(connection: Connection, question: Question) -> Row:
    """How many users were `active` in the period, of them `new` ones (nothing before it) and `returning` ones."""
    parameters = await _with_days(connection, question.parameters())
    row: Row = await connection.fetchrow(_SQL["users_seen"], *parameters)
    return row


async def latencies(connection: Connection, question: Question) -> dict[tuple[str, str], dict[int, int]]:
    """Histograms by (model, "duration" or "ttfb"): bucket -> requests."""
    parameters = question.parameters(detail=LATENCY_DETAIL, tags_summed=False)
    found: dict[tuple[str, str], dict[int, int]] = {}
    for row in await connection.fetch(_SQL["latencies"], *parameters):
        found.setdefault((row["model"], row["measure"]), {})[row["bucket"]] = row["requests"]
    return found


async def outcomes(connection: Connection, question: Question) -> list[Row]:
    """How exchanges ended: rows of model, status, outcome, error_code, finish_reason, service_tier, requests."""
    parameters = question.parameters(detail=OUTCOME_DETAIL, tags_summed=False)
    rows: list[Row] = await connection.fetch(_SQL["outcomes"], *parameters)
    return rows


async def names(
    connection: Connection, kind: Dimension, ids: Sequence[str], *, user_id: str | None = None
) -> dict[str, Row]:
    """Names of users, groups or keys by id; rows that are gone, or not this user's own, are left out."""
    rows = await connection.fetch(_SQL["names"], kind, list(ids), user_id)
    return {row["id"]: row for row in rows}
