"""Pressure: whether requests come in faster than this worker can handle them, and which of them to turn away.

A worker at its limit does not answer less, it answers later: what it has no time for waits in the sockets, and the event
loop takes ever longer to come round. What is measured is that wait. A marker is put at the end of the loop's queue with the
first request of a turn; a request that is begun while the marker waits has waited as long itself, or nearly. Beyond a limit it is
refused at once, with 503, and so is the rest of that turn, unread (core/lonerequest.py): a refusal must cost little, since at
twice the capacity there is one for each answer.

How long the wait may be depends on what came before, as in CoDel (RFC 8289): a burst on a worker that keeps up may take
`limit_s` to be worked off; where the loop did not come round quickly even once in that time, or something was refused lately, the
queue stands, waiting in it helps nobody, and the limit is SHORT of it. Then each turn gives its first part to requests that are
answered and the rest to refusals, so that answers keep coming at nearly the rate the worker can do, and none waits much longer
than such a turn. (Turns that were strict and lenient by turns made twice the capacity swing between 0 and 0.4 s.)

A machine that stood still, or one long body, makes a turn long as well. Hence only when the time was spent working, and on
many requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from proxy.core.refusal import Refusal, overloaded

SHORT = 0.2
"""What part of the limit remains while the queue stands."""
STRICT_S = 1.0
"""How long it remains so after the last refusal: as long as those clients were told to stay away."""
REST_S = 0.002
"""Between the markers of a loop that keeps up: they cost as much as a percent of a request."""
BEGUN_MIN = 64
"""With fewer requests in a turn, it is something else that takes long."""
WORKING = 0.5
"""What part of the time must have been this thread's own."""
NEVER = float("inf")


class Pressure:
    """One per worker."""

    __slots__ = (
        "_answer", "_begun", "_calm_at", "_check_at", "_clock", "_cpu_clock", "_cpu_s", "_limit_s", "_loop", "_marked",
        "_marked_at", "_on_refused", "_refused", "_short_s",
        "_strict_until", "refusing",
    )  # fmt: skip

    def __init__(
        self,
        limit_s: float,
        clock: Callable[[], float],
        cpu_clock: Callable[[], float] = time.thread_time,
        *,
        on_refused: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`limit_s`: how long a request may wait for the loop; 0: as long as it likes. `clock`: the loop's. `on_refused` hears
        once a turn how many were turned away unread.
        """
        self._limit_s = limit_s
        self._short_s = limit_s * SHORT
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._on_refused = on_refused
        self._answer = _refusal().answer()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._check_at = NEVER
        self._marked = False
        self._marked_at = self._cpu_s = 0.0
        self._calm_at = self._strict_until = -NEVER
        self._begun = self._refused = 0
        self.refusing = False
        """The rest of this turn's requests is turned away."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the loop from now on."""
        if self._limit_s > 0:
            self._loop = loop
            self._check_at = -NEVER

    def stop(self) -> None:
        """Watch no more; nothing is refused."""
        self._loop = None
        self._check_at = NEVER
        self.refusing = False

    def enter(self, now: float) -> None:
        """A request begins. Raises Refusal 503. Hot path."""
        self._begun += 1
        if now >= self._check_at and self._waited_long(now):
            raise _refusal()

    def unread(self) -> bytes:
        """The whole answer to a request that is turned away unread, once `refusing`."""
        self._refused += 1
        return self._answer

    def _waited_long(self, now: float) -> bool:
        if not self._marked:
            if now >= self._strict_until:
                self._calm_at = now  # or the last turn would have begun this one
            self._mark(now)
            return False
        if not self.refusing:
            worked_s = self._cpu_clock() - self._cpu_s
            waited_s = self._check_at - self._marked_at
            self.refusing = self._begun > BEGUN_MIN and worked_s >= waited_s * WORKING
            if self.refusing:
                self._strict_until = now + STRICT_S
        return self.refusing

    def _mark(self, now: float) -> None:
        """A turn begins."""
        assert self._loop is not None
        self._loop.call_soon(self._come_round)
        self._marked = True
        self._marked_at = now
        self._check_at = max(self._calm_at + self._limit_s, now + self._short_s)
        self._cpu_s = self._cpu_clock()
        self._begun = 0

    def _come_round(self) -> None:
        """All that waited when the marker was put has had its turn."""
        self._marked = self.refusing = False
        if self._refused:
            refused, self._refused = self._refused, 0
            self._on_refused(refused)
        if self._loop is None:
            return
        now = self._clock()
        if now - self._marked_at < self._short_s:
            if now >= self._strict_until:
                self._calm_at = now
            self._check_at = now + REST_S  # and the next request begins a turn
        else:
            self._mark(now)


def _refusal() -> Refusal:
    return overloaded("Requests come in faster than they can be handled; try again.", "pressure")
