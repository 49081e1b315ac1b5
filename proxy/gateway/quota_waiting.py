"""The calls that wait for a share: for their turn to ask, or for idle shares of other workers that were called back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from proxy.core.quota import WindowKey
from proxy.core.shares import Binding, Need, Reservation

RECALL_WAIT_S = 0.25
"""The longest that a call waits for idle shares of other workers to come back."""


@dataclass(eq=False, slots=True)
class Waiter:
    """A call that waits for a share."""

    bindings: tuple[Binding, ...]
    need: Need
    future: asyncio.Future[Reservation]
    recalled: bool = False
    """Idle shares were called back for it; the next answer is the last."""
    awaited: dict[WindowKey, int] = field(default_factory=dict)
    """How many holders have not answered yet, by window."""
    timer: asyncio.TimerHandle | None = None


class WaitingRoom:
    """Who waits. `wake` is called when somebody is ready to ask."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.ready: list[Waiter] = []
        """Will ask with the next round trip, in this order."""
        self.recalled: list[Waiter] = []
        """Wait for others to give back what is idle."""
        self._wake = wake

    def add(self, waiter: Waiter) -> None:
        """A call that needs a share. Its future gets a Reservation or a Refusal."""
        self.ready.append(waiter)
        self._wake()

    def expect(self, waiter: Waiter, awaited: Mapping[WindowKey, int]) -> None:
        """Let it wait until so many holders of each window have answered, RECALL_WAIT_S at most."""
        waiter.awaited = dict(awaited)
        self.recalled.append(waiter)
        waiter.timer = asyncio.get_running_loop().call_later(RECALL_WAIT_S, self._again, waiter)

    def answered(self, key: WindowKey) -> None:
        """One holder gave back what it could of a window."""
        for waiter in list(self.recalled):
            if key in waiter.awaited:
                waiter.awaited[key] -= 1
                if all(missing <= 0 for missing in waiter.awaited.values()):
                    self._again(waiter)

    def leave(self, waiter: Waiter) -> None:
        """It need not wait for others any more."""
        self.recalled.remove(waiter)
        if waiter.timer is not None:
            waiter.timer.cancel()

    def take_all(self) -> list[Waiter]:
        """Everybody, who then waits no more."""
        for waiter in list(self.recalled):
            self.leave(waiter)
            self.ready.append(waiter)
        taken, self.ready = self.ready, []
        return taken

    def _again(self, waiter: Waiter) -> None:
        if waiter in self.recalled:
            self.leave(waiter)
            self.add(waiter)
