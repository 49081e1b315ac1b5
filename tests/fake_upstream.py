"""An OpenAI stand-in made of raw bytes: it records every request as it came and answers by a script, byte by byte.

No HTTP framework is in it, so it can send whatever a server on the internet might: odd status lines, duplicate headers,
chunks of any size, half an answer, a reset. A script is a tuple of steps, run in order for one request:

    bytes                     are written as they are
    Signal                    the script waits until the test sets it
    tell(signal)              the script tells the test that it came this far
    body_read                 wait until the request's body is complete (only needed in answers with early=True)
    flushed                   wait until the kernel took everything written so far
    flood(piece, count)       write count pieces, waiting whenever the reader is slow; `sent_bytes` tells how far it came
    half_close, close, reset  end our side; end both sides; end them with a TCP reset
    hear(size)                from here on the connection is a tunnel; wait until it brought `size` bytes
    echo                      from here on the connection is a tunnel that sends back what it gets

`script(*answers)` queues answers for the next requests; without one, `respond` (default: `openai_answers.answer`) decides.
Nothing in it sleeps. Requests that break HTTP's framing are kept in `violations`, which tests assert to be empty.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Self

from tests import openai_answers
from tests.loop_thread import loop_thread
from tests.signals import Signal
from tests.upstream_connection import (
    Answer,
    Connection,
    Request,
    Respond,
    Step,
    answer,
    body_read,
    close,
    echo,
    flood,
    flushed,
    half_close,
    hear,
    reset,
    tell,
)

__all__ = [
    "Answer",
    "Connection",
    "FakeUpstream",
    "Request",
    "Respond",
    "Signal",
    "Step",
    "answer",
    "body_read",
    "close",
    "echo",
    "flood",
    "flushed",
    "half_close",
    "hear",
    "reset",
    "tell",
]


class FakeUpstream:
    """The server. Runs in the loop that calls `start`; `running` gives it a thread with a loop of its own.

    `buffer_bytes` bounds what its sockets and transports hold in each direction, so that backpressure shows soon.
    """

    def __init__(
        self,
        respond: Respond = openai_answers.answer,
        *,
        tls: ssl.SSLContext | None = None,
        buffer_bytes: int | None = None,
    ) -> None:
        self.respond = respond
        self.port = 0
        self.violations: list[str] = []
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.cut_requests: list[Request] = []
        """Requests whose connection ended in the middle of their body."""
        self._tls = tls
        self._buffer_bytes = buffer_bytes
        self._scripted: deque[Answer] = deque()
        self._arrivals: list[Signal] = []
        self._open: set[Connection] = set()
        self._lock = threading.Lock()
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def url(self) -> str:
        """Without a path: what PROXY_UPSTREAM_URL takes."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def script(self, *answers: Answer) -> None:
        """The next requests, in the order in which their heads arrive, get these."""
        with self._lock:
            self._scripted.extend(answers)

    async def arrival(self, number: int = 1) -> Request:
        """The number-th request since the last `forget`, as soon as its head is there."""
        await self._arrival(number)
        return self.requests[number - 1]

    def wait_arrival(self, number: int = 1) -> Request:
        """`arrival` for a test that is not async."""
        self._arrival(number).wait()
        return self.requests[number - 1]

    def on_body(self, request: Request, size: int, signal: Signal) -> None:
        """Set the signal when `size` bytes of the request's body are here."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(request.notify, size, signal)

    def forget(self) -> None:
        """Begin anew for the next test: no requests, no scripts. Idle connections stay open, as a pool expects."""
        with self._lock:
            self.requests, self.connections, self.cut_requests = [], [], []
            self._scripted.clear()
            self._arrivals.clear()
            self.violations.clear()
            self.respond = openai_answers.answer

    def drop_connections(self) -> None:
        """Reset every open connection, idle or not, and return when they are gone."""
        self._drop(lambda connection: True)

    def drop_unfinished(self) -> None:
        """Reset the connections whose script or request has not come to its end."""
        self._drop(lambda connection: connection.busy)

    def _drop(self, chosen: Callable[[Connection], bool]) -> None:
        with self._lock:
            dropped = [connection for connection in self._open if chosen(connection)]
        for connection in dropped:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(connection.transport.abort)
            connection.lost.wait()

    async def start(self, port: int = 0) -> Self:
        """Listen on 127.0.0.1."""
        self._loop = asyncio.get_running_loop()
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._buffer_bytes is not None:  # accepted sockets inherit them
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer_bytes)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer_bytes)
        listener.bind(("127.0.0.1", port))
        self._server = await self._loop.create_server(
            lambda: Connection(self), sock=listener, ssl=self._tls, backlog=1024
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        """Close the listener and every connection."""
        assert self._server is not None
        self._server.close()
        for connection in list(self._open):
            connection.transport.abort()
        for connection in list(self._open):
            await connection.lost
        await self._server.wait_closed()

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        respond: Respond = openai_answers.answer,
        *,
        tls: ssl.SSLContext | None = None,
        buffer_bytes: int | None = None,
    ) -> Iterator[Self]:
        """The upstream in a thread of its own, for tests whose proxy is another process or whose client blocks."""
        upstream = cls(respond, tls=tls, buffer_bytes=buffer_bytes)
        with loop_thread("fake upstream") as run:
            run(upstream.start())
            try:
                yield upstream
            finally:
                run(upstream.stop())

    # what connections call

    def opened(self, connection: Connection) -> None:
        """Number it."""
        if self._buffer_bytes is not None:
            connection.transport.set_write_buffer_limits(self._buffer_bytes)
        with self._lock:
            self.connections.append(connection)
            connection.number = len(self.connections)
            self._open.add(connection)

    def closed(self, connection: Connection) -> None:
        """Forget it."""
        with self._lock:
            self._open.discard(connection)

    def arrived(self, request: Request) -> Answer | None:
        """Keep it, tell who waits for it, and hand out the next scripted answer."""
        with self._lock:
            self.requests.append(request)
            arrived = self._signal(len(self.requests))
            scripted = self._scripted.popleft() if self._scripted else None
        arrived.set()
        return scripted

    def _arrival(self, number: int) -> Signal:
        with self._lock:
            return self._signal(number)

    def _signal(self, number: int) -> Signal:
        while len(self._arrivals) < number:
            self._arrivals.append(Signal(f"request {len(self._arrivals) + 1} at the upstream"))
        return self._arrivals[number - 1]
