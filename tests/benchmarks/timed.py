"""Clients that take the time: of every event of many streams, of an open flood of requests, of bodies of any size.

All run on one uvloop and are bounded in number and in time. Times are milliseconds; sizes bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

from tests.benchmarks.load import Job, Latencies
from tests.benchmarks.stage import STAMP
from tests.benchmarks.upstream import LENGTH

LAST_CHUNK = b"\r\n0\r\n\r\n"
STARTS_PER_S = 500
"""New streams a second: what is measured is streams that run, not their start all at once."""
REST_S = 0.5
"""Between the connections and the load: what accepting them takes is another matter."""
BLOCK_BYTES = 65_536
DEADLINE_S = 120.0


@dataclass(slots=True)
class Streamed:
    """What the streams of one run took."""

    first: Latencies = field(default_factory=Latencies)
    """From the request to the first byte of the answer."""
    held: Latencies = field(default_factory=Latencies)
    """From an event's being written by the upstream to its being read by the client."""
    gaps: Latencies = field(default_factory=Latencies)
    """Between two reads of one stream."""


class _Stream(asyncio.Protocol):
    def __init__(self, request: bytes, found: Streamed) -> None:
        self._request = request
        self._found = found
        self._began = self._last = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._parser = httptools.HttpResponseParser(self)
        self._began = time.monotonic_ns()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if self._last:
            self._found.gaps.values.append((now - self._last) / 1e6)
        else:
            self._found.first.values.append((now - self._began) / 1e6)
        self._last = now
        for stamp in STAMP.finditer(data):
            self._found.held.values.append((now - int(stamp[1])) / 1e6)
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() != 200:
            self._found.first.errors += 1
        self.transport.close()
        if not self.done.done():
            self.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError())


def stream(job: Job, count: int, meanwhile: Callable[[], None] = lambda: None) -> Streamed:
    """`count` streams side by side, each once. `meanwhile` is called when all of them run."""

    async def run() -> Streamed:
        found = Streamed()
        parts = urlsplit(job.url)
        loop = asyncio.get_running_loop()
        request, running = job.request(), []
        for number in range(count):
            _, protocol = await loop.create_connection(
                lambda: _Stream(request, found), parts.hostname, parts.port
            )
            running.append(protocol.done)
            if number % 10 == 9:
                await asyncio.sleep(10 / STARTS_PER_S)
        meanwhile()
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*running)
        return found

    return uvloop.run(run())


@dataclass(slots=True)
class Flooded:
    """What came of requests that start on a schedule, whatever the server makes of them."""

    answered: Latencies = field(default_factory=Latencies)
    refused: Latencies = field(default_factory=Latencies)
    refusals: Counter[str] = field(default_factory=Counter)
    """By status."""
    dropped: int = 0
    """Not sent, because all connections waited."""
    seconds: float = 0.0


class Asker(asyncio.Protocol):
    """One request at a time. Reads no more of an answer than it must, since it shares the machine with what it measures."""

    def __init__(self, request: bytes, found: Flooded, idle: deque[Asker]) -> None:
        self._request = request
        self._found = found
        self._idle = idle
        self._due = 0.0
        self._came = b""
        self._size = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._idle.append(self)

    def ask(self, due: float) -> None:
        self._due = due
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._came = came = self._came + data if self._came else data
        if not self._size:
            head = came.find(b"\r\n\r\n") + 4
            if head < 4:
                return
            length = LENGTH.search(came, 0, head)
            self._size = head + int(length[1]) if length else -1
        if len(came) < self._size or (self._size < 0 and not came.endswith(LAST_CHUNK)):
            return
        into = self._found.answered
        if not came.startswith(b"HTTP/1.1 200"):
            into = self._found.refused
            self._found.refusals[came[9:12].decode("latin-1")] += 1
        self._came, self._size = b"", 0
        into.values.append((time.monotonic() - self._due) * 1000)
        self._idle.append(self)


def flood(job: Job, *, per_second: float, seconds: float, connections: int) -> Flooded:
    """`per_second` requests, evenly spaced, over at most `connections` connections."""
    return uvloop.run(_flood(job, per_second, seconds, connections))


def floods(jobs: Sequence[tuple[Job, float]], *, seconds: float, connections: int) -> list[Flooded]:
    """Several side by side: (job, how many a second), each over its own connections."""

    async def run() -> list[Flooded]:
        return await asyncio.gather(*(_flood(job, rate, seconds, connections) for job, rate in jobs))

    return uvloop.run(run())


async def _flood(job: Job, per_second: float, seconds: float, connections: int) -> Flooded:
    found = Flooded()
    idle: deque[Asker] = deque()
    parts = urlsplit(job.url)
    loop = asyncio.get_running_loop()
    request = job.request()
    made = [
        (await loop.create_connection(lambda: Asker(request, found, idle), parts.hostname, parts.port))[1]
        for _ in range(connections)
    ]
    await asyncio.sleep(REST_S)
    began, sent = time.monotonic(), 0
    while (at := time.monotonic() - began) < seconds:
        while sent < at * per_second:
            due = began + sent / per_second
            sent += 1
            if idle:
                idle.popleft().ask(due)
            else:
                found.dropped += 1
        await asyncio.sleep(max(0.001, began + sent / per_second - time.monotonic()))
    found.seconds = time.monotonic() - began
    async with asyncio.timeout(DEADLINE_S):
        while len(idle) < connections:
            await asyncio.sleep(0.01)
    for each in made:
        each.transport.close()
    await asyncio.sleep(0)
    return found


PICTURE_OPENS = (
    b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":[{"type":"image_url","image_url":'
    b'{"url":"data:image/png;base64,'
)
PICTURE_ENDS = b'"}}]}]}'


def transfer(url: str, key: str, *, send: int, kind: str) -> tuple[int, float]:
    """Send a body of `send` bytes, whatever is in it, and read the answer. Returns (bytes of the answer, seconds)."""

    async def run() -> tuple[int, float]:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        head = f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: {kind}\r\n"
        began = time.monotonic()
        writer.write(f"{head}Content-Length: {send}\r\nConnection: close\r\n\r\n".encode())
        block, left = body_block(kind), send
        if kind == "application/json":
            writer.write(PICTURE_OPENS)
            left -= len(PICTURE_OPENS) + len(PICTURE_ENDS)
        while left:
            size = min(left, len(block))
            writer.write(block[:size])
            left -= size
            await writer.drain()
        if kind == "application/json":
            writer.write(PICTURE_ENDS)
        size = 0
        while data := await reader.read(2**20):
            size += len(data)
        writer.close()
        return size, time.monotonic() - began

    async def bounded() -> tuple[int, float]:
        async with asyncio.timeout(DEADLINE_S):
            return await run()

    return uvloop.run(bounded())


def body_block(kind: str) -> bytes:
    """What a body is made of: base64 for JSON, the inside of a form's file otherwise."""
    return b"QUJD" * (BLOCK_BYTES // 4) if kind == "application/json" else b"\0" * BLOCK_BYTES
