"""Keys of administrators: issue, list masked, revoke. Only for administrators who are confined to no group."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from proxy.admin.route import Ask, Reply, Route, bad_request
from proxy.admin.shapes import Input, Instant, Name, PageQuery, PageView, Reference, View, masked
from proxy.store import admin_keys, people
from proxy.store.conflicts import TakenError
from proxy.store.rows import Row


class AdminKeyInput(Input):
    """A new admin key."""

    name: Name = Field(examples=["finance report"])
    scope: Literal["read", "write"] = "read"
    group: Reference | None = Field(default=None, description="Confine it to this group.")
    expires_at: Instant | None = None


class AdminKeyView(View):
    """An admin key as it may be shown after its creation."""

    id: str
    name: str
    masked: str
    scope: Literal["read", "write"]
    group: str | None
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime


class IssuedAdminKeyView(AdminKeyView):
    """An admin key at its creation, the only time it is shown. Null when an Idempotency-Key was used again."""

    key: str | None


class AdminKeyPage(PageView):
    """A page of admin keys."""

    data: list[AdminKeyView]


def _fields(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in AdminKeyView.model_fields if name != "group"}
    return shown | {"group": row["group_id"]}


def _view(row: Row) -> AdminKeyView:
    return AdminKeyView(**_fields(row))


async def create_admin_key(ask: Ask) -> Reply:
    """Issue an admin key. It is shown in this answer and never again."""
    body = ask.body
    if body.expires_at is not None and body.expires_at <= ask.now:
        raise bad_request("expires_at", "expires_at lies in the past.")
    group = await people.find_group(ask.connection, body.group) if body.group is not None else None
    row, text = await admin_keys.create_admin_key(
        ask.connection,
        name=body.name,
        scope=body.scope,
        group_id=group["id"] if group is not None else None,
        expires_at=body.expires_at,
    )
    ask.audit("admin_key.create", row["id"], after=masked(row))
    return Reply(IssuedAdminKeyView(**_fields(row), key=text), headers={"cache-control": "no-store"})


async def list_admin_keys(ask: Ask) -> AdminKeyPage:
    """All admin keys, masked, in the order they were issued."""
    query = ask.query
    rows = await admin_keys.list_admin_keys(ask.connection, limit=query.limit, offset=query.offset)
    return AdminKeyPage.of(rows, query, _view)


async def show_admin_key(ask: Ask) -> AdminKeyView:
    """One admin key, masked."""
    return _view(await admin_keys.fetch_admin_key(ask.connection, ask.path["admin_key"]))


async def revoke_admin_key(ask: Ask) -> AdminKeyView:
    """Revoke, for good. The last key that can write everywhere can't be revoked."""
    before = await admin_keys.fetch_admin_key(ask.connection, ask.path["admin_key"])
    after = await admin_keys.revoke_admin_key(ask.connection, before["id"])
    if not await admin_keys.any_admin_key(ask.connection):
        raise TakenError("admin_key", "this is the last key that can change everything: issue another first")
    ask.audit("admin_key.revoke", before["id"], masked(before, "revoked_at"), masked(after, "revoked_at"))
    return _view(after)


ROUTES = (
    Route(
        method="POST",
        path="/admin/admin_keys",
        handler=create_admin_key,
        summary="Issue an admin key",
        access="write",
        everywhere=True,
        body=AdminKeyInput,
        answer=IssuedAdminKeyView,
        status=201,
        creates=True,
        tag="admin_keys",
        example={"name": "finance report", "scope": "read"},
    ),
    Route(
        method="GET",
        path="/admin/admin_keys",
        handler=list_admin_keys,
        summary="List admin keys",
        access="read",
        everywhere=True,
        query=PageQuery,
        answer=AdminKeyPage,
        tag="admin_keys",
    ),
    Route(
        method="GET",
        path="/admin/admin_keys/{admin_key}",
        handler=show_admin_key,
        summary="Show an admin key",
        access="read",
        everywhere=True,
        answer=AdminKeyView,
        tag="admin_keys",
    ),
    Route(
        method="DELETE",
        path="/admin/admin_keys/{admin_key}",
        handler=revoke_admin_key,
        summary="Revoke an admin key",
        access="write",
        everywhere=True,
        answer=AdminKeyView,
        tag="admin_keys",
    ),
)
