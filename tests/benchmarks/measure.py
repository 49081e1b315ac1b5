"""One run: what is asked, and the CPU that a target's processes took for each part of it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from tests.benchmarks.cpu import cpu_s
from tests.benchmarks.load import Job, saturate
from tests.benchmarks.targets import Target

CHAT = "/v1/chat/completions"
UNKNOWN = "/v1/not/an/endpoint"
"""Forwarded and recorded as any path is, but no meter reads its answers."""
GAP_MS = 5
CHUNKS = 100


@dataclass(frozen=True, slots=True)
class Effort:
    """How much load, for how long. `rate` is in requests per second, for latency."""

    seconds: float
    rounds: int
    connections: int
    streams: int
    rate: float
    own_load: bool


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request. `per` is what its CPU is divided by: parts in one request."""

    name: str
    path: str
    body: bytes
    per: int = 1
    streamed: bool = False


def body(**more: object) -> bytes:
    """A chat request of half a kilobyte."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say this is a test. " * 20},
    ]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages, "temperature": 0.7, **more}).encode()


STREAM_QUERY = f"?chunks={CHUNKS}&gap_ms={GAP_MS}"
ASKED = {"include_usage": True}
REQUEST = Workload("request", CHAT, body())
RELAYED = Workload("request, not metered", UNKNOWN, body())
STREAM = Workload("chunk", CHAT + STREAM_QUERY, body(stream=True, stream_options=ASKED), CHUNKS, True)
SPLICED = Workload("chunk, spliced", CHAT + STREAM_QUERY, body(stream=True), CHUNKS, True)
RELAYED_STREAM = Workload("chunk, not metered", UNKNOWN + STREAM_QUERY, body(stream=True), CHUNKS, True)
BLIND = (REQUEST, STREAM)
"""What servers that only forward are measured with."""
ALL = (REQUEST, RELAYED, STREAM, SPLICED, RELAYED_STREAM)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one run, in microseconds per part."""

    own_us: float
    postgres_us: float | None
    per_second: float
    errors: int


def job(target: Target, load: Workload = REQUEST) -> Job:
    """The request as this target wants it: under its own URL, model name, key and further headers."""
    asks = (
        load.body
        if target.model is None
        else json.dumps(json.loads(load.body) | {"model": target.model}).encode()
    )
    return Job(target.url + load.path, asks, target.key, target.headers)


def measure(target: Target, load: Workload, effort: Effort) -> Cost:
    """Load the target, wait until it has recorded all of it, and divide the CPU it took."""
    assert target.pid is not None
    connections = effort.streams if load.streamed else effort.connections
    target.settle()
    own, postgres = cpu_s(target.pid), cpu_s(target.postgres_pid) if target.postgres_pid else 0.0
    loaded = saturate(job(target, load), connections=connections, seconds=effort.seconds, own=effort.own_load)
    target.settle()
    parts = max(1, loaded.requests * load.per)
    own = (cpu_s(target.pid) - own) / parts * 1e6
    spent = (cpu_s(target.postgres_pid) - postgres) / parts * 1e6 if target.postgres_pid else None
    return Cost(own, spent, loaded.requests / loaded.seconds, loaded.errors)


def say(line: str) -> None:
    """Progress, apart from the report."""
    print(line, file=sys.stderr, flush=True)
