"""What a client sends on a WebSocket goes on byte for byte, and nowhere when it names what is somebody else's."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests import wire
from tests.fake_upstream import answer, close, hear, tell
from tests.gateway.between import Between
from tests.proxy_process import Person, wait_until
from tests.raw_client import RawClient
from tests.shared_account import shared
from tests.signals import Signal

MASK = b"\x11\x22\x33\x44"
HANDSHAKE = (
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"
FIRST = b'\x81\x10{"type":"first"}'
PING = b"\x89\x80" + MASK


def frame(payload: bytes, opcode: int = 1, *, final: bool = True, packed: bool = False) -> bytes:
    """A frame of a client."""
    first = opcode | (0x80 if final else 0) | (0x40 if packed else 0)
    length = len(payload)
    size = bytes((0x80 | length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
    if length >= 2**16:
        size = b"\xff" + length.to_bytes(8, "big")
    hidden = bytes(byte ^ MASK[at % 4] for at, byte in enumerate(payload))
    return bytes((first,)) + size + MASK + hidden


def create(**more: Any) -> bytes:
    return json.dumps({"type": "response.create", "model": "gpt-4o-mini", "input": "Hi", **more}).encode()


def deflated(*messages: bytes) -> list[bytes]:
    """One stream for all of them, as it is with context takeover (RFC 7692, 7.2.1)."""
    packer = zlib.compressobj(wbits=-15)
    return [
        frame((packer.compress(each) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4], packed=True)
        for each in messages
    ]


House = tuple[Between, Person, list[Person], str]
"""A proxy of two workers, somebody, people who have done nothing, and the id of a response that the first one made."""


@pytest.fixture(scope="module")
def house(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with shared(postgres_server, tmp_path_factory.mktemp("gate")) as (proxy, upstream, _):
        ana, *others = proxy.people(5)
        made = proxy.request("POST", "/v1/responses", {"model": "gpt-4o-mini", "input": "Hi"}, ana.key).body[
            "id"
        ]
        wait_until(lambda: bool(proxy.query("select from objects where id = $1", made)), "the owner")
        yield Between(proxy, upstream, ""), ana, others, made


def switched(deflate: bool) -> bytes:
    lines = (b"Upgrade: websocket", b"Connection: Upgrade", *((DEFLATE,) if deflate else ()))
    return wire.head(b"HTTP/1.1 101 Switching Protocols", *lines)


async def opened(client: RawClient, who: Person, deflate: bool = False) -> None:
    lines = (b"Authorization: Bearer " + who.key.encode(), *HANDSHAKE, *((DEFLATE,) if deflate else ()))
    await client.send(wire.head(b"GET /v1/responses HTTP/1.1", b"Host: p", *lines))
    assert (await client.answer_head()).status == 101
    got = b""
    while len(got) < len(FIRST):
        got += await client.some()
    assert got == FIRST


async def rest(client: RawClient) -> bytes:
    got = b""
    while data := await client.some():
        got += data
    return got


PIECES = [1, 3, 50, 100_000]


@pytest.mark.parametrize("size", PIECES)
@pytest.mark.parametrize("deflate", [False, True])
async def test_what_names_ones_own_goes_on_as_it_came(house: House, deflate: bool, size: int) -> None:
    between, ana, _, made = house
    texts = (
        create(previous_response_id=made),
        create(input="x" * 300),
        create(conversation="conv_of_nobody"),
    )
    frames = deflated(*texts) if deflate else [frame(each) for each in texts]
    parts = frame(texts[0][:9], final=False) + PING + frame(texts[0][9:], 0)
    data = b"".join(frames) + (b"" if deflate else parts) + frame(b"\0\1\2", 2) + PING + frame(b"\x03\xe8", 8)
    between.upstream.forget()
    between.upstream.script(answer(switched(deflate), FIRST, hear(len(data)), b"\x88\x02\x03\xe8", close))
    async with between.client() as client:
        await opened(client, ana, deflate)
        for at in range(0, len(data), size):
            await client.send(data[at : at + size])
        assert await rest(client) == b"\x88\x02\x03\xe8"
    (request,) = between.upstream.requests
    assert bytes(request.connection.tunnel or b"") == data


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("escaped", [False, True])
async def test_what_names_somebody_elses_goes_nowhere_and_the_client_is_told(
    house: House, deflate: bool, escaped: bool
) -> None:
    between, _, others, made = house
    bob = others.pop()
    good, bad = create(input="mine"), create(previous_response_id=made)
    if escaped:
        bad = bad.replace(b"previous_response_id", b"previous\\u005fresponse\\u005fid").replace(
            b"model", b"m\\u006fdel"
        )
    frames = deflated(good, bad, good) if deflate else [frame(each) for each in (good, bad, good)]
    for _ in range(3):  # either worker
        never = Signal("never")
        between.upstream.forget()
        heard = Signal("the first message at the upstream")
        steps = (switched(deflate), FIRST, hear(len(frames[0])), tell(heard), never)
        between.upstream.script(answer(*steps))
        async with between.client() as client:
            await opened(client, bob, deflate)
            await client.send(frames[0])
            await heard
            await client.send(*frames[1:])
            said = await rest(client)
        (request,) = between.upstream.requests
        await request.connection.lost
        assert bytes(request.connection.tunnel or b"") == frames[0]
        event, last = said[4:-31], said[-31:]
        assert last == b"\x88\x1d\x03\xf0previous_response_not_found"
        assert json.loads(event) == {
            "type": "error",
            "status": 404,
            "error": {
                "type": "invalid_request_error",
                "code": "previous_response_not_found",
                "message": f"Previous response with id '{made}' not found.",
                "param": "previous_response_id",
            },
        }
    records = await between.proxy.records(3, user_id=bob.user_id)
    assert {record["error_code"] for record in records} == {"previous_response_not_found"}


async def test_what_is_no_frame_ends_the_connection(house: House) -> None:
    between, ana, _, _ = house
    between.upstream.forget()
    between.upstream.script(answer(switched(False), FIRST, Signal("never")))
    async with between.client() as client:
        await opened(client, ana)
        await client.send(b"GET /v1/models HTTP/1.1\r\n\r\n")
        assert (await rest(client)).endswith(b"\x88\x0f\x03\xf0invalid_frame")
