"""Load on a server: `wrk` as fast as it goes where it is installed, else connections of our own; and a paced load for latency.

Closed loop (`saturate`) gives CPU per request; its latencies only say how full the machine was. Latency comes from `pace`:
requests start on a fixed schedule whether or not the ones before are answered, and time runs from the scheduled start, so that
a slow answer can't hide the wait of those behind it. All load is bounded in connections and in time.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httptools

CONNECTIONS_MAX = 1000
PACED_CONNECTIONS = 64
SECONDS_MAX = 120.0
LATE_S = 60.0
"""How long after the end of a load its last answers may come."""
_DONE = """
function done(summary, latency, requests)
  io.write(string.format("DONE %d %d %d\\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.read + summary.errors.connect + summary.errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked, again and again."""

    url: str
    body: bytes
    key: str
    more: tuple[tuple[str, str], ...] = ()

    def headers(self) -> dict[str, str]:
        """As an SDK sends them, without Host and length, and `more`."""
        return {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "User-Agent": "OpenAI/Python 3.54.0",
            "X-Stainless-Lang": "python",
            **dict(self.more),
        }

    def request(self) -> bytes:
        """The request as bytes."""
        parts = urlsplit(self.url)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"POST {target} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers().items()]
        lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load came to."""

    requests: int
    errors: int
    seconds: float


def saturate(job: Job, *, connections: int, seconds: float, own: bool = False) -> Loaded:
    """As many requests as `connections` at a time can get in `seconds`. wrk unless `own` or absent. Raises TimeoutError."""
    assert connections <= CONNECTIONS_MAX
    assert seconds <= SECONDS_MAX
    if own or shutil.which("wrk") is None:
        return asyncio.run(asyncio.wait_for(_saturate(job, connections, seconds), seconds + LATE_S))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        lines = ["wrk.method = 'POST'", f"wrk.body = [==[{job.body.decode()}]==]"]
        lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in job.headers().items()]
        script.write("\n".join(lines) + _DONE)
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "30s"]
        ran = subprocess.run(
            [*command, "-s", script.name, job.url], capture_output=True, text=True, check=True
        )
    done = re.search(r"DONE (\d+) (\d+) (\d+)", ran.stdout)
    assert done is not None, ran.stdout
    return Loaded(int(done[1]), int(done[3]), int(done[2]) / 1e6)


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, or when it is told to."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.answers = 0
        self.errors = 0
        self.again = True
        self.idle: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self) -> asyncio.Future[None]:
        """Send; the future is done with the answer."""
        self.idle = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self.transport.write(self._request)
        return self.idle

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.answers += 1
        self.errors += self._parser.get_status_code() >= 400
        if self.idle is not None:
            self.idle.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.idle is not None and not self.idle.done():
            self.idle.set_exception(exc or ConnectionResetError())


async def _connect(job: Job, count: int) -> list[_Client]:
    parts = urlsplit(job.url)
    loop = asyncio.get_running_loop()
    request = job.request()
    made = [
        await loop.create_connection(lambda: _Client(request), parts.hostname, parts.port)
        for _ in range(count)
    ]
    return [client for _, client in made]


async def _saturate(job: Job, connections: int, seconds: float) -> Loaded:
    clients = await _connect(job, connections)
    began = time.monotonic()

    async def run(client: _Client) -> None:
        while time.monotonic() - began < seconds:
            await client.ask()

    await asyncio.gather(*map(run, clients))
    took = time.monotonic() - began
    for client in clients:
        client.transport.close()
    await asyncio.sleep(0)
    return Loaded(sum(c.answers for c in clients), sum(c.errors for c in clients), took)


@dataclass(slots=True)
class Latencies:
    """Milliseconds from the scheduled start to the last byte."""

    values: list[float] = field(default_factory=list)
    errors: int = 0

    def quantile(self, share: float) -> float:
        """0.5 is the median."""
        ordered = sorted(self.values)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def pace(job: Job, *, per_second: float, seconds: float, connections: int = PACED_CONNECTIONS) -> Latencies:
    """`per_second` requests, evenly spaced, over at most `connections` connections. Raises TimeoutError."""
    assert connections <= CONNECTIONS_MAX
    assert seconds <= SECONDS_MAX
    return asyncio.run(asyncio.wait_for(_pace(job, per_second, seconds, connections), seconds + LATE_S))


async def _pace(job: Job, per_second: float, seconds: float, connections: int) -> Latencies:
    clients = await _connect(job, connections)
    idle = deque(clients)
    waiting: deque[float] = deque()
    found = Latencies()
    running: set[asyncio.Task[None]] = set()
    loop = asyncio.get_running_loop()

    async def one(client: _Client, due: float) -> None:
        while True:
            await client.ask()
            found.values.append((loop.time() - due) * 1000)
            if not waiting:
                break
            due = waiting.popleft()
        idle.append(client)

    began = loop.time()
    for number in range(int(per_second * seconds)):
        due = began + number / per_second
        await asyncio.sleep(max(0.0, due - loop.time()))
        if idle:
            task = loop.create_task(one(idle.pop(), due))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            waiting.append(due)
    await asyncio.gather(*running)
    found.errors = sum(client.errors for client in clients)
    for client in clients:
        client.transport.close()
    await asyncio.sleep(0)
    return found
