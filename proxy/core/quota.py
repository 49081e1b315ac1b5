"""Quota: a rule, the windows it counts in, and what an exchange is charged. Pure; see docs/explanation/quotas.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

Unit = Literal["requests", "tokens", "cost"]
Scope = Literal["key", "user", "end_user", "group", "everyone"]
WindowKind = Literal["minute", "hour", "day", "month", "total"]
WindowKey = tuple[str, str, int]
"""(quota id, counted subject, start in Unix seconds): what one row of `quota_windows` is about."""

SECONDS: dict[WindowKind, int] = {"minute": 60, "hour": 3600, "day": 86_400}
NO_END = math.inf


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on one unit over one window. `limit` is in requests, tokens or nano-US-dollars."""

    id: str
    scope: Scope
    scope_id: str | None
    unit: Unit
    window: WindowKind
    limit: int
    billing_day: int = 1
    """First day of a month window, 1-28, UTC."""
    model: str | None = None
    """fnmatch pattern; None binds every model."""
    operation: str | None = None
    tag: tuple[str, str] | None = None
    soft: bool = False
    average_percent: int | None = None
    """Of a soft quota: the limit is this many percent of what the subject used in an average window of the 28 days before;
    `limit` is the least it can be."""

    version: float = 0.0
    """Changes with every change of the rule. A limit that went up and down again is not the same limit as before: others may
    have used the higher one."""

    @property
    def identity(self) -> tuple[Unit, WindowKind, str | None, str | None, tuple[str, str] | None]:
        """What a more particular rule must say too to stand in for this one."""
        return (self.unit, self.window, self.model, self.operation, self.tag)


ChargeFields: TypeAlias = tuple[str, int, str, int, int, int]
"""A charge as it is spooled: (quota_id, window_start, scope_id, amount, share_id, held)."""


class Charge(NamedTuple):
    """What one exchange settles against one quota window. The recorder adds `amount` to the window's settled sum."""

    quota_id: str
    window_start: int
    """Unix seconds; with quota_id and scope_id the key of the window's row."""
    scope_id: str
    """The counted subject: key, user, end user or group id; "" for everyone."""
    amount: int
    """Actual use in the quota's unit; may exceed what was reserved (overage)."""
    share_id: int = 0
    """The share that covered it, in `quota_shares`; 0: none."""
    held: int = 0
    """The part of `amount` that the share covered, and that it no longer holds once this is settled."""
    unit: int = 0
    """What `amount` counts: 0 requests, 1 tokens, 2 cost."""

    @property
    def key(self) -> WindowKey:
        """The window's key."""
        return (self.quota_id, self.scope_id, self.window_start)


@dataclass(frozen=True, slots=True)
class QuotaStatus:
    """One quota of one subject at one moment, for people. Amounts are in the quota's unit."""

    quota: Quota
    scope_id: str
    """The counted subject."""
    limit: int
    used: int
    """Settled in this window."""
    held: int
    """Held by workers: reserved by requests under way, about to be settled, or idle for a moment."""
    window_start: int
    """Unix seconds; 0 for a total."""
    resets_at: int | None
    """Unix seconds; None for a total."""

    @property
    def remaining(self) -> int:
        """What is left of the limit, never below zero."""
        return max(0, self.limit - self.used)


def window_at(quota: Quota, at: float) -> tuple[int, float]:
    """The window that holds the moment `at` (Unix seconds): its start, and its end, which is not part of it any more.

    Minutes, hours and days are UTC's; months begin on the billing day at midnight UTC. A total begins at 0 and has no end.
    """
    length = SECONDS.get(quota.window)
    if length is not None:
        start = int(at // length) * length
        return start, start + length
    if quota.window == "total":
        return 0, NO_END
    moment = datetime.fromtimestamp(at, UTC)
    first = datetime(moment.year, moment.month, quota.billing_day, tzinfo=UTC)
    if first > moment:
        first = _months_later(first, -1)
    return int(first.timestamp()), _months_later(first, 1).timestamp()


def _months_later(first: datetime, months: int) -> datetime:
    month = first.month - 1 + months
    return first.replace(year=first.year + month // 12, month=month % 12 + 1)


def is_long(quota: Quota) -> bool:
    """A day and more: a spent one is "insufficient_quota", not a rate limit that a client should wait for."""
    return quota.window in {"day", "month", "total"}
