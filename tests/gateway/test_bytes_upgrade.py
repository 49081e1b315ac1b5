"""WebSocket upgrades: a tunnel for every byte after the handshake, opened only when both sides agree."""

from __future__ import annotations

import base64

import pytest

from tests import wire
from tests.fake_upstream import answer, close, echo
from tests.gateway.between import Between, passed_on
from tests.signals import Signal

OK = wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"
JSON = b"Content-Type: application/json"
SWITCHED = wire.head(
    b"HTTP/1.1 101 Switching Protocols",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    b"Sec-WebSocket-Protocol: realtime",
)
HANDSHAKE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: " + base64.b64encode(b"0123456789abcdef"),
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
)


async def test_a_websocket_becomes_a_tunnel(between: Between) -> None:
    between.upstream.script(answer(SWITCHED, echo))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/realtime?model=gpt-realtime HTTP/1.1", *HANDSHAKE))
        reply = await client.answer_head()
        assert reply.status == 101
        assert reply.head.tokens(b"upgrade") == [b"websocket"]
        assert reply.head.tokens(b"connection") == [b"upgrade"]
        assert passed_on(reply.head) == [
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            b"Sec-WebSocket-Protocol: realtime",
        ]
        for frame in (
            b"\x81\x85\1\2\3\4abcde",
            b"GET /v1/models HTTP/1.1\r\n\r\n",
            b"\x82\xfe" + b"\0" * 70_000,
        ):
            await client.send(frame)
            got = b""
            while len(got) < len(frame):
                got += await client.some()
            assert got == frame
        request = between.upstream.requests[0]
        assert request.head.all(b"sec-websocket-extensions") == [
            b"permessage-deflate; client_max_window_bits"
        ]
        assert request.head.tokens(b"upgrade") == [b"websocket"]
        client.hang_up()
        await request.connection.lost


async def test_frames_that_follow_the_handshake_at_once_are_not_lost(between: Between) -> None:
    between.upstream.script(answer(SWITCHED + b"\x81\x02hi", echo))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/realtime?model=m HTTP/1.1", *HANDSHAKE) + b"early")
        reply = await client.answer_head()
        got = b""
        while len(got) < 9:
            got += await client.some()
    assert reply.status == 101
    assert got == b"\x81\x02hiearly"


async def test_the_end_of_a_tunnel_reaches_the_client(between: Between) -> None:
    go = Signal("leave to close")
    between.upstream.script(answer(SWITCHED, b"\x88\x02\x03\xe8", go, close))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/realtime?model=m HTTP/1.1", *HANDSHAKE))
        assert (await client.answer_head()).status == 101
        assert await client.some() == b"\x88\x02\x03\xe8"
        go.set()
        assert await client.ended()


async def test_a_refused_upgrade_is_an_ordinary_answer(between: Between) -> None:
    raw = wire.head(b"HTTP/1.1 403 Forbidden", JSON, b"Content-Length: 2")
    between.upstream.script(answer(raw + b"{}"), answer(OK))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/realtime?model=m HTTP/1.1", *HANDSHAKE))
    assert (reply.status, bytes(reply.body)) == (403, b"{}")


async def test_a_browser_s_key_in_the_subprotocol_is_swapped(between: Between) -> None:
    between.upstream.script(answer(SWITCHED, echo))
    offered = b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.%b, openai-beta.realtime-v1"
    sent = wire.head(
        b"GET /v1/realtime?model=m HTTP/1.1", b"Host: a", *HANDSHAKE, offered % between.key.encode()
    )
    async with between.client() as client:
        await client.send(sent)
        assert (await client.answer_head()).status == 101
    request = await between.upstream.arrival()
    assert request.head.all(b"sec-websocket-protocol") == [
        b"realtime, openai-insecure-api-key.sk-the-accounts-own-key, openai-beta.realtime-v1"
    ]
    assert between.key.encode() not in request.head.raw


async def test_protocols_are_not_switched_unasked(between: Between) -> None:
    between.upstream.script(answer(SWITCHED))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert reply.status == 502


JDK = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB")
"""What the JDK's HTTP client sends with the first request of a connection without TLS, and curl with --http2."""
CHAT = b'{"model":"gpt-4o-mini","messages":[]}'
FRAMED = {
    "a length": (b"Content-Length: %d" % len(CHAT), CHAT, ()),
    "chunks": (b"Transfer-Encoding: chunked", b"5\r\n%b\r\n%x\r\n%b\r\n0\r\nX-Sum: 7\r\n\r\n" % (CHAT[:5], len(CHAT) - 5, CHAT[5:]), (b"X-Sum: 7",)),
}  # fmt: skip


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("target", [b"/v1/chat/completions", b"/v1/files"])
@pytest.mark.parametrize("framing", FRAMED)
async def test_a_request_whose_upgrade_is_not_made_keeps_its_body(
    between: Between, framing: str, target: bytes, pieces: bool
) -> None:
    line, body, trailers = FRAMED[framing]
    between.upstream.script(answer(OK), answer(OK))
    sent = between.head(b"POST " + target + b" HTTP/1.1", JSON, line, *JDK) + body
    sent += between.head(b"GET /v1/models HTTP/1.1")
    async with between.client() as client:
        for piece in [sent[at : at + 7] for at in range(0, len(sent), 7)] if pieces else [sent]:
            await client.send(piece)
        assert [bytes((await client.answer()).body) for _ in range(2)] == [b"ok", b"ok"]
        assert bytes((await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).body) != b""
    first, second, third = between.upstream.requests
    assert (first.target, bytes(first.body)) == (target, CHAT)
    assert first.framing.trailers == trailers
    assert first.head.all(b"upgrade") == []
    assert (second.target, third.target) == (b"/v1/models", b"/v1/models")


async def test_a_websocket_handshake_with_a_body_is_refused(between: Between) -> None:
    length = b"Content-Length: 3"
    async with between.client() as client:
        client.put(between.head(b"GET /v1/realtime?model=gpt-realtime HTTP/1.1", *HANDSHAKE, length) + b"abc")
        reply = await client.answer()
        assert await client.ended()
    assert (reply.status, reply.json()["error"]["code"]) == (400, "invalid_http")
    assert between.upstream.requests == []
