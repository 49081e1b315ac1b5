"""Hostile and broken requests are refused in OpenAI's shape, reach no upstream, and smuggle nothing behind them."""

from __future__ import annotations

import random

import pytest

from tests import wire
from tests.fake_upstream import answer
from tests.gateway.between import Between
from tests.signals import Signal

OK = wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"
SMUGGLED = b"GET /v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


async def forwarded_whole(between: Between) -> list[bytes]:
    """Targets of the requests that reached the upstream from their first byte to their last."""
    async with between.client() as client:  # what was to come is there when this is answered
        assert (await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).status == 200
    before = between.upstream.requests[:-1]
    for request in before:
        await request.settled
    return [request.target for request in before if request.complete.is_set]


LINES = {
    "both framings": (b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "both framings, the other way": (b"Transfer-Encoding: chunked", b"Content-Length: 3"),
    "two lengths that differ": (b"Content-Length: 3", b"Content-Length: 4"),
    "two lengths that agree": (b"Content-Length: 3", b"Content-Length: 3"),
    "a list of lengths": (b"Content-Length: 3, 3",),
    "a signed length": (b"Content-Length: +3",),
    "a negative length": (b"Content-Length: -3",),
    "a hexadecimal length": (b"Content-Length: 0x3",),
    "a length with a space": (b"Content-Length: 3 3",),
    "an empty length": (b"Content-Length:",),
    "a length beyond 64 bits": (b"Content-Length: 184467440737095516160",),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked",),
    "chunked twice in two lines": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "chunked is not last": (b"Transfer-Encoding: chunked, gzip",),
    "a coding nobody knows": (b"Transfer-Encoding: xchunked",),
    "identity": (b"Transfer-Encoding: identity",),
    "a coding before chunked": (b"Transfer-Encoding: gzip, chunked",),
    "a coding before chunked, in two lines": (b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"),
    "chunked with a tab before it": (b"Transfer-Encoding:\x0bchunked",),
    "a space before the colon": (b"Transfer-Encoding : chunked",),
    "a length behind a space": (b"Content-Length : 3",),
    "a folded line": (b"X: a\r\n Content-Length: 3",),
    "a folded framing line": (b"Transfer-Encoding:\r\n chunked",),
    "two kinds of body": (
        b"Content-Type: application/json",
        b"Content-Length: 0",
        b"content-type: text/plain",
    ),
    "two codings of the body": (
        b"Content-Encoding: identity",
        b"Content-Length: 0",
        b"Content-Encoding: gzip",
    ),
    "a line without a colon": (b"Content-Length",),
    "a line without a name": (b": 3",),
    "a NUL in a value": (b"X: a\0b",),
    "a NUL in a name": (b"X\0: a",),
    "a bare CR in a value": (b"X: a\rContent-Length: 3",),
    "a control character in a name": (b"X\x01: a",),
    "a space in a name": (b"X Y: a",),
    "a name that is not ASCII": (b"X\xe9: a",),
    "a head of a megabyte": tuple(b"X-%d: %b" % (n, b"v" * 1000) for n in range(1000)),
}


@pytest.mark.parametrize("name", LINES)
async def test_a_request_that_can_be_read_in_two_ways_is_refused(between: Between, name: str) -> None:
    head = between.head(b"POST /v1/files HTTP/1.1", *LINES[name])
    async with between.client() as client:
        client.put(head + b"0\r\n\r\n" + SMUGGLED)
        reply = await client.answer(b"POST")
        assert await client.ended()
    assert reply.status in {400, 431, 501}
    assert set(reply.json()["error"]) == {"message", "type", "param", "code"}
    assert reply.head.tokens(b"connection") == [b"close"]
    assert between.upstream.requests == []


STARTS = {
    "HTTP/0.9": b"GET /v1/models",
    "HTTP/1.2 with a minor of two digits": b"GET /v1/models HTTP/1.10",
    "a version far ahead": b"GET /v1/models HTTP/2.0",
    "HTTP/2 in clear": b"PRI * HTTP/2.0",
    "a version in lower case": b"GET /v1/models http/1.1",
    "two spaces": b"GET  /v1/models HTTP/1.1",
    "no target": b"GET HTTP/1.1",
    "a space in the target": b"GET /v1/a b HTTP/1.1",
    "a NUL in the target": b"GET /v1/a\0b HTTP/1.1",
    "a method nobody knows": b"SMUGGLE /v1/models HTTP/1.1",
    "a method in lower case": b"get /v1/models HTTP/1.1",
    "CONNECT": b"CONNECT api.openai.com:443 HTTP/1.1",
}


@pytest.mark.parametrize("name", STARTS)
async def test_a_start_line_that_is_not_http_is_refused(between: Between, name: str) -> None:
    async with between.client() as client:
        client.put(between.head(STARTS[name]) + SMUGGLED)
        reply = await client.answer()
    assert 400 <= reply.status <= 505
    assert between.upstream.requests == []


CHUNKS = {
    "a size that is no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "a size with 0x": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-3\r\nabc\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than its size": b"3\r\nabcd\r\n0\r\n\r\n",
    "a bare LF behind the size": b"3\nabc\r\n0\r\n\r\n",
    "a bare LF behind the data": b"3\r\nabc\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
}


@pytest.mark.parametrize(
    "kind", [b"Content-Type: application/json", b"Content-Type: x/y"], ids=["whole", "streamed"]
)
@pytest.mark.parametrize("name", CHUNKS)
async def test_broken_chunks_are_never_forwarded_as_a_whole_request(
    between: Between, name: str, kind: bytes
) -> None:
    head = between.head(b"POST /v1/files HTTP/1.1", kind, b"Transfer-Encoding: chunked")
    async with between.client() as client:
        client.put(head + CHUNKS[name] + SMUGGLED)
        while not await client.ended():
            pass
    assert await forwarded_whole(between) == []


async def test_a_body_that_ends_too_soon_is_never_forwarded_as_whole(between: Between) -> None:
    head = between.head(
        b"POST /v1/chat/completions HTTP/1.1", b"Content-Type: application/json", b"Content-Length: 50"
    )
    async with between.client() as client:
        await client.send(head + b'{"model":"gpt-4o-mini"}')
        client.end()
        while not await client.ended():
            pass
    assert await forwarded_whole(between) == []


async def test_chunks_from_an_http_1_0_client_are_refused(between: Between) -> None:
    head = between.head(b"POST /v1/files HTTP/1.0", b"Transfer-Encoding: chunked")
    async with between.client() as client:
        reply = await client.ask(head + b"0\r\n\r\n", method=b"POST")
    assert reply.status == 501
    assert between.upstream.requests == []


async def test_bytes_behind_the_last_request_do_not_cost_its_answer(between: Between) -> None:
    go = Signal("leave to answer")
    between.upstream.script(answer(go, OK))
    async with between.client() as client:
        await client.send(
            between.head(b"GET /v1/models HTTP/1.1", b"Connection: close") + b"more than announced"
        )
        await between.upstream.arrival()
        go.set()
        reply = await client.answer()
        assert await client.ended()
    assert (reply.status, bytes(reply.body)) == (200, b"ok")


async def test_what_follows_a_body_is_a_request_of_its_own(between: Between) -> None:
    between.upstream.script(answer(OK))
    head = between.head(b"POST /v1/files HTTP/1.1", b"Content-Length: 3")
    async with between.client() as client:
        await client.send(head + b"abc" + SMUGGLED)
        first = await client.answer()
        second = await client.answer()
    assert (first.status, second.status) == (200, 401)
    assert len(between.upstream.requests) == 1
    assert bytes(between.upstream.requests[0].body) == b"abc"


async def test_an_upgrade_does_not_open_a_tunnel_by_itself(between: Between) -> None:
    between.upstream.script(answer(OK), answer(OK))
    lines = (b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMAAABk")
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1", *lines))
    assert reply.status == 200
    assert between.upstream.requests[0].head.all(b"upgrade") == []
    assert between.upstream.requests[0].head.all(b"http2-settings") == []


async def test_noise_is_answered_or_closed_and_hurts_nobody(between: Between) -> None:
    noise = random.Random(5)
    for _ in range(100):
        async with between.client() as client:
            client.put(noise.randbytes(noise.randrange(1, 4000)))
            client.end()
            while not await client.ended():
                pass
    assert between.upstream.requests == []
    between.upstream.script(answer(OK))
    async with between.client() as client:
        assert (await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).status == 200


SCRAMBLED = random.Random(9)


async def test_a_request_with_any_byte_changed_is_answered_or_closed(between: Between) -> None:
    body = b'{"model":"gpt-4o-mini","messages":[]}'
    good = between.head(b"POST /v1/chat/completions HTTP/1.1", b"Content-Length: %d" % len(body)) + body
    for at in range(0, len(good), 3):
        changed = bytearray(good)
        changed[at] = SCRAMBLED.randrange(256)
        async with between.client() as client:
            client.put(bytes(changed))
            client.end()
            while not await client.ended():
                pass
    async with between.client() as client:
        assert (await client.ask(good)).status == 200


async def test_a_body_that_would_take_long_to_read_is_refused(between: Between) -> None:
    body = b'{"model":"gpt-4o-mini","messages":[' + b"[]," * 2**18 + b"1]}"
    head = between.head(
        b"POST /v1/chat/completions HTTP/1.1",
        b"Content-Type: application/json",
        b"Content-Length: %d" % len(body),
    )
    async with between.client() as client:
        reply = await client.ask(head + body)
    assert (reply.status, reply.json()["error"]["code"]) == (413, "request_too_large")
    assert between.upstream.requests == []
