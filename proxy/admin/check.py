"""Check without calling: whether a user could make a request now, for applications that want to know before they ask.

Nothing is reserved: another request may take what is left in the same moment, and the pass then refuses. Besides the quotas
that bind the user, a caller may ask about maxima of its own for the calendar month, which nobody else enforces.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from proxy.admin.quota_shapes import QuotaStatusView, status_view
from proxy.admin.route import Ask, Route
from proxy.admin.shapes import Input, Usd, View, nano
from proxy.admin.users import subject_user
from proxy.core.money import format_nano
from proxy.core.period import this_month
from proxy.core.quota import QuotaStatus
from proxy.store import quota_status, stats
from proxy.store.stats import Filters, Question


def _dollars(text: str) -> str:
    if nano(text) < 0:
        raise ValueError("must not be negative")
    return text


class CheckQuery(Input):
    """Maxima of the asker's own, for the calendar month (UTC)."""

    max_monthly_tokens: int | None = Field(default=None, ge=0)
    max_monthly_cost: Annotated[str, AfterValidator(_dollars)] | None = None
    max_monthly_requests: int | None = Field(default=None, ge=0)


class MonthUsage(View):
    """What was used in the calendar month (UTC)."""

    requests: int
    tokens: int
    cost_usd: Usd


class Limits(View):
    """What was compared with."""

    max_monthly_tokens: int | None
    max_monthly_cost: Usd | None
    max_monthly_requests: int | None
    quotas: list[QuotaStatusView]


class CheckView(View):
    """The verdict, what it rests on, and why."""

    can_make_request: bool
    exceeded: list[str] = Field(description="Ids of spent quotas, and names of the asker's own maxima.")
    reason: str | None
    usage: MonthUsage
    limits: Limits


async def check(ask: Ask, user_id: str, *, key_id: str | None = None) -> CheckView:
    """The check of one user, with one of its keys or with none."""
    asked: CheckQuery = ask.query
    statuses = await quota_status.user_statuses(
        ask.connection, user_id, key_id=key_id, now=ask.now.timestamp()
    )
    month = Question(this_month(ask.now), ask.now, Filters({"user": [user_id]}), marks=ask.marks)
    sums = await stats.totals(ask.connection, month)
    used = {
        "max_monthly_tokens": (int(sums["total_tokens"]), asked.max_monthly_tokens),
        "max_monthly_cost": (
            int(sums["cost_nanousd"]),
            None if asked.max_monthly_cost is None else nano(asked.max_monthly_cost),
        ),
        "max_monthly_requests": (int(sums["requests"]), asked.max_monthly_requests),
    }
    spent = [status for status in statuses if not status.quota.soft and status.remaining == 0]
    reached = [name for name, (amount, most) in used.items() if most is not None and amount >= most]
    return CheckView(
        can_make_request=not spent and not reached,
        exceeded=[status.quota.id for status in spent] + reached,
        reason=_reason(spent, reached),
        usage=MonthUsage(
            requests=used["max_monthly_requests"][0],
            tokens=used["max_monthly_tokens"][0],
            cost_usd=format_nano(used["max_monthly_cost"][0]),
        ),
        limits=Limits(
            max_monthly_tokens=asked.max_monthly_tokens,
            max_monthly_cost=asked.max_monthly_cost,
            max_monthly_requests=asked.max_monthly_requests,
            quotas=[status_view(status) for status in statuses],
        ),
    )


def _reason(spent: list[QuotaStatus], reached: list[str]) -> str | None:
    if spent:
        quota = spent[0].quota
        window = "in total" if quota.window == "total" else f"this {quota.window}"
        return f"The {quota.scope}'s quota of {quota.unit} {window} is spent."
    return f"{reached[0]} is reached." if reached else None


async def check_me(ask: Ask) -> CheckView:
    """Whether a request with this key would be let through now."""
    assert ask.actor.user_id is not None
    return await check(ask, ask.actor.user_id, key_id=ask.actor.key_id)


async def check_user(ask: Ask) -> CheckView:
    """Whether a request of the user would be let through now; quotas of single keys are not looked at."""
    user = await subject_user(ask)
    return await check(ask, user["id"])


def _get(path: str, handler: Any, access: Any, **more: Any) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        summary="Whether a request could be made now",
        access=access,
        query=CheckQuery,
        answer=CheckView,
        **more,
    )


ROUTES = (
    _get("/me/check", check_me, "user", tag="me"),
    _get("/admin/users/{user}/check", check_user, "read", tag="users", reads_personal_data=True),
)
