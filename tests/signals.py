"""Signal: how the ends of a test wait for each other. It stands in for every sleep.

The fake upstream runs in a thread of its own, tests run in another thread or event loop, the proxy in a third place. A Signal
is set once, by anybody, and awaited from any loop (`await signal`) or thread (`signal.wait()`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Generator

DEADLINE_S = 30.0
"""How long a test waits for what must come. Only a failing test waits that long."""


class Signal:
    """Something that happens once. `name` is what a failed test says did not come."""

    def __init__(self, name: str = "a signal") -> None:
        self.name = name
        self._flag = threading.Event()
        self._lock = threading.Lock()
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    @property
    def is_set(self) -> bool:
        """Whether it has happened."""
        return self._flag.is_set()

    def set(self) -> None:
        """Happen. A second time changes nothing."""
        with self._lock:
            self._flag.set()
            waiters, self._waiters = self._waiters, []
        for loop, future in waiters:
            with contextlib.suppress(RuntimeError):  # the loop that waited is closed
                loop.call_soon_threadsafe(_resolve, future)

    def wait(self) -> None:
        """Block this thread until it happens. AssertionError at the deadline."""
        assert self._flag.wait(DEADLINE_S), f"{self.name} did not come"

    def __await__(self) -> Generator[object, None, None]:
        """Wait in the running loop. AssertionError at the deadline."""
        return self._within_deadline().__await__()

    async def endless(self) -> None:
        """Wait without a deadline: for the side of a test that is stopped from outside."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._flag.is_set():
                return
            future: asyncio.Future[None] = loop.create_future()
            self._waiters.append((loop, future))
        await future

    async def _within_deadline(self) -> None:
        try:
            async with asyncio.timeout(DEADLINE_S):
                await self.endless()
        except TimeoutError:
            raise AssertionError(f"{self.name} did not come") from None


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
