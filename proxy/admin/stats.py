"""Statistics of everybody: the overview, and usage by one or two dimensions."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

from pydantic import Field

from proxy.admin.filters import OwnUsageQuery, UsageQuery, question
from proxy.admin.route import Ask, Route, bad_request
from proxy.admin.shapes import BIGINT_MAX, LIMIT_MAX, PAGE_MAX, Input, PageView, View, nano
from proxy.admin.stat_shapes import Money, PeriodView, Sums, Totals, period_view, sums, sums_view, totals_view
from proxy.core.period import Period, everything, this_month, today
from proxy.store import stats
from proxy.store.stats import Dimension, Filters, Grouping, Question, Sort

Path = Literal[
    "users", "groups", "keys", "models", "endpoints", "operations", "providers", "statuses", "years", "months", "days", "hours"
]  # fmt: skip
DIMENSIONS: tuple[Path, ...] = (
    "users", "groups", "keys", "models", "endpoints", "operations", "providers", "statuses", "years", "months", "days", "hours",
)  # fmt: skip
_TIMES = frozenset({"year", "month", "day", "hour"})
_TAG = "tag."


class StatsView(View):
    """All time, this calendar month and today (UTC)."""

    overall: Totals
    month: Totals
    today: Totals


class UsersSeen(View):
    """Users with a request in the period; new ones had none before it."""

    active: int
    new: int
    returning: int


class OverviewView(View):
    """One period in numbers, and the period of the same length before it."""

    period: PeriodView
    sums: Sums
    success_rate: float | None
    users: UsersSeen
    before: Sums


class RowsQuery(Input):
    """How rows are sorted, and which page of them."""

    sort: Sort | None = Field(default=None, description="Default: cost; for times: name.")
    order: Literal["asc", "desc"] | None = Field(default=None, description="Default: desc; for times: asc.")
    page: int = Field(default=1, ge=1, le=PAGE_MAX)
    limit: int = Field(default=100, ge=1, le=LIMIT_MAX)
    at_least: str | None = Field(
        default=None,
        max_length=40,
        description="Only rows whose sorted sum is at least this; dollars for cost.",
    )


class DimensionsQuery(RowsQuery):
    """By what."""

    group_by: list[str] = Field(
        min_length=1,
        max_length=2,
        examples=[["model", "day"]],
        description="user, group, key, model, endpoint, operation, provider, status, year, month, day, hour, tag.NAME.",
    )


class GroupedQuery(RowsQuery, UsageQuery):
    """Which usage, how sorted, which page."""


class AnyGroupedQuery(DimensionsQuery, UsageQuery):
    """Usage by any one or two dimensions."""


class OwnGroupedQuery(DimensionsQuery, OwnUsageQuery):
    """Own usage by any one or two dimensions."""


class GroupedRow(Sums):
    """The sums of one value of the dimension (or of a pair of values)."""

    key: str = Field(description="The value: an id, a name, or a time in the zone asked for.")
    name: str | None = Field(default=None, description="What a user, group or key is called.")
    email: str | None = None
    second_key: str | None = None
    second_name: str | None = None
    users: int | None = Field(default=None, description="Null by user.")


class GroupedView(PageView):
    """Usage by one or two dimensions."""

    period: PeriodView
    group_by: list[str]
    data: list[GroupedRow]


class TopQuery(UsageQuery):
    """Who uses most."""

    by: Literal["cost", "tokens", "requests"] = "cost"
    limit: int = Field(default=10, ge=1, le=LIMIT_MAX)
    over: str | None = Field(
        default=None, max_length=40, examples=["5.00"], description="Only from this on; US dollars for cost."
    )


async def show_stats(ask: Ask) -> StatsView:
    """Requests, users, tokens, cost and errors: overall, this month, today."""
    filters = Filters({"group": [ask.group_limit]}) if ask.group_limit is not None else Filters()
    money = Money.of(ask)
    days = money.currencies.change_days

    async def over(period: Period) -> Totals:
        asked = Question(period, ask.now, filters, rate_days=days, marks=ask.marks)
        return totals_view(await stats.totals(ask.connection, asked), money)

    return StatsView(
        overall=await over(everything(ask.now)),
        month=await over(this_month(ask.now)),
        today=await over(today(ask.now)),
    )


async def show_overview(ask: Ask) -> OverviewView:
    """One period: sums, averages, rates, new and returning users, and the period before for comparison."""
    asked = await question(ask, ask.query)
    money = Money.of(ask)
    row = await stats.totals(ask.connection, asked, users=False)
    seen = await stats.users_seen(ask.connection, asked)
    before = await stats.totals(ask.connection, asked.over(asked.period.before), users=False)
    return OverviewView(
        period=period_view(asked.period),
        sums=sums_view(row, money),
        success_rate=round(1 - row["errors"] / row["requests"], 6) if row["requests"] else None,
        users=UsersSeen(active=seen["active"], new=seen["new"], returning=seen["returning"]),
        before=sums_view(before, money),
    )


def dimension(named: str) -> tuple[Dimension, str | None]:
    """`model`, or `tag.NAME` as ("tag", NAME). Raises 400."""
    if named.startswith(_TAG) and len(named) > len(_TAG):
        return "tag", named.removeprefix(_TAG)
    known = {each.removesuffix("es") if each == "statuses" else each.removesuffix("s") for each in DIMENSIONS}
    if named not in known:
        raise bad_request("group_by", f"group_by: {named!r} is none of {', '.join(sorted(known))}, tag.NAME.")
    return cast("Dimension", named), None


_NOTHING: dict[str, Any] = dict.fromkeys(
    (
        "requests", "errors", "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens",
        "reasoning_tokens", "total_tokens", "cost_nanousd", "cache_saved_nanousd", "unpriced", "duration_ms", "ttfb_ms", "ttfb_count", "users",
    ),
    0,
) | {"first_at": None, "last_at": None, "second": None, "by_rate": {}}  # fmt: skip
"""Sums of a user who was asked for by name and used nothing."""


async def grouped(ask: Ask, asked: Question, query: RowsQuery, named: list[str]) -> GroupedView:
    """The page of rows that `query` asks for, by the dimensions named."""
    parts = [dimension(each) for each in named]
    first = parts[0][0]
    second, second_tag = parts[1] if len(parts) > 1 else (None, None)
    sort: Sort = query.sort or ("name" if first in _TIMES else "cost")
    grouping = Grouping(
        first=first,
        second=second,
        tags=(parts[0][1], second_tag),
        sort=sort,
        ascending=(query.order or ("asc" if sort == "name" else "desc")) == "asc",
        limit=query.limit,
        offset=(query.page - 1) * query.limit,
        at_least=_least(sort, query.at_least, "at_least"),
    )
    rows, total = await stats.by(ask.connection, asked, grouping)
    if named == ["user"] and query.page == 1 and query.at_least is None:
        wanted = asked.filters.where.get("user", ())
        idle = [user_id for user_id in wanted if user_id not in {row["first"] for row in rows}]
        if total + len(idle) <= query.limit:
            rows, total = [*rows, *(_NOTHING | {"first": user_id} for user_id in idle)], total + len(idle)
    return GroupedView(
        period=period_view(asked.period),
        group_by=named,
        data=await _rows(ask, first, second, rows),
        page=query.page,
        limit=query.limit,
        total=total,
        total_pages=math.ceil(total / query.limit),
    )


async def _rows(ask: Ask, first: Dimension, second: Dimension | None, rows: list[Any]) -> list[GroupedRow]:
    called: dict[str, dict[str, Any]] = {}
    for kind, column in ((first, "first"), (second, "second")):
        if kind in {"user", "group", "key"}:
            ids = list({row[column] for row in rows})
            called[column] = await stats.names(ask.connection, kind, ids, user_id=ask.actor.user_id)
    found, money = [], Money.of(ask)
    for row in rows:
        one = called.get("first", {}).get(row["first"])
        two = called.get("second", {}).get(row["second"])
        found.append(
            GroupedRow(
                **sums(row, money),
                key=row["first"],
                name=one["name"] if one is not None else None,
                email=one["email"] if one is not None else None,
                second_key=row["second"],
                second_name=two["name"] if two is not None else None,
                users=None if first == "user" else row["users"],
            )
        )
    return found


def _least(sort: Sort, text: str | None, field: str) -> int | None:
    if text is None:
        return None
    try:
        if sort == "cost":
            return nano(text)
        number = int(text)
    except ValueError as error:
        raise bad_request(field, f"{field}: {error}.") from None
    return min(max(number, 0), BIGINT_MAX)


async def show_grouped(ask: Ask) -> GroupedView:
    """Usage by one dimension, or by two at once: `group_by=model,day`."""
    return await grouped(ask, await question(ask, ask.query), ask.query, ask.query.group_by)


async def show_tag(ask: Ask) -> GroupedView:
    """Usage by the values of one tag. Tags in `rollup_tags` are summed as it happens; others are counted now."""
    return await grouped(ask, await question(ask, ask.query), ask.query, [_TAG + ask.path["tag"]])


async def top_users(ask: Ask) -> GroupedView:
    """The users who use most, or all who spent at least `over`."""
    query = ask.query
    page = RowsQuery(sort=query.by, order="desc", limit=query.limit, at_least=query.over)
    return await grouped(ask, await question(ask, query), page, ["user"])


async def top_operations(ask: Ask) -> GroupedView:
    """The operations that use most."""
    query = ask.query
    page = RowsQuery(sort=query.by, order="desc", limit=query.limit, at_least=query.over)
    return await grouped(ask, await question(ask, query), page, ["operation"])


def _by(path: Path) -> Route:
    named = path.removesuffix("es") if path == "statuses" else path.removesuffix("s")

    async def show(ask: Ask) -> GroupedView:
        return await grouped(ask, await question(ask, ask.query), ask.query, [named])

    show.__name__ = f"show_{path}"
    show.__doc__ = f"Usage by {named}."
    return Route(
        method="GET",
        path=f"/admin/stats/{path}",
        handler=show,
        summary=f"Usage by {named}",
        access="read",
        query=GroupedQuery,
        answer=GroupedView,
        reads_personal_data=path in {"users", "keys"},
        tag="stats",
    )


def _get(path: str, handler: Any, summary: str, answer: Any, query: type[Input] | None, **more: Any) -> Route:
    return Route(
        method="GET", path=path, handler=handler, summary=summary, access="read", query=query, answer=answer, tag="stats", **more
    )  # fmt: skip


ROUTES = (
    _get("/admin/stats", show_stats, "Overall, this month, today", StatsView, None),
    _get(
        "/admin/stats/overview",
        show_overview,
        "One period compared with the one before",
        OverviewView,
        UsageQuery,
    ),
    _get("/admin/stats/by", show_grouped, "Usage by one or two dimensions", GroupedView, AnyGroupedQuery),
    *(_by(path) for path in DIMENSIONS),
    _get("/admin/stats/tags/{tag}", show_tag, "Usage by a tag's values", GroupedView, GroupedQuery),
    _get(
        "/admin/stats/top/users",
        top_users,
        "Users who use most",
        GroupedView,
        TopQuery,
        reads_personal_data=True,
    ),
    _get("/admin/stats/top/operations", top_operations, "Heaviest operations", GroupedView, TopQuery),
)
