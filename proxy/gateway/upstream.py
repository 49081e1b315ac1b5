"""The upstream side of the relay: connections that frame answers, and the pool that keeps them alive.

A connection carries one exchange at a time. It hands every byte of an answer to its listener (the relay) as it arrives,
together with the decoded content for the meter, and tells it how the answer ended. Only a connection whose last answer
came to its framed end, on whose request nothing is left to send, goes back into the pool.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

from proxy.core.answerhead import FramingError
from proxy.core.framing import Body, body_of
from proxy.core.headshape import Shapes
from proxy.gateway.dial import Dialer
from proxy.gateway.intake import MUCH_BYTES, Intake
from proxy.gateway.roles import Listener
from proxy.gateway.sockets import as_protocol, is_quiet

WRITE_HIGH_WATER_BYTES: Final = 256 * 1024
# A connection that rested longer than this is asked (one MSG_PEEK) whether the other side has closed it meanwhile,
# because a request written into a closed connection can't be repeated when it is a POST.
PEEK_AFTER_S: Final = 0.5


class UpstreamConnection:
    """One connection, an asyncio.Protocol but for its bases (see sockets.as_protocol). States: idle (no listener), awaiting a head, in a body, tunnelling after a 101."""

    __slots__ = (
        "_body",
        "_buffer",
        "_eof",
        "_intake",
        "_method",
        "_pool",
        "_reuse",
        "_tunnel",
        "answered",
        "idle_since",
        "listener",
        "request_sent",
        "served",
        "transport",
        "unsent",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._intake: Intake
        self.listener: Listener | None = None
        self.served = 0
        """Exchanges carried before the present one."""
        self.idle_since = 0.0
        self.answered = False
        """A byte of the present answer has come."""
        self.request_sent = True
        """The whole request has been handed over; until then the connection can't be used again."""
        self._buffer = b""
        self._body: Body | None = None
        self._method = b""
        self._reuse = True
        self._tunnel = False
        self._eof = False
        self.unsent = b""
        """Of a request that may not leave yet; nothing of it has."""

    # -- called by the relay

    def begin(self, listener: Listener, method: bytes, data: bytes, *, complete: bool) -> None:
        """Carry a new exchange: `data` is its head and what there is of its body, and leaves with `flush`."""
        assert self.listener is None
        self.listener = listener
        self.answered = False
        self.request_sent = complete
        self._method = method
        self._reuse = True
        self.unsent = data

    def send(self, data: bytes, *, last: bool = False) -> None:
        """More of the request's body, or bytes of a tunnel."""
        if self.unsent:
            self.unsent += data
        elif data:
            self.transport.write(data)
        if last:
            self.request_sent = True

    def flush(self) -> None:
        """The request may leave. Into a connection that is being closed it does not, and may be sent on another."""
        if self.unsent and not self.transport.is_closing():
            data, self.unsent = self.unsent, b""
            self.transport.write(data)

    def pause(self) -> None:
        """The client does not keep up: stop reading the answer."""
        self._intake.pause()

    def resume(self) -> None:
        """The client keeps up again."""
        self._intake.resume()

    def abandon(self) -> bool:
        """The exchange is over before its answer was: cancel it upstream by closing. False: nothing of it had left."""
        left, self.unsent = not self.unsent, b""
        self.listener = None
        self._pool.gone(self)
        self.transport.abort()
        return left

    def is_usable(self, now: float) -> bool:
        """Whether an idle connection can carry a request: still open as far as this host can tell."""
        if self.transport.is_closing() or self._eof:
            return False
        if now - self.idle_since < PEEK_AFTER_S:
            return True
        return is_quiet(self.transport)

    # -- called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bound the send buffer: beyond it the client is told to wait."""
        self.transport = cast("asyncio.Transport", transport)
        self._intake = Intake(self.transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Bytes of an answer."""
        listener = self.listener
        if listener is None:
            self._pool.gone(self)
            self.transport.abort()  # an answer nobody asked for must not become the next exchange's
            return
        body = self._body
        try:
            if body is not None:
                self._receive_body(listener, body, data)
            elif self.unsent:
                self._lose("it came before the request was sent")
            else:
                self._receive(listener, data)
        except FramingError as error:
            if self.listener is not None:
                self._lose(str(error))
            else:
                self.transport.abort()

    def _receive(self, listener: Listener, data: bytes) -> None:
        """Bytes of a tunnel, or of a head and what follows it."""
        if self._tunnel:
            if len(data) > MUCH_BYTES:
                self._intake.rest()
            listener.upstream_tunnel(data)
            return
        self.answered = True
        while True:
            if self._buffer:
                data = self._buffer + data
                self._buffer = b""
            parsed = self._pool.shapes.read(data)
            if parsed is None:
                self._buffer = data
                return
            head, used = parsed
            data = data[used:]
            if head.status == 101:
                self._tunnel = True
                listener.upstream_head(head, Body(done=False))
                if data and self.listener is listener:
                    listener.upstream_tunnel(data)
                return
            if head.status < 200:
                listener.upstream_head(head, Body(done=True))
                if self.listener is not listener:
                    return
                continue
            body = body_of(head, self._method)
            self._reuse = head.keep_alive
            self._body = body
            listener.upstream_head(head, body)
            if self.listener is listener:
                self._receive_body(listener, body, data)
            return

    def _receive_body(self, listener: Listener, body: Body, data: bytes) -> None:
        """Bytes of a body, none right behind a head that came alone. Hot path."""
        if data and not body.done:
            used, size = body.take(data), len(data)
            if size > MUCH_BYTES:
                self._intake.rest()
            if used == size:
                listener.upstream_body(data, body.content)
                data = b""
            else:
                listener.upstream_body(data[:used], body.content)
                data = data[used:]
            if self.listener is not listener:
                return
        elif not body.done:
            listener.upstream_body(b"", b"")  # a head alone: it must not wait for its body
        if body.done:
            if data:
                self._reuse = False  # the upstream sent more than its answer
            self._finish(listener)

    def _finish(self, listener: Listener) -> None:
        self._body = None
        self.listener = None
        reusable = self._reuse and self.request_sent and not self._eof
        if reusable:
            self.served += 1
            if self._intake.paused:
                self._intake.resume()
            self._pool.put(self)
        else:
            self._pool.gone(self)
            self.transport.abort() if not self.request_sent else self.transport.close()
        listener.upstream_end()

    def eof_received(self) -> bool:
        """The upstream has finished sending; an answer framed by the connection's end ends here."""
        self._eof = True
        listener, body = self.listener, self._body
        if listener is not None and body is not None and not body.framed and not self._tunnel:
            body.done = True
            self._finish(listener)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Gone: an exchange that was under way learns of it."""
        self._pool.gone(self)
        if self.listener is not None:
            body = self._body
            if exc is None and body is not None and not body.framed and not self._tunnel:
                body.done = True
                self._reuse = False
                self._finish(self.listener)
            else:
                self._lose(type(exc).__name__ if exc else "closed")

    def _lose(self, reason: str) -> None:
        listener = self.listener
        assert listener is not None
        self.listener = None
        self._body = None
        self._pool.gone(self)
        self.transport.abort()
        listener.upstream_lost(reason)

    def pause_writing(self) -> None:
        """The upstream does not keep up with the request's body."""
        if self.listener is not None:
            self.listener.upstream_writable(False)

    def resume_writing(self) -> None:
        """It keeps up again."""
        if self.listener is not None:
            self.listener.upstream_writable(True)


class Pool:
    """The connections to one origin. Idle ones are used last in, first out, so that the surplus ages out."""

    def __init__(self, dialer: Dialer, *, keepalive_s: float, clock: Callable[[], float]) -> None:
        self._dialer = dialer
        self._keepalive_s = keepalive_s
        self._clock = clock
        self._idle: deque[UpstreamConnection] = deque()
        self._all: set[UpstreamConnection] = set()
        self._closing = False
        self.dialed = self.reused = 0
        """How often a connection was opened, and how often one carried another exchange."""
        self.shapes = Shapes()
        """The heads of its answers."""

    @property
    def open(self) -> int:
        """Connections that are open now."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Connections that wait for an exchange."""
        return len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that is still open, or None: dial one."""
        now = self._clock()
        while self._idle:
            connection = self._idle.pop()
            if now - connection.idle_since < self._keepalive_s and connection.is_usable(now):
                self.reused += 1
                return connection
            self._drop(connection)
        return None

    async def dial(self) -> UpstreamConnection:
        """A new connection, not idle. Raises DialError."""
        connected: Any = await self._dialer.dial(lambda: as_protocol(UpstreamConnection(self)))
        connection: UpstreamConnection = connected
        self._all.add(connection)
        self.dialed += 1
        return connection

    def put(self, connection: UpstreamConnection) -> None:
        """The connection's exchange is over and it may carry another."""
        if self._closing or connection.transport.is_closing():
            self._drop(connection)
            return
        connection.idle_since = self._clock()
        self._idle.append(connection)

    def gone(self, connection: UpstreamConnection) -> None:
        """The connection can't be used any more."""
        self._all.discard(connection)
        try:
            self._idle.remove(connection)
        except ValueError:
            return

    def prune(self) -> None:
        """Close what has been idle for too long; called once a second."""
        now = self._clock()
        while self._idle and now - self._idle[0].idle_since >= self._keepalive_s:
            self._drop(self._idle.popleft())

    def close(self) -> None:
        """Close the idle connections, and every other one as its exchange ends."""
        self._closing = True
        while self._idle:
            self._drop(self._idle.pop())

    def _drop(self, connection: UpstreamConnection) -> None:
        self._all.discard(connection)
        connection.transport.close()
