"""A head of a known shape is read as if it were searched line by line, whatever its values are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.answerhead import FramingError, ResponseHead, parse_head
from proxy.core.headshape import LEARNED_MAX, SHAPES_MAX, Shapes

PLAIN = (
    b"HTTP/1.1 200 OK\r\nDate: Tue, 20 Oct 2026 07:28:00 GMT\r\nContent-Type: application/json\r\n"
    b"Content-Length: 12\r\nX-Request-ID: req_1\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nConnection: %b\r\n\r\n"


def said(read: tuple[ResponseHead, int] | None) -> object:
    """All that a head says, and how it goes to a client."""
    if read is None:
        return None
    head, used = read
    rendered = [head.render(b"x-ours: 1\r\n", reframed=reframed) for reframed in (False, True)]
    return head.raw, head.status, head.http_1_0, head.fields, head.keep_alive, rendered, used


def outcome(read: object, data: bytes) -> object:
    try:
        return said(read(data))  # type: ignore[operator]
    except FramingError as error:
        return str(error)


LINES = st.sampled_from(
    [
        b"Content-Length: 5",
        b"content-length:  7 ",
        b"Content-Length : 5",
        b"Transfer-Encoding: chunked",
        b"Connection: keep-alive",
        b"Connection: close, X-Private",
        b"Connection:",
        b"X-Private: 1",
        b"X-Quota-Limit-Cost: 1",
        b"Content-Type: text/plain\n",
        b"X-B: 1\nContent-Length: 9",
        b"X-B: 1\rConnection: close",
        b" folded",
        b"no colon",
        b"upgrade",
        b"X-Empty:",
        b"",
    ]
)
HEADS = st.tuples(
    st.sampled_from([b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 100 Continue", b"HTTP/2 200"]),
    st.lists(LINES, max_size=4),
    st.sampled_from([b"\r\n\r\n", b"\r\n\r\nbody", b"\r\n", b"\n\r\n"]),
).map(lambda parts: b"\r\n".join((parts[0], *parts[1])) + parts[2])  # fmt: skip


@given(st.lists(HEADS, max_size=12))
def test_what_is_remembered_changes_nothing(heads):
    shapes = Shapes()

    for data in heads:
        assert outcome(shapes.read, data) == outcome(parse_head, data)


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=6))
def test_no_value_makes_a_difference(values):
    shapes = Shapes()

    for shown, length in [(b"1", b"2"), *values]:
        data = b"HTTP/1.1 200 OK\r\nX-Shown: %b\r\nContent-Length: %b\r\nX-Quota: 1\r\n\r\nrest" % (
            shown,
            length,
        )
        assert outcome(shapes.read, data) == outcome(parse_head, data)


def test_a_head_like_the_one_before_is_matched_and_not_searched(monkeypatch):
    shapes = Shapes()
    shapes.read(PLAIN)
    monkeypatch.setattr("proxy.core.headshape.parse_head", None)

    other = PLAIN.replace(b"req_1", b"req_22").replace(b"12", b"9").replace(b"07:28", b"08:00")
    read = shapes.read(other + b"{}")

    assert read is not None
    head, used = read
    assert used == len(other)
    assert head.fields == {
        b"content-type": b"application/json",
        b"content-length": b"9",
        b"x-request-id": b"req_22",
    }


def test_several_kinds_of_heads_are_known_at_once(monkeypatch):
    shapes = Shapes()
    for data in (PLAIN, STREAM % b"keep-alive"):
        shapes.read(data)
    monkeypatch.setattr("proxy.core.headshape.parse_head", None)

    kept = [shapes.read(data) for data in (PLAIN, STREAM % b"close", STREAM % b"keep-alive", PLAIN)]

    assert [read is not None and read[0].keep_alive for read in kept] == [True, False, True, True]


def test_only_so_many_kinds_are_remembered_and_learned():
    shapes = Shapes()
    for number in range(LEARNED_MAX):
        shapes.read(b"HTTP/1.1 200 OK\r\nX-%d: 1\r\n\r\n" % number)
    last = list(shapes._shapes)

    shapes.read(PLAIN)

    assert len(last) == SHAPES_MAX
    assert shapes._shapes == last


@pytest.mark.parametrize("cut", range(0, len(PLAIN), 7))
def test_a_head_that_has_not_come_whole_is_waited_for(cut):
    shapes = Shapes()
    shapes.read(PLAIN)

    assert shapes.read(PLAIN[:cut]) is None
