"""Live quotas: admits calls from the shares that this worker holds, and settles what they used. No lock, no await.

Where memory can't decide, `admit` raises NeedsShare and the handler awaits `ask`, which goes to Postgres (quota_clerk.py):
once, and once more after a short bounded wait when other workers were asked to give back what is idle. The algorithm and
what it guarantees are written down in docs/explanation/quotas.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from math import ceil
from typing import Final, Literal

from proxy.core.admission import Rules, no_quotas, refuse, unknown_price
from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.holdings import Holdings
from proxy.core.money import NANO
from proxy.core.quota import NO_END, Charge, Quota
from proxy.core.refusal import unavailable
from proxy.core.shares import UNBOUND, Binding, Need, Reservation, Share
from proxy.gateway.quota_clerk import Clerk
from proxy.gateway.quota_waiting import Waiter
from proxy.metrics import Metrics
from proxy.store.postgres import Pool
from proxy.store.quotas_live import CHANNEL

__all__ = ["CHANNEL", "Charge", "Need", "NeedsShare", "Quotas", "Reservation", "boot_clock"]

SHARE_TTL_S: Final = 30.0
"""How long after a worker's death what it held is free for others."""
RULES_MAX: Final = 100_000
DOWN_RETRY_S: Final = 1
_UNITS: Final = (b"requests", b"tokens", b"cost")
_COST: Final = 2
_NEVER: Final = -1
_NANO: Final = NANO  # what is imported is looked up by name each time, even where this is compiled


def boot_clock() -> float:
    """Seconds that never go back and do not stand still while the machine sleeps, where the system has such a clock."""
    return _clock_gettime(_CLOCK)


_clock_gettime: Final = time.clock_gettime
_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class NeedsShare(Exception):  # noqa: N818  a question, not a fault
    """Memory can't decide: await `Quotas.ask` with the same arguments."""


class Quotas:
    """The live quotas of one worker.

    `pool` may be set later where Postgres is away at the start. `database_down` and `unknown_price` are the settings of
    these names. `end_user_quotas` gives the quotas set for a named end user. Tests own the clocks: `clock` is monotonic,
    `wall` Unix seconds.
    """

    def __init__(
        self,
        pool: Pool | None,
        *,
        metrics: Metrics | None = None,
        worker: str = "",
        database_down: Literal["allow", "refuse"] = "allow",
        unknown_price: Literal["refuse", "allow"] = "refuse",
        share_ttl_s: float = SHARE_TTL_S,
        end_user_quotas: Callable[[str], tuple[Quota, ...]] = no_quotas,
        clock: Callable[[], float] = boot_clock,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.metrics = metrics if metrics is not None else Metrics()
        self.shares = Holdings()
        self.clerk = Clerk(
            pool,
            self.shares,
            metrics=self.metrics,
            worker=worker,
            share_ttl_s=share_ttl_s,
            clock=clock,
            wall=wall,
            decide=self._without_database,
        )
        self._clock = clock
        self._database_down = database_down
        self._unknown_price = unknown_price
        self._end_user_quotas = end_user_quotas
        self._rules: dict[int, Rules] = {}

    # -- life

    async def start(self) -> None:
        """Take a lease, if Postgres is there, and begin to look after it."""
        self.clerk.on_tick = self._forget_rules
        await self.clerk.start()

    async def stop(self) -> None:
        """Give back all that is idle. Stop the recorder before, so that what was used is settled and nothing stays held."""
        await self.clerk.stop()

    def on_notify(self, channel: str, payload: str) -> None:
        """A notification on CHANNEL: a recall, its answer, or a window that was reset. Others are ignored."""
        if channel == CHANNEL:
            self.clerk.on_notify(payload)

    @property
    def pool(self) -> Pool | None:
        """Where Postgres is."""
        return self.clerk.link.pool

    @pool.setter
    def pool(self, pool: Pool) -> None:
        self.clerk.link.pool = pool

    # -- the hot path

    def admit(self, caller: Caller, call: Call, need: Need) -> Reservation:
        """Admit one call from memory.

        Raises Refusal, or NeedsShare when memory can't decide. The reservation must be settled or released, once.
        """
        rules = self._rules.get(id(caller))
        if rules is None:
            rules = self.rules_of(caller)
        if rules.checks:
            rules.check(call, need)
        bindings = rules.bindings(call)
        if not bindings or not any(need):
            return UNBOUND
        if not need.tokens or not need.cost_nanousd:
            need = self._at_least(bindings, call, need)
        clock = self._clock()
        at = clock + self.clerk.offset
        reservation = self.shares.reserve(bindings, need, at, clock)
        if reservation is None:
            return self._at_the_edge(bindings, need, at)
        if self.shares.thirsty:
            self.clerk.wake()
        return reservation

    def settle(
        self, reservation: Reservation, tokens: int, cost_nanousd: int | None, *, counted: bool = True
    ) -> tuple[Charge, ...]:
        """End a reservation with what was used; the charges belong into the exchange's record.

        `counted`: it counts as a request. A cost of None is unknown, and settles as it was reserved.
        """
        if reservation.ended:
            return ()
        requests = reservation.need.requests if counted else 0
        charges = self.shares.settle(reservation, (requests, tokens, cost_nanousd))
        if self.clerk.room.recalled:
            self.clerk.wake()
        return charges

    def release(self, reservation: Reservation) -> None:
        """End a reservation of which nothing was used."""
        self.settle(reservation, tokens=0, cost_nanousd=0, counted=False)

    def charge(
        self, caller: Caller, call: Call, *, tokens: int, cost_nanousd: int | None
    ) -> tuple[Charge, ...]:
        """What use settles that nobody reserved: background work, when it shows what it used. It is no request."""
        at = self._clock() + self.clerk.offset
        holds = [
            (binding, binding.share if at < binding.share.until else self.shares.turn(binding, at), 0)
            for binding in self.rules_of(caller).bindings(call)
        ]
        return self.settle(
            Reservation(holds, Need(0, 0, 0)), tokens=tokens, cost_nanousd=cost_nanousd, counted=False
        )

    # -- the edge

    async def ask(self, caller: Caller, call: Call, need: Need) -> Reservation:
        """Admit one call with Postgres' help: at most two round trips and one bounded wait. Raises Refusal."""
        bindings = self.rules_of(caller).bindings(call)
        need = self._at_least(bindings, call, need)
        waiter = Waiter(bindings, need, asyncio.get_running_loop().create_future())
        self.clerk.room.add(waiter)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            # It may have been admitted in the same moment in which its client hung up.
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self.release(waiter.future.result())
            raise

    def _at_the_edge(self, bindings: tuple[Binding, ...], need: Need, at: float) -> Reservation:
        if self.clerk.down:
            return self._without_database(bindings, need, at)
        clock = self._clock()
        for binding in bindings:
            share = binding.share
            if clock < share.spent_until and (need[binding.unit] or 0) - share.free >= share.spent:
                raise refuse(bindings, need, at)
        raise NeedsShare

    def _without_database(self, bindings: tuple[Binding, ...], need: Need, at: float) -> Reservation:
        """Postgres can't be asked: the setting decides. What this worker knows to be spent stays spent."""
        if self._database_down == "refuse":
            raise unavailable(
                "quota_unavailable",
                "Quotas can't be checked at the moment.",
                DOWN_RETRY_S,
                "quota_unavailable",
            )
        reservation = self.shares.reserve_uncovered(bindings, need, at)
        if reservation is None:
            raise refuse(bindings, need, at)
        self.metrics.quota_unenforced.inc()
        return reservation

    def _at_least(self, bindings: tuple[Binding, ...], call: Call, need: Need) -> Need:
        """A call whose use can't be told before takes one token, so that it is refused when none is left."""
        tokens = need.tokens or int(need.requests > 0 and call.endpoint.bills)
        cost = need.cost_nanousd
        if cost is None:
            priced = any(binding.unit == _COST and not binding.soft for binding in bindings)
            if priced and self._unknown_price == "refuse":
                raise unknown_price(call)
            cost = 1
        return Need(need.requests, tokens, cost)

    # -- rules

    def rules_of(self, caller: Caller) -> Rules:
        """What binds a caller, compiled once."""
        rules = self._rules.get(id(caller))
        if rules is None:
            if len(self._rules) >= RULES_MAX:
                self._rules.clear()
            # Keyed by identity, which is cheap to hash; Rules keeps its caller alive, so an id is never used twice.
            rules = self._rules[id(caller)] = Rules(caller, self._end_user_quotas)
        return rules

    def _forget_rules(self) -> None:
        """Callers are made anew whenever something about them changes; the old ones must not pile up."""
        self._rules.clear()

    # -- headers

    def header_lines(self, caller: Caller, reservation: Reservation | None) -> bytes:
        """x-quota-limit-…, -remaining-… and -reset-… of the tightest quota of each unit, each line with CRLF. Hot path.

        `reservation` None: of a refused call.
        """
        if reservation is UNBOUND:
            return b""
        held = self._known_shares(caller) if reservation is None else reservation.holds
        tightest: list[Share | None] = [None, None, None]
        for binding, share, _ in held:
            if not binding.concurrent:
                best = tightest[binding.unit]
                if best is None or share.outside + share.free < best.outside + best.free:
                    tightest[binding.unit] = share
        at, lines = self._clock() + self.clerk.offset, b""
        for unit, tight in enumerate(tightest):
            if tight is not None:
                resets = _NEVER
                if (left := tight.ends - at) != NO_END:
                    resets = max(0, ceil(left))
                if tight.shown != (tight.limit, resets):
                    tight.shown = (tight.limit, resets)
                    tight.before, tight.behind = _around(unit, tight.limit, resets)
                remaining = tight.outside + tight.free
                if remaining <= 0:
                    shown = b"0"
                else:
                    shown = _decimal_usd(remaining) if unit == _COST else b"%d" % remaining
                lines += tight.before + shown + tight.behind
        return lines

    def _known_shares(self, caller: Caller) -> list[tuple[Binding, Share, int]]:
        ids = {quota.id for quota in caller.quotas}
        rules = self._rules.get(id(caller))
        if rules is None or not ids:
            return []
        return [(binding, share, 0) for binding, share in rules.shares() if share.key[0] in ids]


def _around(unit: int, limit: int, resets: int) -> tuple[bytes, bytes]:
    """What stands before and behind the remaining amount."""
    name, shown = _UNITS[unit], _decimal_usd(limit) if unit == _COST else b"%d" % limit
    before = b"x-quota-limit-%b: %b\r\nx-quota-remaining-%b: " % (name, shown, name)
    return before, b"\r\n" if resets == _NEVER else b"\r\nx-quota-reset-%b: %d\r\n" % (name, resets)


def _decimal_usd(nanousd: int) -> bytes:
    """Like money.format_nano for what is not negative, in a fifth of the time: this is on the hot path."""
    dollars = nanousd // _NANO
    left = nanousd - dollars * _NANO
    if not left:
        return b"%d" % dollars
    digits = (b"%d" % (_NANO + left)).rstrip(b"0")
    return b"%d.%b" % (dollars, digits[1:])
