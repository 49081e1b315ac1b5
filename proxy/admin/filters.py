"""The filters that every statistic takes, and what they mean for the store."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from proxy.admin.route import Ask, bad_request
from proxy.admin.shapes import Input
from proxy.core.period import DAYS_MAX, Period, PeriodError, period
from proxy.store import people
from proxy.store.conflicts import MissingError
from proxy.store.stats import Filters, Question

VALUES_MAX = 50
Values = Annotated[
    list[Annotated[str, Field(max_length=320)]],
    Field(max_length=VALUES_MAX, description="Any of these: repeat it, or separate by commas."),
]
Days = Annotated[int, Field(ge=1, le=DAYS_MAX)]
Status = Annotated[int, Field(ge=0, le=999)]
Flag = Annotated[bool, BeforeValidator(lambda value: {"": True}.get(value, value))]


class PeriodQuery(Input):
    """Which time. Without `start` and `end`: the last `days` days, today included."""

    start: str | None = Field(
        default=None, max_length=40, examples=["2026-08-01"], description="A date, or a time in ISO 8601."
    )
    end: str | None = Field(
        default=None,
        max_length=40,
        examples=["2026-08-31"],
        description="A date, which is included, or a time, which is not.",
    )
    days: Days | None = Field(default=None, description="30 when nothing else is said; 7 under /me.")
    tz: str = Field(
        default="UTC",
        max_length=64,
        examples=["Europe/Berlin"],
        description="Whose days and hours; whole hours off UTC.",
    )

    def period(self, ask: Ask, *, days_default: int = 30) -> Period:
        """The period that was asked for. Raises a 400 that names the field."""
        try:
            return period(
                ask.now,
                start=self.start,
                end=self.end,
                days=self.days,
                tz=self.tz,
                days_default=days_default,
            )
        except PeriodError as error:
            raise bad_request(error.field, f"{error}.") from None


class OwnUsageQuery(PeriodQuery):
    """Which of one's own usage."""

    key: Values | None = None
    model: Values | None = Field(default=None, examples=[["gpt-5.1"]])
    endpoint: Values | None = Field(default=None, examples=[["/v1/chat/completions"]])
    operation: Values | None = Field(default=None, examples=[["rag_answer"]])
    provider: Values | None = None
    status: list[Status] | None = Field(default=None, max_length=VALUES_MAX)
    streamed: Flag | None = None
    service_tier: Values | None = None
    finish_reason: Values | None = None
    usage_source: list[Literal["reported", "estimated", "none"]] | None = None
    outcome: Values | None = None
    end_user: Values | None = None
    tag: dict[str, str] | None = Field(default=None, max_length=16, description="`tag.NAME=value`.")

    def where(self) -> dict[str, list[str]]:
        """Filters that need no look-up."""
        found: dict[str, list[str]] = {}
        for name in _PLAIN:
            values = getattr(self, name)
            if values:
                found[name] = [str(value) for value in values]
        if self.streamed is not None:
            found["streamed"] = ["true" if self.streamed else "false"]
        return found


class OwnRecordsQuery(OwnUsageQuery):
    """Which of one's own records."""

    failed: Flag | None = Field(
        default=None,
        description="Only what counts as an error: all but `outcome` success and client_gone. `false`: only the rest.",
    )

    def where(self) -> dict[str, list[str]]:
        """Filters that need no look-up."""
        found = super().where()
        if self.failed is not None:
            found["failed"] = ["true" if self.failed else "false"]
        return found


class UsageQuery(OwnUsageQuery):
    """Which usage, of everybody."""

    user: Values | None = Field(default=None, description="Ids, external ids or e-mail addresses.")
    group: Values | None = Field(default=None, description="Ids, external ids or unique names.")
    user_active: Flag | None = Field(default=None, description="Of active users, or of deactivated ones.")
    active: Literal["true", "false", "all"] = Field(
        default="true", description="false: only records that were voided; all: these too."
    )


_PLAIN = (
    "key", "model", "endpoint", "operation", "provider", "status", "service_tier", "finish_reason", "usage_source",
    "outcome", "end_user",
)  # fmt: skip


async def question(
    ask: Ask, query: OwnUsageQuery, *, days_default: int = 30, user_id: str | None = None
) -> Question:
    """What the query asks, with names resolved to ids, within what the actor may see.

    `user_id` confines it to one user, whose id is known. Raises 404 for users and groups that never were.
    """
    where = query.where()
    if isinstance(query, UsageQuery):
        if query.user:
            where["user"] = [await _user_id(ask, named) for named in query.user]
        if query.group:
            where["group"] = [await _group_id(ask, named) for named in query.group]
        if query.user_active is not None:
            where["user_active"] = ["true" if query.user_active else "false"]
        if query.active != "true":
            where["active"] = [query.active]
    if user_id is not None:
        where["user"] = [user_id]
    elif ask.group_limit is not None:
        where["group"] = [ask.group_limit]
    return Question(
        query.period(ask, days_default=days_default),
        ask.now,
        Filters(where, query.tag or {}),
        frozenset(ask.context.settings.rollup_tags),
        ask.context.currencies.change_days,
        ask.marks,
    )


async def _user_id(ask: Ask, named: str) -> str:
    try:
        return str((await people.find_user(ask.connection, named, group_id=ask.group_limit))["id"])
    except MissingError:
        # Usage outlives its user: an id that names nobody any more still finds it.
        if named.startswith("user_") and ask.group_limit is None:
            return named
        raise


async def _group_id(ask: Ask, named: str) -> str:
    row = await people.find_group(ask.connection, named)
    ask.must_see_group(row["id"], "group", named)
    return str(row["id"])
