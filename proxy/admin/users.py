"""Users: create, list, show, change, deactivate."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from proxy.admin.route import Ask, Route
from proxy.admin.shapes import Input, Name, PageView, Reference, Rules, SearchQuery, Tags, View, masked
from proxy.store import people, plans
from proxy.store.conflicts import MissingError
from proxy.store.rows import Row

_EMAIL = r"^[^@\s]+@[^@\s]+$"
Email = Field(default=None, max_length=320, pattern=_EMAIL, examples=["ana@school.example"])


class UserInput(Input):
    """A new user. Nothing is required: who has no name is shown by its id."""

    name: Name | None = Field(default=None, examples=["Ana"])
    email: str | None = Email
    external_id: Reference | None = Field(default=None, description="The application's own id of the user.")
    group: Reference | None = Field(default=None, description="Id, external id or unique name of a group.")
    plan: Reference | None = Field(default=None, description="Id or name of a plan.")
    tags: Tags = Field(default_factory=dict)
    rules: Rules = Field(default_factory=Rules)
    active: bool = True


class UserChange(Input):
    """What to change; what is left out stays."""

    name: Name | None = None
    email: str | None = Email
    external_id: Reference | None = None
    group: Reference | None = None
    plan: Reference | None = None
    tags: Tags | None = None
    rules: Rules | None = None
    active: bool | None = None

    @field_validator("tags", "rules", "active")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("can't be null")
        return value


class UserView(View):
    """A user."""

    id: str
    name: str | None
    email: str | None
    external_id: str | None
    group: str | None
    group_name: str | None
    plan: str | None
    plan_name: str | None
    tags: dict[str, str]
    rules: Rules
    active: bool
    created_at: datetime
    updated_at: datetime


class UserPage(PageView):
    """A page of users."""

    data: list[UserView]


class UserQuery(SearchQuery):
    """Which users."""

    group: Reference | None = None
    plan: Reference | None = None
    active: bool | None = None
    tag: dict[str, str] | None = Field(default=None, description="`tag.NAME=value`.")


def user_view(row: Row) -> UserView:
    """A row of `fetch_user` as the API shows it."""
    return UserView(
        id=row["id"],
        name=row["name"],
        email=row["email"],
        external_id=row["external_id"],
        group=row["group_id"],
        group_name=row["group_name"],
        plan=row["plan_id"],
        plan_name=row["plan_name"],
        tags=row["tags"],
        rules=Rules.shown(row["settings"]),
        active=row["active"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def subject_user(ask: Ask, named: str | None = None) -> Row:
    """The user that the path (or `named`) means, within the actor's group. Raises MissingError."""
    return await people.find_user(
        ask.connection, ask.path["user"] if named is None else named, group_id=ask.group_limit
    )


async def columns(ask: Ask, given: dict[str, Any], before: Row | None = None) -> dict[str, Any]:
    """Fields of the API as columns of the table: names of groups and plans become ids; rules join those of `before`."""
    change = dict(given)
    if "group" in change:
        named = change.pop("group")
        change["group_id"] = None if named is None else (await people.find_group(ask.connection, named))["id"]
    if "plan" in change:
        named = change.pop("plan")
        change["plan_id"] = None if named is None else (await plans.find_plan(ask.connection, named))["id"]
    if "rules" in change:
        change["settings"] = change.pop("rules").stored(before["settings"] if before is not None else None)
    return change


def _stay_in_group(ask: Ask, change: dict[str, Any], *, new: bool) -> None:
    """An administrator of one group neither brings users in from elsewhere nor sends them away, nor sets their plan."""
    if ask.group_limit is None:
        return
    if new:
        change["group_id"] = change.get("group_id") or ask.group_limit
    if change.get("group_id", ask.group_limit) != ask.group_limit:
        raise MissingError("group", "this credential is confined to its own group")
    if change.get("plan_id") is not None:
        raise MissingError("plan", "this credential is confined to its own group and can't set plans")


async def create_user(ask: Ask) -> UserView:
    """A new user."""
    values = await columns(ask, dict(ask.body))
    _stay_in_group(ask, values, new=True)
    made = await people.create_user(ask.connection, **values)
    ask.audit("user.create", made["id"], after=masked(made))
    return user_view(await people.fetch_user(ask.connection, made["id"]))


async def list_users(ask: Ask) -> UserPage:
    """Users in the order they were made."""
    query = ask.query
    where = await columns(ask, {"group": query.group, "plan": query.plan})
    if ask.group_limit is not None:
        ask.must_see_group(where["group_id"] or ask.group_limit, "group", query.group or "")
        where["group_id"] = ask.group_limit
    rows = await people.list_users(
        ask.connection,
        search=query.search,
        active=query.active,
        tags=query.tag,
        limit=query.limit,
        offset=query.offset,
        **where,
    )
    return UserPage.of(rows, query, user_view)


async def show_user(ask: Ask) -> UserView:
    """One user, by id, external id or e-mail address."""
    return user_view(await subject_user(ask))


async def change_user(ask: Ask) -> UserView:
    """Change what is named. Deactivating a user stops its keys within a second."""
    before = await subject_user(ask)
    change = await columns(ask, ask.body.given(), before)
    _stay_in_group(ask, change, new=False)
    after = await people.change_user(ask.connection, before["id"], change)
    ask.audit("user.change", before["id"], masked(before, *change), masked(after, *change))
    return user_view(await people.fetch_user(ask.connection, before["id"]))


async def deactivate_user(ask: Ask) -> UserView:
    """Deactivate. The user's keys stop within a second; its usage stays in every report."""
    before = await subject_user(ask)
    await people.change_user(ask.connection, before["id"], {"active": False})
    ask.audit("user.deactivate", before["id"], {"active": before["active"]}, {"active": False})
    return user_view(await people.fetch_user(ask.connection, before["id"]))


ROUTES = (
    Route(
        method="POST",
        path="/admin/users",
        handler=create_user,
        summary="Create a user",
        access="write",
        body=UserInput,
        answer=UserView,
        status=201,
        creates=True,
        tag="users",
        example={"name": "Ana", "email": "ana@school.example", "external_id": "42"},
    ),
    Route(
        method="GET",
        path="/admin/users",
        handler=list_users,
        summary="List and search users",
        access="read",
        query=UserQuery,
        answer=UserPage,
        reads_personal_data=True,
        tag="users",
    ),
    Route(
        method="GET",
        path="/admin/users/{user}",
        handler=show_user,
        summary="Show a user",
        access="read",
        answer=UserView,
        reads_personal_data=True,
        tag="users",
    ),
    Route(
        method="PATCH",
        path="/admin/users/{user}",
        handler=change_user,
        summary="Change a user",
        access="write",
        body=UserChange,
        answer=UserView,
        tag="users",
        example={"active": False},
    ),
    Route(
        method="DELETE",
        path="/admin/users/{user}",
        handler=deactivate_user,
        summary="Deactivate a user",
        access="write",
        answer=UserView,
        tag="users",
    ),
)
