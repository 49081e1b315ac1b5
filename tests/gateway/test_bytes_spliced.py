"""A stream that the proxy asked usage for looks, byte for byte, as if it had not; the request differs by one member."""

from __future__ import annotations

import json

import pytest

from tests import openai_answers, wire
from tests.fake_upstream import answer, flushed
from tests.gateway.between import Between, passed_on
from tests.signals import Signal
from tests.wire import Body, Head

CHAT, COMPLETIONS = b"/v1/chat/completions", b"/v1/completions"
BODIES = {
    "chat": (CHAT, b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}],"stream":true}'),
    "chat, spaced": (CHAT, b'{ "stream" : true ,\r\n "model":"gpt-4o-mini", "messages": [ ] }\n'),
    "chat with other options": (
        CHAT,
        b'{"model":"gpt-4o-mini","messages":[],"stream_options":{"include_obfuscation":false},"stream":true}',
    ),
    "chat with empty options": (
        CHAT,
        b'{"model":"gpt-4o-mini","messages":[],"stream":true,"stream_options":{}}',
    ),
    "completion": (COMPLETIONS, b'{"model":"gpt-3.5-turbo-instruct","prompt":"Once","stream":true}'),
}
ASKED = b'{"model":"gpt-4o-mini","messages":[],"stream":true,"stream_options":{"include_usage":true}}'


def body_of(pieces: tuple[bytes, ...]) -> bytes:
    """The decoded body of an answer."""
    raw = b"".join(pieces)
    return Body("chunked").feed(raw[raw.index(b"\r\n\r\n") + 4 :])[0]


def request(between: Between, path: bytes, body: bytes) -> bytes:
    lines = (b"Content-Type: application/json", b"Accept-Encoding: gzip", b"Content-Length: %d" % len(body))
    return between.head(b"POST " + path + b" HTTP/1.1", *lines) + body


@pytest.mark.parametrize("name", BODIES)
async def test_the_answer_is_what_openai_would_have_sent(between: Between, name: str) -> None:
    path, body = BODIES[name]
    async with between.client() as client:
        reply = await client.ask(request(between, path, body))
    unasked = openai_answers.answer(b"POST", path, body)
    assert bytes(reply.body) == body_of(unasked)
    assert b"usage" not in reply.body
    assert passed_on(reply.head) == [
        line for line in Head.parse(unasked[0]).lines if not line.startswith(b"Transfer-Encoding")
    ]
    sent = between.upstream.requests[0]
    asked = json.loads(sent.body)
    assert asked["stream_options"].pop("include_usage") is True
    expected = json.loads(body)
    assert asked == expected | {"stream_options": expected.get("stream_options", {})}
    assert sent.head.all(b"accept-encoding") == [b"identity"]
    assert sent.head.all(b"content-length") == [b"%d" % len(sent.body)]


@pytest.mark.parametrize("size", [1, 7, 100, 1_000_000])
async def test_the_answer_does_not_depend_on_how_the_stream_was_cut(between: Between, size: int) -> None:
    path, body = BODIES["chat"]
    head, *events = openai_answers.answer(b"POST", CHAT, ASKED)
    payload = body_of((head, *events))
    framed = wire.chunked(wire.cut(payload, size))
    between.upstream.script(
        answer(head, *(step for piece in wire.cut(framed, 500) for step in (piece, flushed)))
    )
    async with between.client() as client:
        reply = await client.ask(request(between, path, body))
    assert bytes(reply.body) == body_of(openai_answers.answer(b"POST", CHAT, body))


async def test_a_client_that_asks_for_usage_itself_gets_every_byte(between: Between) -> None:
    async with between.client() as client:
        reply = await client.ask(request(between, CHAT, ASKED))
    assert bytes(reply.body) == body_of(openai_answers.answer(b"POST", CHAT, ASKED))
    assert bytes(between.upstream.requests[0].body) == ASKED
    assert between.upstream.requests[0].head.all(b"accept-encoding") == [b"gzip"]


async def test_each_event_of_a_spliced_stream_passes_at_once(between: Between) -> None:
    path, body = BODIES["chat"]
    head, *events = openai_answers.answer(b"POST", CHAT, ASKED)
    shown = openai_answers.answer(b"POST", CHAT, body)
    gates = [Signal("leave for an event") for _ in events]
    steps = [step for pair in zip(gates, events, strict=True) for step in pair]
    between.upstream.script(answer(head, *steps))
    async with between.client() as client:
        await client.send(request(between, path, body))
        reply = await client.answer_head(b"POST")
        seen = 0
        for gate, event in zip(gates, shown[1:-2], strict=False):
            gate.set()
            seen += len(Body("chunked").feed(event)[0])
            await client.body_until(reply, seen)
            assert len(reply.body) == seen
        for gate in gates:
            gate.set()
        await client.rest(reply)
    assert bytes(reply.body) == body_of(shown)
