"""However an exchange ends, it ends in exactly one record, and the record says how."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests import openai_answers, wire
from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream, Step, answer, close, reset
from tests.gateway.between import Between
from tests.proxy_process import ProxyProcess
from tests.raw_client import RawClient
from tests.signals import Signal

BODY = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}'
STREAMED = BODY[:-1] + b',"stream":true}'
CHUNKED = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
NEVER = Signal("never")

End = Callable[[RawClient], Awaitable[object]]


async def read_all(client: RawClient) -> object:
    return await client.answer(b"POST")


async def leave_at_once(client: RawClient) -> object:
    client.hang_up()
    return None


async def leave_in_the_answer(client: RawClient) -> object:
    await client.answer_head(b"POST")
    client.hang_up()
    return None


ENDS: dict[str, tuple[tuple[Step, ...], End, tuple[str, int]]] = {
    "an answer": (openai_answers.answer(b"POST", b"/v1/chat/completions", BODY), read_all, ("success", 200)),
    "an error": (openai_answers.error(b"400 Bad", "x", "No."), read_all, ("upstream_error", 400)),
    "no answer": ((close,), read_all, ("upstream_cut", 502)),
    "a reset": ((reset,), read_all, ("upstream_cut", 502)),
    "half an answer": ((wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 9") + b"{", close), read_all, ("upstream_cut", 200)),
    "silence": ((NEVER,), read_all, ("upstream_timeout", 504)),
    "silence in the answer": ((CHUNKED, NEVER), read_all, ("upstream_timeout", 200)),
    "a client that does not wait": ((NEVER,), leave_at_once, ("client_gone", 0)),
    "a client that leaves": ((CHUNKED, b"5\r\ndata:\r\n", NEVER), leave_in_the_answer, ("client_gone", 200)),
}  # fmt: skip


@pytest.fixture(scope="module")
def impatient(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ProxyProcess, FakeUpstream]]:
    """A proxy that waits two seconds for its upstream."""
    with (
        lasting_database(postgres_server) as database_url,
        FakeUpstream.running() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=tmp_path_factory.mktemp("impatient"),
            upstream_first_byte_timeout_s=2,
            upstream_idle_timeout_s=2,
        ) as proxy,
    ):
        yield proxy, upstream


@pytest.mark.parametrize("body", [BODY, STREAMED], ids=["plain", "streamed"])
async def test_every_end_is_one_record(impatient: tuple[ProxyProcess, FakeUpstream], body: bytes) -> None:
    proxy, upstream = impatient
    lines = (b"Content-Type: application/json", b"Content-Length: %d" % len(body))
    found, expected = {}, {}
    who = proxy.person()
    between = Between(proxy, upstream, who.key)
    for number, (name, (steps, end, outcome)) in enumerate(ENDS.items(), 1):
        upstream.forget()
        upstream.script(answer(*steps))
        async with between.client() as client:
            await client.send(between.head(b"POST /v1/chat/completions HTTP/1.1", *lines) + body)
            request = await upstream.arrival()
            await request.complete
            await end(client)
        *_, record = await proxy.records(number, user_id=who.user_id)
        found[name], expected[name] = (record["outcome"], record["status"]), outcome
    assert found == expected


async def test_an_upstream_that_went_away_is_recorded_as_unreachable(
    database_url: str, tmp_path: Path
) -> None:
    lines = (b"Content-Type: application/json", b"Content-Length: %d" % len(BODY))
    with FakeUpstream.running() as upstream:
        url = upstream.url
        running = ProxyProcess.running(upstream_url=url, database_url=database_url, directory=tmp_path)
        proxy = running.__enter__()
        who = proxy.person()
    try:
        between = Between(proxy, upstream, who.key)
        async with between.client() as client:
            reply = await client.ask(between.head(b"POST /v1/chat/completions HTTP/1.1", *lines) + BODY)
        assert reply.status == 502
        (record,) = await proxy.records(1, user_id=who.user_id)
        assert (record["outcome"], record["status"]) == ("upstream_unreachable", 502)
        assert (record["usage_source"], record["cost_nanousd"]) == ("none", 0)
    finally:
        running.__exit__(None, None, None)
