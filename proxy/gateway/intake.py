"""The intake: whether a connection is read. It is not while what came before has nowhere to go, nor for the rest of a turn of the
loop in which it has brought much.

libuv reads up to 32 times 250 KB from one socket before it looks at another (uv__read in its src/unix/stream.c). A body that comes as
fast as that, and is read while it passes, would make everybody else wait for 40 ms and more, again and again.
"""

from __future__ import annotations

import asyncio

MUCH_BYTES = 128 * 1024
"""libuv goes on with a socket only after a read that filled its buffer; a smaller one ends the socket's turn by itself."""


class Intake:
    """One connection's."""

    __slots__ = ("_resting", "_transport", "paused")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._resting = False
        self.paused = False
        """Until `resume`."""

    def pause(self) -> None:
        """Read no more, until `resume`."""
        self.paused = True
        if not self._resting and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        self.paused = False
        if not self._resting and not self._transport.is_closing():
            self._transport.resume_reading()

    def rest(self) -> None:
        """Much has come: let the other connections have their turn first. What came alone is not delayed by it."""
        if not self._resting and not self.paused and not self._transport.is_closing():
            self._resting = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._resting = False
        if not self.paused and not self._transport.is_closing():
            self._transport.resume_reading()
