"""When a worker says that it has more to do than it can, and what it does then."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from proxy.core.refusal import Refusal
from proxy.gateway.pressure import BEAT_S, BEGUN_MIN, Pressure
from tests.benchmarks import targets
from tests.benchmarks.load import Job, pace, saturate
from tests.proxy_process import ProxyProcess, wait_until

LIMIT_S = 0.25
CLIENTS = 4 * BEGUN_MIN
ROUNDS_MAX = 60
ASKED = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}'


class Times:
    """A clock and the time that was spent working."""

    def __init__(self) -> None:
        self.now = self.worked = 100.0

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds


def begun(pressure: Pressure, times: Times, count: int, each_s: float) -> int:
    """How many of `count` requests were refused, each of which takes so long."""
    refused = 0
    for _ in range(count):
        try:
            pressure.enter(times.now)
        except Refusal as refusal:
            assert (refusal.status, refusal.code, refusal.reason) == (503, "overloaded", "pressure")
            assert refusal.headers == (("retry-after", "1"),)
            refused += 1
        times.work(each_s)
    return refused


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def pressure(times: Times) -> Pressure:
    made = Pressure(LIMIT_S, lambda: times.now, lambda: times.worked)
    made.beat()
    return made


def test_requests_are_refused_while_the_loop_does_not_come_round(pressure: Pressure, times: Times):
    in_time = 1 + int((LIMIT_S + BEAT_S) / 0.001)
    assert begun(pressure, times, in_time - 2, 0.001) == 0
    assert begun(pressure, times, 100, 0.001) >= 97
    pressure.beat()
    assert begun(pressure, times, 100, 0.001) == 0


def test_a_machine_that_stood_still_refuses_nothing(pressure: Pressure, times: Times):
    times.now += 10
    assert begun(pressure, times, 200, 0.0) == 0


def test_one_thing_that_takes_long_refuses_nothing(pressure: Pressure, times: Times):
    times.work(10)
    assert begun(pressure, times, BEGUN_MIN, 0.01) == 0


def test_it_watches_the_loop_until_it_is_stopped():
    async def run() -> tuple[int, int, int]:
        loop = asyncio.get_running_loop()
        pressure = Pressure(0.01, loop.time, loop.time)
        pressure.start(loop)
        idle = floods(pressure, loop)
        time.sleep(0.1)
        held_up = floods(pressure, loop)
        pressure.stop()
        return idle, held_up, floods(pressure, loop)

    def floods(pressure: Pressure, loop: asyncio.AbstractEventLoop) -> int:
        refused = 0
        for _ in range(BEGUN_MIN * 2):
            try:
                pressure.enter(loop.time())
            except Refusal:
                refused += 1
        return refused

    idle, held_up, stopped = asyncio.run(run())
    assert (idle == 0, held_up > 0, stopped) == (True, True, 0)


def test_without_a_limit_nothing_is_refused(times: Times):
    async def run() -> int:
        pressure = Pressure(0.0, lambda: times.now, lambda: times.worked)
        pressure.start(asyncio.get_running_loop())
        return begun(pressure, times, 1000, 1.0)

    assert asyncio.run(run()) == 0


def test_a_flood_is_refused_at_once_and_leaves_no_trace(database_url: str, tmp_path: Path) -> None:
    """Any lateness counts here, so that no machine is too fast for it."""
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
