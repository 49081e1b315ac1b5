"""What a user sees of itself with its proxy key: own quotas, own usage, own calls; nothing of others."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from proxy.admin.auth import database_away
from proxy.admin.filters import OwnUsageQuery, question
from proxy.admin.quota_shapes import QuotaStatusView, status_view
from proxy.admin.records import HistoryView, OwnHistoryQuery, RecordView, history_page, record_id, record_view
from proxy.admin.route import Ask, Route, not_found
from proxy.admin.shapes import View
from proxy.admin.stat_shapes import Money, PeriodView, Sums, period_view, sums_view
from proxy.admin.stats import GroupedView, OwnGroupedQuery, grouped
from proxy.core.period import Period, this_month, today
from proxy.store import issued_keys, people, quota_status, records_read, stats
from proxy.store.session import transaction
from proxy.store.stats import Filters, Question

RECENT = timedelta(seconds=30)
WAITS_S = (0.1, 0.2, 0.4, 0.8)
"""A record is stored a moment after its answer ended; who asks for it at once is asked to wait, not to try again."""


class Person(View):
    """The user that the key belongs to."""

    id: str
    name: str | None
    email: str | None
    group: str | None
    group_name: str | None
    tags: dict[str, str]


class OwnKey(View):
    """The key that was used."""

    id: str
    name: str | None
    masked: str
    expires_at: datetime | None


class MeView(View):
    """Who I am, what binds me, what I used."""

    user: Person
    key: OwnKey
    quotas: list[QuotaStatusView]
    month: Sums
    today: Sums


class UsageView(View):
    """Sums of a period."""

    period: PeriodView
    sums: Sums


def _own(ask: Ask, period: Period, money: Money) -> Question:
    own = Filters({"user": [ask.actor.user_id or ""]})
    return Question(period, ask.now, own, rate_days=money.currencies.change_days, marks=ask.marks)


async def show_me(ask: Ask) -> MeView:
    """Own user, key, quotas with what remains, and this month's and today's usage (UTC)."""
    assert ask.actor.user_id is not None
    assert ask.actor.key_id is not None
    user = await people.fetch_user(ask.connection, ask.actor.user_id)
    key = await issued_keys.fetch_key(ask.connection, ask.actor.key_id)
    statuses = await quota_status.user_statuses(
        ask.connection, user["id"], key_id=key["id"], now=ask.now.timestamp()
    )
    money = Money.of(ask)
    month = await stats.totals(ask.connection, _own(ask, this_month(ask.now), money), users=False)
    day = await stats.totals(ask.connection, _own(ask, today(ask.now), money), users=False)
    return MeView(
        user=Person(
            id=user["id"],
            name=user["name"],
            email=user["email"],
            group=user["group_id"],
            group_name=user["group_name"],
            tags=user["tags"],
        ),
        key=OwnKey(id=key["id"], name=key["name"], masked=key["masked"], expires_at=key["expires_at"]),
        quotas=[status_view(each) for each in statuses],
        month=sums_view(month, money),
        today=sums_view(day, money),
    )


async def show_own_usage(ask: Ask) -> UsageView:
    """Sums of a period, the last 7 days when nothing else is said."""
    asked = await question(ask, ask.query, days_default=7, user_id=ask.actor.user_id)
    row = await stats.totals(ask.connection, asked, users=False)
    return UsageView(period=period_view(asked.period), sums=sums_view(row, Money.of(ask)))


async def show_own_grouped(ask: Ask) -> GroupedView:
    """Own usage by one dimension, or by two at once."""
    asked = await question(ask, ask.query, days_default=7, user_id=ask.actor.user_id)
    return await grouped(ask, asked, ask.query, ask.query.group_by)


async def list_own_requests(ask: Ask) -> HistoryView:
    """Own calls, newest first."""
    asked = await question(ask, ask.query, days_default=7, user_id=ask.actor.user_id)
    return await history_page(ask, ask.query, asked)


async def show_own_request(ask: Ask) -> RecordView:
    """What one call used, by the `x-proxy-request-id` of its answer. A service key sees the calls it made for others."""
    named = ask.path["request"]
    wanted = record_id(named)
    for wait in (*WAITS_S, None):
        pool = ask.context.pool()
        if pool is None:
            raise database_away()
        timeout_s = ask.context.settings.admin_statement_timeout_s
        async with transaction(pool, statement_timeout_s=timeout_s) as connection:
            row = await records_read.fetch_record(connection, wanted)
        if row is not None or wait is None or not _made_just_now(wanted, ask.now):
            break
        await asyncio.sleep(wait)
    if row is None or not (row["user_id"] == ask.actor.user_id or row["key_id"] == ask.actor.key_id):
        raise not_found("request", named)
    return record_view(row, Money.of(ask))


def _made_just_now(made: UUID, now: datetime) -> bool:
    """A UUIDv7 begins with the milliseconds of its making."""
    age_ms = now.timestamp() * 1000 - (made.int >> 80)
    return made.version == 7 and abs(age_ms) < RECENT.total_seconds() * 1000


def _get(path: str, handler: Any, summary: str, answer: Any, query: Any = None, **more: Any) -> Route:
    return Route(
        method="GET", path=path, handler=handler, summary=summary, access="user", query=query, answer=answer, tag="me", **more
    )  # fmt: skip


ROUTES = (
    _get("/me", show_me, "Own quotas and usage", MeView),
    _get("/me/usage", show_own_usage, "Own usage of a period", UsageView, OwnUsageQuery),
    _get("/me/usage/by", show_own_grouped, "Own usage by dimension", GroupedView, OwnGroupedQuery),
    _get("/me/requests", list_own_requests, "Own calls, newest first", HistoryView, OwnHistoryQuery),
    _get("/me/requests/{request}", show_own_request, "What one call used", RecordView, transaction=False),
)
