"""What metering costs, in µs of CPU: `python -m tests.benchmarks.metering`. The best of several rounds, in one process.

Each row is the work that the data path does beside relaying: compare it with the relay's own cost per chunk and per body.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import orjson

from proxy.core.call import Call, read_call
from proxy.core.endpoints import match
from proxy.core.meter import kind_of, open_meter
from proxy.core.splice import add_include_usage

ROUNDS = 7
SSE = "text/event-stream"
REQUEST = orjson.dumps(
    {
        "model": "gpt-5.4-mini",
        "messages": [
            {"role": "system", "content": "You teach. " * 20},
            {"role": "user", "content": "Explain quotas. " * 14},
        ],
        "stream": True,
        "max_completion_tokens": 100,
    }
)
CHUNK = (
    b'data: {"id":"chatcmpl-AbCdEf1234567890","object":"chat.completion.chunk","created":1763765432,"model":"gpt-5.4-mini-2026-03-05",'
    b'"service_tier":"default","choices":[{"index":0,"delta":{"content":" hello"},"logprobs":null,"finish_reason":null}]'
    b',"usage":null,"obfuscation":"abcdefgh"}\n\n'
)
DELTA = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"msg_0123456789abcdef","output_index":0,'
    b'"content_index":0,"delta":" hello","logprobs":[],"obfuscation":"abcdef","sequence_number":17}\n\n'
)
BODY = orjson.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1763765432, "model": "gpt-5.4-mini-2026-03-05",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "words " * 55}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 2}},
    }
)  # fmt: skip


def call_of(path: bytes) -> Call:
    return read_call(method="POST", target=path, header={}.get, body=REQUEST, body_bytes=len(REQUEST))


def fed(path: bytes, event: bytes, *, strip: bool = False, times: int = 1) -> Callable[[], object]:
    meter = open_meter(call_of(path), kind_of(SSE.encode(), b""), status=200, strip_usage=strip)
    meter.feed_through(event)
    block = event * times
    return (lambda: meter.feed_through(block)) if strip else (lambda: meter.feed(block))


def body() -> object:
    meter = open_meter(CALL, kind_of(b"application/json", b""), status=200)
    meter.feed(BODY)
    return meter.finish(True)


CHAT, RESPONSES = b"/v1/chat/completions", b"/v1/responses"
CALL = call_of(CHAT)
ROWS: tuple[tuple[str, Callable[[], object], int], ...] = (
    ("match a path", lambda: match("POST", "/v1/chat/completions"), 1),
    (f"read a request of {len(REQUEST)} bytes", lambda: call_of(CHAT), 1),
    (f"splice a request of {len(REQUEST)} bytes", lambda: add_include_usage(REQUEST), 1),
    (f"meter a chat chunk of {len(CHUNK)} bytes", fed(CHAT, CHUNK), 1),
    ("meter and strip a chat chunk", fed(CHAT, CHUNK, strip=True), 1),
    ("the same, 20 chunks at once, for each", fed(CHAT, CHUNK, strip=True, times=20), 20),
    (f"meter a responses delta of {len(DELTA)} bytes", fed(RESPONSES, DELTA), 1),
    (f"meter a JSON answer of {len(BODY)} bytes, from open to finish", body, 1),
    ("for comparison: parse a chat chunk with orjson", lambda: orjson.loads(CHUNK[6:]), 1),
)


def main() -> None:
    """Print the table as Markdown."""
    print("| what | µs |\n|---|---|")
    for name, work, share in ROWS:
        number = 20_000 // share
        print(
            f"| {name} | {min(timeit.repeat(work, number=number, repeat=ROUNDS)) / number / share * 1e6:.2f} |"
        )


if __name__ == "__main__":
    main()
