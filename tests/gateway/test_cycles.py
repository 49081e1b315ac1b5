"""What passed by leaves nothing to the garbage collector, which is told to look seldom (cli/worker.py): no cycles."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable

import pytest

from tests.benchmarks.guarded import STREAM_HEAD, Rig, build, request
from tests.benchmarks.measure import body
from tests.benchmarks.upstream import completion, events
from tests.openai_answers import error

PLAIN = request(body())
SPLICED = request(body(stream=True))
CHUNKS = [STREAM_HEAD, *events(3, True)]
ERROR = list(error(b"429 Too Many Requests", "rate_limit_exceeded", "Slow down.", "requests"))
UNKNOWN_KEY = PLAIN.replace(b"Bearer ", b"Bearer x")


def answered(rig: Rig) -> None:
    for _ in range(3):
        rig.exchange(PLAIN, [completion()])


def streamed(rig: Rig) -> None:
    rig.exchange(SPLICED, CHUNKS)


def refused_upstream(rig: Rig) -> None:
    rig.exchange(PLAIN, ERROR)


def refused_by_us(rig: Rig) -> None:
    rig.front.data_received(UNKNOWN_KEY)
    rig.turn()


def malformed(rig: Rig) -> None:
    rig.front.data_received(b"POST /v1/chat HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
    rig.turn()


def client_gone(rig: Rig) -> None:
    rig.front.data_received(SPLICED)
    rig.turn()
    rig.connection.data_received(b"".join(CHUNKS[:2]))


def upstream_gone(rig: Rig) -> None:
    rig.front.data_received(SPLICED)
    rig.turn()
    rig.connection.data_received(b"".join(CHUNKS[:2]))
    rig.connection.connection_lost(None)


def cut_head(rig: Rig) -> None:
    rig.front.data_received(PLAIN[:40])


@pytest.mark.parametrize(
    "passes",
    [answered, streamed, refused_upstream, refused_by_us, malformed, client_gone, upstream_gone, cut_head],
    ids=lambda each: each.__name__,
)
def test_a_connection_that_ended_is_gone_without_the_collector(tmp_path, passes: Callable[[Rig], None]):
    rig = build(tmp_path)
    stays = (rig.front._pass, rig.connection._pool)
    passes(rig)
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        rig.front.connection_lost(None)
        if passes is not upstream_gone:
            rig.connection.connection_lost(None)
        rig.turn()
        rig.front = rig.connection = None  # type: ignore[assignment]
        gc.collect()
        left = Counter(
            type(each).__name__ for each in gc.garbage if type(each).__module__.startswith("proxy.")
        )
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        if enabled:
            gc.enable()

    assert stays
    assert not left
