"""LISTEN on a connection of its own: told when a channel is notified, and whenever the connection was made anew.

Notifications sent while the connection was down are lost, so `on_connected` must read everything again. Never raises:
failures are logged and retried with growing pauses. Give it a direct URL where the pool goes through PgBouncer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from proxy.store.postgres import UNAVAILABLE, Connection, PostgresError, connect

log = logging.getLogger(__name__)
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 10.0
PROBE_S = 15.0
"""How often a silent connection is asked whether it is still there."""


class Listener:
    """One connection that listens on some channels until it is stopped. Callbacks must not block or raise."""

    def __init__(
        self,
        url: str,
        channels: tuple[str, ...],
        on_notify: Callable[[str, str], None],
        on_connected: Callable[[], None],
    ) -> None:
        self._url = url
        self._channels = channels
        self._on_notify = on_notify
        self._on_connected = on_connected
        self._task: asyncio.Task[None] | None = None
        self.connected = False

    def start(self) -> None:
        """Connect in the background."""
        assert self._task is None, "a listener starts once"
        self._task = asyncio.get_running_loop().create_task(self._run(), name="listen")

    async def stop(self) -> None:
        """Close the connection and end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            await asyncio.sleep(0)  # the transport that was aborted is closed in the loop's next round

    async def _run(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            try:
                connection = await connect(self._url, application="openai-proxy listen")
                try:
                    await self._listen(connection)
                    pause = RETRY_FIRST_S
                    await self._watch(connection)
                finally:
                    self.connected = False
                    connection.terminate()
            except (*UNAVAILABLE, PostgresError) as error:
                log.warning(
                    "listening for changes failed, retried", extra={"error": str(error), "pause_s": pause}
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, RETRY_MAX_S)

    async def _listen(self, connection: Connection) -> None:
        for channel in self._channels:
            await connection.add_listener(channel, self._notified)
        self.connected = True
        self._on_connected()

    async def _watch(self, connection: Connection) -> None:
        """Return or raise when the connection is gone; a peer that vanished without a word is found by asking."""
        gone = asyncio.Event()
        connection.add_termination_listener(lambda _: gone.set())
        while not gone.is_set():
            try:
                await asyncio.wait_for(gone.wait(), PROBE_S)
            except TimeoutError:
                await connection.execute("select 1", timeout=PROBE_S)

    def _notified(self, _connection: Connection, _pid: int, channel: str, payload: str) -> None:
        self._on_notify(channel, payload)
