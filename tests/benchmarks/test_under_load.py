"""The benchmark under load: its upstream tells the time rightly, its clients count everything."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import pytest

from tests.benchmarks.house import stage
from tests.benchmarks.load import Job
from tests.benchmarks.measure import CHAT, body
from tests.benchmarks.run import table
from tests.benchmarks.timed import Asker, Flooded, flood, stream, transfer
from tests.benchmarks.under_load import connections
from tests.certificates import Authority
from tests.fake_upstream import FakeUpstream, answer
from tests.openai_answers import error


@pytest.fixture(scope="module")
def upstream() -> Iterator[str]:
    with stage() as url:
        yield url


def test_every_event_of_every_stream_is_timed(upstream: str):
    found = stream(Job(f"{upstream}/v1/chat/completions?chunks=20&gap_ms=2", b"{}", "k"), 5)
    assert (len(found.first.values), found.first.errors, len(found.held.values)) == (5, 0, 100)
    assert all(value > 0 for value in found.held.values + found.first.values + found.gaps.values)


def test_what_is_to_be_done_meanwhile_is_done_while_all_streams_run(upstream: str):
    seen = []
    stream(Job(f"{upstream}/?chunks=2&gap_ms=50", b"{}", "k"), 3, lambda: seen.append("now"))
    assert seen == ["now"]


def test_a_flood_is_what_was_scheduled_and_refusals_are_told_apart():
    with FakeUpstream.running() as upstream:
        upstream.script(*(answer(*error(b"503 Busy", "overloaded", "No.")) for _ in range(3)))
        found = flood(Job(upstream.url + CHAT, body(), "k"), per_second=100, seconds=0.5, connections=4)
        assert len(found.refused.values) == 3
        assert found.refusals == {"503": 3}
        assert len(found.answered.values) + 3 == len(upstream.requests)
        assert 3 < len(upstream.requests) + found.dropped <= 51


def test_a_head_that_ends_in_a_zero_is_not_taken_for_a_whole_answer():
    found, idle = Flooded(), deque()
    asker = Asker(b"", found, idle)
    ends = []
    for data in (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Left: 10\r\n\r\n",
        b"2\r\nhi\r\n",
        b"0\r\n\r\n",
    ):
        asker.data_received(data)
        ends.append(len(idle))
    assert (ends, len(found.answered.values), found.refusals) == ([0, 0, 1], 1, {})


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
def test_bodies_go_both_ways(upstream: str, kind: str):
    received, seconds = transfer(f"{upstream}/v1/files?bytes=300000", "k", send=200_000, kind=kind)
    assert received > 300_000
    assert seconds > 0


def test_connections_of_the_upstream_are_counted_under_tls_too(tmp_path):
    authority = Authority(tmp_path)
    with stage(*authority.files("localhost")) as url:
        first = connections(url, authority)
        assert connections(url, authority) == first + 1


def test_a_table_is_markdown():
    assert table([["a", "b"], ["c", "1"]]) == "| a | b |\n|---|---:|\n| c | 1 |"
