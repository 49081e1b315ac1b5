"""Statistics: sums of usage over a period, whole, by one or two dimensions, and who was active.

They read folds and hourly sums, so that their time does not grow with the number of records; only what these can't answer
(the part of an hour at either end, and filters in DETAIL) reads the records, within the transaction's statement timeout.
Which ones answer a question is decided in stats_plan.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal

from proxy.core.period import Period, whole_hours
from proxy.core.stretches import pieces
from proxy.store import folds
from proxy.store.folds import FULL, Cut
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row
from proxy.store.stats_plan import Asked, columns, plan, rate_changes

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
_EXCHANGE_DIMENSIONS = frozenset({"group", "provider", "model", "endpoint"})
_LATENCY_CUTS = (
    Cut("model", frozenset({"model"})),
    Cut("what", frozenset({"provider", "model", "endpoint"})),
)
_OUTCOME_CUTS = (Cut("what", frozenset({"provider", "model", "endpoint"})), Cut("full", _EXCHANGE_DIMENSIONS))
"""Of folds of latencies and outcomes; what none has is read from the hours."""
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
    """What is asked about: a period, filters, and the moment of asking. `summed_tags`: names that rollups keep.

    `rate_days`: the days on which some currency's rate changes, ascending, so that costs can be told apart by them.
    """

    period: Period
    now: datetime
    filters: Filters = field(default_factory=Filters)
    summed_tags: frozenset[str] = frozenset()
    rate_days: tuple[date, ...] = ()

    def over(self, period: Period) -> Question:
        """The same about another period."""
        return replace(self, period=period)

    def hours(
        self, *tags: str | None, detail: frozenset[str] = DETAIL, tags_summed: bool = True
    ) -> tuple[datetime, datetime]:
        """The whole hours that sums answer. `tags` are names of tags that are grouped by, `detail` what sums can't tell apart."""
        needed = {name for name in tags if name is not None} | set(self.filters.tags)
        if self.filters.where.keys() & detail or needed - (self.summed_tags if tags_summed else set()):
            return self.period.end, self.period.end
        return whole_hours(self.period, self.now)

    def filtered(self) -> dict[str, int]:
        """How many values each dimension may have that is filtered by."""
        found = {name: len(values) for name, values in self.filters.where.items() if name not in DETAIL}
        if found.pop("user_active", 0):
            found["user"] = max(2, found.get("user", 0))
        if self.filters.tags:
            found["tags"] = len(self.filters.tags) + 1
        return found


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


async def totals(connection: Connection, question: Question, *, users: bool = True) -> Row:
    """One row of sums, zeros when there was nothing, and the number of `users`, unless that need not be known.

    `by_rate` are [cost, what the cache saved] by the days, as text, from which rates of currencies hold.
    """
    row: Row = await connection.fetchrow(
        _SQL["totals"], *await _parameters(connection, question, count_users=users)
    )
    return row


async def _parameters(
    connection: Connection,
    question: Question,
    grouped: frozenset[str] = frozenset(),
    tags: tuple[str | None, ...] = (),
    *,
    count_users: bool = True,
) -> tuple[Any, ...]:
    """The parameters $1 to $23."""
    period = question.period
    changes = rate_changes(question.rate_days, period)
    made = await plan(
        connection,
        Asked(
            period,
            question.now,
            question.hours(*tags),
            frozenset("tags" if name == "tag" else name for name in grouped),
            question.filtered(),
            changes,
            count_users,
        ),
    )
    return (
        question.filters.as_json(),
        period.start,
        period.end,
        *made.parameters(),
        changes,
        *made.hours_of_days(),
    )


async def by(connection: Connection, question: Question, grouping: Grouping) -> tuple[list[Row], int]:
    """One page of rows (`first`, `second`, sums), and how many there are on all pages."""
    dimensions = frozenset(each for each in (grouping.first, grouping.second) if each is not None)
    rows = await connection.fetch(
        _SQL["by"],
        *await _parameters(connection, question, dimensions, grouping.tags),
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
    parameters = await _parameters(connection, question, frozenset({"user"}))
    cursor = await connection.cursor(_SQL["user_summaries"], *parameters)
    while rows := await cursor.fetch(SUMMARY_BATCH):
        yield rows


async def users_seen(connection: Connection, question: Question) -> Row:
    """How many users were `active` in the period, of them `new` ones (nothing before it) and `returning` ones."""
    row: Row = await connection.fetchrow(_SQL["users_seen"], *await _parameters(connection, question))
    return row


async def latencies(connection: Connection, question: Question) -> dict[tuple[str, str], dict[int, int]]:
    """Histograms by (model, "duration" or "ttfb"): bucket -> requests."""
    parameters = await _of_exchanges(connection, question, LATENCY_DETAIL, _LATENCY_CUTS)
    found: dict[tuple[str, str], dict[int, int]] = {}
    for row in await connection.fetch(_SQL["latencies"], *parameters):
        found.setdefault((row["model"], row["measure"]), {})[row["bucket"]] = row["requests"]
    return found


async def outcomes(connection: Connection, question: Question) -> list[Row]:
    """How exchanges ended: rows of model, status, outcome, error_code, finish_reason, service_tier, requests."""
    parameters = await _of_exchanges(connection, question, OUTCOME_DETAIL, _OUTCOME_CUTS)
    rows: list[Row] = await connection.fetch(_SQL["outcomes"], *parameters)
    return rows


async def _of_exchanges(
    connection: Connection, question: Question, detail: frozenset[str], cuts: Sequence[Cut]
) -> tuple[Any, ...]:
    """The parameters of latencies and outcomes."""
    period, filters = question.period, question.filters
    start, end = question.hours(detail=detail, tags_summed=False)
    needed = (frozenset(filters.where) & _EXCHANGE_DIMENSIONS) if start < end else frozenset()
    cut = next((each for each in cuts if needed <= each.dimensions), None)
    cover = pieces(
        start, end, await folds.folded(connection, start, end) if cut is not None else {}, FULL.grains
    )
    from_records = start > period.start or end < period.end
    name = cut.name if cut is not None else ""
    return (filters.as_json(), period.start, period.end, start, end, from_records, name, *columns(cover))


async def names(
    connection: Connection, kind: Dimension, ids: Sequence[str], *, user_id: str | None = None
) -> dict[str, Row]:
    """Names of users, groups or keys by id; rows that are gone, or not this user's own, are left out."""
    rows = await connection.fetch(_SQL["names"], kind, list(ids), user_id)
    return {row["id"]: row for row in rows}
