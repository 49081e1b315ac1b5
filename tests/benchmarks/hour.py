"""The section "hour" of `under_load.py`: whether a request still costs at the end of an hour what it cost at its start.

A third of the requests a worker has time for would leave nothing to see on a busy machine, so the load is modest: requests,
and streams with and without a splice, on an even schedule. The time is cut into parts; after each, once all records are in
Postgres, CPU and memory are read. CPU time grows when neighbours use the same caches, so beside each part stands what a fixed
piece of work took in that part: rows compare as far as that column is even.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from typing import Self

from tests.benchmarks.house import House
from tests.benchmarks.load import Latencies
from tests.benchmarks.measure import ASKED, CHAT, body
from tests.benchmarks.run import table
from tests.benchmarks.timed import floods

PARTS = 6
MINUTES_MAX = 24 * 60
REQUESTS_PER_S = 120.0
STREAMS_PER_S = 5.0
STREAM = f"{CHAT}?chunks=50&gap_ms=20"
CONNECTIONS = 48
WARM_S = 10.0
YARD_EVERY_S = 5.0
YARD_STEPS = 60_000


def yardstick() -> float:
    """CPU time of a fixed piece of work, in milliseconds."""
    began = time.thread_time()
    table: dict[int, int] = {}
    for number in range(YARD_STEPS):
        table[number & 1023] = table.get(number & 511, 0) + number
    return (time.thread_time() - began) * 1e3


class Yard:
    """The median of the yardstick while the block runs."""

    def __enter__(self) -> Self:
        self._found = Latencies()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._found.values.append(yardstick())
            if self._ended.wait(YARD_EVERY_S):
                return

    @property
    def median_ms(self) -> float:
        """Of the block, once it has ended."""
        return self._found.quantile(0.5)


def hour(house: House, minutes: float) -> list[str]:
    """CPU per request and memory in each part of `minutes`."""
    assert 0 < minutes <= MINUTES_MAX
    seconds = minutes * 60 / PARTS
    rows = [
        ["minutes", "requests", "CPU per request, µs", "a fixed piece of work, ms", "memory, MiB", "p50 / p99, ms"]
    ]  # fmt: skip
    with house.proxy() as running:
        jobs = [
            (running.job(CHAT, body()), REQUESTS_PER_S),
            (running.job(STREAM, body(stream=True, stream_options=ASKED)), STREAMS_PER_S),
            (running.job(STREAM, body(stream=True)), STREAMS_PER_S),
        ]
        floods(jobs, seconds=min(WARM_S, seconds), connections=CONNECTIONS)
        before, refusals = running.cpu_s(), Counter[str]()
        for part in range(PARTS):
            with Yard() as yard:
                found = floods(jobs, seconds=seconds, connections=CONNECTIONS)
            after = running.cpu_s()
            answered = sum(len(each.answered.values) for each in found)
            refusals += sum((each.refusals for each in found), Counter())
            told = " / ".join(f"{found[0].answered.quantile(share):.2f}" for share in (0.5, 0.99))
            rows.append(
                [f"{part * seconds / 60:.0f} to {(part + 1) * seconds / 60:.0f}", f"{answered:,}",
                 f"{(after - before) / answered * 1e6:.0f}", f"{yard.median_ms:.2f}",
                 f"{running.resident_mib():.0f}", told]
            )  # fmt: skip
            print("hour:", *rows[-1], dict(refusals), flush=True, file=sys.stderr)
            before = after
    each = REQUESTS_PER_S + 2 * STREAMS_PER_S
    share = 2 * STREAMS_PER_S / each
    refused = ", ".join(f"{count} with {status}" for status, count in sorted(refusals.items())) or "none"
    told = f"{each:.0f} requests/s, of which {share:.0%} are streams of 50 events, half of those spliced. The latencies are those of the others."
    return [table(rows), f"{told} Refused: {refused}."]
