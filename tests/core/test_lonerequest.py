"""What may be answered unread: what every reader of HTTP takes for one whole request, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.lonerequest import HEAD_MAX_BYTES, stands_alone
from proxy.core.refusal import Refusal
from proxy.gateway.reader import RequestReader
from proxy.gateway.request import Request

BODY = b'{"model":"gpt-4o-mini"}'
LINES = [
    b"Host: x",
    b"Authorization: Bearer sk-proxy-1",
    b"Content-Type: application/json",
    b"Content-Length: 23",
]


def asked(*lines: bytes, body: bytes = BODY, start: bytes = b"POST /v1/chat/completions HTTP/1.1") -> bytes:
    return b"\r\n".join([start, *(lines or LINES)]) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "data",
    [
        asked(),
        asked(*LINES, b"Connection: keep-alive"),
        asked(*LINES, b"connection:Keep-Alive "),
        asked(b"content-length:0", body=b""),
        asked(*LINES, b"X-Empty:", b"X-Tag: \xc3\xa4"),
        asked(start=b"POST /v1/chat/completions?a=b HTTP/1.1"),
    ],
)
def test_a_whole_request_stands_alone(data: bytes):
    assert stands_alone(data)


@pytest.mark.parametrize(
    "data",
    [
        asked()[:-1],
        asked() + b"P",
        asked() + asked(),
        asked()[:40],
        b"",
        asked(start=b"GET /v1/models HTTP/1.1"),
        asked(start=b"HEAD /v1/models HTTP/1.1"),
        asked(start=b"OPTIONS /v1/models HTTP/1.1"),
        asked(start=b"POST /admin/users HTTP/1.1"),
        asked(start=b"POST http://x/v1/chat/completions HTTP/1.1"),
        asked(start=b"POST /v1/chat/completions HTTP/1.0"),
        asked(*LINES, b"Connection: close"),
        asked(*LINES, b"Connection: keep-alive, close"),
        asked(*LINES, b"Connection: Upgrade", b"Upgrade: websocket"),
        asked(*LINES, b"Upgrade: h2c"),
        asked(*LINES, b"Transfer-Encoding: chunked"),
        asked(*LINES[:3], b"transfer-encoding:chunked"),
        asked(*LINES, b"Expect: 100-continue"),
        asked(*LINES, b"Origin: https://example.com"),
        asked(*LINES, b"Content-Length: 23"),
        asked(*LINES, b"CONTENT-LENGTH: 22"),
        asked(*LINES[:3], b"Content-Length: 23, 23"),
        asked(*LINES[:3], b"Content-Length: +23"),
        asked(*LINES[:3], b"Content-Length: 000000023"),
        asked(*LINES[:3]),
        asked(*LINES[:3], b"Content-Length : 23"),
        asked(*LINES, b"X-Folded: a", b" b"),
        asked(*LINES, b"X-Bare: a\rb"),
        asked(*LINES, b"X-Nul: \0"),
        asked(*LINES, b"X-Long: " + b"a" * HEAD_MAX_BYTES),
        asked().replace(b"\r\n", b"\n"),
    ],
)
def test_whatever_else_it_may_be_goes_the_long_way(data: bytes):
    assert not stands_alone(data)


class Seen:
    """What a reader made of the bytes."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.ended = 0

    def request_began(self) -> None:
        pass

    def request_head(self, request: Request) -> None:
        self.requests.append(request)

    def request_body(self, request: Request, data: bytes) -> None:
        pass

    def request_end(self, request: Request, *, had_body: bool) -> None:
        self.ended += 1


PIECES = st.sampled_from(
    [b"Content-Length: ", b"content-length:", b"23", b"0", b"\r\n", b"\r\n\r\n", b"\n", b" ", b":", b"Connection: ", b"close",
     b"keep-alive", b"Transfer-Encoding: chunked", b"Expect: 100-continue", b"Upgrade: x", BODY, b"GET / HTTP/1.1", b"X", b"\t",
     b"POST /v1/a HTTP/1.1"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=12), st.integers(0, 4))
def test_what_stands_alone_the_reader_takes_for_one_whole_request(pieces: list[bytes], place: int):
    lines = [*LINES[:place], b"".join(pieces), *LINES[place:]]
    data = asked(*lines)
    if stands_alone(data):
        seen = Seen()
        try:
            RequestReader(seen, lambda: 0.0, lambda: 0).feed(data)
        except Refusal:
            return  # refused otherwise, but never as two
        (request,) = seen.requests
        assert (seen.ended, request.keep_alive, request.websocket, request.chunked) == (1, True, False, False)
        assert request.method == b"POST"
