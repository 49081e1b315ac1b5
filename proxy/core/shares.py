"""Shares: what a worker may hold of a quota window, and what it tells and asks the ledger. The values of holdings.py."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from proxy.core.quota import ChargeFields, Quota, Unit, WindowKey

UNIT_INDEX: Final[dict[Unit, int]] = {"requests": 0, "tokens": 1, "cost": 2}


class Need(NamedTuple):
    """What a call may use at most, as far as can be told before it is made. A named tuple: it is made for each request."""

    requests: int = 1
    """0: does not count as a request, e.g. a GET."""
    tokens: int = 0
    cost_nanousd: int | None = 0
    """None: the price is unknown."""


class Share:
    """A part of one window's remainder, held by this worker. Mutable; owned by `Shares`."""

    __slots__ = (
        "acknowledged",
        "asked",
        "before",
        "behind",
        "ends",
        "free",
        "granted",
        "id",
        "idle",
        "key",
        "limit",
        "low",
        "opened",
        "outside",
        "pool",
        "quota",
        "reserved",
        "returned",
        "shown",
        "spent",
        "spent_until",
        "unsure",
        "until",
        "warned",
    )

    def __init__(self, key: WindowKey, quota: Quota, ends: float) -> None:
        self.key = key
        self.quota = quota
        """The rule as it was seen last; its limit may have changed since the window began."""
        self.limit = quota.limit
        self.ends = ends
        """End of the window."""
        self.until = ends
        """Bindings may use this object before this moment: the window's end, or 0 when it was let go."""
        self.id = 0
        """Of the row in `quota_shares`; 0: none yet."""
        self.free = 0
        self.reserved = 0
        self.granted = 0
        self.returned = 0
        """Both since the row `id` began, as are the row's own sums."""
        self.acknowledged = 0
        """How much of `returned` the ledger is known to have taken."""
        self.outside = limit_left = quota.limit
        """What is left of the limit besides `free`, as far as this worker knows: their sum is the remaining amount."""
        self.pool = limit_left
        """What nobody held when the ledger was asked last."""
        self.opened = False
        """The ledger has counted what was used before this quota existed."""
        self.low = 0
        self.asked = False
        """More was asked for in the background."""
        self.unsure = False
        """The ledger was asked, and its answer has not come: it may have given something."""
        self.idle = 0
        """Ticks since it was used last."""
        self.shown = (-1, -1)
        """The limit and the seconds until the reset, of which the answers' header lines tell: …"""
        self.before = self.behind = b""
        """… what they say before and behind the remaining amount."""
        self.spent: float = math.inf
        """The least amount that the ledger just would not give …"""
        self.spent_until = 0.0
        """… and until when (own clock) it need not be asked again."""
        self.warned = False
        """A soft limit was passed and reported."""

    @property
    def remaining(self) -> int:
        """What is left of the limit as far as this worker knows, never below zero."""
        return max(0, self.outside + self.free)


class Binding:
    """One quota as it binds one subject; remembers the share it used last."""

    __slots__ = ("concurrent", "quota", "scope_id", "share", "soft", "unit")

    def __init__(self, quota: Quota, scope_id: str, *, concurrent: bool = False) -> None:
        self.quota = quota
        self.scope_id = scope_id
        self.unit = UNIT_INDEX[quota.unit]
        self.soft = quota.soft
        self.concurrent = concurrent
        """The limit is on what is under way: what is reserved is given back at the end, and nothing is charged."""
        self.share = _NO_SHARE


_NO_SHARE = Share(("", "", 0), Quota("", "everyone", None, "requests", "total", 0), 0.0)


class Reservation:
    """What one admitted exchange holds: (binding, share, covered amount) for each quota that binds it."""

    __slots__ = ("ended", "holds", "need", "uncovered")

    def __init__(
        self, holds: list[tuple[Binding, Share, int]], need: Need, *, uncovered: bool = False
    ) -> None:
        self.holds = holds
        self.need = need
        self.uncovered = uncovered
        """Admitted without cover, because Postgres could not be asked."""
        self.ended = not holds

    @property
    def charges(self) -> tuple[ChargeFields, ...]:
        """What to charge when the process dies before the exchange ends: all that was reserved. For the open line."""
        charges, need = [], self.need
        for binding, share, covered in self.holds:
            amount = need[binding.unit]
            if amount and not binding.concurrent:
                quota_id, scope_id, start = share.key
                charges.append((quota_id, start, scope_id, amount, share.id if covered else 0, covered))
        return tuple(charges)


UNBOUND = Reservation([], Need(0, 0, 0))
"""The reservation of a call that no quota binds."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What to ask the ledger for in one window."""

    share: Share
    least: int
    """Less than this helps nobody who waits; 0: nobody waits, only a reserve is wanted."""
    demand: int
    """What all who wait need together."""

    @property
    def key(self) -> WindowKey:
        """The window's key."""
        return self.share.key


@dataclass(frozen=True, slots=True)
class Grant:
    """The ledger's answer for one window; sums are since the share's row began."""

    key: WindowKey
    share_id: int
    """0: the worker has no share of this window."""
    granted: int
    returned: int
    share_settled: int
    settled: int
    """Of the whole window."""
    held: int
    """By all workers, this one included."""
    short: bool = False
    """Less was given than was asked for."""
    others: int = 0
    """How many other workers were asked to give back what is idle."""
    limit: int | None = None
    """Of a soft quota whose limit follows the subject's average: what it is in this window."""


@dataclass(frozen=True, slots=True)
class Return:
    """A share's row and the sum of all that was given back of it."""

    share: Share
    share_id: int
    total: int
