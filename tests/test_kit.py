"""The test kit itself, client against upstream with nothing between: what it says of bytes must be true."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from tests import openai_answers, scratch, wire
from tests.certificates import Authority
from tests.egress_proxy import EgressProxy
from tests.fake_upstream import FakeUpstream, answer, close, echo, flood, flushed, half_close, reset, tell
from tests.proxy_process import refusing_port
from tests.raw_client import RawClient
from tests.signals import Signal

GET = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream.running() as running:
        yield running
        assert running.violations == []


async def test_a_request_is_recorded_byte_for_byte(upstream: FakeUpstream) -> None:
    raw = wire.head(
        b"POST /v1/x?a=%20 HTTP/1.1", b"hOsT:a", b"X: 1", b"x:  2 ", b"Transfer-Encoding: chunked"
    )
    body = wire.chunked((b"ab", b"c" * 20), trailers=(b"T: v",), extension=b";n=1", upper=True)
    async with RawClient.connected(upstream.port) as client:
        reply = await client.ask(raw, *wire.cut(body, 3))
        request = await upstream.arrival()
    assert reply.status == 404
    assert request.head.raw == raw
    assert request.head.fields[1:3] == ((b"X", b"1"), (b"x", b"2"))
    assert bytes(request.body) == b"ab" + b"c" * 20
    assert request.framing.chunk_sizes == [2, 20]
    assert request.framing.trailers == (b"T: v",)
    assert request.framing.extensions == [b";n=1"] * 3


async def test_a_connection_is_counted_and_its_reuse_seen(upstream: FakeUpstream) -> None:
    async with RawClient.connected(upstream.port) as client:
        await client.ask(GET)
        await client.ask(GET)
    async with RawClient.connected(upstream.port) as client:
        await client.ask(GET)
    assert [(r.connection.number, r.on_connection) for r in upstream.requests] == [(1, 1), (1, 2), (2, 1)]
    for connection in upstream.connections:
        await connection.lost


async def test_a_script_writes_what_it_says_and_waits_for_the_test(upstream: FakeUpstream) -> None:
    go, came = Signal("go"), Signal("came")
    upstream.script(
        answer(b"HTTP/1.1 299 \r\nA: 1\r\na:2\r\nContent-Length: 4\r\n\r\nab", flushed, tell(came), go, b"cd")
    )
    async with RawClient.connected(upstream.port) as client:
        await client.send(GET)
        reply = await client.answer_head()
        await came
        assert await client.body_until(reply, 2) == b"ab"
        go.set()
        assert await client.body_until(reply, 4) == b"abcd"
    assert reply.head.start == b"HTTP/1.1 299 "
    assert reply.head.lines == (b"A: 1", b"a:2", b"Content-Length: 4")


@pytest.mark.parametrize("end", [close, reset, half_close], ids=["close", "reset", "half_close"])
async def test_a_cut_answer_is_seen_as_cut(upstream: FakeUpstream, end: object) -> None:
    upstream.script(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", flushed, end))
    async with RawClient.connected(upstream.port) as client:
        reply = await client.ask(GET)
    assert reply.cut
    assert reply.body in (b"abc", b"")  # a reset may overtake the bytes before it


async def test_until_close_ends_with_the_connection(upstream: FakeUpstream) -> None:
    upstream.script(answer(b"HTTP/1.0 200 OK\r\n\r\nabc", close))
    async with RawClient.connected(upstream.port) as client:
        reply = await client.ask(GET)
    assert (reply.cut, bytes(reply.body)) == (False, b"abc")


async def test_interim_answers_come_before_the_final_one(upstream: FakeUpstream) -> None:
    upstream.script(
        answer(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            early=True,
        )
    )
    async with RawClient.connected(upstream.port) as client:
        reply = await client.ask(GET)
    assert [head.status for head in reply.interim] == [100, 103]
    assert reply.status == 204


async def test_reading_can_be_held_back(upstream: FakeUpstream) -> None:
    read = Signal("read")
    upstream.script(
        answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", close, early=True, read=read)
    )
    async with RawClient.connected(upstream.port) as client:
        reply = await client.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
    assert reply.status == 413
    assert not upstream.requests[0].complete.is_set


async def test_a_flood_stops_where_the_reader_stops(upstream: FakeUpstream) -> None:
    piece, done = b"x" * 65536, Signal("all written")
    upstream.script(
        answer(
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1024 * 65536), flood(piece, 1024), tell(done)
        )
    )
    async with RawClient.connected(upstream.port, receive_buffer_bytes=16384) as client:
        await client.send(GET)
        reply = await client.answer_head()
        assert not done.is_set
        await client.body_until(reply, 1024 * 65536)
        await done
    assert not reply.cut


async def test_a_tunnel_sends_back_what_it_gets(upstream: FakeUpstream) -> None:
    upstream.script(answer(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", echo))
    async with RawClient.connected(upstream.port) as client:
        reply = await client.ask(b"GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\0early")
        assert reply.status == 101
        await client.send(b"\xff\r\n\r\n")
        got = b""
        while len(got) < 11:
            got += await client.some()
    assert got == b"\0early\xff\r\n\r\n"


@pytest.mark.parametrize(
    "bad",
    [
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\n",
        b"POST / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
        b"POST / HTTP/1.1\r\nA : b\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\na\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
    ],
)
async def test_broken_framing_is_a_violation(bad: bytes) -> None:
    with FakeUpstream.running() as upstream:
        async with RawClient.connected(upstream.port) as client:
            await client.send(bad)
            assert await client.ended()
        assert len(upstream.violations) == 1


async def test_a_body_that_ends_too_soon_is_kept_as_cut(upstream: FakeUpstream) -> None:
    async with RawClient.connected(upstream.port) as client:
        await client.send(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab")
        request = await upstream.arrival()
        client.end()
        await request.connection.ended
    assert upstream.cut_requests == [request]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100_000])
def test_chunks_are_read_however_they_are_cut(size: int) -> None:
    raw = wire.chunked((b"a" * 300, b"b", b"c" * 20), trailers=(b"X: y",)) + b"NEXT"
    body = wire.Body("chunked")
    payload, rest = b"", b""
    for piece in wire.cut(raw, size):
        got, rest_of_piece = body.feed(piece)
        payload += got
        rest += rest_of_piece
    assert (payload, rest) == (b"a" * 300 + b"b" + b"c" * 20, b"NEXT")
    assert (body.chunk_sizes, body.trailers) == ([300, 1, 20], (b"X: y",))


async def test_tls_through_an_egress_proxy(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with FakeUpstream.running(tls=authority.server()) as upstream:
        with EgressProxy.running({"localhost:443": upstream.port}) as egress:
            reader, writer = await asyncio.open_connection("127.0.0.1", egress.port)
            writer.write(b"CONNECT localhost:443 HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await writer.start_tls(authority.client(), server_hostname="localhost")
            writer.write(GET)
            assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
            writer.transport.abort()
        assert egress.heads == [b"CONNECT localhost:443 HTTP/1.1\r\n\r\n"]


def test_the_official_sdk_understands_the_answers(upstream: FakeUpstream) -> None:
    with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="k", max_retries=0) as client:
        messages = [{"role": "user", "content": "hi"}]
        plain = client.chat.completions.create(model="gpt-4o-mini", messages=messages)
        chunks = list(client.chat.completions.create(model="gpt-4o-mini", messages=messages, stream=True))
        asked = {"stream": True, "stream_options": {"include_usage": True}}
        counted = list(client.chat.completions.create(model="gpt-4o-mini", messages=messages, **asked))
        legacy = list(client.completions.create(model="gpt-3.5-turbo-instruct", prompt="hi", **asked))
        response = client.responses.create(model="gpt-5-mini", input="hi")
        events = list(client.responses.create(model="gpt-5-mini", input="hi", stream=True))
        vector = client.embeddings.create(model="text-embedding-3-small", input="hi")
        assert [m.id for m in client.models.list()] == list(openai_answers.SERVED)
        with pytest.raises(openai.NotFoundError):
            client.files.list()
    assert plain.choices[0].message.content == openai_answers.TEXT
    assert plain.usage is not None
    assert plain.usage.to_dict() == openai_answers.CHAT
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == openai_answers.TEXT
    assert all(c.usage is None for c in chunks)
    assert [c.usage.total_tokens for c in counted if c.usage] == [1163]
    assert legacy[-1].usage is not None
    assert legacy[-1].usage.total_tokens == 12
    assert response.output_text == openai_answers.TEXT
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage is not None
    assert events[-1].response.usage.total_tokens == 2306
    assert vector.data[0].embedding == [0.25, -0.5, 0.125]


def test_a_refusing_port_refuses_and_nobody_else_gets_it() -> None:
    with refusing_port() as port:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


@pytest.mark.parametrize(("room", "in_memory"), [(0, True), (2**60, False)], ids=["enough", "too little"])
def test_what_is_thrown_away_lives_in_memory_where_that_has_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, in_memory: bool
) -> None:
    monkeypatch.setattr(scratch, "MEMORY", tmp_path)
    monkeypatch.setattr(scratch, "ROOM_BYTES", room)
    made = scratch.scratch_directory("proxy-kit-")
    try:
        assert (made.parent == tmp_path) is in_memory
        assert made.stat().st_mode & 0o077 == 0
    finally:
        made.rmdir()


def test_a_machine_without_such_a_file_system_has_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch, "MEMORY", tmp_path / "none")
    made = scratch.scratch_directory("proxy-kit-")
    made.rmdir()
    assert made.parent != tmp_path / "none"
