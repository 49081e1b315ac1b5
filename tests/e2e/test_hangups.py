"""A client that hangs up in the middle of a stream: by setting it is estimated, or read to its end and reported."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests import wire
from tests.fake_upstream import FakeUpstream, answer
from tests.gateway.between import Between
from tests.proxy_process import Person, ProxyProcess, wait_until
from tests.signals import Signal

BODY = b'{"model":"gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"%b"}]}' % (b"x" * 400)
HEAD = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
START = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini-2024-07-18","choices":['
TEXT = START + b'{"index":0,"delta":{"content":"0123456789abcdef"},"finish_reason":null}],"usage":null}\n\n'
LAST = START + b'{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
USAGE = (
    START
    + b'],"usage":{"prompt_tokens":107,"completion_tokens":400,"total_tokens":507}}\n\n'
    + b"data: [DONE]\n\n"
)


def unconnected(proxy: ProxyProcess) -> bool:
    """Whether no client is connected, as the proxy says."""
    return "\nopenai_proxy_client_connections 0" in proxy.request("GET", "/metrics").body


@pytest.mark.parametrize("setting", ["cancel", "drain"])
async def test_a_hung_up_call_is_never_free(database_url: str, tmp_path: Path, setting: str) -> None:
    gone = Signal("the client has hung up")
    with (
        FakeUpstream.running() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=tmp_path,
            on_client_disconnect=setting,
        ) as proxy,
    ):
        between = Between(proxy, upstream, proxy.person().key)
        upstream.forget()
        rest = wire.chunked([TEXT * 5, LAST, USAGE])
        upstream.script(answer(HEAD, wire.chunked([TEXT, TEXT, TEXT]).removesuffix(b"0\r\n\r\n"), gone, rest))
        lines = (b"Content-Type: application/json", b"Content-Length: %d" % len(BODY))
        async with between.client() as client:
            await client.send(between.head(b"POST /v1/chat/completions HTTP/1.1", *lines) + BODY)
            reply = await client.answer_head(b"POST")
            seen = await client.body_until(reply, 3 * (len(TEXT) - len(b',"usage":null')))
            client.hang_up()
        request = await upstream.arrival()
        if setting == "cancel":
            await request.connection.lost
        else:  # nothing else tells that the proxy has seen it
            await asyncio.to_thread(
                wait_until, lambda: unconnected(proxy), "the end of the client's connection"
            )
        gone.set()
        (record,) = await proxy.records(1)
    delivered = seen.count(b"0123456789abcdef") * 16
    assert (record["outcome"], record["status"]) == ("client_gone", 200)
    check = drained if setting == "drain" else cancelled
    check(record, delivered)


def drained(record: dict[str, Any], delivered: int) -> None:
    assert record["usage_source"] == "reported"
    assert (record["input_tokens"], record["output_tokens"], record["finish_reason"]) == (107, 400, "stop")
    assert record["cost_nanousd"] == 107 * 150 + 400 * 600


def cancelled(record: dict[str, Any], delivered: int) -> None:
    assert record["usage_source"] == "estimated"
    assert record["input_tokens"] == -(-len(BODY) // 4)
    assert record["output_tokens"] == delivered // 4 == 12
    assert record["cost_nanousd"] == record["input_tokens"] * 150 + record["output_tokens"] * 600


def form(model: bytes, size: int) -> bytes:
    return b"\r\n".join(
        (
            *(b"--x", b'Content-Disposition: form-data; name="model"', b"", model),
            *(b"--x", b'Content-Disposition: form-data; name="file"; filename="a.wav"', b"", b"\0" * size),
            *(b"--x--", b""),
        )
    )


SOUND = form(b"gpt-4o-transcribe", 160_000)
PICTURE = form(b"gpt-image-1", 50_000)
BACKGROUND = b'{"model":"gpt-4o-mini","input":"%b","background":true}' % (b"x" * 347)
FORM = b"multipart/form-data; boundary=x"
JSON = b"application/json"
UNANSWERED: dict[str, tuple[bytes, bytes, bytes, tuple[str, int, int, int | None]]] = {
    # 100 tokens of sound at $6 a million
    "a recording": (b"/v1/audio/transcriptions", FORM, SOUND, ("estimated", 100, 100, 600_000)),
    "a picture": (b"/v1/images/edits", FORM, PICTURE, ("none", 0, 0, None)),
    "a batch": (b"/v1/batches", JSON, b'{"input_file_id":"file-1"}', ("none", 0, 0, None)),
    "background work": (b"/v1/responses", JSON, BACKGROUND, ("estimated", 100, 0, 100 * 150)),
}


@pytest.mark.parametrize("what", UNANSWERED)
async def test_a_client_that_leaves_before_its_answer_has_not_worked_for_nothing(
    proxy: ProxyProcess, upstream: FakeUpstream, ana: Person, what: str
) -> None:
    path, kind, body, expected = UNANSWERED[what]
    never = Signal("never")
    between = Between(proxy, upstream, ana.key)
    upstream.script(answer(never), answer(never))
    head = between.head(
        b"POST %b HTTP/1.1" % path, b"Content-Type: " + kind, b"Content-Length: %d" % len(body)
    )
    async with between.client() as client:
        await client.send(head + body)
        request = await upstream.arrival()
        await request.complete
        client.hang_up()
    (record,) = await proxy.records(1, user_id=ana.user_id)
    found = tuple(
        record[name] for name in ("usage_source", "input_tokens", "input_audio_tokens", "cost_nanousd")
    )
    if what == "a recording":  # what was not sent whole can't have been served
        async with between.client() as client:
            await client.send(head + body[: len(body) // 2])
            await upstream.arrival(2)
            client.hang_up()
        *_, half = await proxy.records(2, user_id=ana.user_id)
        assert (half["outcome"], half["usage_source"], half["cost_nanousd"]) == ("client_gone", "none", 0)
    assert (record["outcome"], found) == ("client_gone", expected)
