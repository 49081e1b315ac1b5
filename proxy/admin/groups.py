"""Groups: teams, schools or tenants of users."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from proxy.admin.route import Ask, Route
from proxy.admin.shapes import Input, Name, PageView, Reference, Rules, SearchQuery, Tags, View, masked
from proxy.admin.users import columns
from proxy.store import people
from proxy.store.rows import Row


class GroupInput(Input):
    """A new group. Only the name is required."""

    name: Name = Field(examples=["School 12"])
    external_id: Reference | None = None
    plan: Reference | None = Field(default=None, description="Id or name of a plan, for users without one.")
    tags: Tags = Field(default_factory=dict)
    rules: Rules = Field(default_factory=Rules)
    active: bool = True


class GroupChange(Input):
    """What to change; what is left out stays."""

    name: Name | None = None
    external_id: Reference | None = None
    plan: Reference | None = None
    tags: Tags | None = None
    rules: Rules | None = None
    active: bool | None = None

    @field_validator("name", "tags", "rules", "active")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("can't be null")
        return value


class GroupView(View):
    """A group and its number of users."""

    id: str
    name: str
    external_id: str | None
    plan: str | None
    plan_name: str | None
    tags: dict[str, str]
    rules: Rules
    active: bool
    users: int
    created_at: datetime
    updated_at: datetime


class GroupPage(PageView):
    """A page of groups."""

    data: list[GroupView]


class GroupQuery(SearchQuery):
    """Which groups."""

    active: bool | None = None


def group_view(row: Row) -> GroupView:
    """A row of `fetch_group` as the API shows it."""
    return GroupView(
        id=row["id"],
        name=row["name"],
        external_id=row["external_id"],
        plan=row["plan_id"],
        plan_name=row["plan_name"],
        tags=row["tags"],
        rules=Rules.shown(row["settings"]),
        active=row["active"],
        users=row["users"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def subject_group(ask: Ask, named: str | None = None) -> Row:
    """The group that the path (or `named`) means, when the actor may see it. Raises MissingError or 404."""
    text = ask.path["group"] if named is None else named
    row = await people.find_group(ask.connection, text)
    ask.must_see_group(row["id"], "group", text)
    return row


async def create_group(ask: Ask) -> GroupView:
    """A new group."""
    made = await people.create_group(ask.connection, **await columns(ask, dict(ask.body)))
    ask.audit("group.create", made["id"], after=masked(made))
    return group_view(await people.fetch_group(ask.connection, made["id"]))


async def list_groups(ask: Ask) -> GroupPage:
    """Groups in the order they were made."""
    query = ask.query
    rows = await people.list_groups(
        ask.connection,
        search=query.search,
        group_id=ask.group_limit,
        active=query.active,
        limit=query.limit,
        offset=query.offset,
    )
    return GroupPage.of(rows, query, group_view)


async def show_group(ask: Ask) -> GroupView:
    """One group, by id, external id or unique name."""
    return group_view(await subject_group(ask))


async def change_group(ask: Ask) -> GroupView:
    """Change what is named. Deactivating a group stops its users' keys within a second."""
    before = await subject_group(ask)
    change = await columns(ask, ask.body.given(), before)
    after = await people.change_group(ask.connection, before["id"], change)
    ask.audit("group.change", before["id"], masked(before, *change), masked(after, *change))
    return group_view(await people.fetch_group(ask.connection, before["id"]))


async def deactivate_group(ask: Ask) -> GroupView:
    """Deactivate. Its users' keys stop within a second."""
    before = await subject_group(ask)
    await people.change_group(ask.connection, before["id"], {"active": False})
    ask.audit("group.deactivate", before["id"], {"active": before["active"]}, {"active": False})
    return group_view(await people.fetch_group(ask.connection, before["id"]))


ROUTES = (
    Route(
        method="POST",
        path="/admin/groups",
        handler=create_group,
        summary="Create a group",
        access="write",
        everywhere=True,
        body=GroupInput,
        answer=GroupView,
        status=201,
        creates=True,
        tag="groups",
        example={"name": "School 12", "external_id": "s12"},
    ),
    Route(
        method="GET",
        path="/admin/groups",
        handler=list_groups,
        summary="List and search groups",
        access="read",
        query=GroupQuery,
        answer=GroupPage,
        tag="groups",
    ),
    Route(
        method="GET",
        path="/admin/groups/{group}",
        handler=show_group,
        summary="Show a group",
        access="read",
        answer=GroupView,
        tag="groups",
    ),
    Route(
        method="PATCH",
        path="/admin/groups/{group}",
        handler=change_group,
        summary="Change a group",
        access="write",
        everywhere=True,
        body=GroupChange,
        answer=GroupView,
        tag="groups",
        example={"rules": {"allowed_operations": ["rag_answer", "chat"]}},
    ),
    Route(
        method="DELETE",
        path="/admin/groups/{group}",
        handler=deactivate_group,
        summary="Deactivate a group",
        access="write",
        everywhere=True,
        answer=GroupView,
        tag="groups",
    ),
)
