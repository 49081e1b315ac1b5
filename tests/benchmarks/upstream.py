"""The benchmark's upstream: an OpenAI stand-in that costs as little as a Python process can.

    python -m tests.benchmarks.upstream PORT [GAP_MS]

A POST whose body asks for a stream gets `chunks` events, `gap_ms` apart (query string; default 100 and GAP_MS or 0), with the usage
chunk where `include_usage` is asked for, and `[DONE]`; any other request a chat completion of 600 bytes. Everything is
rendered once. It expects a whole request in few reads and does not check it: it is no test of correctness.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache
from typing import cast
from urllib.parse import parse_qs

import uvloop

from tests.openai_answers import HEADERS

LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
HEAD = b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in HEADERS)
MADE = {
    "id": "chatcmpl-CSkw5m0o5uWbWfyq3hKzJQ",
    "object": "chat.completion.chunk",
    "created": 1_760_945_280,
    "model": "gpt-4o-mini-2024-07-18",
    "service_tier": "default",
    "system_fingerprint": "fp_560af6e559",
}
DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
BODY_BYTES = 600


def dumps(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":")).encode()


@cache
def completion() -> bytes:
    """A whole answer."""
    message = {"role": "assistant", "content": "", "refusal": None, "annotations": []}
    usage = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29, **DETAILS}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = {**MADE, "object": "chat.completion", "choices": [choice], "usage": usage}
    message["content"] = "x" * (BODY_BYTES - len(dumps(whole)))
    body = dumps(whole)
    return HEAD + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@cache
def events(count: int, usage: bool) -> tuple[bytes, ...]:
    """A stream's events, each as one chunk, and the end."""
    null = {"usage": None} if usage else {}
    rendered = []
    for number in range(count):
        choice = {"index": 0, "delta": {"content": f" tok{number}"}, "logprobs": None, "finish_reason": None}
        rendered.append(dumps({**MADE, "choices": [choice], **null, "obfuscation": "a1b2c3"}))
    if usage:
        total = {"prompt_tokens": 19, "completion_tokens": count, "total_tokens": 19 + count, **DETAILS}
        rendered.append(dumps({**MADE, "choices": [], "usage": total}))
    lines = [b"data: %b\n\n" % event for event in (*rendered, b"[DONE]")]
    return (*(b"%x\r\n%b\r\n" % (len(line), line) for line in lines), b"0\r\n\r\n")


STREAM_HEAD = HEAD + b"Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, gap_ms: float) -> None:
        self._gap_ms = gap_ms

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._buffer = b""
        self._timer: asyncio.TimerHandle | None = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n") + 4) >= 4:
            length = LENGTH.search(self._buffer, 0, end)
            total = end + (int(length[1]) if length else 0)
            if len(self._buffer) < total:
                return
            request, self._buffer = self._buffer[:total], self._buffer[total:]
            self._answer(request)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _answer(self, request: bytes) -> None:
        if b'"stream":true' not in request and b'"stream": true' not in request:
            self.transport.write(completion())
            return
        target = request[: request.index(b"\r\n")].split(b" ")[1]
        query = parse_qs(target.partition(b"?")[2].decode())
        count = int(query.get("chunks", ["100"])[0])
        gap_s = float(query.get("gap_ms", [self._gap_ms])[0]) / 1000
        pieces = events(count, b"include_usage" in request)
        self.transport.write(STREAM_HEAD)
        if gap_s:
            self._next(pieces, 0, asyncio.get_running_loop().time(), gap_s)
        else:
            for piece in pieces:
                self.transport.write(piece)

    def _next(self, pieces: tuple[bytes, ...], at: int, due: float, gap_s: float) -> None:
        last = at + 1 >= len(pieces) - 1  # the end follows the last event at once
        self.transport.write(pieces[at] + pieces[-1] if last else pieces[at])
        if not last:
            due += gap_s
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(due, self._next, pieces, at + 1, due, gap_s)


async def main(port: int, gap_ms: float) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(gap_ms), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0))
