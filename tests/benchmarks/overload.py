"""The section "overload" of `under_load.py`: twice of what a worker can do.

Answers that are missing at twice the capacity may be missing because the proxy refuses, or because load, upstream and Postgres need
more of the machine than before. So the proxy has a core of its own here, where there are two, and everything else the others; and the
table says how much of its core it used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tests.benchmarks.cpu import cpu_s
from tests.benchmarks.house import House
from tests.benchmarks.load import Latencies, saturate
from tests.benchmarks.measure import CHAT, body
from tests.benchmarks.run import table
from tests.benchmarks.timed import flood
from tests.processes import process_tree

SECONDS = 8.0
CONNECTIONS = 4_000
CAPACITY_CONNECTIONS = 1_000
"""What a worker can do depends on how many requests are under way, in its caches and the kernel's: on 64 connections it is half as much
again. These are as many as a loaded worker keeps waiting.
"""
SHARES = (1.0, 2.0)


@contextlib.contextmanager
def cores(proxy: int, others: Iterable[int]) -> Iterator[bool]:
    """The proxy on the first core this process may use, the other processes on the rest. False where there is only one."""
    allowed = os.sched_getaffinity(0)
    first = min(allowed)
    if len(allowed) < 2:
        yield False
        return
    own = set(process_tree(proxy))
    rest = {pid for root in others for pid in process_tree(root)} - own
    try:
        for pids, on in ((own, {first}), (rest, allowed - {first})):
            _pin(pids, on)
        yield True
    finally:
        _pin(own | rest, allowed)


def _pin(pids: Iterable[int], on: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(thread.name), on)


def overload(house: House) -> list[str]:
    """What is answered and what is refused, how late, and what that costs."""
    rows = [
        ["load", "answered/s", "503/s", "not sent/s", "answered p50 / p99, ms", "503 p50 / p99, ms", "proxy's core", "memory, MiB"]
    ]  # fmt: skip
    with house.proxy() as running, cores(running.pid, (os.getpid(), house.postgres.pid)) as apart:
        job = running.job(CHAT, body())
        saturate(job, connections=CAPACITY_CONNECTIONS, seconds=2)
        most = saturate(job, connections=CAPACITY_CONNECTIONS, seconds=5).requests / 5
        found: list[tuple[int, int, float]] = []
        for share in SHARES:
            running.cpu_s()
            with running.watched() as sizes:
                before = cpu_s(running.pid)
                flooded = flood(job, per_second=most * share, seconds=SECONDS, connections=CONNECTIONS)
                spent = cpu_s(running.pid) - before
            found.append((len(flooded.answered.values), len(flooded.refused.values), spent))
            counts = (len(flooded.answered.values), len(flooded.refused.values), flooded.dropped)
            rows.append(
                [f"{share:.0%} of {most:,.0f}/s", *(f"{each / flooded.seconds:,.0f}" for each in counts),
                 _told(flooded.answered.values), _told(flooded.refused.values), f"{spent / flooded.seconds:.0%}",
                 f"{sizes[0]:.0f} → {max(sizes):.0f}"]
            )  # fmt: skip
    answered_us, refused_us = costs(found)
    told = (
        f"A request that is refused unread takes {refused_us:.0f} µs of the proxy's CPU, one that is answered {answered_us:.0f} µs."
        if refused_us > 0
        else "What a refusal takes could not be told: the machine's speed changed between the two."
    )
    where = "The proxy had a core of its own, all else the other." if apart else "There was one core for all."
    return [table(rows), f"{where} {told}"]


def costs(found: Sequence[tuple[int, int, float]]) -> tuple[float, float]:
    """(µs of an answered request, µs of a refused one), of two runs: (answered, refused, CPU seconds)."""
    (answered, refused, spent), (answered_2, refused_2, spent_2) = found
    apart = answered * refused_2 - answered_2 * refused
    return (
        (spent * refused_2 - spent_2 * refused) / apart * 1e6,
        (answered * spent_2 - answered_2 * spent) / apart * 1e6,
    )


def _told(values: list[float]) -> str:
    if not values:
        return ""
    found = Latencies(values)
    return f"{found.quantile(0.5):.0f} / {found.quantile(0.99):.0f}"
