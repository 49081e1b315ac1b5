"""Bytes flow as they come, neither side can pile them up in the proxy, and how one side ends is what the other side sees."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests import wire
from tests.fake_upstream import Answer, answer, close, flood, flushed, half_close, reset, tell
from tests.gateway.between import Between, passed_on
from tests.raw_client import RawClient
from tests.signals import Signal

MIB = 1 << 20
PIECE = random.Random(3).randbytes(65_536)
SSE = b"Content-Type: text/event-stream; charset=utf-8"
CHUNKED_HEAD = wire.head(b"HTTP/1.1 200 OK", SSE, b"Transfer-Encoding: chunked")
SYSCTL = Path("/proc/sys/net/ipv4")
KERNEL_BYTES_MAX = MIB + sum(int((SYSCTL / name).read_text().split()[2]) for name in ("tcp_rmem", "tcp_wmem"))
"""What the proxy's two sockets may hold in the kernel, which sizes their buffers by itself; the other ends' are small."""
ROUND_TRIPS = 300
"""Other exchanges serve as the clock: a proxy that doesn't stop reading has read on by then."""


def one_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def other_exchanges(between: Between, count: int = ROUND_TRIPS) -> None:
    """Let the proxy's event loop turn."""
    async with between.client() as client:
        for _ in range(count):
            assert (await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).status == 200


@pytest.mark.parametrize("kind", [SSE, b"Content-Type: audio/mpeg", b"Content-Type: application/json"])
async def test_each_chunk_is_seen_before_the_next_is_sent(between: Between, kind: bytes) -> None:
    chunks = [b"data: %d\n\n" % n for n in range(50)]
    gates = [Signal(f"leave for chunk {n}") for n in range(50)]
    steps = [step for gate, chunk in zip(gates, chunks, strict=True) for step in (gate, one_chunk(chunk))]
    head = wire.head(b"HTTP/1.1 200 OK", kind, b"Transfer-Encoding: chunked")
    between.upstream.script(answer(head, *steps, b"0\r\n\r\n"))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/stream HTTP/1.1"))
        reply = await client.answer_head()
        seen = 0
        for gate, chunk in zip(gates, chunks, strict=True):
            assert len(reply.body) == seen
            gate.set()
            seen += len(chunk)
            await client.body_until(reply, seen)
        await client.rest(reply)
    assert bytes(reply.body) == b"".join(chunks)
    assert reply.framing.chunk_sizes == [len(chunk) for chunk in chunks]


async def test_a_chunk_passes_before_it_is_complete(between: Between) -> None:
    rest = Signal("leave for the rest")
    between.upstream.script(answer(CHUNKED_HEAD, b"a\r\ndata:", rest, b" 123\n\r\n0\r\n\r\n"))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/stream HTTP/1.1"))
        reply = await client.answer_head()
        assert await client.body_until(reply, 5) == b"data:"
        rest.set()
        await client.body_until(reply, 11)
    assert bytes(reply.body) == b"data: 123\n"


async def test_a_slow_reader_stops_the_upstream(between: Between) -> None:
    pieces, done = 4096, Signal("the whole flood")
    length = pieces * len(PIECE)  # 256 MiB
    head = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: video/mp4", b"Content-Length: %d" % length)
    between.upstream.script(answer(head, flood(PIECE, pieces), tell(done)))
    async with between.client(receive_buffer_bytes=65_536) as client:
        await client.send(between.head(b"GET /v1/files/f/content HTTP/1.1"))
        reply = await client.answer_head()
        await other_exchanges(between, 20)  # caches and buffers of the proxy are warm
        before = between.proxy.resident_bytes()
        between.proxy.forget_peak()
        await other_exchanges(between)
        request = between.upstream.requests[0]
        for mark in (0, 48 * MIB, 96 * MIB):
            await client.body_until(reply, mark)
            await other_exchanges(between)
            assert request.sent_bytes - len(reply.body) < KERNEL_BYTES_MAX
            assert not done.is_set
        assert between.proxy.peak_bytes() - before < 8 * MIB
    await request.connection.lost


async def test_a_slow_upstream_stops_the_upload(between: Between) -> None:
    read = Signal("leave to read")
    between.upstream.script(Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), read=read))
    total = 64 * MIB
    sent = between.head(b"POST /v1/files HTTP/1.1", b"Content-Type: x/y", b"Content-Length: %d" % total)
    async with between.client() as client:
        await client.send(sent)
        request = await between.upstream.arrival()
        await other_exchanges(between, 20)
        before = between.proxy.resident_bytes()
        between.proxy.forget_peak()
        stalled = await fill(client, total)
        await other_exchanges(between)
        stalled = await fill(client, total, stalled)
        assert stalled < KERNEL_BYTES_MAX
        assert between.proxy.peak_bytes() - before < 8 * MIB
        read.set()
        for _ in range(stalled // len(PIECE), total // len(PIECE)):
            await client.send(PIECE)
        reply = await client.answer()
    assert reply.status == 200
    assert request.digest == hashlib.sha256(PIECE * (total // len(PIECE))).hexdigest()


async def fill(client: RawClient, total: int, sent: int = 0) -> int:
    """Write until the connection takes no more; how many bytes it took in all."""
    while sent < total and client.takes_more():
        client.put(PIECE)
        sent += len(PIECE)
        await client.turn()
    return sent


async def test_a_64_mb_upload_takes_less_than_64_mb_of_memory(between: Between) -> None:
    count = 64 * MIB // len(PIECE)
    lines = (b"Content-Type: multipart/form-data; boundary=x", b"Content-Length: %d" % (64 * MIB))
    await other_exchanges(between, 20)
    between.upstream.script(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    before = between.proxy.resident_bytes()
    between.proxy.forget_peak()
    async with between.client() as client:
        await client.send(between.head(b"POST /v1/files HTTP/1.1", *lines))
        for _ in range(count):
            await client.send(PIECE)
        reply = await client.answer(b"POST")
    request = between.upstream.requests[-1]
    assert reply.status == 200
    assert request.digest == hashlib.sha256(PIECE * count).hexdigest()
    assert between.proxy.peak_bytes() - before < 16 * MIB


async def test_a_json_body_larger_than_the_pass_reads_streams_too(between: Between) -> None:
    between.upstream.script(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
    body = b'{"model":"gpt-4o-mini","input":"' + b"x" * (40 * MIB) + b'"}'
    lines = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    async with between.client() as client:
        reply = await client.ask(
            between.head(b"POST /v1/responses HTTP/1.1", *lines), *wire.cut(body, MIB), method=b"POST"
        )
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert (request.body_bytes, request.digest) == (len(body), hashlib.sha256(body).hexdigest())


# How one side ends


@pytest.mark.parametrize("leave", ["hang_up", "reset"])
@pytest.mark.parametrize("when", ["before the answer", "in the answer"])
async def test_a_client_that_goes_takes_the_upstream_with_it(between: Between, leave: str, when: str) -> None:
    begun = (CHUNKED_HEAD, one_chunk(b"data: 1\n\n")) if when == "in the answer" else ()
    between.upstream.script(answer(*begun, Signal("never")))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/stream HTTP/1.1"))
        request = await between.upstream.arrival()
        if begun:
            await client.body_until(await client.answer_head(), 9)
        getattr(client, leave)()
        await request.connection.lost
    assert not request.answered.is_set


async def test_a_client_that_goes_in_mid_upload_cuts_the_upload(between: Between) -> None:
    between.upstream.script(answer(Signal("never")))
    sent = between.head(b"POST /v1/files HTTP/1.1", b"Content-Type: x/y", b"Content-Length: 1000")
    async with between.client() as client:
        await client.send(sent, b"x" * 500)
        request = await between.upstream.arrival()
        client.hang_up()
        await request.connection.lost
    assert not request.complete.is_set
    assert request.body_bytes <= 500


CUTS = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    "in a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    "before the trailers end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\nX: 1\r\n",
    "events": CHUNKED_HEAD + one_chunk(b"half"),
}


@pytest.mark.parametrize("end", [close, reset, half_close], ids=["close", "reset", "half_close"])
@pytest.mark.parametrize("name", CUTS)
async def test_an_answer_cut_in_mid_body_is_cut_for_the_client(
    between: Between, name: str, end: object
) -> None:
    seen = Signal("the client has the half")
    between.upstream.script(answer(CUTS[name], seen, end))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/models HTTP/1.1"))
        reply = await client.answer_head()
        assert await client.body_until(reply, 4) == b"half"
        seen.set()
        await client.rest(reply)
    assert reply.cut
    assert bytes(reply.body) == b"half"


async def test_an_answer_until_close_that_is_reset_is_cut_for_the_client(between: Between) -> None:
    seen = Signal("the client has the half")
    between.upstream.script(answer(b"HTTP/1.1 200 OK\r\n\r\nhalf", seen, reset))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/models HTTP/1.1"))
        reply = await client.answer_head()
        assert await client.body_until(reply, 4) == b"half"
        seen.set()
        await client.rest(reply)
    assert reply.cut


@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: chunked\r\n"])
async def test_an_http_1_0_client_sees_a_cut_answer_as_a_reset(between: Between, framing: bytes) -> None:
    seen = Signal("the client has the half")
    half = one_chunk(b"half") if framing else b"half"
    between.upstream.script(answer(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + half, seen, reset))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/models HTTP/1.0"))
        reply = await client.answer_head()
        assert await client.body_until(reply, 4) == b"half"
        seen.set()
        assert await client.was_reset()


NO_ANSWERS = {
    "closed without a byte": (close,),
    "reset without a byte": (reset,),
    "half a head": (b"HTTP/1.1 200 OK\r\nX: 1\r\n", close),
    "only an interim answer": (b"HTTP/1.1 103 Early Hints\r\n\r\n", flushed, close),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", close),
    "HTTP/2": (b"HTTP/2 200 OK\r\n\r\n", close),
    "a status of two digits": (b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",),
    "a length that is none": (b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",),
    "a length and chunks": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
    "a head without end": (flood(b"X-Y: " + b"z" * 60_000 + b"\r\n", 100),),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_no_usable_answer_is_a_502_in_openais_shape(between: Between, name: str) -> None:
    steps = NO_ANSWERS[name]
    first = b"HTTP/1.1 200 OK\r\n" if name == "a head without end" else b""
    between.upstream.script(answer(first, *steps))
    async with between.client() as client:
        reply = await client.ask(between.head(b"POST /v1/chat/completions HTTP/1.1", b"Content-Length: 0"))
    assert reply.status == 502
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "upstream_error"
    assert error["code"] == "upstream_disconnected"
    assert len(between.upstream.requests) == 1


async def test_a_broken_chunk_in_mid_answer_ends_the_answer(between: Between) -> None:
    between.upstream.script(answer(CHUNKED_HEAD, one_chunk(b"good"), b"zz\r\nbad\r\n0\r\n\r\n"))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        assert await client.ended()
    assert reply.cut


async def test_bytes_behind_an_answer_never_become_the_next_one(between: Between) -> None:
    forged = wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 6") + b"forged"
    between.upstream.script(
        answer(wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok" + forged),
        answer(wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 4") + b"true"),
    )
    async with between.client() as client:
        first = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        second = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert (bytes(first.body), bytes(second.body)) == (b"ok", b"true")
    assert passed_on(second.head) == [b"Content-Length: 4"]
