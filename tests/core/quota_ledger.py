"""The ledger of quotas as a model: what migration 0004 does in Postgres, in plain Python, with a clock of its own.

`tests/store/test_quotas_live.py` holds it against the real one; `test_shares_model.py` lets workers loose on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from proxy.core.quota import Charge, WindowKey
from proxy.core.shares import Grant

SPARE_PART = 8


@dataclass
class Row:
    """A row of quota_shares."""

    id: int
    granted: int = 0
    returned: int = 0
    settled: int = 0

    @property
    def amount(self) -> int:
        return self.granted - self.returned - self.settled


@dataclass
class Window:
    """A row of quota_windows."""

    settled: int = 0
    held: int = 0


@dataclass
class Ledger:
    """Windows, leases and shares. `at` is its clock."""

    at: float = 0.0
    windows: dict[WindowKey, Window] = field(default_factory=dict)
    leases: dict[int, float] = field(default_factory=dict)
    """Expiry by lease."""
    rows: dict[tuple[WindowKey, int], Row] = field(default_factory=dict)
    """Shares by window and lease."""
    ids: int = 0

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def take_lease(self, ttl_s: float) -> int:
        lease = self.next_id()
        self.leases[lease] = self.at + ttl_s
        return lease

    def renew(self, lease: int, ttl_s: float) -> bool:
        if lease not in self.leases:
            return False
        self.leases[lease] = self.at + ttl_s
        return True

    def leave(self, lease: int) -> None:
        if not any(owner == lease for _, owner in self.rows):
            self.leases.pop(lease, None)

    def grant(self, lease: int, asks: Iterable[tuple[WindowKey, int, int, int]]) -> list[Grant] | None:
        """Asks are (window, limit, least, demand)."""
        if lease not in self.leases:
            return None
        return [self._grant(lease, *ask) for ask in sorted(asks)]

    def _grant(self, lease: int, key: WindowKey, limit: int, least: int, demand: int) -> Grant:
        window = self.windows.setdefault(key, Window())
        if limit - window.settled - window.held < demand and window.held > 0:
            self.take_back(key, lease)
        spare = limit - window.settled - window.held
        if spare <= 0 or spare < least:
            give = 0
        elif spare < demand:
            give = spare
        else:
            give = demand + (spare - demand) // SPARE_PART
        if give:
            row = self.rows.get((key, lease)) or self.rows.setdefault((key, lease), Row(self.next_id()))
            row.granted += give
            window.held += give
            assert window.settled + window.held <= limit
        others = sum(
            1 for (other, owner), row in self.rows.items() if other == key and owner != lease and row.amount
        )
        return self._seen(key, lease, short=give < demand, others=others if give < demand else 0)

    def look(self, lease: int, keys: Iterable[WindowKey]) -> list[Grant]:
        return [self._seen(key, lease) for key in keys if key in self.windows]

    def _seen(self, key: WindowKey, lease: int, *, short: bool = False, others: int = 0) -> Grant:
        row = self.rows.get((key, lease), Row(0))
        window = self.windows[key]
        return Grant(
            key,
            row.id,
            row.granted,
            row.returned,
            row.settled,
            window.settled,
            window.held,
            short,
            others,
        )

    def give_back(self, returns: Sequence[tuple[int, int]]) -> set[int]:
        """Returns are (share id, total); the ids of shares that are gone come back."""
        by_id = {row.id: (key, lease) for (key, lease), row in self.rows.items()}
        for share_id, total in returns:
            place = by_id.get(share_id)
            if place is None or place not in self.rows:
                continue
            row, window = self.rows[place], self.windows[place[0]]
            back = max(0, min(total - row.returned, row.amount))
            row.returned += back
            window.held -= back
            if row.amount == 0:
                del self.rows[place]
        present = {row.id for row in self.rows.values()}
        return {share_id for share_id, _ in returns if share_id not in present}

    def settle(self, charges: Iterable[Charge]) -> int:
        """Settle; returns how much of it no share covered."""
        uncovered = 0
        by_id = {row.id: (key, lease) for (key, lease), row in self.rows.items()}
        for charge in charges:
            window = self.windows.setdefault(charge.key, Window())
            window.settled += charge.amount
            taken = 0
            place = by_id.get(charge.share_id)
            if place is not None and place in self.rows:
                row = self.rows[place]
                taken = min(charge.held, row.amount)
                row.settled += taken
                window.held -= taken
                if row.amount == 0:
                    del self.rows[place]
            uncovered += charge.amount - taken
        return uncovered

    def take_back(self, key: WindowKey, own: int = 0) -> None:
        """What is held in one window under leases that are gone or have expired."""
        for (other, lease), row in list(self.rows.items()):
            if other != key or lease == own:
                continue
            if self.leases.get(lease, -1.0) < self.at:
                self.leases.pop(lease, None)
                self.windows[key].held -= row.amount
                del self.rows[other, lease]

    def reap(self) -> None:
        for lease in [lease for lease, expires in self.leases.items() if expires < self.at]:
            del self.leases[lease]
        for key, lease in list(self.rows):
            if lease not in self.leases and (key, lease) in self.rows:
                self.take_back(key)

    def check(self) -> None:
        """What must always be so."""
        for key, window in self.windows.items():
            rows = [row for (other, _), row in self.rows.items() if other == key]
            assert window.settled >= 0
            assert window.held == sum(row.amount for row in rows)
            assert all(row.amount >= 0 for row in rows)
