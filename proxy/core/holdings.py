"""Holdings: the shares of one worker, and how it admits from them without asking anybody.

The worker's half of the algorithm in docs/explanation/quotas.md; the other half is the ledger in Postgres
(migrations/0004_quota_shares.sql). Sans-I/O: the ledger's answers come in, what to ask it next comes out, and both clocks are
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
from typing import Final

from proxy.core.quota import Charge, Quota, WindowKey, window_at
from proxy.core.shares import Ask, Binding, Grant, Need, Reservation, Return, Share

LOW_PART: Final = 4
"""More is asked for in the background once less than a fourth of the last spare grant is left."""
DEMAND_MAX: Final = 2**60
"""Sums beyond it are not told to Postgres, whose integers end there: one that it can't take would pass for its absence."""


@dataclass(slots=True)
class Holdings:
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

    def settle(self, reservation: Reservation, used: tuple[int, int, int | None]) -> tuple[Charge, ...]:
        """End a reservation with what was really used, in the order of Need; an unknown cost settles as it was reserved.

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
                # Made so, a named tuple takes half as long as when it is called by its name.
                charges.append(
                    tuple.__new__(Charge, (quota_id, start, scope_id, amount, share_id, held, binding.unit))
                )
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
            Ask(share, max(1, least[name] - share.free), min(demand[name] - share.free, DEMAND_MAX))
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
        if share.pool < 0 < share.free:
            # More is out than the limit allows: it was lowered while the answer to a grant was lost, or somebody used more than
            # they had reserved. What is idle here must not be used on top.
            self._give_up(share, min(share.free, -share.pool))
        if share.free > spare_before:
            share.spent_until = 0.0

    def lower(self, share: Share) -> None:
        """Once who waited has been served: below which amount to ask for more in the background. 0 at the edge."""
        share.low = share.free // LOW_PART if share.pool > 0 else 0

    # -- giving back

    def recall(self, share: Share) -> None:
        """Give up what is idle in a share."""
        self._give_up(share, share.free)
        share.low = 0

    def _give_up(self, share: Share, amount: int) -> None:
        share.returned += amount
        share.outside += amount
        share.free -= amount

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
        return [share.key for share in self.held.values() if share.id or share.unsure or share.quota.soft]

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
