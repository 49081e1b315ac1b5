"""Quotas: a subject's list put as a whole, single ones made and changed, and where they stand."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from proxy.admin.groups import subject_group
from proxy.admin.keys import subject_key
from proxy.admin.quota_shapes import (
    QuotaInput,
    QuotaStatusView,
    QuotaView,
    amount_of,
    different,
    quota_view,
    status_view,
)
from proxy.admin.route import Ask, Route, bad_request, not_found
from proxy.admin.shapes import Input, Instant, PageQuery, PageView, Reference, View, masked
from proxy.admin.users import subject_user
from proxy.core.quota import Scope, Unit
from proxy.store import issued_keys, people, quota_status, quotas, quotas_live
from proxy.store.rows import Row

QuotaList = Annotated[list[QuotaInput], Field(max_length=50), AfterValidator(different)]
_EXAMPLE = [
    {"unit": "cost", "window": "month", "limit": "5.00"},
    {"unit": "tokens", "window": "day", "limit": "200000"},
]


class NewQuota(QuotaInput):
    """One more quota of any subject."""

    scope: Scope
    scope_id: Reference | None = Field(
        default=None, description="Whom it binds; null with scope `everyone`, or for each end user alike."
    )

    @model_validator(mode="after")
    def _subject(self) -> NewQuota:
        if self.scope == "everyone" and self.scope_id is not None:
            raise ValueError("scope_id must be null with scope everyone")
        if self.scope in {"key", "user", "group"} and self.scope_id is None:
            raise ValueError(f"scope_id is required with scope {self.scope}")
        return self


class QuotaChange(Input):
    """What to change; what is left out stays. What was used is kept."""

    limit: str | int | None = Field(default=None, description="The limit from now on.")
    add: str | int | None = Field(
        default=None, description="A top-up: so much is added to the limit, e.g. of a prepaid balance."
    )
    soft: bool | None = None
    raised_limit: str | int | None = Field(
        default=None, description="A temporary limit; null ends the raise."
    )
    raised_until: Instant | None = None


class Reset(Input):
    """Whose window begins anew."""

    subject: Reference | None = Field(
        default=None, description="The end user's name, where the quota binds each end user alike."
    )


class QuotaListView(View):
    """A subject's own quotas."""

    data: list[QuotaView]


class QuotaStatusList(View):
    """All quotas that bind a user: its own, its plan's, its group's and everyone's."""

    data: list[QuotaStatusView]


class QuotaPage(PageView):
    """A page of quotas."""

    data: list[QuotaView]


class QuotaQuery(PageQuery):
    """Which quotas."""

    scope: Scope | None = None
    scope_id: Reference | None = None
    unit: Unit | None = None


async def _put(ask: Ask, scope: Scope, subject_id: str | None) -> QuotaListView:
    before = await quotas.subject_quotas(ask.connection, scope, subject_id)
    rows = await quotas.put_quotas(ask.connection, scope, subject_id, [each.rule() for each in ask.body])
    ask.audit(
        "quotas.put",
        subject_id or "everyone",
        [masked(row) for row in before],
        [masked(row) for row in rows],
    )
    return QuotaListView(data=[quota_view(row) for row in rows])


async def _own(ask: Ask, scope: Scope, subject_id: str | None) -> QuotaListView:
    rows = await quotas.subject_quotas(ask.connection, scope, subject_id)
    return QuotaListView(data=[quota_view(row) for row in rows])


async def put_user_quotas(ask: Ask) -> QuotaListView:
    """Make this the user's whole list. A rule that stays keeps what was used of it."""
    return await _put(ask, "user", (await subject_user(ask))["id"])


async def put_group_quotas(ask: Ask) -> QuotaListView:
    """Make this the group's whole list: limits on what all its users use together."""
    return await _put(ask, "group", (await subject_group(ask))["id"])


async def put_key_quotas(ask: Ask) -> QuotaListView:
    """Make this the key's whole list."""
    return await _put(ask, "key", (await subject_key(ask))["id"])


async def show_group_quotas(ask: Ask) -> QuotaListView:
    """The group's own quotas."""
    return await _own(ask, "group", (await subject_group(ask))["id"])


async def show_key_quotas(ask: Ask) -> QuotaListView:
    """The key's own quotas."""
    return await _own(ask, "key", (await subject_key(ask))["id"])


async def show_user_quotas(ask: Ask) -> QuotaStatusList:
    """Every quota that binds the user, with what is used and what remains."""
    user = await subject_user(ask)
    statuses = await quota_status.user_statuses(ask.connection, user["id"], now=ask.now.timestamp())
    return QuotaStatusList(data=[status_view(each) for each in statuses])


async def create_quota(ask: Ask) -> QuotaView:
    """One more quota of a key, a user, an end user, a group or everyone."""
    subject_id = await _subject_id(ask, ask.body.scope, ask.body.scope_id)
    rule = ask.body.rule()
    for row in await quotas.subject_quotas(ask.connection, ask.body.scope, subject_id):
        if quotas.identity(row) == rule.identity:
            raise bad_request("unit", f"Quota {row['id']} says the same with another limit: change that.")
    made = await quotas.create_quota(ask.connection, ask.body.scope, subject_id, rule)
    ask.audit("quota.create", made["id"], after=masked(made))
    return quota_view(made)


async def _subject_id(ask: Ask, scope: Scope, named: str | None) -> str | None:
    if scope == "user":
        return str((await subject_user(ask, named))["id"])
    if scope == "group":
        row = await people.find_group(ask.connection, named or "")
    elif scope == "key":
        row = await issued_keys.fetch_key(ask.connection, named or "")
        ask.must_see_group(row["group_id"], "key", named or "")
    else:
        row = {"id": named}
    if scope != "key" and ask.group_limit is not None:
        raise bad_request(
            "scope", "A credential confined to one group sets quotas of its users and keys only."
        )
    found: str | None = row["id"]
    return found


async def _subject_quota(ask: Ask) -> Row:
    row = await quotas.fetch_quota(ask.connection, ask.path["quota"])
    if ask.group_limit is not None:
        seen, _ = await quotas.list_quotas(
            ask.connection, scope=row["scope"], scope_id=row["scope_id"], group_id=ask.group_limit
        )
        if row["id"] not in [each["id"] for each in seen]:
            raise not_found("quota", ask.path["quota"])
    return row


async def list_quotas(ask: Ask) -> QuotaPage:
    """Quotas of all subjects in the order they were made; those in plans are not among them."""
    query = ask.query
    rows = await quotas.list_quotas(
        ask.connection,
        scope=query.scope,
        scope_id=query.scope_id,
        unit=query.unit,
        group_id=ask.group_limit,
        limit=query.limit,
        offset=query.offset,
    )
    return QuotaPage.of(rows, query, quota_view)


async def show_quota(ask: Ask) -> QuotaView:
    """One quota."""
    return quota_view(await _subject_quota(ask))


def _change(body: QuotaChange, unit: Unit) -> dict[str, Any]:
    change: dict[str, Any] = {}
    fields = (("limit", "limit_amount"), ("add", "added_amount"), ("raised_limit", "raised_amount"))
    for field, column in fields:
        if field not in body.model_fields_set:
            continue
        text = getattr(body, field)
        if text is None and field != "raised_limit":
            raise bad_request(field, f"{field} can't be null.")
        try:
            change[column] = None if text is None else amount_of(unit, text)
        except ValueError as error:
            raise bad_request(field, f"{field}: {error}.") from None
    if body.soft is not None:
        change["soft"] = body.soft
    if "raised_until" in body.model_fields_set:
        change["raised_until"] = None if body.raised_until is None else body.raised_until.isoformat()
    if change.get("raised_amount") is not None and not change.get("raised_until"):
        raise bad_request("raised_until", "raised_limit needs raised_until: a raise is temporary.")
    return change


async def change_quota(ask: Ask) -> QuotaView:
    """Change the limit, or raise it for a while. What was used is kept."""
    before = await _subject_quota(ask)
    if ask.group_limit is not None and before["scope"] == "group":
        raise bad_request("quota", "A credential confined to one group can't change the group's own quotas.")
    change = _change(ask.body, before["unit"])
    after = await quotas.change_quota(ask.connection, before["id"], change)
    changed = [name for name in change if name != "added_amount"] or ["limit_amount"]
    ask.audit("quota.change", before["id"], masked(before, *changed), masked(after, *changed))
    return quota_view(after)


async def reset_quota(ask: Ask) -> QuotaView:
    """Begin the current window anew, as if nothing had been used in it; the records stay."""
    row = await _subject_quota(ask)
    now = ask.now.timestamp()
    bound = await quota_status.own(ask.connection, row["scope"], row["scope_id"], now=now)
    (quota,) = (each for each in bound if each.id == row["id"])
    subject = row["scope_id"] or ask.body.subject or quota_status.EVERYBODY
    (before,) = await quotas_live.statuses(ask.connection, [(quota, subject)], now=now)
    await quotas_live.reset_window(ask.connection, quota, subject, now=now)
    ask.audit("quota.reset", row["id"], {"used": before.used}, {"subject": subject})
    return quota_view(row)


async def remove_quota(ask: Ask) -> QuotaView:
    """Remove the rule; usage stays in the records."""
    before = await _subject_quota(ask)
    if ask.group_limit is not None and before["scope"] == "group":
        raise bad_request("quota", "A credential confined to one group can't remove the group's own quotas.")
    await quotas.remove_quota(ask.connection, before["id"])
    ask.audit("quota.remove", before["id"], masked(before))
    return quota_view(before)


def _put_route(path: str, handler: Any, subject: str, *, everywhere: bool = False) -> Route:
    return Route(
        method="PUT",
        path=path,
        handler=handler,
        summary=f"Set a {subject}'s quotas",
        access="write",
        everywhere=everywhere,
        body=QuotaList,
        answer=QuotaListView,
        tag="quotas",
        example=_EXAMPLE,
    )


def _get_route(path: str, handler: Any, summary: str, answer: Any, query: Any = None) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        access="read",
        query=query,
        answer=answer,
        tag="quotas",
    )


ROUTES = (
    _put_route("/admin/users/{user}/quotas", put_user_quotas, "user"),
    _get_route("/admin/users/{user}/quotas", show_user_quotas, "Show what binds a user", QuotaStatusList),
    _put_route("/admin/groups/{group}/quotas", put_group_quotas, "group", everywhere=True),
    _get_route("/admin/groups/{group}/quotas", show_group_quotas, "Show a group's quotas", QuotaListView),
    _put_route("/admin/keys/{key}/quotas", put_key_quotas, "key"),
    _get_route("/admin/keys/{key}/quotas", show_key_quotas, "Show a key's quotas", QuotaListView),
    _get_route("/admin/quotas", list_quotas, "List quotas", QuotaPage, QuotaQuery),
    Route(
        method="POST",
        path="/admin/quotas",
        handler=create_quota,
        summary="Create a quota",
        access="write",
        body=NewQuota,
        answer=QuotaView,
        status=201,
        creates=True,
        tag="quotas",
        example={"scope": "everyone", "unit": "cost", "window": "month", "limit": "1000"},
    ),
    _get_route("/admin/quotas/{quota}", show_quota, "Show a quota", QuotaView),
    Route(
        method="PATCH",
        path="/admin/quotas/{quota}",
        handler=change_quota,
        summary="Change a quota",
        access="write",
        body=QuotaChange,
        answer=QuotaView,
        tag="quotas",
        example={"limit": "8.00"},
    ),
    Route(
        method="POST",
        path="/admin/quotas/{quota}/reset",
        handler=reset_quota,
        summary="Begin a quota's window anew",
        access="write",
        body=Reset,
        answer=QuotaView,
        tag="quotas",
        example={},
    ),
    Route(
        method="DELETE",
        path="/admin/quotas/{quota}",
        handler=remove_quota,
        summary="Remove a quota",
        access="write",
        answer=QuotaView,
        tag="quotas",
    ),
)
