"""One connection of the fake upstream: it takes requests apart, keeps them as they came, and runs the script of each.

The steps a script is made of stand at the end; `fake_upstream` lists them.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from tests.signals import Signal
from tests.wire import HEAD_BYTES_MAX, Body, Head, WireError

KEPT_BODY_BYTES_MAX = 8 << 20


@dataclass(slots=True, eq=False)
class Request:
    """One request as the upstream got it."""

    connection: Connection
    on_connection: int
    """1 for the connection's first request; more: the connection was reused."""
    head: Head
    body: bytearray = field(default_factory=bytearray)
    """Decoded, and only its first KEPT_BODY_BYTES_MAX bytes; `digest` and `body_bytes` know all of it."""
    body_bytes: int = 0
    parts: list[int] = field(default_factory=list)
    """Sizes of the body's pieces as the socket delivered them."""
    framing: Body = field(default_factory=lambda: Body(0))
    """How the body was framed: chunk sizes, extensions, trailers."""
    sent_bytes: int = 0
    """How much of the answer was written so far."""
    complete: Signal = field(default_factory=lambda: Signal("the end of a request's body"))
    settled: Signal = field(default_factory=lambda: Signal("the end of a request or of its connection"))
    answered: Signal = field(default_factory=lambda: Signal("the end of an answer's script"))
    _hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    _awaited: list[tuple[int, Signal]] = field(default_factory=list)

    @property
    def method(self) -> bytes:
        """As on the request line."""
        return self.head.start.split(b" ")[0]

    @property
    def target(self) -> bytes:
        """As on the request line, the query included."""
        return self.head.start.split(b" ")[1]

    @property
    def digest(self) -> str:
        """SHA-256 of the decoded body, hexadecimal."""
        return self._hash.hexdigest()

    def take(self, payload: bytes) -> None:
        """A further piece of the body."""
        if payload:
            self.parts.append(len(payload))
            self.body_bytes += len(payload)
            self._hash.update(payload)
            self.body += payload[: max(0, KEPT_BODY_BYTES_MAX - len(self.body))]
            for size, signal in self._awaited:
                if self.body_bytes >= size:
                    signal.set()

    def notify(self, size: int, signal: Signal) -> None:
        """Set the signal once `size` bytes of the body are here. Called in the upstream's loop."""
        self._awaited.append((size, signal))
        if self.body_bytes >= size:
            signal.set()


Step: TypeAlias = "bytes | Signal | Callable[[Connection], Awaitable[None]]"


@dataclass(frozen=True, slots=True)
class Answer:
    """What happens for one request."""

    steps: tuple[Step, ...]
    early: bool = False
    """Start when the head is there, instead of when the body is."""
    read: Signal | None = None
    """Stop reading after the head until this is set."""


def answer(*steps: Step, early: bool = False, read: Signal | None = None) -> Answer:
    """Shorthand: `answer(b"HTTP/1.1 204 No Content\\r\\n\\r\\n", close)`."""
    return Answer(steps, early, read)


Respond: TypeAlias = "Callable[[bytes, bytes, bytes], tuple[Step, ...]]"
"""(method, target, body) → the script."""


class Book(Protocol):
    """What a connection tells its server."""

    violations: list[str]
    cut_requests: list[Request]
    respond: Respond

    def opened(self, connection: Connection) -> None:
        """A connection was accepted."""

    def closed(self, connection: Connection) -> None:
        """It is gone."""

    def arrived(self, request: Request) -> Answer | None:
        """A request's head is there; the answer when one was scripted."""


class Connection(asyncio.Protocol):
    """One accepted connection. `lost` is set when it is gone, `ended` when the other side sent its last byte."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.number = 0
        self.lost = Signal("the end of an upstream connection")
        self.ended = Signal("the half-close of an upstream connection")
        self.reset_by_peer = False
        self.answering: Request | None = None
        """Whose script is running."""
        self.tunnel: bytearray | None = None
        """What came through the tunnel, once there is one."""
        self.echoes = True
        """The tunnel sends back what it gets."""
        self._heard = asyncio.Event()
        self._requests = 0
        self._scripts = 0
        self._request: Request | None = None
        self._buffer = b""
        self._waiting: asyncio.Queue[tuple[Request, Answer | None]] = asyncio.Queue()
        self._writable = asyncio.Event()
        self._runner: asyncio.Task[None] | None = None

    @property
    def busy(self) -> bool:
        """A request or its script is under way, or it has become a tunnel."""
        return self._request is not None or self._scripts > 0 or self.tunnel is not None

    # what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.book.opened(self)
        self._writable.set()
        self._runner = asyncio.get_running_loop().create_task(self._run())

    def data_received(self, data: bytes) -> None:
        if self.tunnel is not None:
            self.tunnel += data
            if self.echoes:
                self.transport.write(data)
            self._heard.set()
            return
        self._buffer += data
        try:
            while self._buffer and self._parse():
                pass
        except WireError as error:
            self.book.violations.append(f"{error} in {bytes(data[:200])!r}")
            self.transport.abort()

    def eof_received(self) -> bool:
        if self._request is not None and not self._request.framing.done:
            self.book.cut_requests.append(self._request)
        self.ended.set()  # last: a test in another thread goes on at once
        return False

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.reset_by_peer = isinstance(exc, ConnectionError)
        if self._request is not None:
            self._request.settled.set()
        if self._runner is not None:
            self._runner.cancel()
        self.book.closed(self)
        # asyncio closes the socket after this call: only then does the other side see the end.
        asyncio.get_running_loop().call_soon(self.lost.set)

    # reading

    def _parse(self) -> bool:
        """One step over the buffer. False: more bytes are needed."""
        if self._request is None:
            end = self._buffer.find(b"\r\n\r\n") + 4
            if end < 4:
                if len(self._buffer) > HEAD_BYTES_MAX:
                    raise WireError("a head without end")
                return False
            raw, self._buffer = self._buffer[:end], self._buffer[end:]
            self._begin(Head.parse(raw))
        else:
            payload, self._buffer = self._request.framing.feed(self._buffer)
            self._request.take(payload)
        self._finish()
        return True

    def _begin(self, head: Head) -> None:
        self._requests += 1
        self._request = Request(self, self._requests, head)
        self._request.framing = Body.of_request(head)
        scripted = self.book.arrived(self._request)
        if scripted is not None and scripted.read is not None:
            self.transport.pause_reading()
        self._scripts += 1
        self._waiting.put_nowait((self._request, scripted))

    def _finish(self) -> None:
        if self._request is not None and self._request.framing.done:
            self._request.complete.set()
            self._request.settled.set()
            self._request = None

    # answering

    async def _run(self) -> None:
        while True:
            request, scripted = await self._waiting.get()
            if scripted is None or not scripted.early:
                await self._body_of(request, scripted)
            if scripted is not None:
                steps = scripted.steps
            else:
                steps = self.book.respond(request.method, request.target, bytes(request.body))
            self.answering = request
            for step in steps:
                await self.do(step)
            if scripted is not None and scripted.early:
                await self._body_of(request, scripted)
            self._scripts -= 1
            request.answered.set()

    async def _body_of(self, request: Request, scripted: Answer | None) -> None:
        if scripted is not None and scripted.read is not None:
            await scripted.read.endless()
            self.transport.resume_reading()
        await request.complete.endless()

    async def do(self, step: Step) -> None:
        """Run one step."""
        if isinstance(step, Signal):
            await step.endless()
        elif isinstance(step, bytes):
            if self.answering is not None:
                self.answering.sent_bytes += len(step)
            self.transport.write(step)
            await self._writable.wait()
        else:
            await step(self)


# Steps


def tell(signal: Signal) -> Step:
    """Set the signal when the script comes here."""

    async def step(connection: Connection) -> None:
        signal.set()

    return step


def flood(piece: bytes, count: int) -> Step:
    """Write `count` pieces as fast as the reader takes them."""

    async def step(connection: Connection) -> None:
        for _ in range(count):
            await connection.do(piece)
            await asyncio.sleep(0)  # the end of the connection is only seen when the loop turns

    return step


async def flushed(connection: Connection) -> None:
    """Wait until everything written left this process."""
    low, high = connection.transport.get_write_buffer_limits()
    connection.transport.set_write_buffer_limits(0)
    await connection._writable.wait()
    connection.transport.set_write_buffer_limits(high, low)


async def body_read(connection: Connection) -> None:
    """Wait until the request's body is complete."""
    if connection._request is not None:
        await connection._request.complete.endless()


async def half_close(connection: Connection) -> None:
    """Send our FIN and go on reading."""
    connection.transport.write_eof()


async def close(connection: Connection) -> None:
    """Send what is written, then close."""
    connection.transport.close()
    await connection.lost.endless()


async def reset(connection: Connection) -> None:
    """A TCP reset, at once."""
    raw = connection.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.transport.abort()
    await connection.lost.endless()


async def echo(connection: Connection) -> None:
    """Become a tunnel."""
    connection.tunnel = bytearray(connection._buffer)
    connection.transport.write(connection._buffer)
    connection._buffer = b""


def hear(size: int) -> Step:
    """Become a tunnel that only listens; wait until `size` bytes in all came through it."""

    async def step(connection: Connection) -> None:
        if connection.tunnel is None:
            connection.tunnel, connection._buffer = bytearray(connection._buffer), b""
        connection.echoes = False
        while len(connection.tunnel) < size:
            connection._heard.clear()
            await connection._heard.wait()

    return step
