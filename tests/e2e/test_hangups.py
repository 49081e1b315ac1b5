"""A client that hangs up in the middle of a stream: by setting it is estimated, or read to its end and reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import wire
from tests.fake_upstream import FakeUpstream, answer
from tests.gateway.between import Between
from tests.proxy_process import ProxyProcess
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
