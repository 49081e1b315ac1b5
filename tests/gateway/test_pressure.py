"""When a worker says that it has more to do than it can, and what it does then."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from proxy.core.refusal import Refusal
from proxy.gateway.pressure import BEATS, BEGUN_MIN, Pressure
from tests.benchmarks import targets
from tests.benchmarks.load import Job, pace, saturate
from tests.proxy_process import ProxyProcess, wait_until

LIMIT_S = 0.25
CLIENTS = 4 * BEGUN_MIN
ROUNDS_MAX = 60
ASKED = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}'


def beaten(*beats: tuple[float, int]) -> Pressure:
    """After beats that were so late, with so many requests each."""
    pressure = Pressure(LIMIT_S, lambda: 0.0)
    for late_s, begun in beats:
        pressure.begun = begun
        pressure.beat(late_s)
    return pressure


def test_it_is_high_after_some_late_beats_in_a_row_that_were_full_of_requests():
    late = (LIMIT_S, BEGUN_MIN)
    assert not beaten(*[late] * (BEATS - 1)).high
    assert beaten(*[late] * BEATS).high
    assert not beaten(*[late] * (BEATS - 1), (LIMIT_S - 0.01, BEGUN_MIN), late).high


def test_it_is_low_again_after_one_beat_in_time():
    assert not beaten(*[(1.0, 1000)] * 10, (0.0, 1000)).high


def test_a_machine_that_stood_still_is_no_pressure():
    assert not beaten(*[(10.0, BEGUN_MIN - 1)] * 10).high


def test_a_request_is_refused_only_while_it_is_high():
    pressure = beaten(*[(1.0, 1000)] * BEATS)
    with pytest.raises(Refusal) as refused:
        pressure.enter()
    assert (refused.value.status, refused.value.code, refused.value.reason) == (503, "overloaded", "pressure")
    assert refused.value.headers == (("retry-after", "1"),)
    pressure.beat(0.0)
    pressure.enter()
    assert pressure.begun == 1


def test_the_beat_of_a_loop_that_is_held_up_is_late():
    found = []

    class Watched(Pressure):
        def beat(self, late_s: float) -> None:
            found.append(late_s)
            super().beat(late_s)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        pressure = Watched(LIMIT_S, loop.time)
        pressure.start(loop)
        time.sleep(0.3)
        await asyncio.sleep(0.1)
        pressure.stop()

    asyncio.run(run())
    assert found[0] >= 0.25


def test_without_a_limit_nothing_beats():
    async def run() -> None:
        loop = asyncio.get_running_loop()
        pressure = Pressure(0.0, loop.time)
        pressure.start(loop)
        await asyncio.sleep(0.05)
        assert pressure._timer is None

    asyncio.run(run())


def test_a_flood_is_refused_at_once_and_leaves_no_trace(database_url: str, tmp_path: Path) -> None:
    """Any lateness counts here, so that no machine is too fast for it; what counts is how much comes in a beat."""
    with (
        targets.upstream() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url, database_url=database_url, directory=tmp_path, overload_lag_s=0.000_001
        ) as proxy,
    ):
        key = proxy.person().key
        job = Job(f"{proxy.url}/v1/chat/completions", ASKED, key)
        answered = refused = 0
        for _ in range(ROUNDS_MAX):
            loaded = saturate(job, connections=CLIENTS, seconds=1.0, own=True)
            answered += loaded.requests - loaded.errors
            refused += loaded.errors
            if refused:
                break
        assert refused > 0
        assert answered > 0
        shown = f'openai_proxy_refusals_total{{reason="pressure"}} {refused}'
        wait_until(lambda: shown in proxy.request("GET", "/metrics").body, shown)
        wait_until(
            lambda: pace(job, per_second=5, seconds=0.2).errors == 0, "a single request is answered again"
        )
