"""The benchmark's own parts: a figure is worth what counts it."""

from __future__ import annotations

import os
import time

import pytest

from tests.benchmarks import run
from tests.benchmarks.cpu import cpu_s
from tests.benchmarks.load import Job, Latencies, pace, saturate
from tests.benchmarks.measure import body
from tests.benchmarks.upstream import BODY_BYTES, completion, events
from tests.fake_upstream import FakeUpstream, answer
from tests.openai_answers import error
from tests.wire import Body


@pytest.fixture
def upstream():
    with FakeUpstream.running() as running:
        yield running


def job(upstream: FakeUpstream) -> Job:
    return Job(f"{upstream.url}/v1/chat/completions", body(), "k")


def test_closed_load_counts_every_answer_and_every_error(upstream):
    upstream.script(*(answer(*error(b"500 Busy", None, "No.")) for _ in range(3)))
    seconds = 0.2
    loaded = saturate(job(upstream), connections=4, seconds=seconds, own=True)
    assert loaded.requests == len(upstream.requests) >= 4
    assert (loaded.errors, len(upstream.connections)) == (3, 4)
    while (
        loaded.requests == 4
    ):  # the machine had no time for us: nobody was answered soon enough to ask again
        before, seconds = len(upstream.requests), seconds * 2
        assert seconds < 30
        loaded = saturate(job(upstream), connections=4, seconds=seconds, own=True)
        assert (loaded.requests, loaded.errors) == (len(upstream.requests) - before, 0)
    assert {bytes(request.body) for request in upstream.requests} == {body()}


def test_paced_load_sends_just_what_was_scheduled(upstream):
    found = pace(job(upstream), per_second=200, seconds=0.25, connections=2)
    assert len(found.values) == len(upstream.requests) == 50
    assert found.errors == 0
    assert all(value > 0 for value in found.values)


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.5, 51.0), (0.99, 100.0), (1.0, 100.0)])
def test_quantiles_are_values_that_were_measured(share, value):
    assert Latencies([float(n) for n in range(100, 0, -1)]).quantile(share) == value


def test_cpu_time_grows_with_work():
    before, end = cpu_s(os.getpid()), time.process_time() + 0.2
    while time.process_time() < end:
        sum(range(10_000))
    assert 0.15 < cpu_s(os.getpid()) - before < 1


@pytest.mark.parametrize(("usage", "count"), [(False, 101), (True, 102)])
def test_the_upstreams_stream_is_well_framed(usage, count):
    body = Body("chunked")
    payload, rest = body.feed(b"".join(events(100, usage)))
    assert (payload.count(b"data: "), rest, body.done) == (count, b"", True)
    assert payload.endswith(b"data: [DONE]\n\n")
    assert (b'"usage"' in payload) is usage


def test_the_upstreams_answer_is_as_long_as_it_says():
    head, _, body = completion().partition(b"\r\n\r\n")
    assert len(body) == BODY_BYTES
    assert b"Content-Length: 600" in head


def test_a_report_goes_between_its_markers_and_nowhere_else():
    begin, end = run.MARKERS
    document = f"before\n{begin}\nold\n{end}\nafter\n"
    assert run.updated(document, "new\n") == f"before\n{begin}\nnew\n{end}\nafter\n"
    with pytest.raises(AssertionError, match="no line"):
        run.updated("no markers", "new\n")
