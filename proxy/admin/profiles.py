"""Everything about one user's or one group's usage on one page."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from proxy.admin.filters import PeriodQuery
from proxy.admin.groups import GroupView, group_view, subject_group
from proxy.admin.quota_shapes import QuotaStatusView, status_view
from proxy.admin.records import RecordView, record_view
from proxy.admin.reports import DayView, day_rows, series
from proxy.admin.route import Ask, Route
from proxy.admin.shapes import View
from proxy.admin.stat_shapes import Money, PeriodView, Sums, period_view, sums, sums_view
from proxy.admin.users import UserView, subject_user, user_view
from proxy.core.period import everything, this_month
from proxy.store import people, quota_status, quotas_live, records_read, stats
from proxy.store.stats import Dimension, Filters, Grouping, Question

LAST = 50
ROWS_MAX = 1000


class Part(Sums):
    """The sums of one month, model or operation."""

    key: str


class Profile(View):
    """Usage of one subject: all time, this month (UTC) against its quotas, and the period in detail."""

    overall: Sums
    month: Sums
    quotas: list[QuotaStatusView]
    period: PeriodView
    sums: Sums
    days: list[DayView]
    months: list[Part] = Field(description="All time.")
    models: list[Part]
    operations: list[Part]
    last_requests: list[RecordView] = Field(description="Of the period, newest first.")


class UserProfile(Profile):
    """A user's usage."""

    user: UserView


class GroupProfile(Profile):
    """A group's usage."""

    group: GroupView
    users: list[Part] = Field(description="Of the period, by cost.")


async def show_user_usage(ask: Ask) -> UserProfile:
    """All about one user's usage; zeros when there was none."""
    user = await subject_user(ask)
    statuses = await quota_status.user_statuses(ask.connection, user["id"], now=ask.now.timestamp())
    profile = await _profile(ask, Filters({"user": [user["id"]]}), statuses)
    return UserProfile(user=user_view(await people.fetch_user(ask.connection, user["id"])), **profile)


async def show_group_usage(ask: Ask) -> GroupProfile:
    """All about one group's usage; zeros when there was none."""
    group = await subject_group(ask)
    filters = Filters({"group": [group["id"]]})
    bound = await quota_status.own(ask.connection, "group", group["id"], now=ask.now.timestamp())
    statuses = await quotas_live.statuses(
        ask.connection, [(quota, group["id"]) for quota in bound], now=ask.now.timestamp()
    )
    profile = await _profile(ask, filters, statuses)
    asked = _question(ask, filters)
    return GroupProfile(
        group=group_view(await people.fetch_group(ask.connection, group["id"])),
        users=await _parts(ask, asked, "user"),
        **profile,
    )


async def _profile(ask: Ask, filters: Filters, statuses: list[Any]) -> dict[str, Any]:
    asked, money = _question(ask, filters), Money.of(ask)
    ever = asked.over(everything(ask.now, asked.period.zone))
    records = await records_read.history(ask.connection, asked, limit=LAST)
    return {
        "overall": sums_view(await stats.totals(ask.connection, ever, users=False), money),
        "month": sums_view(
            await stats.totals(ask.connection, asked.over(this_month(ask.now)), users=False), money
        ),
        "quotas": [status_view(each) for each in statuses],
        "period": period_view(asked.period),
        "sums": sums_view(await stats.totals(ask.connection, asked, users=False), money),
        "days": series(asked.period.days(), await day_rows(ask, asked), money),
        "months": await _parts(ask, ever, "month"),
        "models": await _parts(ask, asked, "model"),
        "operations": await _parts(ask, asked, "operation"),
        "last_requests": [record_view(row, money) for row in records],
    }


async def _parts(ask: Ask, asked: Question, dimension: Dimension) -> list[Part]:
    times = dimension == "month"
    grouping = Grouping(dimension, sort="name" if times else "cost", ascending=times, limit=ROWS_MAX)
    rows, _ = await stats.by(ask.connection, asked, grouping, users=False)
    money = Money.of(ask)
    return [Part(key=row["first"], **sums(row, money)) for row in rows]


def _question(ask: Ask, filters: Filters) -> Question:
    days = Money.of(ask).currencies.change_days
    return Question(ask.query.period(ask), ask.now, filters, rate_days=days, marks=ask.marks)


ROUTES = (
    Route(
        method="GET",
        path="/admin/users/{user}/usage",
        handler=show_user_usage,
        summary="A user's usage",
        access="read",
        query=PeriodQuery,
        answer=UserProfile,
        reads_personal_data=True,
        tag="users",
    ),
    Route(
        method="GET",
        path="/admin/groups/{group}/usage",
        handler=show_group_usage,
        summary="A group's usage",
        access="read",
        query=PeriodQuery,
        answer=GroupProfile,
        reads_personal_data=True,
        tag="groups",
    ),
)
