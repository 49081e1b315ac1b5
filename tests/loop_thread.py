"""An event loop in a thread of its own: where servers of tests run while the test blocks or has a loop itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias

Run: TypeAlias = "Callable[[Coroutine[Any, Any, Any]], Any]"


@contextlib.contextmanager
def loop_thread(name: str) -> Iterator[Run]:
    """Gives a function that runs a coroutine in the thread's loop and returns its result."""
    started: list[asyncio.AbstractEventLoop] = []
    ready = threading.Event()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        started.append(loop)
        stop.append(asyncio.Event())
        ready.set()
        await stop[0].wait()

    stop: list[asyncio.Event] = []
    thread = threading.Thread(target=lambda: asyncio.run(main()), name=name, daemon=True)
    thread.start()
    ready.wait()
    loop = started[0]
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, loop).result()
    finally:
        loop.call_soon_threadsafe(stop[0].set)
        thread.join()
