"""What the upstream answers reaches the client byte for byte: status line, header lines in order, body, trailers."""

from __future__ import annotations

import gzip
import hashlib
import random
import zlib

import brotli
import pytest

from tests import openai_answers, wire
from tests.fake_upstream import answer, close, flushed
from tests.gateway.between import Between, lines_without_hops, passed_on
from tests.raw_client import RawAnswer
from tests.wire import Head

BINARY = random.Random(11).randbytes(300_000)
JSON = b"Content-Type: application/json"
SSE = b"Content-Type: text/event-stream; charset=utf-8"
EVENTS = b': note\r\ndata: {"a":1}\n\nevent: x\rdata: 1\rdata: 2\r\r\xef\xbb\xbfdata: [DONE]\n\nid: 7\ndata'  # fmt: skip


def framed(body: bytes) -> bytes:
    return b"Content-Length: %d" % len(body)


async def exchange(between: Between, raw: bytes, method: bytes = b"GET", ends: bool = False) -> RawAnswer:
    """Let the upstream answer exactly `raw` and return what the client read."""
    between.upstream.script(answer(raw, close) if ends else answer(raw))
    async with between.client() as client:
        return await client.ask(between.head(method + b" /v1/models HTTP/1.1", b"Content-Length: 0"))


def same(reply: RawAnswer, raw: bytes, body: bytes) -> None:
    """The reply's head has the lines of `raw` in their order, and its body is `body`."""
    sent = Head.parse(raw[: raw.index(b"\r\n\r\n") + 4])
    assert reply.head.start == sent.start
    assert passed_on(reply.head) == lines_without_hops(sent)
    assert (len(reply.body), reply.digest) == (len(body), hashlib.sha256(body).hexdigest())
    assert not reply.cut


STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200 ",
    b"HTTP/1.1 200 Alles klar (so weit) \xe2\x9c\x93",
    b"HTTP/1.1 201 Created",
    b"HTTP/1.1 202 Accepted",
    b"HTTP/1.1 299 Whatever",
    b"HTTP/1.1 302 Found",
    b"HTTP/1.1 307 Temporary Redirect",
    b"HTTP/1.1 400 Bad Request",
    b"HTTP/1.1 401 Unauthorized",
    b"HTTP/1.1 404 not found",
    b"HTTP/1.1 409 Conflict",
    b"HTTP/1.1 418 I'm a teapot",
    b"HTTP/1.1 429 Too Many Requests",
    b"HTTP/1.1 499 Gone",
    b"HTTP/1.1 500 Internal Server Error",
    b"HTTP/1.1 503 Service Unavailable",
    b"HTTP/1.1 520 Web Server Returned an Unknown Error",
    b"HTTP/1.1 999 Beyond",
]


@pytest.mark.parametrize("line", STATUS_LINES)
async def test_a_status_line_passes_untouched(between: Between, line: bytes) -> None:
    raw = wire.head(line, JSON, framed(b"{}")) + b"{}"
    same(await exchange(between, raw), raw, b"{}")


async def test_a_status_line_may_end_at_the_code(between: Between) -> None:
    raw = wire.head(b"HTTP/1.1 200", framed(b"{}")) + b"{}"
    reply = await exchange(between, raw)
    assert reply.head.start.rstrip(b" ") == b"HTTP/1.1 200"
    assert reply.body == b"{}"


HEADS = {
    "OpenAI's": (*openai_answers.HEADERS, JSON),
    "duplicates": (b"Set-Cookie: a=1", b"X: 1", b"set-cookie: b=2", b"X: 1", b"Set-Cookie: a=1"),
    "case and space": (b"X-lOwEr:no space", b"UPPER:   three", b"x-trail: space \t", b"X-Empty:", b"X-Tab:\ta\tb"),
    "odd bytes": (b"X-Latin: caf\xe9", b"X-Utf8: \xf0\x9f\x91\x8b", b'X-Q: "a\\"b"', b"!#$%&'*+-.^_`|~: t"),
    "names that are almost hop-by-hop": (b"Connections: 1", b"X-Connection: 2", b"Upgrade-Insecure: 3", b"Tea: 4"),
    "security and caching": (b"Strict-Transport-Security: max-age=1", b'Alt-Svc: h3=":443"', b"Via: 2 x", b"Age: 0"),
    "a large head": tuple(b"X-%d: %s" % (n, b"v" * 900) for n in range(60)),
    "a long line": (b"X-Long: " + b"y" * 60_000,),
    "rate limits": (b"retry-after: 2", b"retry-after-ms: 1500", b"x-should-retry: true", b"x-ratelimit-reset-tokens: 6m0s"),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
async def test_header_lines_pass_untouched(between: Between, name: str) -> None:
    raw = wire.head(b"HTTP/1.1 200 OK", *HEADS[name], framed(b"{}")) + b"{}"
    same(await exchange(between, raw), raw, b"{}")


async def test_hop_by_hop_headers_end_here(between: Between) -> None:
    lines = (
        b"Connection: X-Hop",
        b"X-Hop: 1",
        b"Keep-Alive: timeout=5",
        b"Proxy-Authenticate: Basic",
        b"X-End: 2",
    )
    raw = wire.head(b"HTTP/1.1 200 OK", *lines, framed(b"{}")) + b"{}"
    reply = await exchange(between, raw)
    assert passed_on(reply.head) == [b"X-End: 2", framed(b"{}")]
    assert reply.head.all(b"keep-alive") == reply.head.all(b"proxy-authenticate") == []


async def test_the_upstream_can_not_speak_for_the_proxy(between: Between) -> None:
    lines = (b"X-Proxy-Request-Id: forged", b"x-quota-remaining-tokens: 9", b"X-End: 2")
    reply = await exchange(between, wire.head(b"HTTP/1.1 200 OK", *lines, framed(b"")))
    assert passed_on(reply.head) == [b"X-End: 2", framed(b"")]


BODIES = {
    "JSON": (JSON, b'{ "a" : 1.0,\r\n\t"b":"\\u00e9\xc3\xa9" }\n'),
    "JSON that is none": (JSON, b"{]\xff"),
    "empty": (JSON, b""),
    "one byte": (b"Content-Type: text/plain", b"\0"),
    "binary": (b"Content-Type: audio/mpeg", BINARY),
    "JSONL": (b"Content-Type: application/jsonl", b'{"a":1}\n{"b":2}\r\n'),
    "events": (SSE, EVENTS),
    "gzip": (JSON + b"\r\nContent-Encoding: gzip", gzip.compress(b'{"usage":{"total_tokens":3}}', mtime=0)),
    "gzip that is none": (JSON + b"\r\nContent-Encoding: gzip", b"\x1f\x8b not gzip"),
    "deflate": (JSON + b"\r\nContent-Encoding: deflate", zlib.compress(b'{"usage":{"total_tokens":3}}')),
    "br": (JSON + b"\r\nContent-Encoding: br", brotli.compress(b'{"usage":{"total_tokens":3}}')),
    "gzipped events": (SSE + b"\r\nContent-Encoding: gzip", gzip.compress(EVENTS, mtime=0)),
    "an encoding nobody knows": (JSON + b"\r\nContent-Encoding: x-own", b"??"),
    "no type": (b"X-Nothing: 1", BINARY[:100]),
    "what looks like an answer": (
        b"Content-Type: text/plain",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ),
}


@pytest.mark.parametrize("framing", ["length", "chunked", "until close"])
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_passes_untouched(between: Between, name: str, framing: str) -> None:
    lines, body = BODIES[name]
    raw = {
        "length": lambda: wire.head(b"HTTP/1.1 200 OK", lines, framed(body), b"X-End: 1") + body,
        "chunked": lambda: (
            wire.head(b"HTTP/1.1 200 OK", lines, b"Transfer-Encoding: chunked", b"X-End: 1")
            + wire.chunked(wire.cut(body, 999))
        ),
        "until close": lambda: wire.head(b"HTTP/1.1 200 OK", lines, b"Connection: close", b"X-End: 1") + body,
    }[framing]()
    same(await exchange(between, raw, ends=framing == "until close"), raw, body)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096, 65_536, 1_048_576])
async def test_answer_chunks_of_any_size_pass_with_their_boundaries(between: Between, size: int) -> None:
    body = BINARY * 7 if size > 4096 else BINARY[:5000]
    raw = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: audio/mpeg", b"Transfer-Encoding: chunked")
    reply = await exchange(between, raw + wire.chunked(wire.cut(body, size)))
    same(reply, raw, body)
    assert reply.framing.chunk_sizes == [len(piece) for piece in wire.cut(body, size)]


@pytest.mark.parametrize("size", [1, 5, 64])
async def test_an_answer_that_comes_in_pieces_is_the_same_answer(between: Between, size: int) -> None:
    raw = wire.head(b"HTTP/1.1 200 OK", *openai_answers.HEADERS, b"Transfer-Encoding: chunked")
    whole = raw + wire.chunked((b"ab", b"c" * 300, b"d"), trailers=(b"X-T: 1",))
    steps = [step for piece in wire.cut(whole, size) for step in (piece, flushed)]
    between.upstream.script(answer(*steps))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    same(reply, raw, b"ab" + b"c" * 300 + b"d")
    assert reply.framing.trailers == (b"X-T: 1",)


async def test_trailers_and_chunk_extensions_pass(between: Between) -> None:
    raw = wire.head(b"HTTP/1.1 200 OK", b"Trailer: X-Sum, x-more", b"Transfer-Encoding: chunked")
    body = wire.chunked(
        (b"abc", b"de"), trailers=(b"X-Sum: 1", b"x-more:  2"), extension=b';k="v;w"', upper=True
    )
    reply = await exchange(between, raw + body)
    same(reply, raw, b"abcde")
    assert reply.framing.trailers == (b"X-Sum: 1", b"x-more:  2")
    assert reply.head.all(b"trailer") == [b"X-Sum, x-more"]


@pytest.mark.parametrize("lines", [(b"Content-Length: 4321",), (b"Transfer-Encoding: chunked",), ()])
async def test_head_has_the_headers_and_no_body(between: Between, lines: tuple[bytes, ...]) -> None:
    raw = wire.head(b"HTTP/1.1 200 OK", JSON, *lines, b"X-End: 1")
    between.upstream.script(answer(raw))
    async with between.client() as client:
        reply = await client.ask(between.head(b"HEAD /v1/models HTTP/1.1"))
        same(reply, raw, b"")
        again = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert again.status == 200
    assert between.upstream.requests[0].method == b"HEAD"


@pytest.mark.parametrize("line", [b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"])
@pytest.mark.parametrize("lines", [(), (b'ETag: "x"', b"Content-Length: 99")], ids=["bare", "with a length"])
async def test_answers_without_a_body_by_status(
    between: Between, line: bytes, lines: tuple[bytes, ...]
) -> None:
    raw = wire.head(line, *lines)
    between.upstream.script(answer(raw))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        same(reply, raw, b"")
        again = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert again.status == 200


async def test_an_http_1_0_upstream_is_understood(between: Between) -> None:
    between.upstream.script(answer(b"HTTP/1.0 200 OK\r\nX: 1\r\n\r\nold", close))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert (reply.status, bytes(reply.body), reply.cut) == (200, b"old", False)
    assert passed_on(reply.head) == [b"X: 1"]


@pytest.mark.parametrize("interim", [b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\nlink: </b>\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n"])  # fmt: skip
async def test_interim_answers_pass(between: Between, interim: bytes) -> None:
    raw = wire.head(b"HTTP/1.1 200 OK", framed(b"ok"))
    reply = await exchange(between, interim * 2 + raw + b"ok")
    assert [head.start for head in reply.interim] == [interim.split(b"\r\n")[0]] * 2
    assert reply.interim[0].lines == Head.parse(interim).lines
    same(reply, raw, b"ok")


async def test_sixty_four_megabytes_pass_unharmed(between: Between) -> None:
    body = BINARY[:262_144] * 256
    raw = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: video/mp4", framed(body))
    steps = [step for piece in wire.cut(body, 1 << 20) for step in (piece, flushed)]
    between.upstream.script(answer(raw, *steps))
    between.proxy.forget_peak()
    before = between.proxy.resident_bytes()
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/files/f/content HTTP/1.1"))
    same(reply, raw, body)
    assert between.proxy.peak_bytes() - before < 16 << 20
