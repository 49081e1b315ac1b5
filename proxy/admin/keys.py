"""Proxy keys: issue, list masked, change, rotate with a grace period, revoke."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field, field_validator

from proxy.admin.route import Ask, Reply, Route, bad_request
from proxy.admin.shapes import (
    Input,
    Instant,
    Name,
    PageView,
    Reference,
    Rules,
    SearchQuery,
    Tags,
    View,
    masked,
)
from proxy.admin.users import subject_user
from proxy.store import issued_keys
from proxy.store.rows import Row

GRACE_S_MAX = 30 * 86_400
_NO_STORE = {"cache-control": "no-store"}


class KeyInput(Input):
    """A new key. Nothing is required."""

    name: Name | None = Field(default=None, examples=["laptop"])
    expires_at: Instant | None = None
    service: bool = Field(default=False, description="May speak for other users with `X-Usage-User`.")
    creates_users: bool = Field(default=False, description="A service key that creates users on sight.")
    default_operation: Name | None = None
    default_tags: Tags = Field(default_factory=dict)
    rules: Rules = Field(default_factory=Rules)


class KeyChange(Input):
    """What to change; what is left out stays."""

    name: Name | None = None
    expires_at: Instant | None = None
    service: bool | None = None
    creates_users: bool | None = None
    default_operation: Name | None = None
    default_tags: Tags | None = None
    rules: Rules | None = None

    @field_validator("service", "creates_users", "default_tags", "rules")
    @classmethod
    def _not_null(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("can't be null")
        return value


class Rotation(Input):
    """How long the old key lives on."""

    grace_s: int = Field(default=0, ge=0, le=GRACE_S_MAX, description="Seconds; 0 ends it at once.")


class KeyView(View):
    """A key as it may be shown after its creation."""

    id: str
    user_id: str
    name: str | None
    masked: str
    service: bool
    creates_users: bool
    default_operation: str | None
    default_tags: dict[str, str]
    rules: Rules
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    created_at: datetime


class IssuedKeyView(KeyView):
    """A key at its creation, the only time it is shown. Null when an Idempotency-Key was used again."""

    key: str | None


class KeyPage(PageView):
    """A page of keys."""

    data: list[KeyView]


class KeyQuery(SearchQuery):
    """Which keys."""

    live: bool | None = Field(default=None, description="Neither revoked nor expired.")


class AllKeysQuery(KeyQuery):
    """Which keys of all users."""

    user: Reference | None = None


def _fields(row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in KeyView.model_fields if name != "rules"}
    return shown | {"rules": Rules.shown(row["settings"])}


def key_view(row: Row) -> KeyView:
    """A row of `keys` as the API shows it."""
    return KeyView(**_fields(row))


def _stored(ask: Ask, given: dict[str, Any], before: Row | None = None) -> dict[str, Any]:
    values = dict(given)
    if "rules" in values:
        values["settings"] = values.pop("rules").stored(before["settings"] if before is not None else None)
    if values.get("expires_at") is not None and values["expires_at"] <= ask.now:
        raise bad_request("expires_at", "expires_at lies in the past.")
    # Speaking for others, or making users, would reach beyond the group.
    if ask.group_limit is not None and (values.get("service") or values.get("creates_users")):
        raise bad_request("service", "A credential confined to one group can't issue service keys.")
    return values


async def subject_key(ask: Ask) -> Row:
    """The key that the path means, when the actor may see it. Raises MissingError or 404."""
    row = await issued_keys.fetch_key(ask.connection, ask.path["key"])
    ask.must_see_group(row["group_id"], "key", ask.path["key"])
    return row


async def create_key(ask: Ask) -> Reply:
    """Issue a key. It is shown in this answer and never again."""
    user = await subject_user(ask)
    values = _stored(ask, dict(ask.body))
    row, text = await issued_keys.create_key(ask.connection, user_id=user["id"], **values)
    ask.audit("key.create", row["id"], after=masked(row))
    return Reply(IssuedKeyView(**_fields(row), key=text), headers=_NO_STORE)


async def list_user_keys(ask: Ask) -> KeyPage:
    """A user's keys, masked, in the order they were issued."""
    user = await subject_user(ask)
    return await _page(ask, user["id"])


async def list_keys(ask: Ask) -> KeyPage:
    """All keys, masked, in the order they were issued."""
    named = ask.query.user
    user = await subject_user(ask, named) if named is not None else None
    return await _page(ask, user["id"] if user is not None else None)


async def _page(ask: Ask, user_id: str | None) -> KeyPage:
    query = ask.query
    rows = await issued_keys.list_keys(
        ask.connection,
        user_id=user_id,
        group_id=ask.group_limit,
        search=query.search,
        live=query.live,
        limit=query.limit,
        offset=query.offset,
    )
    return KeyPage.of(rows, query, key_view)


async def show_key(ask: Ask) -> KeyView:
    """One key, masked."""
    return key_view(await subject_key(ask))


async def change_key(ask: Ask) -> KeyView:
    """Change what is named; it binds within a second."""
    before = await subject_key(ask)
    given = _stored(ask, ask.body.given(), before)
    change = given
    if isinstance(given.get("expires_at"), datetime):
        change = given | {"expires_at": given["expires_at"].isoformat()}
    after = await issued_keys.change_key(ask.connection, before["id"], change)
    ask.audit("key.change", before["id"], masked(before, *change), masked(after, *change))
    return key_view(after)


async def rotate_key(ask: Ask) -> Reply:
    """Issue a successor with the same rules, and end the key at once or after a grace period."""
    before = await subject_key(ask)
    row, text = await issued_keys.rotate_key(ask.connection, before["id"], grace_s=ask.body.grace_s)
    ask.audit("key.rotate", before["id"], masked(before), masked(row) | {"grace_s": ask.body.grace_s})
    return Reply(IssuedKeyView(**_fields(row), key=text), headers=_NO_STORE)


async def revoke_key(ask: Ask) -> KeyView:
    """Revoke, for good. Refused within a second by every worker."""
    before = await subject_key(ask)
    after = await issued_keys.revoke_key(ask.connection, before["id"])
    ask.audit("key.revoke", before["id"], masked(before, "revoked_at"), masked(after, "revoked_at"))
    return key_view(after)


ROUTES = (
    Route(
        method="POST",
        path="/admin/users/{user}/keys",
        handler=create_key,
        summary="Issue a key",
        access="write",
        body=KeyInput,
        answer=IssuedKeyView,
        status=201,
        creates=True,
        tag="keys",
        example={"name": "laptop", "expires_at": "2031-01-01T00:00:00Z"},
    ),
    Route(
        method="GET",
        path="/admin/users/{user}/keys",
        handler=list_user_keys,
        summary="List a user's keys",
        access="read",
        query=KeyQuery,
        answer=KeyPage,
        tag="keys",
    ),
    Route(
        method="GET",
        path="/admin/keys",
        handler=list_keys,
        summary="List and search keys",
        access="read",
        query=AllKeysQuery,
        answer=KeyPage,
        tag="keys",
    ),
    Route(
        method="GET",
        path="/admin/keys/{key}",
        handler=show_key,
        summary="Show a key",
        access="read",
        answer=KeyView,
        tag="keys",
    ),
    Route(
        method="PATCH",
        path="/admin/keys/{key}",
        handler=change_key,
        summary="Change a key",
        access="write",
        body=KeyChange,
        answer=KeyView,
        tag="keys",
        example={"rules": {"allowed_models": ["gpt-5*"]}},
    ),
    Route(
        method="POST",
        path="/admin/keys/{key}/rotate",
        handler=rotate_key,
        summary="Rotate a key",
        access="write",
        body=Rotation,
        answer=IssuedKeyView,
        status=201,
        creates=True,
        tag="keys",
        example={"grace_s": 3600},
    ),
    Route(
        method="DELETE",
        path="/admin/keys/{key}",
        handler=revoke_key,
        summary="Revoke a key",
        access="write",
        answer=KeyView,
        tag="keys",
    ),
)
