"""What OpenAI answers, as raw bytes: chat, completions, responses, embeddings and models, plain and streamed.

Shapes and stream order follow the OpenAI API reference and what the official SDK parses: with
`stream_options.include_usage` each chunk carries `"usage":null` and one more chunk with `choices: []` and the usage comes
before `data: [DONE]`; without it no chunk has the member and no usage is sent at all. Responses streams end after their
terminal event, without `[DONE]`. Numbers are fixed (`CHAT`, `RESPONSE`, `EMBEDDING`), so tests can write them out.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any

from tests.wire import chunked, head

SERVED = {
    "gpt-4o-mini": "gpt-4o-mini-2024-07-18",
    "gpt-4o": "gpt-4o-2024-08-06",
    "gpt-3.5-turbo-instruct": "gpt-3.5-turbo-instruct:20230824-v2",
    "gpt-5-mini": "gpt-5-mini-2025-08-07",
}
"""OpenAI answers with the dated snapshot that served."""

CHAT: dict[str, Any] = {
    "prompt_tokens": 1117,
    "completion_tokens": 46,
    "total_tokens": 1163,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 32,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
COMPLETION: dict[str, Any] = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
RESPONSE: dict[str, Any] = {
    "input_tokens": 2006,
    "input_tokens_details": {"cached_tokens": 1920},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 256},
    "total_tokens": 2306,
}
EMBEDDING: dict[str, Any] = {"prompt_tokens": 8, "total_tokens": 8}

HEADERS = (
    b"Date: Tue, 20 Oct 2026 07:28:00 GMT",
    b"openai-organization: org-of-the-account",
    b"openai-processing-ms: 412",
    b"openai-version: 2020-10-01",
    b"x-ratelimit-limit-requests: 10000",
    b"x-ratelimit-remaining-requests: 9999",
    b"x-ratelimit-reset-requests: 6ms",
    b"x-request-id: req_5f1f2b8c9a7e4d31",
    b"cf-cache-status: DYNAMIC",
    b"Set-Cookie: __cf_bm=one; path=/; HttpOnly",
    b"Set-Cookie: _cfuvid=two; path=/; HttpOnly",
    b"Server: cloudflare",
)
WORDS = ("Ol\u00e1", ", ", "stu", "dent", "! ", "\U0001f9d1\u200d\U0001f3eb", " ok")
TEXT = "".join(WORDS)
CREATED = 1_760_945_280


def dumps(value: Any) -> bytes:
    """JSON as OpenAI writes it in streams: compact, text unescaped."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def plain(body: bytes, status: bytes = b"200 OK", *lines: bytes) -> tuple[bytes, ...]:
    """A JSON answer with a length."""
    length = b"Content-Length: %d" % len(body)
    kind = b"Content-Type: application/json"
    return (head(b"HTTP/1.1 " + status, *HEADERS, kind, length, *lines) + body,)


def streamed(events: Iterable[bytes]) -> tuple[bytes, ...]:
    """A chunked event stream: the head, each event as its own chunk, the end."""
    kind = b"Content-Type: text/event-stream; charset=utf-8"
    end = chunked(())
    return (
        head(b"HTTP/1.1 200 OK", *HEADERS, kind, b"Transfer-Encoding: chunked"),
        *(chunked((event,)).removesuffix(end) for event in events),
        end,
    )


def error(
    status: bytes, code: str | None, message: str, kind: str = "invalid_request_error", *lines: bytes
) -> tuple[bytes, ...]:
    """`error(b"429 Too Many Requests", "rate_limit_exceeded", "Slow down.", "requests", b"retry-after: 2")`."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return plain(json.dumps(body, indent=2).encode(), status, *lines)


def answer(method: bytes, target: bytes, body: bytes) -> tuple[bytes, ...]:
    """The default answer to a request, by its path and body."""
    path = target.partition(b"?")[0]
    if method == b"GET" and path == b"/v1/models":
        return plain(dumps({"object": "list", "data": [model(name) for name in SERVED]}))
    maker = MAKERS.get((method, path))
    if maker is None:
        url = f"{method.decode()} {path.decode()}"
        return error(b"404 Not Found", "unknown_url", f"Unknown request URL: {url}.")
    return maker(json.loads(body))


def model(name: str) -> dict[str, Any]:
    """One member of GET /v1/models."""
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}


def chat(asked: dict[str, Any]) -> tuple[bytes, ...]:
    """POST /v1/chat/completions."""
    made = {
        "id": "chatcmpl-CSkw5m0o5uWbWfyq3hKzJQ",
        "object": "chat.completion",
        "created": CREATED,
        "model": SERVED.get(asked["model"], asked["model"]),
        "service_tier": "default",
        "system_fingerprint": "fp_560af6e559",
    }
    if asked.get("stream"):
        return streamed(_chat_chunks(made | {"object": "chat.completion.chunk"}, _wants_usage(asked)))
    message: dict[str, Any] = {"role": "assistant", "content": TEXT, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = {**made, "choices": [choice], "usage": CHAT}
    return plain(json.dumps(whole, indent=2, ensure_ascii=False).encode())


def _wants_usage(asked: dict[str, Any]) -> bool:
    return bool((asked.get("stream_options") or {}).get("include_usage"))


def _chat_chunks(made: dict[str, Any], usage: bool) -> Iterable[bytes]:
    null = {"usage": None} if usage else {}
    first = {"role": "assistant", "content": "", "refusal": None}
    deltas: list[tuple[dict[str, Any], str | None]] = [(first, None)]
    deltas += [({"content": word}, None) for word in WORDS]
    deltas.append(({}, "stop"))
    for delta, finish in deltas:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        yield b"data: " + dumps({**made, "choices": [choice], **null}) + b"\n\n"
    if usage:
        yield b"data: " + dumps({**made, "choices": [], "usage": CHAT}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def completion(asked: dict[str, Any]) -> tuple[bytes, ...]:
    """POST /v1/completions."""
    made = {
        "id": "cmpl-CSkxDk2s5uVJ",
        "object": "text_completion",
        "created": CREATED,
        "model": SERVED.get(asked["model"], asked["model"]),
    }
    if not asked.get("stream"):
        choice = {"text": TEXT, "index": 0, "logprobs": None, "finish_reason": "length"}
        return plain(dumps({**made, "choices": [choice], "usage": COMPLETION}))
    usage = _wants_usage(asked)
    null = {"usage": None} if usage else {}
    events = []
    for at, word in enumerate(WORDS):
        finish = "length" if at == len(WORDS) - 1 else None
        choice = {"text": word, "index": 0, "logprobs": None, "finish_reason": finish}
        events.append(b"data: " + dumps({**made, "choices": [choice], **null}) + b"\n\n")
    if usage:
        events.append(b"data: " + dumps({**made, "choices": [], "usage": COMPLETION}) + b"\n\n")
    return streamed([*events, b"data: [DONE]\n\n"])


def response(asked: dict[str, Any]) -> tuple[bytes, ...]:
    """POST /v1/responses."""
    if not asked.get("stream"):
        return plain(json.dumps(_response(asked, "completed"), indent=2, ensure_ascii=False).encode())
    place = {"item_id": "msg_01", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    item = {"id": "msg_01", "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(asked, "in_progress")},
        {"type": "response.in_progress", "response": _response(asked, "in_progress")},
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.content_part.added", **place, "part": part},
    ]
    events += [
        {"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in WORDS
    ]
    events += [
        {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**part, "text": TEXT}},
        {"type": "response.output_item.done", "output_index": 0, "item": _message()},
        {"type": "response.completed", "response": _response(asked, "completed")},
    ]
    return streamed(
        b"event: %b\ndata: %b\n\n" % (event["type"].encode(), dumps(event | {"sequence_number": number}))
        for number, event in enumerate(events)
    )


def _message() -> dict[str, Any]:
    text = {"type": "output_text", "annotations": [], "logprobs": [], "text": TEXT}
    return {
        "id": "msg_01",
        "type": "message",
        "status": "completed",
        "content": [text],
        "role": "assistant",
    }


def _response(asked: dict[str, Any], status: str) -> dict[str, Any]:
    done = status == "completed"
    return {
        "id": "resp_68f5e0c0a1b88190",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "model": SERVED.get(asked["model"], asked["model"]),
        "output": [_message()] if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "reasoning": {"effort": "medium", "summary": None},
        "service_tier": "default" if done else "auto",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": RESPONSE if done else None,
        "user": None,
        "metadata": {},
    }


def embedding(asked: dict[str, Any]) -> tuple[bytes, ...]:
    """POST /v1/embeddings; the SDK asks for base64."""
    numbers = [0.25, -0.5, 0.125]
    coded = base64.b64encode(struct.pack("<3f", *numbers)).decode()
    vector = coded if asked.get("encoding_format") == "base64" else numbers
    data = [{"object": "embedding", "index": 0, "embedding": vector}]
    return plain(dumps({"object": "list", "data": data, "model": asked["model"], "usage": EMBEDDING}))


MAKERS: dict[tuple[bytes, bytes], Callable[[dict[str, Any]], tuple[bytes, ...]]] = {
    (b"POST", b"/v1/chat/completions"): chat,
    (b"POST", b"/v1/completions"): completion,
    (b"POST", b"/v1/responses"): response,
    (b"POST", b"/v1/embeddings"): embedding,
}
