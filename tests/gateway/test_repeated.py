"""A head that came before on the same connection means what it meant before, however the bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.refusal import Refusal
from proxy.gateway import repeated
from proxy.gateway.reader import RequestReader
from proxy.gateway.request import Request

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-A: 1\r\n\r\n"
OTHERS = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nX-A: 2\r\n\r\n",
    b"PUT /v1/other HTTP/1.1\r\ncontent-length:%d \r\nHost: a\r\n\r\n",
)
BODIES = (
    b"x",
    b"{}",
    b"\r\n\r\n",
    b"\r\nContent-Length: 7\r\n\r\n",
    HEAD % 3 + b"abc",
    b"0" * 300,
)


class Heard:
    """What a reader said, as one line for each request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.ended: list[bool] = []

    def request_began(self) -> None: ...

    def request_head(self, request: Request) -> None:
        self.requests.append(request)
        self.bodies.append(b"")

    def request_body(self, request: Request, data: bytes) -> None:
        assert request is self.requests[-1]
        self.bodies[-1] += data

    def request_end(self, request: Request, *, had_body: bool) -> None:
        assert request is self.requests[-1]
        self.ended.append(had_body)

    def said(self) -> list[tuple[object, ...]]:
        names = (
            "method",
            "target",
            "length",
            "received",
            "complete",
            "has_body",
            "keep_alive",
            "chunked",
            "is_json",
        )
        heads = [
            (*(getattr(each, name) for name in names), each.fields.get(b"x-a")) for each in self.requests
        ]
        return [(*head, body) for head, body in zip(heads, self.bodies, strict=True)]


def reader() -> tuple[RequestReader, Heard]:
    heard = Heard()
    return RequestReader(heard, lambda: 0.0, lambda: 0), heard


def read(pieces: list[bytes], *, anew: bool = False) -> Heard:
    """One connection's bytes; `anew`: nothing is remembered from one request to the next."""
    reading, heard = reader()
    for piece in pieces:
        if anew:
            reading._repeated = repeated.Repeated()
        rest = reading.feed(piece)
        while rest:
            rest = reading.feed(rest)
    return heard


@st.composite
def connections(draw: st.DrawFn) -> list[bytes]:
    """Requests, mostly with one head, cut anywhere."""
    heads = st.sampled_from((HEAD, HEAD, HEAD, *OTHERS))
    asked = draw(st.lists(st.tuples(heads, st.sampled_from(BODIES)), min_size=1, max_size=6))
    whole = [head % len(body) + body for head, body in asked]
    if draw(st.booleans()):
        return whole
    data = b"".join(whole)
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]


@given(connections())
def test_a_connection_reads_the_same_whether_heads_are_remembered_or_not(pieces):
    assert read(pieces).said() == read(pieces, anew=True).said()


def test_the_second_head_of_a_connection_is_not_parsed_again():
    heard = read([HEAD % 2 + b"{}", HEAD % 10 + b"0123456789"])

    first, second = heard.requests
    assert second.fields is first.fields
    assert (first.length, second.length, second.complete) == (2, 10, True)
    assert heard.bodies == [b"{}", b"0123456789"]


def test_a_body_in_pieces_is_counted_off():
    heard = read([HEAD % 2 + b"{}", HEAD % 6, b"abc", b"def" + HEAD % 1 + b"x"])

    assert heard.bodies == [b"{}", b"abcdef", b"x"]
    assert heard.ended == [True, True, True]


@pytest.mark.parametrize("digits", [b"+2", b"2x", b"0x2", b"2,2", b"-1", b"\xb2", b"", b"9" * 25])
def test_a_length_that_llhttp_refuses_is_refused_behind_a_known_head(digits):
    reading, heard = reader()
    reading.feed(HEAD % 2 + b"{}")

    with pytest.raises(Refusal):
        reading.feed(HEAD.replace(b"%d", digits) + b"{}")

    assert len(heard.requests) == 1


def test_a_request_of_no_bytes_is_llhttps_to_read():
    heard = read([HEAD % 2 + b"{}", HEAD % 0, HEAD % 1 + b"x"])

    assert [request.has_body for request in heard.requests] == [True, False, True]
    assert heard.bodies == [b"{}", b"", b"x"]


@pytest.mark.parametrize(
    "line",
    [b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Connection: close", b"Upgrade: h2c"],
)
def test_only_a_plain_head_is_remembered(line):
    reading, heard = reader()
    head = b"POST /v1/x HTTP/1.1\r\n%b\r\n" % line
    head += b"\r\n" if b"chunked" in line else b"Content-Length: 2\r\n\r\n"
    reading.feed(head + (b"2\r\n{}\r\n0\r\n\r\n" if b"chunked" in line else b"{}"))

    assert heard.requests[0].known is None


def test_what_was_made_of_a_head_is_shared_by_the_requests_that_come_with_it():
    heard = read([HEAD % 1 + b"x", HEAD % 2 + b"xy"])

    assert heard.requests[0].known is not None
    assert heard.requests[1].known is heard.requests[0].known


def test_a_client_whose_heads_differ_is_not_learned_from_for_ever():
    reading, heard = reader()
    for number in range(10):
        reading.feed(b"POST /v1/x HTTP/1.1\r\nX-Trace: %d\r\nContent-Length: 1\r\n\r\nx" % number)

    assert [request.known is not None for request in heard.requests] == [True] * repeated.TRIES_MAX + [
        False
    ] * 6
