"""The corpus covers OpenAI's API: at least one exchange for every call that returns usage, in every form that its answer takes, and
for every call that doesn't. The list is written out by hand from OpenAI's OpenAPI description (2026-08-21) and the Python SDK 3.54.
"""

from __future__ import annotations

import re

import pytest

from tests import corpus

JSON, STREAM, TEXT, BINARY, SOCKET = "json", "stream", "text", "binary", "socket"

USAGE: list[tuple[str, str, tuple[str, ...]]] = [
    ("POST", "/v1/chat/completions", (JSON, STREAM)),
    ("GET", "/v1/chat/completions", (JSON,)),
    ("GET", "/v1/chat/completions/{id}", (JSON,)),
    ("POST", "/v1/chat/completions/{id}", (JSON,)),
    ("POST", "/v1/completions", (JSON, STREAM)),
    ("POST", "/v1/embeddings", (JSON,)),
    ("POST", "/v1/responses", (JSON, STREAM)),
    ("POST", "/v1/responses?beta=true", (JSON,)),
    ("GET", "/v1/responses/{id}", (JSON,)),
    ("GET", "/v1/responses/{id}?stream=true&starting_after={n}", (STREAM,)),
    ("POST", "/v1/responses/{id}/cancel", (JSON,)),
    ("POST", "/v1/responses/compact", (JSON,)),
    ("POST", "/v1/responses/input_tokens", (JSON,)),
    ("GET", "/v1/responses", (SOCKET,)),
    ("POST", "/v1/images/generations", (JSON, STREAM)),
    ("POST", "/v1/images/edits", (JSON, STREAM)),
    ("POST", "/v1/images/variations", (JSON,)),
    ("POST", "/v1/audio/speech", (BINARY, STREAM)),
    ("POST", "/v1/audio/transcriptions", (JSON, STREAM, TEXT)),
    ("POST", "/v1/audio/translations", (JSON, TEXT)),
    ("POST", "/v1/decisions", (JSON,)),
    ("POST", "/v1/threads/runs", (JSON, STREAM)),
    ("POST", "/v1/threads/{id}/runs", (JSON, STREAM)),
    ("POST", "/v1/threads/{id}/runs/{id}/submit_tool_outputs", (JSON, STREAM)),
    ("GET", "/v1/threads/{id}/runs", (JSON,)),
    ("GET", "/v1/threads/{id}/runs/{id}", (JSON,)),
    ("POST", "/v1/threads/{id}/runs/{id}", (JSON,)),
    ("POST", "/v1/threads/{id}/runs/{id}/cancel", (JSON,)),
    ("GET", "/v1/threads/{id}/runs/{id}/steps", (JSON,)),
    ("GET", "/v1/threads/{id}/runs/{id}/steps/{id}", (JSON,)),
    ("POST", "/v1/batches", (JSON,)),
    ("GET", "/v1/batches", (JSON,)),
    ("GET", "/v1/batches/{id}", (JSON,)),
    ("POST", "/v1/batches/{id}/cancel", (JSON,)),
    ("POST", "/v1/evals/{id}/runs", (JSON,)),
    ("GET", "/v1/evals/{id}/runs", (JSON,)),
    ("GET", "/v1/evals/{id}/runs/{id}", (JSON,)),
    ("POST", "/v1/evals/{id}/runs/{id}", (JSON,)),
    ("POST", "/v1/evals/{id}/runs/{id}/cancel", (JSON,)),
    ("GET", "/v1/evals/{id}/runs/{id}/output_items", (JSON,)),
    ("GET", "/v1/evals/{id}/runs/{id}/output_items/{id}", (JSON,)),
    ("POST", "/v1/fine_tuning/alpha/graders/run", (JSON,)),
    ("POST", "/v1/fine_tuning/jobs", (JSON,)),
    ("GET", "/v1/fine_tuning/jobs", (JSON,)),
    ("GET", "/v1/fine_tuning/jobs/{id}", (JSON,)),
    ("POST", "/v1/fine_tuning/jobs/{id}/cancel", (JSON,)),
    ("POST", "/v1/fine_tuning/jobs/{id}/pause", (JSON,)),
    ("POST", "/v1/fine_tuning/jobs/{id}/resume", (JSON,)),
    ("POST", "/v1/agents/sessions", (JSON, STREAM)),
    ("GET", "/v1/agents/sessions", (JSON,)),
    ("GET", "/v1/agents/sessions/{id}", (JSON,)),
    ("GET", "/v1/agents/sessions/{id}/events", (STREAM,)),
    ("GET", "/v1/agents/sessions/{id}/turns", (JSON,)),
    ("GET", "/v1/agents/sessions/{id}/turns/{id}", (JSON,)),
    ("GET", "/v1/agents/sessions/{id}/subagents/{id}/turns", (JSON,)),
    ("GET", "/v1/agents/sessions/{id}/subagents/{id}/turns/{id}", (JSON,)),
    ("GET", "/v1/realtime?model={model}", (SOCKET,)),
    ("GET", "/v1/realtime?call_id={id}", (SOCKET,)),
    ("GET", "/v1/realtime/translations?model={model}", (SOCKET,)),
    ("GET", "/v1/live/sessions", (SOCKET,)),
    ("GET", "/v1/live/sessions/{id}/fork", (SOCKET,)),
    ("GET", "/v1/live/sessions/{id}/attach", (SOCKET,)),
    ("POST", "/v1/vector_stores", (JSON,)),
    ("GET", "/v1/vector_stores/{id}", (JSON,)),
    ("POST", "/v1/videos", (JSON,)),
    ("POST", "/v1/videos/edits", (JSON,)),
    ("POST", "/v1/videos/extensions", (JSON,)),
    ("POST", "/v1/videos/{id}/remix", (JSON,)),
    ("GET", "/v1/videos", (JSON,)),
    ("GET", "/v1/videos/{id}", (JSON,)),
    ("GET", "/v1/files/{id}/content", (BINARY,)),
]
"""Calls that return usage, or something like it, and the forms their answers take."""

OTHERS: list[tuple[str, str, tuple[str, ...]]] = [
    ("POST", "/v1/moderations", (JSON,)),
    ("GET", "/v1/models", (JSON,)),
    ("GET", "/v1/models/{id}", (JSON,)),
    ("DELETE", "/v1/models/{id}", (JSON,)),
    ("POST", "/v1/files", (JSON,)),
    ("GET", "/v1/files/{id}", (JSON,)),
    ("DELETE", "/v1/files/{id}", (JSON,)),
    ("POST", "/v1/uploads", (JSON,)),
    ("POST", "/v1/uploads/{id}/parts", (JSON,)),
    ("POST", "/v1/uploads/{id}/complete", (JSON,)),
    ("POST", "/v1/uploads/{id}/cancel", (JSON,)),
    ("POST", "/v1/conversations", (JSON,)),
    ("GET", "/v1/conversations/{id}/items", (JSON,)),
    ("GET", "/v1/responses/{id}/input_items", (JSON,)),
    ("POST", "/v1/containers", (JSON,)),
    ("POST", "/v1/containers/{id}/files", (JSON,)),
    ("GET", "/v1/containers/{id}/files/{id}/content", (BINARY,)),
    ("POST", "/v1/vector_stores/{id}/search", (JSON,)),
    ("GET", "/v1/skills", (JSON,)),
    ("POST", "/v1/skills", (JSON,)),
    ("GET", "/v1/skills/{id}/content", (BINARY,)),
    ("POST", "/v1/assistants", (JSON,)),
    ("POST", "/v1/threads", (JSON,)),
    ("POST", "/v1/threads/{id}/messages", (JSON,)),
    ("POST", "/v1/evals", (JSON,)),
    ("GET", "/v1/fine_tuning/jobs/{id}/events", (JSON,)),
    ("GET", "/v1/fine_tuning/jobs/{id}/checkpoints", (JSON,)),
    ("POST", "/v1/fine_tuning/checkpoints/{id}/permissions", (JSON,)),
    ("POST", "/v1/fine_tuning/alpha/graders/validate", (JSON,)),
    ("POST", "/v1/realtime/client_secrets", (JSON,)),
    ("POST", "/v1/realtime/translations/client_secrets", (JSON,)),
    ("POST", "/v1/realtime/sessions", (JSON,)),
    ("POST", "/v1/realtime/transcription_sessions", (JSON,)),
    ("POST", "/v1/realtime/calls", (BINARY,)),
    ("POST", "/v1/realtime/calls/{id}/accept", (BINARY,)),
    ("POST", "/v1/realtime/calls/{id}/reject", (BINARY,)),
    ("POST", "/v1/realtime/calls/{id}/hangup", (BINARY,)),
    ("POST", "/v1/realtime/calls/{id}/refer", (BINARY,)),
    ("POST", "/v1/live/sessions", (JSON,)),
    ("POST", "/v1/live/sessions/{id}/accept", (BINARY,)),
    ("POST", "/v1/live/sessions/{id}/reject", (BINARY,)),
    ("POST", "/v1/live/sessions/{id}/hangup", (BINARY,)),
    ("POST", "/v1/live/sessions/{id}/refer", (BINARY,)),
    ("POST", "/v1/live/sessions/{id}/fork", (JSON,)),
    ("GET", "/v1/live/sessions/{id}/content", (BINARY,)),
    ("POST", "/v1/chatkit/sessions", (JSON,)),
    ("GET", "/v1/chatkit/threads", (JSON,)),
    ("POST", "/v1/audio/voices", (JSON,)),
    ("POST", "/v1/audio/voice_consents", (JSON,)),
    ("POST", "/v1/content_provenance_checks", (JSON,)),
    ("GET", "/v1/safety/{rest}", (JSON,)),
    ("POST", "/v1/webhook_endpoints", (JSON,)),
    ("POST", "/v1/vaults", (JSON,)),
    ("POST", "/v1/agents", (JSON,)),
    ("GET", "/v1/agents/automations", (JSON,)),
    ("GET", "/v1/agents/environments", (JSON,)),
    ("GET", "/v1/agents/sessions/{id}/artifacts/{id}/content", (BINARY,)),
    ("GET", "/v1/agents/sessions/{id}/traces", (JSON,)),
    ("GET", "/v1/organization/usage/{rest}", (JSON,)),
    ("GET", "/v1/organization/costs", (JSON,)),
    ("GET", "/v1/projects/{rest}", (JSON,)),
]
"""Calls that are forwarded and counted, without usage of their own."""

TRAPS = {
    "usage only in the last chunk": "chat_stream",
    "usage asked for by the client": "chat_stream_asked",
    "two choices in one stream": "chat_stream_two_choices",
    "usage null on a failed response": "responses_stream_failed",
    "usage on a response that failed late": "responses_stream_failed_late",
    "usage on an incomplete response": "responses_stream_incomplete",
    "an error event in the middle": "responses_stream_error",
    "a keepalive that no SDK knows": "responses_stream",
    "no [DONE]": "chat_stream_no_done",
    "no last blank line": "chat_stream_no_last_blank_line",
    "CR": "chat_stream_cr",
    "CRLF": "chat_stream_crlf",
    "comments": "chat_stream_comments",
    "data over several lines": "chat_stream_many_data_lines",
    "a byte order mark": "chat_stream_bom",
    "text that looks like usage": "chat_stream_forged_text",
    "a stream that breaks off": "chat_stream_cut",
    "a stream that is an error": "error_400_stream",
    "background work": "responses_background_get",
    "tools with a fee": "responses_tools",
    "no tool_usage": "responses_tools_no_tool_usage",
    "no output details of an image": "images_generate_no_output_details",
    "a batch from before there was usage": "batch_get_completed_old",
    "cumulative seconds": "ws_live",
    "a path in disguise": "chat_evasive_path",
}
"""What is easily got wrong, and the exchange that shows it."""

EXCHANGES = corpus.load()


def form(exchange: corpus.Exchange) -> str:
    """How the answer comes."""
    kind = exchange.answer(b"content-type").partition(";")[0].strip().lower()
    if exchange.status == 101:
        return SOCKET
    if kind == "text/event-stream":
        return STREAM
    if kind == "application/json":
        return JSON
    return TEXT if kind.startswith("text/") else BINARY


def asks(exchange: corpus.Exchange, method: str, path: str) -> bool:
    """Whether the exchange is such a call."""
    pattern = re.sub(r"\\\{[a-z]+\\\}", "[^/?&]+", re.escape(path)).replace("[^/?&]+$", ".+")
    if path.endswith("{rest}"):
        pattern = pattern.removesuffix("[^/?&]+") + ".+"
    wanted = pattern if "?" in path else pattern + r"(\?.*)?"
    return exchange.method == method and re.fullmatch(wanted, exchange.target.decode()) is not None


@pytest.mark.parametrize(("method", "path", "forms"), [*USAGE, *OTHERS], ids=str)
def test_every_call_of_the_api_has_an_exchange_in_each_form(
    method: str, path: str, forms: tuple[str, ...]
) -> None:
    found = {
        form(exchange) for exchange in EXCHANGES if exchange.status < 300 and asks(exchange, method, path)
    }
    assert set(forms) <= found


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_an_exchange(trap: str) -> None:
    assert TRAPS[trap] in {exchange.name for exchange in EXCHANGES}


def test_every_exchange_says_why_it_is_there_and_what_is_to_be_recorded() -> None:
    assert {
        exchange.name for exchange in EXCHANGES if not exchange.why or "endpoint" not in exchange.record
    } == set()
