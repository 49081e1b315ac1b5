"""Disorder, by a seed: an upstream with every fault, clients of every kind, and what then must be true of the records."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests import openai_answers, wire
from tests.fake_upstream import FakeUpstream, Step, close, reset
from tests.proxy_process import ProxyProcess, wait_until
from tests.signals import Signal

CLIENTS = 6
REQUESTS_MAX = 100_000_000
DEADLINE_S = 60.0
HEAD = b"HTTP/1.1 200 OK"
SSE = wire.head(HEAD, b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
NEVER = Signal("never")
CHAT = b"/v1/chat/completions"


class Upstream:
    """Answers by the number in the request: most well, the rest with each fault there is."""

    FAULTS = (
        "stall",
        "stall later",
        "cut",
        "cut later",
        "reset",
        "reset later",
        "429",
        "500",
        "garbage",
        "garbage later",
    )

    def __init__(self, seed: int, faulty: float = 0.25) -> None:
        self._seed = seed
        self._faulty = faulty

    def __call__(self, method: bytes, target: bytes, body: bytes) -> tuple[Step, ...]:
        good = openai_answers.answer(method, target, body)
        if target != CHAT:
            return good
        asked = json.loads(body)
        # a client that tries again must not meet the same fate for ever, two runs of one seed shall
        chance = random.Random(f"{self._seed} {asked['messages'][0]['content']}")
        if chance.random() >= self._faulty:
            return good
        whole = b"".join(good)
        part = whole[: chance.randrange(1, len(whole))] if not asked.get("stream") else b"".join(good[:3])
        errors = {"429": b"429 Too Many Requests", "500": b"500 Internal Server Error"}
        fault = chance.choice(self.FAULTS)
        if fault in errors:
            return openai_answers.error(errors[fault], "server_error", "Not now.")
        steps: dict[str, tuple[Step, ...]] = {
            "stall": (NEVER,),
            "stall later": (part, NEVER),
            "cut": (close,),
            "cut later": (part, close),
            "reset": (reset,),
            "reset later": (part, reset),
            "garbage": (chance.randbytes(200) + b"\r\n\r\n", close),
            "garbage later": (SSE, b"%x\r\n" % 200 + chance.randbytes(200) + b"\r\nnonsense", close),
        }
        return steps[fault]


class Clients:
    """Threads that ask one request after the other, each with its own number; some hang up in the middle."""

    def __init__(
        self, port: Callable[[], int], key: str, seed: int, pause_s: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.sent: set[int] = set()
        self.answered: set[int] = set()
        """Those that got a whole answer with status 200."""
        self.done = 0
        self._port = port
        self._key = key
        self._pause_s = pause_s
        """How long each client rests after a request."""
        self._numbers = iter(range(REQUESTS_MAX))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(random.Random(f"{seed} client {number}"),))
            for number in range(CLIENTS)
        ]

    @contextlib.contextmanager
    def at_work(self) -> Iterator[Clients]:
        """For the length of the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(DEADLINE_S)

    def until(self, done: int) -> None:
        """Return when so many requests have ended, whichever way."""
        wait_until(lambda: self.done >= done, f"{done} requests", DEADLINE_S)

    def _client(self, chance: random.Random) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
                self.sent.add(number)
            port = self._port()
            if connection is None or connection.port != port:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                kept = self._ask(connection, number, chance)
            except (OSError, http.client.HTTPException):
                kept = False
                self._stop.wait(0.02)
            if not kept:
                connection.close()
                connection = None
            with self._lock:
                self.done += 1
            self._stop.wait(self._pause_s())
        if connection is not None:
            connection.close()

    def _ask(self, connection: http.client.HTTPConnection, number: int, chance: random.Random) -> bool:
        body = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": str(number)}],
            "max_tokens": 50,
        }
        if chance.random() < 0.4:
            body["stream"] = True
        leaves = chance.choice(("at once", "in the answer")) if chance.random() < 0.1 else None
        headers = {
            "authorization": f"Bearer {self._key}",
            "content-type": "application/json",
            "x-usage-tags": f"n={number}",
        }
        connection.request("POST", CHAT.decode(), json.dumps(body), headers)
        if leaves == "at once":
            return False
        answer = connection.getresponse()
        if leaves == "in the answer":
            answer.read(20)
            return False
        answer.read()
        if answer.status == 200:
            self.answered.add(number)
        return not answer.will_close


def reached(upstream: FakeUpstream) -> set[int]:
    """Numbers of the requests that the upstream saw whole."""
    found = set()
    for request in list(upstream.requests):
        if request.target == CHAT:
            with contextlib.suppress(ValueError):
                found.add(int(json.loads(bytes(request.body))["messages"][0]["content"]))
    return found


def resources(proxy: ProxyProcess) -> tuple[int, int]:
    """(bytes resident, open descriptors), summed over the proxy's processes."""
    descriptors = 0
    for pid in proxy.tree():
        with contextlib.suppress(FileNotFoundError):
            descriptors += len(os.listdir(Path(f"/proc/{pid}/fd")))
    return proxy.resident_bytes(), descriptors


def all_recorded(proxy: ProxyProcess, seen: set[int]) -> dict[int, str]:
    """Wait for a record of each number, and return its outcome. AssertionError when one has two."""
    rows: list[dict[str, Any]] = []

    def complete() -> bool:
        rows[:] = proxy.query("select (tags ->> 'n')::int as n, outcome from usage_records where tags ? 'n'")
        return seen <= {row["n"] for row in rows}

    wait_until(complete, "the records of all that reached the upstream", DEADLINE_S)
    assert [n for n, count in Counter(row["n"] for row in rows).items() if count > 1] == []
    return {row["n"]: row["outcome"] for row in rows}


SUMS = """
select
    (select array[count(*), sum(total_tokens), coalesce(sum(cost_nanousd), 0), sum(input_tokens), sum(output_tokens)]
     from usage_records) as records,
    (select array[sum(requests), sum(total_tokens), sum(cost_nanousd), sum(input_tokens), sum(output_tokens)]
     from usage_hourly) as hourly,
    (select sum(requests) from usage_outcomes_hourly) as outcomes
"""
QUOTAS = """
select w.quota_id, w.window_start, w.settled, w.held, coalesce(c.amount, 0) as charged
from quota_windows w
full join (
    select e ->> 0 as quota_id, to_timestamp((e ->> 1)::float8) as window_start, sum((e ->> 3)::bigint) as amount
    from usage_records, jsonb_array_elements(charges) as e
    group by 1, 2
) c using (quota_id, window_start)
"""


def check_sums(proxy: ProxyProcess) -> None:
    """Rollups are the sums of the records, and what quotas settled is what the records charge."""
    (sums,) = proxy.query(SUMS)
    assert sums["hourly"] == sums["records"]
    assert sums["outcomes"] == sums["records"][0]
    windows = proxy.query(QUOTAS)
    assert windows
    assert [window for window in windows if window["settled"] != window["charged"]] == []


def wait_for_no_shares(proxy: ProxyProcess) -> None:
    """Until what killed workers held has come back: only live workers have leases."""
    wait_until(
        lambda: proxy.query("select count(*) from quota_leases")[0]["count"] <= proxy.workers,
        "the end of dead workers' leases",
        DEADLINE_S,
    )
