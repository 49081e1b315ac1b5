"""Plans: named sets of quotas that users and groups are put on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from proxy.admin.quota_shapes import QuotaInput, RuleView, different, rule_view
from proxy.admin.route import Ask, Route
from proxy.admin.shapes import Input, Name, PageView, SearchQuery, View, masked
from proxy.store import plans
from proxy.store.rows import Row

Quotas = Annotated[list[QuotaInput], Field(max_length=50), AfterValidator(different)]


class PlanInput(Input):
    """A new plan."""

    name: Name = Field(examples=["basic"])
    quotas: Quotas = Field(default_factory=list)


class PlanChange(Input):
    """What to change; `quotas` is the whole list."""

    name: Name | None = None
    quotas: Quotas | None = None


class PlanView(View):
    """A plan, and how many users and groups are on it."""

    id: str
    name: str
    quotas: list[RuleView]
    users: int
    groups: int
    created_at: datetime
    updated_at: datetime


class PlanPage(PageView):
    """A page of plans."""

    data: list[PlanView]


def _view(row: Row) -> PlanView:
    return PlanView(
        id=row["id"],
        name=row["name"],
        quotas=[rule_view(quota_id, rule) for quota_id, rule in plans.rules_of(row["quotas"])],
        users=row["users"],
        groups=row["groups"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def create_plan(ask: Ask) -> PlanView:
    """A new plan."""
    rules = [each.rule() for each in ask.body.quotas]
    row = await plans.create_plan(ask.connection, name=ask.body.name, rules=rules)
    ask.audit("plan.create", row["id"], after=masked(row))
    return _view(await plans.find_plan(ask.connection, row["id"]))


async def list_plans(ask: Ask) -> PlanPage:
    """Plans in the order they were made."""
    query = ask.query
    rows = await plans.list_plans(ask.connection, search=query.search, limit=query.limit, offset=query.offset)
    return PlanPage.of(rows, query, _view)


async def show_plan(ask: Ask) -> PlanView:
    """One plan, by id or name."""
    return _view(await plans.find_plan(ask.connection, ask.path["plan"]))


async def change_plan(ask: Ask) -> PlanView:
    """Change name or quotas. What everybody has used of a quota that stays is kept."""
    before = await plans.find_plan(ask.connection, ask.path["plan"])
    rules = [each.rule() for each in ask.body.quotas] if ask.body.quotas is not None else None
    after = await plans.change_plan(ask.connection, before["id"], name=ask.body.name, rules=rules)
    ask.audit("plan.change", before["id"], masked(before, "name", "quotas"), masked(after, "name", "quotas"))
    return _view(await plans.find_plan(ask.connection, before["id"]))


async def remove_plan(ask: Ask) -> PlanView:
    """Remove a plan that nobody is on."""
    before = await plans.find_plan(ask.connection, ask.path["plan"])
    await plans.remove_plan(ask.connection, before["id"])
    ask.audit("plan.remove", before["id"], masked(before))
    return _view(before)


ROUTES = (
    Route(
        method="POST",
        path="/admin/plans",
        handler=create_plan,
        summary="Create a plan",
        access="write",
        everywhere=True,
        body=PlanInput,
        answer=PlanView,
        status=201,
        creates=True,
        tag="plans",
        example={"name": "basic", "quotas": [{"unit": "cost", "window": "month", "limit": "5.00"}]},
    ),
    Route(
        method="GET",
        path="/admin/plans",
        handler=list_plans,
        summary="List and search plans",
        access="read",
        query=SearchQuery,
        answer=PlanPage,
        tag="plans",
    ),
    Route(
        method="GET",
        path="/admin/plans/{plan}",
        handler=show_plan,
        summary="Show a plan",
        access="read",
        answer=PlanView,
        tag="plans",
    ),
    Route(
        method="PATCH",
        path="/admin/plans/{plan}",
        handler=change_plan,
        summary="Change a plan",
        access="write",
        everywhere=True,
        body=PlanChange,
        answer=PlanView,
        tag="plans",
        example={"quotas": [{"unit": "cost", "window": "month", "limit": "8.00"}]},
    ),
    Route(
        method="DELETE",
        path="/admin/plans/{plan}",
        handler=remove_plan,
        summary="Remove a plan",
        access="write",
        everywhere=True,
        answer=PlanView,
        tag="plans",
    ),
)
