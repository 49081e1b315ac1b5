"""Quota: a rule, its windows, and the arithmetic of reserve and settle. Pure; the live state is in gateway/quotas.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Unit = Literal["requests", "tokens", "cost"]
Scope = Literal["key", "user", "end_user", "group", "everyone"]
WindowKind = Literal["minute", "hour", "day", "month", "total"]


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


@dataclass(frozen=True, slots=True)
class Charge:
    """What one exchange settles against one quota window. The recorder adds `amount` to the window's settled sum."""

    quota_id: str
    window_start: int
    """Unix seconds; with quota_id the key of the window's row."""
    scope_id: str
    """The counted subject: key, user, end user or group id; "" for everyone."""
    amount: int
    """Actual use in the quota's unit; may exceed what was reserved (overage)."""
