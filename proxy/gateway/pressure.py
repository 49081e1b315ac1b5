"""Pressure: whether requests come in faster than this worker can handle them.

A worker at its limit does not answer less, it answers later: what it has no time for waits in the sockets, and the event
loop takes ever longer to come round. So a timer is asked to fire every BEAT_S, and how late it fires is how long a request
has to wait before it is looked at. When that stays above a limit although the loop does nothing but requests, new ones are
refused at once, before anything is spent on them; the answers that can be given are then given in time.

One late beat is no sign: a machine that stood still, or one long upload, makes one. Hence several in a row, and only while
requests begin in great numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.core.refusal import overloaded

BEAT_S = 0.02
BEATS = 3
"""So many late ones in a row are needed."""
BEGUN_MIN = 64
"""A beat with fewer requests was late for another reason."""


class Pressure:
    """One per worker."""

    __slots__ = ("_clock", "_due", "_late", "_limit_s", "_timer", "begun", "high")

    def __init__(self, limit_s: float, clock: Callable[[], float]) -> None:
        """`limit_s`: how late the loop may be; 0: it may be as late as it likes. `clock`: the loop's."""
        self._limit_s = limit_s
        self._clock = clock
        self._due = 0.0
        self._late = 0
        self._timer: asyncio.TimerHandle | None = None
        self.begun = 0
        """Requests since the last beat."""
        self.high = False
        """Refuse what comes in now."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Beat from now on."""
        if self._limit_s > 0:
            self._due = self._clock() + BEAT_S
            self._timer = loop.call_later(BEAT_S, self._fire, loop)

    def stop(self) -> None:
        """Beat no more; nothing is refused."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.high = False

    def enter(self) -> None:
        """A request begins. Raises Refusal 503. Hot path."""
        self.begun += 1
        if self.high:
            raise overloaded("Requests come in faster than they can be handled; try again.", "pressure")

    def beat(self, late_s: float) -> None:
        """The timer fired so much too late."""
        if late_s >= self._limit_s and self.begun >= BEGUN_MIN:
            self._late += 1
        else:
            self._late = 0
        self.begun = 0
        self.high = self._late >= BEATS

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        self.beat(now - self._due)
        self._due = now + BEAT_S
        self._timer = loop.call_later(BEAT_S, self._fire, loop)
