"""What `guard.py` counts: the whole pass in one process, between a client's and an upstream's connection that are no sockets.

Everything of ours that runs for a request runs: front, key look-up, quotas from held shares, request head, answer's framing,
meter, price, open line and record in a spool on disk, metrics. What doesn't: the kernel, uvloop, and the flusher, which works
in batches. Postgres is away, as the pass never asks it.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, cast

import orjson

from proxy.core.ids import Ids
from proxy.core.key import RANDOM_BYTES, make_key
from proxy.core.quota import window_at
from proxy.core.shares import Binding, Grant
from proxy.gateway import upstreams
from proxy.gateway.answers import Answers
from proxy.gateway.bearers import Bearers
from proxy.gateway.clocks import Clocks
from proxy.gateway.cors import Cors
from proxy.gateway.front import Front
from proxy.gateway.handler import Handler
from proxy.gateway.holding import Holder
from proxy.gateway.keyring import Keyring
from proxy.gateway.ledger import Ledger
from proxy.gateway.onbehalf import OnBehalf
from proxy.gateway.owners import Owners
from proxy.gateway.ownership import Makers
from proxy.gateway.pressure import Pressure
from proxy.gateway.quotas import Quotas
from proxy.gateway.recorder import Recorder
from proxy.gateway.upstream import UpstreamConnection
from proxy.metrics import Metrics
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store.keys_live import LiveRows
from tests.benchmarks.measure import body
from tests.benchmarks.upstream import STREAM_HEAD, completion, events

KEY = make_key(bytes(RANDOM_BYTES)).encode()
STARTED_S = 1_795_000_000.0
REQUESTS = 50
STREAMS = 4
CHUNKS_FEW, CHUNKS_MANY = 10, 110
PLENTY = 10**15
WORKLOADS = (
    "reference",
    "requests",
    "few chunks",
    "many chunks",
    "few chunks, spliced",
    "many chunks, spliced",
)
"""In the order in which they are done."""


class Wire:
    """A transport that goes nowhere."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False

    def take(self) -> bytes:
        written = b"".join(self.written)
        self.written.clear()
        return written

    def set_write_buffer_limits(self, high: int) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None: ...

    def abort(self) -> None: ...

    def get_extra_info(self, name: str) -> None: ...


@dataclass
class Rig:
    """One worker's pass with one client and one upstream connected."""

    front: Front
    client: Wire
    connection: UpstreamConnection
    upstream: Wire
    recorder: Recorder
    ends: list[Callable[[], None]]
    """What the event loop would call when it has seen its sockets."""

    def exchange(self, request: bytes, pieces: list[bytes]) -> tuple[bytes, bytes]:
        """One request and its answer, as it arrives; returns what reached the upstream, and what reached the client."""
        self.front.data_received(request)
        self.turn()
        receive = self.connection.data_received
        for piece in pieces:
            receive(piece)
        self.turn()
        return self.upstream.take(), self.client.take()

    def turn(self) -> None:
        """The loop has seen its sockets."""
        for end in self.ends:
            end()
        self.ends.clear()


def build(directory: Path) -> Rig:
    """As app.py builds a worker, but for what needs Postgres or a network."""
    settings = Settings(
        data_dir=directory, upstream_url="http://127.0.0.1:9", openai_api_key="sk-real", spool_fsync="never"
    )
    metrics = Metrics()
    nowhere = cast("Any", None)
    clocks = same_clocks()
    now = clocks.now
    cors = Cors(settings.cors, settings.cors_origins)
    keyring = Keyring(nowhere, listen_url="", snapshot=None, reload_s=60)
    keyring._rows = rows()
    keyring.loaded_at = 1.0
    onward = upstreams.build(
        settings,
        settings.upstream_url,
        clock=now,
    )
    quotas = Quotas(None, metrics=metrics, clock=now, wall=now)
    ends: list[Callable[[], None]] = []
    recorder = Recorder(nowhere, settings, metrics, soon=ends.append)
    owners = Owners(nowhere, settings, metrics=metrics, clock=now)
    makers = Makers(owners, quotas, caller_of=keyring.caller_of, follow=False)
    ledger = Ledger(
        clocks=clocks,
        quotas=quotas,
        makers=makers,
        recorder=recorder,
        prices=PriceSource(),
        metrics=metrics,
        default_output_tokens=settings.default_output_tokens,
    )
    handler = Handler(
        settings,
        clocks=clocks,
        bearers=Bearers(keyring, owners, trusted_proxies=(), now_us=clocks.now_us),
        owners=owners,
        holder=Holder(None, nowhere),
        onbehalf=OnBehalf(keyring, nowhere),
        quotas=quotas,
        ledger=ledger,
        answers=Answers(now=now, ledger=ledger, quotas=quotas, cors=cors, metrics=metrics),
        cors=cors,
        upstreams=onward,
        pressure=Pressure(settings.overload_lag_s, now),
        metrics=metrics,
    )
    hold_shares(quotas, keyring, STARTED_S)
    front, client = Front(handler, nowhere, set()), Wire()
    front.connection_made(cast("Any", client))
    pool = onward.default.pool
    connection, upstream = UpstreamConnection(pool), Wire()
    connection.connection_made(cast("Any", upstream))
    pool.put(connection)
    return Rig(front, client, connection, upstream, recorder, ends)


def same_clocks() -> Clocks:
    """Time and chance that are the same in every run, and, like a worker's, not made in Python where the system's are not."""
    microseconds = count(int(STARTED_S * 1e6), 7).__next__

    def now_us() -> int:
        return microseconds()

    return Clocks(count(STARTED_S, 7e-6).__next__, now_us, Ids(Random(1).getrandbits).new)


def rows() -> LiveRows:
    """One key whose user has a monthly quota of tokens and one of cost, as Postgres gives them."""
    found = LiveRows()
    found.keys[sha256(KEY).digest()] = '["key_1","user_1",null,null,true,false,false]'
    each = {"scope": "user", "scope_id": "user_1", "window": "month", "limit_amount": PLENTY}
    found.quotas["user:user_1"] = orjson.dumps(
        [each | {"id": f"quota_{unit}", "unit": unit} for unit in ("tokens", "cost")]
    ).decode()
    return found


def hold_shares(quotas: Quotas, keyring: Keyring, at: float) -> None:
    """The shares that Postgres would have granted."""
    quotas.shares.lease, quotas.shares.deadline = 1, float("inf")
    for number, quota in enumerate(keyring.lookup(KEY, at).quotas, 1):
        share = quotas.shares.turn(Binding(quota, "user_1"), at)
        quotas.shares.grant(share, Grant(share.key, number, PLENTY // 2, 0, 0, 0, PLENTY // 2))
        assert window_at(quota, at)[0] == share.key[2]


def request(content: bytes) -> bytes:
    """As the official SDK sends it."""
    return b"".join(
        (
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n",
            b"Accept-Encoding: gzip, deflate, br, zstd\r\nConnection: keep-alive\r\nAccept: application/json\r\n",
            b"Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.54.0\r\n",
            b"X-Stainless-Lang: python\r\nX-Stainless-Package-Version: 3.54.0\r\nX-Stainless-OS: Linux\r\n",
            b"X-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.11.2\r\n",
            b"Authorization: Bearer %b\r\nX-Stainless-Async: false\r\nx-stainless-retry-count: 0\r\n" % KEY,
            b"x-stainless-read-timeout: 600\r\nContent-Length: %d\r\n\r\n" % len(content),
            content,
        )
    )


def reference() -> None:
    """Work that never changes, to measure by: what a Python program does, on the same interpreter and the same libraries."""
    for number in range(200):
        line = b"x-header-%d: value %d" % (number, number)
        name, _, value = line.partition(b":")
        fields = {name.lower(): value.strip(), b"number": number}
        found = Reference(fields, [fields.get(b"number"), fields.get(b"missing")])
        found.add(len(line))
        orjson.loads(orjson.dumps([found.total, value.decode(), None]))


class Reference:
    """A small object, as the pass makes them."""

    __slots__ = ("fields", "total", "values")

    def __init__(self, fields: dict[bytes, object], values: list[object]) -> None:
        self.fields = fields
        self.values = values
        self.total = 0

    def add(self, amount: int) -> None:
        """Count."""
        self.total += amount


def workloads(rig: Rig) -> dict[str, Callable[[], None]]:
    """By name, each the same work whenever it is called."""
    plain = request(body())
    answer = [completion()]
    asked = request(body(stream=True, stream_options={"include_usage": True}))
    spliced = request(body(stream=True))
    few, many = ([STREAM_HEAD, *events(count, True)] for count in (CHUNKS_FEW, CHUNKS_MANY))

    def repeat(times: int, sent: bytes, pieces: list[bytes]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(times):
                rig.exchange(sent, pieces)

        return run

    works = (
        reference,
        repeat(REQUESTS, plain, answer),
        repeat(STREAMS, asked, few),
        repeat(STREAMS, asked, many),
        repeat(STREAMS, spliced, few),
        repeat(STREAMS, spliced, many),
    )
    return dict(zip(WORKLOADS, works, strict=True))


def main() -> None:
    """Do each workload twice, the second time between two calls of `getppid`, before which callgrind writes down what it
    has counted: a function that has no other use here, and the same name in every build.
    """
    with TemporaryDirectory() as directory:
        rig = build(Path(directory))
        works = workloads(rig)
        gc.collect()
        gc.freeze()
        for work in works.values():
            work()
            os.getppid()
            work()
            os.getppid()
        assert rig.recorder.recorded == 2 * (REQUESTS + 4 * STREAMS), "the pass did not do its work"


if __name__ == "__main__":
    main()
