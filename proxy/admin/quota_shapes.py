"""Quotas as JSON: amounts are decimal strings, in US dollars for cost and whole numbers for tokens and requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from proxy.admin.shapes import BIGINT_MAX, Input, Pattern, View, nano
from proxy.core.money import format_nano
from proxy.core.quota import QuotaStatus, Scope, Unit, WindowKind
from proxy.store.quotas import Rule
from proxy.store.rows import Row

_WHOLE = re.compile(r"[0-9]{1,19}")
Amount = Annotated[str, Field(examples=["5.00"], description="US dollars for cost, else a whole number.")]


def amount_of(unit: Unit, text: str | int) -> int:
    """An amount in the unit's smallest parts. Raises ValueError in words."""
    if unit == "cost":
        return nano(text)
    if isinstance(text, bool) or _WHOLE.fullmatch(str(text)) is None or int(text) > BIGINT_MAX:
        raise ValueError(f"{text!r} is not a whole number of {unit}")
    return int(text)


def shown_amount(unit: Unit, amount: int) -> str:
    """An amount as a decimal string."""
    return format_nano(amount) if unit == "cost" else str(amount)


def _tag(text: str) -> str:
    if not text.partition("=")[0] or "=" not in text:
        raise ValueError("must be NAME=VALUE")
    return text


class QuotaInput(Input):
    """One rule of a list."""

    unit: Unit
    window: WindowKind
    limit: str | int = Field(
        examples=["5.00"], description="Decimal string: US dollars for cost, else a whole number."
    )
    billing_day: int = Field(default=1, ge=1, le=28, description="First day of a month window, UTC.")
    model: Pattern | None = Field(default=None, description="A shell pattern; null binds every model.")
    operation: Pattern | None = None
    tag: Annotated[Pattern, AfterValidator(_tag)] | None = Field(default=None, examples=["grade=9"])
    soft: bool = Field(default=False, description="Reported and counted, but nothing is refused.")

    average_percent: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Of a soft quota: warn at so many percent of what was used in an average window of the 28 days before;"
        " the limit is the least it can be.",
    )

    @model_validator(mode="after")
    def _limit(self) -> QuotaInput:
        amount_of(self.unit, self.limit)
        if self.average_percent is not None and (not self.soft or self.window == "total"):
            raise ValueError("average_percent is for soft quotas with a window that ends")
        return self

    def rule(self) -> Rule:
        """The rule as the store keeps it."""
        return Rule(
            unit=self.unit,
            window=self.window,
            limit_amount=amount_of(self.unit, self.limit),
            billing_day=self.billing_day,
            model=self.model,
            operation=self.operation,
            tag=self.tag,
            soft=self.soft,
            average_percent=self.average_percent,
        )


def different(quotas: Sequence[QuotaInput] | None) -> Sequence[QuotaInput] | None:
    """No two rules of a list may differ in their limit only."""
    identities = [each.rule().identity for each in quotas or ()]
    for index, identity in enumerate(identities):
        if identity in identities[:index]:
            raise ValueError(f"entry {index} says the same as an earlier one with another limit")
    return quotas


class RuleView(View):
    """A rule of a plan."""

    id: str
    unit: Unit
    window: WindowKind
    limit: Amount
    billing_day: int
    model: str | None
    operation: str | None
    tag: str | None
    soft: bool
    average_percent: int | None


class QuotaView(RuleView):
    """A quota of a subject."""

    scope: Scope
    scope_id: str | None
    raised_limit: Amount | None
    raised_until: datetime | None
    created_at: datetime
    updated_at: datetime


class QuotaStatusView(RuleView):
    """A quota that binds somebody, and where it stands in its current window."""

    scope: Scope
    scope_id: str | None
    used: Amount
    remaining: Amount
    window_start: datetime | None
    resets_at: datetime | None


def rule_view(quota_id: str, rule: Rule) -> RuleView:
    """A plan's rule as the API shows it."""
    return RuleView(
        id=quota_id,
        unit=rule.unit,
        window=rule.window,
        limit=shown_amount(rule.unit, rule.limit_amount),
        billing_day=rule.billing_day,
        model=rule.model,
        operation=rule.operation,
        tag=rule.tag,
        soft=rule.soft,
        average_percent=rule.average_percent,
    )


def quota_view(row: Row) -> QuotaView:
    """A row of `quotas` as the API shows it."""
    raised = row["raised_amount"]
    return QuotaView(
        id=row["id"],
        unit=row["unit"],
        window=row["window"],
        limit=shown_amount(row["unit"], row["limit_amount"]),
        billing_day=row["billing_day"],
        model=row["model"],
        operation=row["operation"],
        tag=row["tag"],
        soft=row["soft"],
        average_percent=row["average_percent"],
        scope=row["scope"],
        scope_id=row["scope_id"],
        raised_limit=None if raised is None else shown_amount(row["unit"], raised),
        raised_until=row["raised_until"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def status_view(status: QuotaStatus) -> QuotaStatusView:
    """A quota with its sums as the API shows it."""
    quota = status.quota
    return QuotaStatusView(
        id=quota.id,
        unit=quota.unit,
        window=quota.window,
        limit=shown_amount(quota.unit, status.limit),
        billing_day=quota.billing_day,
        model=quota.model,
        operation=quota.operation,
        tag="=".join(quota.tag) if quota.tag else None,
        soft=quota.soft,
        average_percent=quota.average_percent,
        scope=quota.scope,
        scope_id=status.scope_id or None,
        used=shown_amount(quota.unit, status.used),
        remaining=shown_amount(quota.unit, status.remaining),
        window_start=_moment(status.window_start or None),
        resets_at=_moment(status.resets_at),
    )


def _moment(seconds: Any) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
