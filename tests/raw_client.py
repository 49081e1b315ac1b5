"""A client that sends any bytes and reads the answer as bytes: what came, in which order, and how it ended.

The counterpart of `fake_upstream`. It keeps head, decoded body, chunk sizes, trailers and interim answers apart and says
whether an answer was cut. Every wait ends at `signals.DEADLINE_S` with an AssertionError.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import ssl
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET, socket
from typing import Any, Self

from tests.signals import DEADLINE_S
from tests.wire import HEAD_BYTES_MAX, Body, Head

READ_BYTES = 1 << 18


@dataclass(slots=True)
class RawAnswer:
    """One answer. `cut`: the connection ended before the body did."""

    head: Head
    body: bytearray = field(default_factory=bytearray)
    interim: list[Head] = field(default_factory=list)
    framing: Body = field(default_factory=lambda: Body(0))
    cut: bool = False

    @property
    def status(self) -> int:
        """The answer's status code."""
        return self.head.status

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def digest(self) -> str:
        """SHA-256 of the decoded body, hexadecimal."""
        return hashlib.sha256(self.body).hexdigest()


class RawClient:
    """One connection to 127.0.0.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._buffer = b""

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(
        cls, port: int, *, tls: ssl.SSLContext | None = None, receive_buffer_bytes: int | None = None
    ) -> AsyncIterator[Self]:
        """A connection that is closed at the end of the block. A small receive buffer makes a slow reader slow."""
        raw = socket()
        raw.setblocking(False)
        if receive_buffer_bytes is not None:
            raw.setsockopt(SOL_SOCKET, SO_RCVBUF, receive_buffer_bytes)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, ("127.0.0.1", port))
        name = "localhost" if tls else None
        limit = receive_buffer_bytes or READ_BYTES
        reader, writer = await asyncio.open_connection(sock=raw, ssl=tls, server_hostname=name, limit=limit)
        client = cls(reader, writer)
        try:
            yield client
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send(self, *pieces: bytes) -> None:
        """Write, each piece on its own, and wait until the kernel takes more."""
        for piece in pieces:
            self._writer.write(piece)
            async with asyncio.timeout(DEADLINE_S):
                await self._writer.drain()

    def takes_more(self) -> bool:
        """Whether the kernel took all that was put so far."""
        return self._writer.transport.get_write_buffer_size() == 0

    def put(self, data: bytes) -> None:
        """Write without waiting."""
        self._writer.write(data)

    async def turn(self) -> None:
        """Let the event loop try the socket once more."""
        for _ in range(3):
            await asyncio.sleep(0)

    def end(self) -> None:
        """Send our FIN and go on reading."""
        self._writer.write_eof()

    def hang_up(self) -> None:
        """Close both ways at once."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """A TCP reset."""
        raw = self._writer.get_extra_info("socket")
        raw.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def ask(self, *pieces: bytes, method: bytes | None = None) -> RawAnswer:
        """Send a request and read its whole answer."""
        await self.send(*pieces)
        return await self.answer(method or pieces[0].split(b" ", 1)[0])

    async def answer(self, method: bytes = b"GET") -> RawAnswer:
        """The next final answer with its whole body; interim answers are kept in it."""
        started = await self.answer_head(method)
        await self.rest(started)
        return started

    async def rest(self, answer: RawAnswer) -> None:
        """Wait for the answer's end, or for its connection's."""
        while not answer.framing.done and not answer.cut:
            await self.more(answer)

    async def answer_head(self, method: bytes = b"GET") -> RawAnswer:
        """The next final answer's head, and what of its body came with it."""
        interim: list[Head] = []
        while True:
            head = await self.any_head()
            if head.status >= 200 or head.status == 101:
                break
            interim.append(head)
        answer = RawAnswer(head, interim=interim)
        answer.framing = Body.of_answer(head, method)
        self._take(answer, b"")
        return answer

    async def any_head(self) -> Head:
        """The next head, interim or final."""
        while (end := self._buffer.find(b"\r\n\r\n") + 4) < 4:
            assert len(self._buffer) < HEAD_BYTES_MAX, "a head without end"
            data = await self.some()
            assert data, f"the connection ended where an answer was due, after {self._buffer[:200]!r}"
            self._buffer += data
        raw, self._buffer = self._buffer[:end], self._buffer[end:]
        return Head.parse(raw)

    async def more(self, answer: RawAnswer) -> None:
        """Wait for the next piece of the body, or its end."""
        data = await self.some()
        if data:
            self._take(answer, data)
        elif not answer.framing.eof():
            answer.cut = True

    async def body_until(self, answer: RawAnswer, size: int) -> bytes:
        """Wait until at least `size` bytes of the body are here."""
        while len(answer.body) < size and not answer.framing.done and not answer.cut:
            await self.more(answer)
        return bytes(answer.body)

    async def some(self) -> bytes:
        """Whatever comes next; empty at the end of the connection, a reset included."""
        if self._buffer:
            data, self._buffer = self._buffer, b""
            return data
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._reader.read(READ_BYTES)
        except ConnectionError:
            return b""
        except TimeoutError:
            raise AssertionError("nothing came") from None

    async def ended(self) -> bool:
        """Wait for the end of the connection; False when bytes come instead."""
        return not await self.some()

    async def was_reset(self) -> bool:
        """Wait for the end of the connection; whether it was a TCP reset."""
        try:
            async with asyncio.timeout(DEADLINE_S):
                while await self._reader.read(READ_BYTES):
                    pass
        except ConnectionResetError:
            return True
        return False

    def _take(self, answer: RawAnswer, data: bytes) -> None:
        payload, self._buffer = answer.framing.feed(self._buffer + data)
        answer.body += payload
