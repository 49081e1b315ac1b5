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
from proxy.store.folds import EXCHANGE_GRAINS, Cut
from proxy.store.marks import Marks
from proxy.store.postgres import Connection
from proxy.store.rows import Row
from proxy.store.stats_plan import Asked, columns, plan, present, rate_changes
from proxy.store.templates import Statement, fill

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
_Users = Literal["counted", "listed", "none"]
DETAIL = frozenset(
    {"end_user", "streamed", "finish_reason", "service_tier", "usage_source", "outcome", "active"}
)
"""Filters of what the hourly sums don't tell apart."""
LATENCY_DETAIL = DETAIL | {"user", "key", "operation", "status", "user_active"}
"""The same for the hourly histograms of latencies, which are by group, provider, model and endpoint."""
OUTCOME_DETAIL = frozenset({"user", "key", "operation", "active", "user_active", "end_user"})
"""The same for the hourly counts of outcomes."""
_FORMATS = {"year": "YYYY", "month": "YYYY-MM", "day": "YYYY-MM-DD", "hour": 'YYYY-MM-DD"T"HH24:00'}
_NO_LABELS = {"first": "none", "other": "none"}
_EXCHANGE_DIMENSIONS = frozenset({"group", "provider", "model", "endpoint"})
_LATENCY_CUTS = (
    Cut("model", frozenset({"model"})),
    Cut("what", frozenset({"provider", "model", "endpoint"})),
)
_OUTCOME_CUTS = (Cut("what", frozenset({"provider", "model", "endpoint"})), Cut("full", _EXCHANGE_DIMENSIONS))
"""Of folds of latencies and outcomes; what none has is read from the hours."""
SUMMARY_BATCH = 500
_FLAGS = frozenset({"streamed", "user_active"})


@dataclass(frozen=True, slots=True)
class Filters:
    """Which usage: `where` maps a column of the admin API to the values it may have; all must hold."""

    where: Mapping[str, Sequence[str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Parameters."""
        found: dict[str, Any] = {"tags": dict(self.tags)}
        for name, values in self.where.items():
            if name in _FLAGS:
                found[name] = [value == "true" for value in values]
            else:
                found[name] = [int(value) for value in values] if name == "status" else list(values)
        return found

    def words(self, detail: frozenset[str]) -> dict[str, tuple[str, ...]]:
        """The parts of a statement that filter sums, which don't tell `detail` apart, and those that filter records."""
        names = [name for name in self.where if name != "active"]
        if self.tags:
            names.append("tags")
        voided = {"all": (), "false": ("_detail_voided",)}
        details = voided.get("".join(self.where.get("active", ())), ("_detail_standing",))
        return {
            "filters": tuple(f"_where_{name}" for name in names if name not in detail),
            "detail_filters": details + tuple(f"_detail_{name}" for name in names),
        }


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about: a period, filters, and the moment of asking. `summed_tags`: names that rollups keep.

    `rate_days`: the days on which some currency's rate changes, ascending, so that costs can be told apart by them. `marks`: what is known to
    be folded, for questions of one transaction.
    """

    period: Period
    now: datetime
    filters: Filters = field(default_factory=Filters)
    summed_tags: frozenset[str] = frozenset()
    rate_days: tuple[date, ...] = ()
    marks: Marks | None = None

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
    sources = await _sources(connection, question, users="counted" if users else "none")
    words = sources.words | _NO_LABELS | {"seen": ("_seen",) if sources.others else ()}
    statement = fill("stats", "totals", words)
    row: Row = await connection.fetchrow(statement.text, *statement.arguments(sources.values))
    return row


async def by(
    connection: Connection, question: Question, grouping: Grouping, *, users: bool = True
) -> tuple[list[Row], int]:
    """One page of rows (`first`, `second`, sums, `users`, unless their number need not be known), and how many there are on all pages."""
    dimensions = frozenset(each for each in (grouping.first, grouping.second) if each is not None)
    one = "user" in dimensions or len(question.filters.where.get("user", ())) == 1
    counts: _Users = "counted" if users and not one else "none"
    sources = await _sources(connection, question, dimensions, grouping.tags, users=counts)
    counted = "counted" if sources.others else "known"
    words = {
        "first": "first_tag" if grouping.first == "tag" else grouping.first,
        "other": "other_tag" if grouping.second == "tag" else grouping.second or "none",
        "first_shown": _shown(grouping.first),
        "second_shown": _shown(grouping.second),
        "counted": ("_counted",) if sources.others else (),
        "joined": ("_joined",) if sources.others else (),
        "users": "one" if one else counted if users else "none",
        "sort": grouping.sort,
        "direction": "asc" if grouping.ascending else "desc",
        "name_direction": "desc" if grouping.sort == "name" and not grouping.ascending else "asc",
    }
    values = {
        "zone": question.period.zone.key,
        "first_format": _FORMATS.get(grouping.first),
        "second_format": _FORMATS.get(grouping.second or ""),
        "first_tag": grouping.tags[0],
        "other_tag": grouping.tags[1],
        "at_least": grouping.at_least,
        "limit": grouping.limit,
        "offset": grouping.offset,
    }
    statement = fill("stats", "by", sources.words | words)
    rows = await connection.fetch(statement.text, *statement.arguments(sources.values | values))
    return rows, rows[0]["rows_total"] if rows else 0


def _shown(dimension: Dimension | None) -> str:
    if dimension is None:
        return "none"
    return "time" if dimension in _FORMATS else "text"


async def user_summaries(connection: Connection, question: Question) -> AsyncIterator[list[Row]]:
    """Every user's sums with `user_name`, `user_email` and `group_name`, in batches, within the caller's transaction."""
    sources = await _sources(connection, question, frozenset({"user"}))
    statement = fill("stats", "user_summaries", sources.words | {"first": "user", "other": "none"})
    cursor = await connection.cursor(statement.text, *statement.arguments(sources.values))
    while rows := await cursor.fetch(SUMMARY_BATCH):
        yield rows


async def users_seen(connection: Connection, question: Question) -> Row:
    """How many users were `active` in the period, of them `new` ones (nothing before it) and `returning` ones."""
    sources = await _sources(connection, question, users="listed")
    statement = fill("stats", "users_seen", sources.words)
    row: Row = await connection.fetchrow(statement.text, *statement.arguments(sources.values))
    return row


@dataclass(frozen=True, slots=True)
class _Sources:
    """What a statement is put together of, and its parameters. `others`: users are counted apart."""

    words: dict[str, str | tuple[str, ...]]
    values: dict[str, Any]
    others: bool


async def _sources(
    connection: Connection,
    question: Question,
    grouped: frozenset[str] = frozenset(),
    tags: tuple[str | None, ...] = (),
    *,
    users: _Users = "counted",
) -> _Sources:
    period = question.period
    changes = rate_changes(question.rate_days, period)
    dimensions = frozenset("tags" if name == "tag" else name for name in grouped)
    hours, marks = question.hours(*tags), question.marks or Marks()
    asked = Asked(period, question.now, hours, dimensions, question.filtered(), changes, users, marks)
    made = await plan(connection, asked)
    people = made.people()
    words: dict[str, str | tuple[str, ...]] = {
        **question.filters.words(DETAIL),
        "cut": made.cut.name,
        "people_cut": made.people_cut.name if made.people_cut is not None else "",
        "details": ("_details",) if made.from_records else (),
        "facts": made.facts(),
        "people": ("_people",) if people else (),
        "people_sources": people or ("_hourly_people",),
        "summed": "_rated" if changes else "_summed",
    }
    values = (
        question.filters.values()
        | made.values()
        | {"start": period.start, "end": period.end, "changes": changes}
    )
    return _Sources(words, values, bool(people))


async def latencies(connection: Connection, question: Question) -> dict[tuple[str, str], dict[int, int]]:
    """Histograms by (model, "duration" or "ttfb"): bucket -> requests."""
    statement, values = await _of_exchanges(connection, question, "latencies", LATENCY_DETAIL, _LATENCY_CUTS)
    found: dict[tuple[str, str], dict[int, int]] = {}
    for row in await connection.fetch(statement.text, *statement.arguments(values)):
        counts = found.setdefault((row["model"], row["measure"]), {})
        for bucket, requests in zip(row["buckets"], row["requests"], strict=True):
            counts[bucket] = counts.get(bucket, 0) + requests
    return {
        of: {bucket: requests for bucket, requests in counts.items() if requests > 0}
        for of, counts in found.items()
    }


async def outcomes(connection: Connection, question: Question) -> list[Row]:
    """How exchanges ended: rows of model, status, outcome, error_code, finish_reason, service_tier, requests."""
    statement, values = await _of_exchanges(connection, question, "outcomes", OUTCOME_DETAIL, _OUTCOME_CUTS)
    rows: list[Row] = await connection.fetch(statement.text, *statement.arguments(values))
    return rows


async def _of_exchanges(
    connection: Connection, question: Question, name: str, detail: frozenset[str], cuts: Sequence[Cut]
) -> tuple[Statement, dict[str, Any]]:
    """The statement of latencies or outcomes, and its parameters."""
    period, filters = question.period, question.filters
    start, end = question.hours(detail=detail, tags_summed=False)
    needed = (frozenset(filters.where) & _EXCHANGE_DIMENSIONS) if start < end else frozenset()
    cut = next((each for each in cuts if needed <= each.dimensions), None)
    marks = question.marks or Marks()
    folded = await marks.folded(connection, start, end) if cut is not None else {}
    cover = pieces(start, end, folded, EXCHANGE_GRAINS)
    sources = {
        f"_folded_{name}": any(each.grain is not None for each in cover),
        f"_hourly_{name}": any(each.grain is None for each in cover),
        f"_recorded_{name}": start > period.start or end < period.end,
    }
    chosen = present(sources) or (f"_hourly_{name}",)
    values = filters.values() | columns(cover)
    values |= {"start": period.start, "end": period.end, "first_hour": start, "last_hour": end}
    values["cut"] = cut.name if cut is not None else ""
    return fill("stats", name, {**filters.words(detail | {"tags"}), name: chosen}), values


async def names(
    connection: Connection, kind: Dimension, ids: Sequence[str], *, user_id: str | None = None
) -> dict[str, Row]:
    """Names of users, groups or keys by id; rows that are gone, or not this user's own, are left out."""
    statement = fill("stats", "names", {})
    values = {"kind": kind, "ids": list(ids), "own": user_id}
    rows = await connection.fetch(statement.text, *statement.arguments(values))
    return {row["id"]: row for row in rows}
