"""Shares: what one worker holds of each quota window, and how it admits from that without asking anybody.

The worker's half of the algorithm in docs/explanation/quotas.md; the other half is the ledger in Postgres
(proxy/store/quotas_live.sql). Sans-I/O: the ledger's answers come in, what to ask it next comes out, and both clocks are
arguments: `at` is Unix seconds by Postgres' clock, `clock` the worker's own monotonic seconds.

Held here, whatever happens:

1. `free >= 0` and `reserved >= 0` in every share: nothing is admitted that the share does not cover.
2. Nothing is admitted from a share at or after `deadline`, which lies before the lease's expiry in Postgres.
3. A reservation ends once: it is settled or released, and a second end changes nothing.
4. A share's amount in Postgres is at least `free + reserved` here, until the lease is lost. Amounts given and taken are
   told as sums since the share began, so an answer that was lost, or a message sent twice, changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from proxy.core.quota import Charge, Quota, Unit, WindowKey, window_at

UNIT_INDEX: dict[Unit, int] = {"requests": 0, "tokens": 1, "cost": 2}
LOW_PART = 4
"""More is asked for in the background once less than a fourth of the last spare grant is left."""


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
        self.spent = math.inf
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
    def charges(self) -> tuple[Charge, ...]:
        """What to charge when the process dies before the exchange ends: all that was reserved. For the open line."""
        return tuple(
            Charge(*_key_of(share), self.need[binding.unit] or 0, share.id if covered else 0, covered)
            for binding, share, covered in self.holds
            if not binding.concurrent and self.need[binding.unit]
        )


def _key_of(share: Share) -> tuple[str, int, str]:
    quota_id, scope_id, start = share.key
    return quota_id, start, scope_id


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


@dataclass(slots=True)
class Shares:
    """Everything one worker holds. All methods are synchronous and none of them raises."""

    lease: int = 0
    """The lease all shares belong to; 0: none."""
    deadline: float = -math.inf
    """Own clock: from then on nothing is admitted from shares."""
    held: dict[WindowKey, Share] = field(default_factory=dict)
    thirsty: list[Share] = field(default_factory=list)
    """Shares that run low, to be filled up before somebody must wait."""
    overage: list[int] = field(default_factory=lambda: [0, 0, 0])
    """Use that no share covered, by unit, since the start."""

    # -- the hot path

    def reserve(self, bindings: Sequence[Binding], need: Need, at: float, clock: float) -> Reservation | None:
        """Admit from memory, or None when what is held does not cover the need. All quotas or none."""
        if clock >= self.deadline:
            return None
        holds = []
        for binding in bindings:
            share = binding.share
            if at >= share.until:
                share = self.turn(binding, at)
            if binding.soft:
                holds.append((binding, share, 0))
                if not share.opened and not share.asked:
                    share.asked = True
                    self.thirsty.append(share)
                continue
            amount = need[binding.unit] or 0
            if share.free < amount:
                return None
            holds.append((binding, share, amount))
        for _, share, amount in holds:
            share.free -= amount
            share.reserved += amount
            share.idle = 0
            if share.free < share.low and not share.asked:
                share.asked = True
                self.thirsty.append(share)
        return Reservation(holds, need)

    def settle(self, reservation: Reservation, used: Need) -> tuple[Charge, ...]:
        """End a reservation with what was really used; an unknown cost settles as it was reserved.

        What was reserved and not used is free again; what was used beyond it is covered from what is free, and the rest of
        it is overage.
        """
        if reservation.ended:
            return ()
        reservation.ended = True
        charges = []
        for binding, share, reserved in reservation.holds:
            share.reserved -= reserved
            if binding.concurrent:
                share.free += reserved
                continue
            amount = used[binding.unit]
            if amount is None:
                amount = reservation.need[binding.unit] or 0
            if amount <= reserved:
                held = amount
                share.free += reserved - amount
            else:
                more = min(share.free, amount - reserved)
                held = reserved + more
                share.free -= more
                if amount > held:
                    share.outside -= amount - held
                    if not binding.soft:
                        self.overage[binding.unit] += amount - held
            if amount:
                quota_id, scope_id, start = share.key
                share_id = share.id if held else 0
                charges.append(Charge(quota_id, start, scope_id, amount, share_id, held, binding.unit))
        return tuple(charges)

    # -- windows and limits

    def turn(self, binding: Binding, at: float) -> Share:
        """The share of the window that holds `at`, found or begun."""
        start, ends = window_at(binding.quota, at)
        key = (binding.quota.id, binding.scope_id, start)
        share = self.held.get(key)
        if share is None:
            share = self.held[key] = Share(key, binding.quota, ends)
            share.opened = binding.concurrent
        elif share.quota is not binding.quota:
            self.edit(share, binding.quota)
        binding.share = share
        return share

    def edit(self, share: Share, quota: Quota) -> None:
        """The rule was read anew. What was granted under another limit must be asked for again under this one."""
        if quota.limit < share.limit or quota.version != share.quota.version:
            self.recall(share)
        share.outside += quota.limit - share.limit
        share.pool += quota.limit - share.limit
        share.limit = quota.limit
        share.quota = quota
        share.spent_until = 0.0
        share.low = 0

    # -- asking

    def reserve_uncovered(self, bindings: Sequence[Binding], need: Need, at: float) -> Reservation | None:
        """Admit although the ledger can't be asked; None where this worker itself knows the limit to be reached.

        Nothing is taken from any share. What is settled later counts in the window, and at once in `remaining`.
        """
        holds = []
        for binding in bindings:
            share = binding.share if at < binding.share.until else self.turn(binding, at)
            if not binding.soft and share.remaining < (need[binding.unit] or 0):
                return None
            holds.append((binding, share, 0))
        return Reservation(holds, need, uncovered=True)

    def asks(self, waiting: Iterable[tuple[Sequence[Binding], Need]], at: float) -> list[Ask]:
        """One ask for each window that is short for those who wait, or runs low."""
        demand: dict[int, int] = {}
        least: dict[int, int] = {}
        shares: dict[int, Share] = {}
        for bindings, need in waiting:
            for binding in bindings:
                share = binding.share if at < binding.share.until else self.turn(binding, at)
                amount = need[binding.unit] or 0
                if binding.soft or not amount:
                    continue
                shares[id(share)] = share
                demand[id(share)] = demand.get(id(share), 0) + amount
                least[id(share)] = min(least.get(id(share), amount), amount)
        asks = [
            Ask(share, max(1, least[name] - share.free), demand[name] - share.free)
            for name, share in shares.items()
            if demand[name] > share.free
        ]
        asked = {id(ask.share) for ask in asks}
        asks += [Ask(share, 0, 0) for share in self.thirsty if id(share) not in asked and share.until > at]
        self.thirsty.clear()
        for ask in asks:
            ask.share.unsure = True
        return asks

    def grant(self, share: Share, grant: Grant) -> None:
        """Take in the ledger's answer. Sums that were seen before add nothing."""
        spare_before = share.free
        if grant.share_id != share.id:
            # The row went when nothing was left in it, so what is free now can only come from the new row.
            share.id = grant.share_id
            share.granted = share.returned = share.acknowledged = 0
            share.free = 0
        share.free += grant.granted - share.granted
        share.granted = grant.granted
        share.acknowledged = grant.returned
        share.opened = True
        share.asked = share.unsure = False
        if grant.limit is not None:
            share.limit = max(grant.limit, share.quota.limit)
        in_use = share.granted - share.returned - grant.share_settled
        share.outside = share.limit - grant.settled - in_use
        share.pool = share.limit - grant.settled - grant.held
        if share.free > spare_before:
            share.spent_until = 0.0

    def lower(self, share: Share) -> None:
        """Once who waited has been served: below which amount to ask for more in the background. 0 at the edge."""
        share.low = share.free // LOW_PART if share.pool > 0 else 0

    # -- giving back

    def recall(self, share: Share) -> None:
        """Give up what is idle in a share."""
        share.returned += share.free
        share.outside += share.free
        share.free = 0
        share.low = 0

    def returns(self) -> list[Return]:
        """What was given up and is not yet known to have arrived."""
        return [
            Return(share, share.id, share.returned)
            for share in self.held.values()
            if share.returned > share.acknowledged
        ]

    def acknowledge(self, returned: Return, *, gone: bool) -> None:
        """The ledger took a return. `gone`: nothing is left in the row, which was deleted."""
        share = returned.share
        if share.id != returned.share_id:
            return
        if gone:
            share.id = share.granted = share.returned = share.acknowledged = 0
        else:
            share.acknowledged = max(share.acknowledged, returned.total)

    def to_look_at(self) -> list[WindowKey]:
        """Windows to be compared with the ledger: where something is held or may be, and soft ones in use."""
        return [
            share.key
            for share in self.held.values()
            if share.id or share.unsure or (share.quota.soft and share.idle == 0)
        ]

    def looked(self, keys: Iterable[WindowKey], seen: Iterable[Grant]) -> None:
        """Take in how windows stand; those that were not seen have no row, so that nothing can have been given."""
        missing = set(keys)
        for grant in seen:
            missing.discard(grant.key)
            if (share := self.held.get(grant.key)) is not None:
                self.grant(share, grant)
        for key in missing:
            if (share := self.held.get(key)) is not None:
                share.unsure = False

    def tick(self, at: float, idle_ticks: int) -> None:
        """Now and then: give up what was not used for some ticks, and forget what is over."""
        for share in list(self.held.values()):
            share.idle += 1
            if at >= share.ends or share.idle > idle_ticks:
                self.recall(share)
                if share.id == 0 and share.reserved == 0 and not share.unsure:
                    share.until = 0.0
                    del self.held[share.key]

    def lose(self) -> None:
        """The lease is gone, and others may have what it held: nothing of it may be used. Reservations end uncovered."""
        self.lease = 0
        self.deadline = -math.inf
        for share in self.held.values():
            share.until = 0.0
        self.held.clear()
        self.thirsty.clear()
