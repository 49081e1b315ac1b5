"""Answers sent as they are made: the beginning at once, compressed or not, and cut when they fail."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.stream import send


@pytest.fixture
async def answering():
    """A server that answers with what `chunks()` yields, for one client."""
    clients = []

    async def start(chunks, kind="text/csv"):
        async def handle(request):
            return await send(SimpleNamespace(request=request, headers={}), chunks(), {"content-type": kind})

        app = web.Application()
        app.router.add_get("/", handle)
        clients.append(TestClient(TestServer(app)))
        await clients[-1].start_server()
        return clients[-1]

    yield start
    for client in clients:
        await client.close()


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_the_beginning_comes_before_the_rest_is_made(answering, encoding):
    goes_on = asyncio.Event()

    async def chunks():
        yield b"id,status\r\n"
        await goes_on.wait()
        yield b"1,200\r\n"
        yield b"2,200\r\n" * 1000

    client = await answering(chunks)
    async with client.get("/", headers={"accept-encoding": encoding}) as answer:
        assert answer.headers.get("content-encoding", "identity") == encoding
        assert await answer.content.readline() == b"id,status\r\n"
        goes_on.set()
        assert await answer.content.read() == b"1,200\r\n" + b"2,200\r\n" * 1000


async def test_what_is_compressed_already_is_not_compressed_again(answering):
    async def chunks():
        yield b"PAR1"

    client = await answering(chunks, "application/vnd.apache.parquet")
    async with client.get("/", headers={"accept-encoding": "gzip"}) as answer:
        assert "content-encoding" not in answer.headers
        assert await answer.read() == b"PAR1"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
async def test_what_fails_in_the_middle_is_cut_and_not_ended(answering, encoding):
    async def chunks():
        yield b"id\r\n"
        raise RuntimeError

    client = await answering(chunks)
    with pytest.raises(aiohttp.ClientPayloadError):
        async with client.get("/", headers={"accept-encoding": encoding}) as answer:
            await answer.read()


async def test_what_is_read_for_an_answer_is_closed_when_its_reader_leaves(answering):
    closed = asyncio.Event()

    async def chunks():
        try:
            while True:
                yield b"x" * 100_000
                await asyncio.sleep(0)
        finally:
            closed.set()

    client = await answering(chunks)
    async with client.get("/", headers={"accept-encoding": "identity"}) as answer:
        await answer.content.readexactly(10)
        answer.close()
        async with asyncio.timeout(30):
            await closed.wait()
