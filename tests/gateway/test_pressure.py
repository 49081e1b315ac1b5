"""When a worker says that it has more to do than it can, and what it does then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from proxy.core.refusal import Refusal
from proxy.gateway.pressure import BEGUN_MIN, SHORT, STRICT_S, Pressure
from tests.benchmarks import targets
from tests.benchmarks.load import Job, pace, saturate
from tests.proxy_process import ProxyProcess, wait_until

LIMIT_S = 0.25
CLIENTS = 4 * BEGUN_MIN
ROUNDS_MAX = 60
ASKED = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}'


class Times:
    """A clock, the time that was spent working, and a loop that comes round when it is told to."""

    def __init__(self) -> None:
        self.now = self.worked = 100.0
        self.soon: list[Callable[[], object]] = []

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.worked += seconds

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.soon.append(callback)

    def come_round(self) -> None:
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


def begun(pressure: Pressure, times: Times, count: int, each_s: float) -> int:
    """How many of `count` requests were refused, of which those that are not take so long."""
    refused = 0
    for _ in range(count):
        try:
            pressure.enter(times.now)
            times.work(each_s)
        except Refusal as refusal:
            assert (refusal.status, refusal.code, refusal.reason) == (503, "overloaded", "pressure")
            assert refusal.headers == (("retry-after", "1"),)
            refused += 1
    return refused


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def told() -> list[int]:
    return []


@pytest.fixture
def pressure(times: Times, told: list[int]) -> Pressure:
    made = Pressure(LIMIT_S, lambda: times.now, lambda: times.worked, on_refused=told.append)
    made.start(cast("asyncio.AbstractEventLoop", times))
    return made


IN_TIME = 1 + int(LIMIT_S / 0.001)
STRICTLY_IN_TIME = int(LIMIT_S * SHORT / 0.001)


def test_a_burst_is_worked_off_as_far_as_the_limit_goes(pressure: Pressure, times: Times):
    assert begun(pressure, times, IN_TIME - 1, 0.001) == 0
    assert begun(pressure, times, 100, 0.001) >= 98
    assert pressure.refusing


def test_a_burst_may_come_in_several_turns_but_takes_no_longer_in_all(pressure: Pressure, times: Times):
    for _ in range(4):  # each as long as makes a queue
        assert begun(pressure, times, STRICTLY_IN_TIME + 2, 0.001) == 0
        times.come_round()
    assert begun(pressure, times, IN_TIME, 0.001) >= IN_TIME - STRICTLY_IN_TIME - BEGUN_MIN


def test_while_requests_are_refused_each_turn_begins_with_some_that_are_not(pressure: Pressure, times: Times):
    begun(pressure, times, 1000, 0.001)
    for _ in range(10):
        times.come_round()
        assert not pressure.refusing
        assert 1000 - begun(pressure, times, 1000, 0.001) == max(STRICTLY_IN_TIME, BEGUN_MIN)


def test_one_quick_turn_is_not_yet_calm(pressure: Pressure, times: Times):
    begun(pressure, times, 1000, 0.001)
    for _ in range(5):
        times.come_round()
        assert begun(pressure, times, 2, 0.001) == 0
    times.come_round()
    assert begun(pressure, times, IN_TIME, 0.001) > 0


def test_without_refusals_for_as_long_as_clients_stay_away_bursts_are_welcome_again(
    pressure: Pressure, times: Times
):
    begun(pressure, times, 1000, 0.001)
    for _ in range(int(STRICT_S / 0.01) + 2):
        times.come_round()
        assert begun(pressure, times, 10, 0.001) == 0
    times.come_round()
    times.now += 0.01
    assert begun(pressure, times, IN_TIME - 1, 0.001) == 0


def test_an_hour_without_requests_is_calm(pressure: Pressure, times: Times):
    begun(pressure, times, 10, 0.001)
    times.come_round()
    times.now += 3600
    assert begun(pressure, times, IN_TIME - 1, 0.001) == 0


def test_the_loop_is_marked_once_a_turn_and_not_at_all_at_rest(pressure: Pressure, times: Times):
    begun(pressure, times, 100, 0.0001)
    assert len(times.soon) == 1
    times.come_round()
    assert times.soon == []


def test_what_is_turned_away_unread_gets_the_same_answer_and_is_told_once_a_turn(
    pressure: Pressure, times: Times, told: list[int]
):
    begun(pressure, times, 1000, 0.001)
    with pytest.raises(Refusal) as refused:
        pressure.enter(times.now)
    assert {pressure.unread() for _ in range(3)} == {refused.value.answer()}
    assert told == []
    times.come_round()
    assert told == [3]
    times.come_round()
    assert told == [3]


def test_a_machine_that_stood_still_refuses_nothing(pressure: Pressure, times: Times):
    begun(pressure, times, 1, 0.0)
    times.now += 10
    assert begun(pressure, times, 200, 0.0) == 0


def test_one_thing_that_takes_long_refuses_nothing(pressure: Pressure, times: Times):
    begun(pressure, times, 1, 0.0)
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
        stopped = floods(pressure, loop)
        await asyncio.sleep(0)
        return idle, held_up, stopped + floods(pressure, loop)

    def floods(pressure: Pressure, loop: asyncio.AbstractEventLoop) -> int:
        refused, now = 0, loop.time()
        for _ in range(BEGUN_MIN * 2):
            try:
                pressure.enter(now)
            except Refusal:
                refused += 1
        return refused

    idle, held_up, stopped = asyncio.run(run())
    assert (idle == 0, held_up > 0, stopped) == (True, True, 0)


def test_without_a_limit_nothing_is_refused(times: Times):
    pressure = Pressure(0.0, lambda: times.now, lambda: times.worked)
    pressure.start(cast("asyncio.AbstractEventLoop", times))
    assert begun(pressure, times, 1000, 1.0) == 0


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
