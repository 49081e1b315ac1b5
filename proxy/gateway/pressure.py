"""Pressure: whether requests come in faster than this worker can handle them.

A worker at its limit does not answer less, it answers later: what it has no time for waits in the sockets, and the event
loop takes ever longer to come round. libuv even goes on for 48 rounds of 1,024 sockets each before it looks at a timer
(uv__io_poll in its src/unix/linux.c): at twice the capacity a loop was seen to take nine seconds. So a timer stamps the time
whenever the loop comes round, and a request that is begun long after the last stamp is refused at once, with 503: the loop
comes round soon again, and the answers that can be given are given in time.

A machine that stood still, or one long body, makes the stamp old as well. Hence only when the time was spent working, and
on many requests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from proxy.core.refusal import overloaded

BEAT_S = 0.02
BEGUN_MIN = 64
"""With fewer requests since the last beat, it is something else that takes long."""
WORKING = 0.5
"""What part of the time must have been this thread's own."""


class Pressure:
    """One per worker."""

    __slots__ = ("_beat_cpu_s", "_begun", "_clock", "_cpu_clock", "_late_at", "_limit_s", "_timer")

    def __init__(
        self,
        limit_s: float,
        clock: Callable[[], float],
        cpu_clock: Callable[[], float] = time.thread_time,
    ) -> None:
        """`limit_s`: how long the loop may take to come round; 0: as long as it likes. `clock`: the loop's."""
        self._limit_s = limit_s
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._late_at = float("inf")
        self._beat_cpu_s = 0.0
        self._begun = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Watch the loop from now on."""
        if self._limit_s > 0:
            self._fire(loop)

    def stop(self) -> None:
        """Watch no more; nothing is refused."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._late_at = float("inf")

    def enter(self, now: float) -> None:
        """A request begins. Raises Refusal 503. Hot path."""
        self._begun += 1
        if now >= self._late_at and self._overloaded():
            raise overloaded("Requests come in faster than they can be handled; try again.", "pressure")

    def beat(self) -> None:
        """The loop has come round."""
        self._late_at = self._clock() + BEAT_S + self._limit_s
        self._beat_cpu_s = self._cpu_clock()
        self._begun = 0

    def _overloaded(self) -> bool:
        worked_s = self._cpu_clock() - self._beat_cpu_s
        return self._begun > BEGUN_MIN and worked_s >= self._limit_s * WORKING

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self.beat()
        self._timer = loop.call_later(BEAT_S, self._fire, loop)
