"""The simulated upstream of demo mode, as the supervisor holds it: a process of its own, restarted when it dies."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import subprocess
import sys
import time

from proxy.cli import startup

log = logging.getLogger(__name__)
RESTART_PAUSE_S = 1.0
STOP_TIMEOUT_S = 5.0


class Simulator:
    """Its listening socket stays the supervisor's, so that it keeps its port over restarts."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(startup.BACKLOG)
        self._process: subprocess.Popen[bytes] | None = None
        self._next_start = 0.0

    @property
    def url(self) -> str:
        """Where it listens, from before it runs until after it has ended."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def keep_running(self) -> None:
        """Start it unless it runs; after a death, only once in RESTART_PAUSE_S."""
        if self._process is not None and self._process.poll() is None:
            return
        if time.monotonic() < self._next_start:
            return
        if self._process is not None:
            log.warning("simulator ended and is started again")
        self._next_start = time.monotonic() + RESTART_PAUSE_S
        fd = self._socket.fileno()
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "proxy.simulator", "--fd", str(fd), "--parent", str(os.getpid())],
            stdin=subprocess.DEVNULL,
            pass_fds=(fd,),
            start_new_session=True,  # Ctrl-C reaches it last, from us
        )

    def forget(self) -> None:
        """In a forked worker."""
        self._socket.close()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.terminate()
                self._process.wait(STOP_TIMEOUT_S)
            if self._process.poll() is None:
                self._process.kill()
        self._socket.close()
