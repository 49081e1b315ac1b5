"""The clerk: one task that does all of a worker's talking with the ledger of quotas in Postgres, one thing at a time.

Calls that wait while a round trip is under way are served together by the next one, so a worker never has more than one
question on the way. Every wait is bounded: by the link's timeout, and by RECALL_WAIT_S where idle shares were called back.
When Postgres fails, who waits is decided by the setting at once, and nobody else asks until a probe has worked.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

import orjson

from proxy.core.admission import lacks, refuse
from proxy.core.holdings import Holdings
from proxy.core.quota import WindowKey
from proxy.core.refusal import Refusal
from proxy.core.shares import Ask, Binding, Grant, Need, Reservation
from proxy.gateway.quota_link import Link
from proxy.gateway.quota_report import Report
from proxy.gateway.quota_waiting import Waiter, WaitingRoom
from proxy.metrics import Metrics
from proxy.store import quotas_live
from proxy.store.postgres import RETRYABLE, UNAVAILABLE, Connection, Pool, PostgresError

log = logging.getLogger(__name__)
TICKS_PER_TTL = 3
IDLE_TICKS = 2
"""A share that was not used for so many ticks goes back."""
PROBE_S = 0.5
"""How often Postgres is tried while it is down."""
DEADLINE_PART = 0.9
"""A worker stops using its shares after this part of their time, so that clocks may differ in speed by a tenth."""
SPENT_S = 5.0
"""How long a window that is used up is refused from memory; a change of its limit, and a reset, end it at once."""
SPENT_HELD_S = 0.2
"""The same where a part is only reserved, and may come back any moment."""
LOOK_MAX = 1_000
"""Windows looked at in one round trip."""
CLOCK_JUMP_S = 1.0
REAP_TICKS = 20
RACES_MAX = 5
"""How often in a row a step that lost a race in Postgres is tried again."""

Decide = Callable[[tuple[Binding, ...], Need, float], Reservation]


class Clerk:
    """Owns the lease, the connection and the calls that wait."""

    def __init__(
        self,
        pool: Pool | None,
        shares: Holdings,
        *,
        metrics: Metrics,
        worker: str,
        share_ttl_s: float,
        clock: Callable[[], float],
        wall: Callable[[], float],
        decide: Decide,
    ) -> None:
        self.link = Link(pool, metrics)
        self.offset = wall() - clock()
        """Postgres' clock minus the own monotonic one, seconds: a wall clock that jumps opens no window. This machine's wall
        clock stands in until Postgres was heard."""
        self.down = False
        """The last round trip failed."""
        self.room = WaitingRoom(self.wake)
        self._report = Report(shares, metrics)
        self.on_tick: Callable[[], None] = lambda: None
        self._shares = shares
        self._metrics = metrics
        self._worker = worker
        self._ttl_s = share_ttl_s
        self._clock = clock
        self._decide = decide
        self._answers: set[WindowKey] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tick_at = 0.0
        self._stopping = False
        self._ticks = 0
        self._reap_due = False
        self._races = 0

    # -- life

    async def start(self) -> None:
        """Take a lease if Postgres is there, and go to work."""
        assert self._task is None, "a clerk starts once"
        await self._attempt(self._tick)
        self._task = asyncio.get_running_loop().create_task(self._work(), name="quota-clerk")

    async def stop(self) -> None:
        """Finish, give back what is idle, and let the lease go when nothing is left under it."""
        self._stopping = True
        self.wake()
        if self._task is not None:
            await self._task
            self._task = None
        await self._attempt(self._leave)
        for waiter in self.room.take_all():
            self._decide_without_database(waiter)
        await self.link.release(broken=self.down)

    def wake(self) -> None:
        """There is something to do."""
        self._wake.set()

    async def _work(self) -> None:
        while not self._stopping:
            pause = max(0.0, self._tick_at - self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            self._wake.clear()
            if self._clock() >= self._tick_at:
                await self._attempt(self._tick)
            await self._attempt(self._give_back)
            await self._attempt(self._serve)

    async def _attempt(self, step: Callable[[], Awaitable[None]]) -> None:
        """Run one step; what goes wrong with Postgres is handled here, for all of them."""
        try:
            await step()
            self._races = 0
        except RETRYABLE as error:
            self._races += 1
            if self._races > RACES_MAX:
                await self._failed(error)
            else:
                log.info("quota step lost a race, retried", extra={"error": str(error)})
                self.wake()
        except (*UNAVAILABLE, PostgresError) as error:
            await self._failed(error)
        except Exception as error:
            log.exception("quota step failed")
            await self._failed(error)

    async def _failed(self, error: BaseException) -> None:
        if not self.down:
            log.warning("quotas: Postgres can't be asked", extra={"error": repr(error)})
        self.down = True
        self._metrics.database_failures.inc(("quotas",))
        self._metrics.quota_suspended.set((), 1)
        self._tick_at = self._clock() + PROBE_S
        for share in self._shares.held.values():
            share.asked = False
        for waiter in self.room.take_all():
            self._decide_without_database(waiter)
        await self.link.release(broken=self.down)

    # -- the lease

    async def _tick(self) -> None:
        """Renew the lease, look again at what is in use, give back what is not, forget what is over."""
        self._tick_at = self._clock() + self._ttl_s / TICKS_PER_TTL
        await self._renew()
        at = self._clock() + self.offset
        keys = self._shares.to_look_at()
        for first in range(0, len(keys), LOOK_MAX):
            await self._look(keys[first : first + LOOK_MAX])
        self._shares.tick(at, IDLE_TICKS)
        self._ticks += 1
        if self._reap_due or self._ticks % REAP_TICKS == 0:
            self._reap_due = False
            await self.link.trip(lambda connection: quotas_live.reap(connection, self._ttl_s))
        self._report.tell()
        self.on_tick()

    async def _look(self, keys: Sequence[WindowKey]) -> None:
        lease = self._shares.lease
        seen = await self.link.trip(lambda connection: quotas_live.look(connection, lease, keys))
        self._shares.looked(keys, seen)

    async def _renew(self) -> None:
        """Make the lease last, or take one. Sets the deadline and the clock offset."""
        sent = self._clock()
        lease = self._shares.lease
        renewed = None
        if lease:
            renewed = await self.link.trip(
                lambda connection: quotas_live.renew_lease(connection, lease, self._ttl_s)
            )
            if renewed is None:
                log.warning(
                    "quota lease was lost; what it held belongs to others now", extra={"lease": lease}
                )
                self._shares.lose()
        if renewed is None:
            sent = self._clock()
            renewed = await self.link.trip(
                lambda connection: quotas_live.take_lease(connection, self._worker, self._ttl_s)
            )
            self._shares.lease = renewed.id
        self._shares.deadline = sent + self._ttl_s * DEADLINE_PART
        self._set_offset(renewed.at - (sent + self._clock()) / 2)
        if self.down:
            log.info("quotas: Postgres is back")
        self.down = False
        self._metrics.quota_suspended.set((), 0)
        self._reap_due = self._reap_due or renewed.expired

    def _set_offset(self, offset: float) -> None:
        if abs(offset - self.offset) > CLOCK_JUMP_S:
            self.on_tick()
        self.offset = offset

    async def _leave(self) -> None:
        for share in self._shares.held.values():
            self._shares.recall(share)
        if self._shares.lease and not self.down:
            await self._give_back()
            await self.link.trip(lambda connection: quotas_live.leave(connection, self._shares.lease))
        self._shares.lose()

    # -- giving back

    def on_notify(self, payload: str) -> None:
        """Another worker calls back what is idle, or gave back what we called for, or a window was reset."""
        try:
            kind, lease, quota_id, scope_id, start = orjson.loads(payload)
        except ValueError:
            log.warning("quota notification not understood")
            return
        key = (quota_id, scope_id, start)
        if kind == "recall":
            share = self._shares.held.get(key)
            if share is not None and share.id and lease != self._shares.lease:
                self._metrics.quota_recalls.inc(("given",))
                self._shares.recall(share)
                self._answers.add(key)
                self.wake()
        elif kind == "returned":
            self.room.answered(key)
        elif kind == "reset":
            for share in self._shares.held.values():
                if share.key[:2] == key[:2]:
                    share.spent_until = 0.0

    async def _give_back(self) -> None:
        returns, answers = self._shares.returns(), list(self._answers)
        if not returns and not answers:
            return
        lease = self._shares.lease
        self._answers.clear()
        gone = await self.link.trip(
            lambda connection: quotas_live.give_back(connection, lease, returns, answers)
        )
        for each in returns:
            self._shares.acknowledge(each, gone=each.share_id in gone)

    # -- serving who waits

    async def _serve(self) -> None:
        for waiter in list(self.room.recalled):
            if self._admit(waiter):
                self.room.leave(waiter)
        if not self.room.ready and not self._shares.thirsty:
            return
        if self._clock() >= self._shares.deadline:
            await self._renew()
        self.room.ready = [waiter for waiter in self.room.ready if not self._admit(waiter)]
        asked = self.room.ready.copy()
        asks, grants = await self._ask(asked)
        done = set(asked)
        self.room.ready = [waiter for waiter in self.room.ready if waiter not in done]
        for waiter in asked:
            if not self._admit(waiter):
                self._fell_short(waiter, grants)
        for ask in asks:
            self._shares.lower(ask.share)

    async def _ask(self, waiting: Sequence[Waiter]) -> tuple[list[Ask], dict[WindowKey, Grant]]:
        """One round trip for all who wait and all that runs low; a lost lease is replaced first."""
        for _ in range(2):
            asks = self._shares.asks([(waiter.bindings, waiter.need) for waiter in waiting], self._at())
            if not asks:
                return [], {}
            lease = self._shares.lease
            grants = await self.link.trip(_granting(lease, self._ttl_s, asks))
            if grants is None:
                await self._renew()
                continue
            for grant in grants:
                self._take_in(grant)
                self._metrics.quota_grants.inc(("short" if grant.short else "granted",))
            return asks, {grant.key: grant for grant in grants}
        raise ConnectionError("the quota lease was lost twice")

    def _take_in(self, grant: Grant) -> None:
        share = self._shares.held.get(grant.key)
        if share is not None:
            self._shares.grant(share, grant)

    def _at(self) -> float:
        return self._clock() + self.offset

    def _admit(self, waiter: Waiter) -> bool:
        """Try from memory. True: the waiter has its answer, or is gone."""
        if waiter.future.done():
            return True
        reservation = self._shares.reserve(waiter.bindings, waiter.need, self._at(), self._clock())
        if reservation is None:
            return False
        waiter.future.set_result(reservation)
        return True

    def _fell_short(self, waiter: Waiter, grants: dict[WindowKey, Grant]) -> None:
        """Wait for what was called back, once; then refuse."""
        short = [binding for binding in waiter.bindings if lacks(binding, waiter.need)]
        if not short:  # the lease ran out while Postgres was slow
            self._decide_without_database(waiter)
            return
        if not waiter.recalled:
            waiter.recalled = True
            asked = [grants[binding.share.key] for binding in short if binding.share.key in grants]
            awaited = {grant.key: grant.others for grant in asked if grant.others}
            if awaited:
                self._metrics.quota_recalls.inc(("asked",))
                self.room.expect(waiter, awaited)
                return
        for binding in short:
            self._remember_spent(binding, waiter.need, grants.get(binding.share.key))
        waiter.future.set_exception(refuse(waiter.bindings, waiter.need, self._at()))

    def _remember_spent(self, binding: Binding, need: Need, grant: Grant | None) -> None:
        """Clients that retry at once are refused from memory for a moment."""
        share, amount = binding.share, need[binding.unit] or 0
        used_up = grant is not None and grant.settled + amount > share.limit
        share.spent = float(amount)
        share.spent_until = self._clock() + (SPENT_S if used_up else SPENT_HELD_S)

    def _decide_without_database(self, waiter: Waiter) -> None:
        if self._admit(waiter):
            return
        try:
            waiter.future.set_result(self._decide(waiter.bindings, waiter.need, self._at()))
        except Refusal as refusal:
            waiter.future.set_exception(refusal)


def _granting(
    lease: int, ttl_s: float, asks: Sequence[Ask]
) -> Callable[[Connection], Awaitable[list[Grant] | None]]:
    return lambda connection: quotas_live.grant(connection, lease, ttl_s, asks)
