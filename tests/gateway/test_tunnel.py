"""WebSockets pass frame for frame, and each response on one is a record of its own."""

from __future__ import annotations

import json
import struct

from proxy.gateway.tunnel import close_frame
from tests.fake_upstream import answer, close
from tests.gateway.between import Between
from tests.signals import Signal

USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}
UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"


def frame(event: dict[str, object]) -> bytes:
    """A text frame as servers send it."""
    data = json.dumps(event).encode()
    length = bytes((len(data),)) if len(data) < 126 else b"\x7e" + struct.pack(">H", len(data))
    return b"\x81" + length + data


def done(response_id: str) -> bytes:
    created = frame({"type": "response.created", "response": {"id": response_id}})
    return created + frame(
        {"type": "response.done", "response": {"id": response_id, "status": "completed", "usage": USAGE}}
    )


SESSION = frame({"type": "session.created", "session": {"type": "realtime", "model": "gpt-realtime"}})


async def test_each_response_is_a_child_record_at_its_price(between: Between) -> None:
    person = between.proxy.person("speaker")
    between.upstream.forget()
    ended = Signal("the client has read all")
    frames = SESSION + done("resp_1") + done("resp_2")
    between.upstream.script(answer(SWITCHING, frames, ended, close))
    lines = (b"Host: p", b"Authorization: Bearer " + person.key.encode(), *UPGRADE)
    async with between.client() as client:
        await client.send(
            b"\r\n".join((b"GET /v1/realtime?model=gpt-realtime HTTP/1.1", *lines)) + b"\r\n\r\n"
        )
        reply = await client.answer_head()
        received = b""
        while len(received) < len(frames):
            received += await client.some()
        ended.set()
        await client.ended()

    assert reply.status == 101
    assert received == frames
    records = await between.proxy.records(3, user_id=person.user_id)
    (connection,) = [record for record in records if record["parent_id"] is None]
    children = [record for record in records if record["parent_id"] == connection["id"]]
    assert [child["object_id"] for child in children] == ["resp_1", "resp_2"]
    # $4 text, $0.40 cached, $32 audio in; $16 text, $64 audio out, per million
    expected = (119 - 64) * 4_000 + 64 * 400 + 13 * 32_000 + 30 * 16_000 + 91 * 64_000
    assert [child["cost_nanousd"] for child in children] == [expected, expected]
    assert [child["input_audio_tokens"] for child in children] == [13, 13]
    assert (connection["status"], connection["outcome"], connection["cost_nanousd"]) == (101, "success", 0)
    assert connection["bytes_out"] == len(frames)


async def test_the_subprotocols_key_is_swapped_for_the_upstreams(between: Between) -> None:
    between.upstream.script(answer(SWITCHING, close))
    offered = b"Sec-WebSocket-Protocol: realtime, openai-insecure-api-key." + between.key.encode()
    async with between.client() as client:
        await client.send(
            b"\r\n".join((b"GET /v1/realtime?model=m HTTP/1.1", b"Host: p", *UPGRADE, offered)) + b"\r\n\r\n"
        )
        await client.answer_head()
        await client.ended()

    (sent,) = between.upstream.requests[0].head.all(b"sec-websocket-protocol")
    assert sent.startswith(b"realtime, openai-insecure-api-key.")
    assert between.key.encode() not in sent
    assert between.upstream.requests[0].head.all(b"authorization") == []


async def test_a_spent_quota_closes_the_connection_after_the_response_that_spent_it(between: Between) -> None:
    person = between.proxy.person("talker", quotas=[{"unit": "requests", "window": "month", "limit": "1"}])
    between.upstream.forget()
    never = Signal("never")
    between.upstream.script(answer(SWITCHING, SESSION + done("resp_1"), never))
    lines = (b"Host: p", b"Authorization: Bearer " + person.key.encode(), *UPGRADE)
    received = b""
    async with between.client() as client:
        await client.send(
            b"\r\n".join((b"GET /v1/realtime?model=gpt-realtime HTTP/1.1", *lines)) + b"\r\n\r\n"
        )
        await client.answer_head()
        while data := await client.some():
            received += data

    assert received == SESSION + done("resp_1") + close_frame(1008, "insufficient_quota")


def test_a_close_frame_is_one_control_frame() -> None:
    assert close_frame(1008, "spent") == b"\x88\x07\x03\xf0spent"
    assert len(close_frame(1008, "x" * 500)) == 127
