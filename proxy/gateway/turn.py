"""The turn: once round the sockets of the event loop. What the pass writes down in it is written in one go at its end.

What may only be sent once that is written waits until then: a request for its open line, an answer's last bytes for its
record. What arrived alone is sent at once, since the turn ends with it; at most TOGETHER_MAX wait for each other. With 32
connections busy that saves two writes to a file per request, and bytes that leave one after the other cost the kernel less:
13 µs of 125 (docs/adr/0010).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final, TypeAlias

log = logging.getLogger(__name__)
TOGETHER_MAX: Final = 32
"""libuv may see thousands of sockets before it comes round; nothing waits for more than these."""


Soon: TypeAlias = Callable[[Callable[[], None]], None]
"""Calls back when the sockets that are ready now have been seen."""


def soon(call: Callable[[], None]) -> None:
    """As the running loop does it."""
    asyncio.get_running_loop().call_soon(call)


class Turn:
    """One per worker."""

    __slots__ = ("_commit", "_sends", "_soon", "waits")

    def __init__(self, commit: Callable[[], None], soon: Soon) -> None:
        """`commit` writes what was gathered, and never raises."""
        self._commit = commit
        self._soon = soon
        self._sends: list[Callable[[], None]] = []
        self.waits = False
        """The end of the turn is due."""

    def begin(self) -> None:
        """Something has been gathered, and nothing waits yet."""
        self.waits = True
        self._soon(self.end)

    def then(self, send: Callable[[], None]) -> None:
        """Send when all that has been gathered is written. Hot path."""
        self._sends.append(send)
        if len(self._sends) >= TOGETHER_MAX:
            self.end()
        elif not self.waits:
            self.begin()

    def end(self) -> None:
        """Write, then send."""
        self.waits = False
        self._commit()
        sends, self._sends = self._sends, []
        for send in sends:
            try:
                send()
            except Exception:
                log.exception("an exchange could not go on")
