"""Readers: how each kind of answer says what it used. Trees in, a Tally out; where a name is missing, nothing is guessed.

A reader gets a parsed JSON value, either whole or as the sieve left it: all names it looks at are in KEEP, so both read alike.
What it takes from where is told for people in docs/reference/metering.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from proxy.core import tokens
from proxy.core.readers_jobs import (
    read_batch,
    read_eval,
    read_fine_tuning,
    read_grader,
    read_run,
    read_turn,
    read_video,
)
from proxy.core.readers_media import (
    read_container,
    read_images,
    read_speech,
    read_transcription,
    read_translation,
)
from proxy.core.readers_response import read_compact, read_response
from proxy.core.tally import Tally, word

Hints: TypeAlias = Mapping[str, str | int]
Reader: TypeAlias = Callable[[dict[str, Any], Tally, Hints], None]

KEEP: Final[frozenset[str]] = frozenset(
    [
        "id",
        "object",
        "type",
        "status",
        "model",
        "model_name",
        "service_tier",
        "error",
        "last_error",
        "errors",
        "code",
        "message",
        "incomplete_details",
        "reason",
        "choices",
        "finish_reason",
        "finish_details",
        "usage",
        "prompt_tokens",
        "completion_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cached_tokens",
        "reasoning_tokens",
        "prompt_tokens_details",
        "completion_tokens_details",
        "input_tokens_details",
        "output_tokens_details",
        "input_token_details",
        "output_token_details",
        "cached_tokens_details",
        "cache_write_tokens",
        "cache_write_tokens_details",
        "ttl_30m_tokens",
        "ttl_12h_tokens",
        "audio_tokens",
        "image_tokens",
        "text_tokens",
        "cached_image_tokens",
        "cached_text_tokens",
        "seconds",
        "tool_usage",
        "image_gen",
        "web_search",
        "num_requests",
        "svg_usage",
        "output",
        "action",
        "container_id",
        "tools",
        "container",
        "response",
        "data",
        "session",
        "turn",
        "turn_id",
        "agent",
        "item",
        "event",
        "decision",
        "delegation_id",
        "duration",
        "size",
        "memory_limit",
        "trained_tokens",
        "request_counts",
        "completed",
        "failed",
        "total",
        "per_model_usage",
        "invocation_count",
        "metadata",
        "token_usage",
        "model_grader_token_usage_per_model",
        "thread_id",
        "output_file_id",
        "error_file_id",
        "result_files",
        "file",
    ]
)


def read_completion(tree: dict[str, Any], tally: Tally, hints: Hints) -> None:
    """chat.completion, chat.completion.chunk, text_completion and their streamed form: one shape, whole or in pieces."""
    if tree.get("error"):
        tally.error(tree["error"])
    _identity(tree, tally)
    usage = tokens.read(tree.get("usage"))
    choices = tree.get("choices")
    if type(choices) is list:
        for choice in choices:
            if type(choice) is dict and (reason := word(choice.get("finish_reason"))):
                tally.finish_reason = tally.finish_reason or reason
    if usage is not None:
        tally.usage = usage
        model = tally.model or ""
        if "web_search_context" in hints or "-search-" in model or model.endswith("-search"):
            # A search model searches once for every answer, and no answer counts it.
            tally.units["web_searches"] = 1


def read_plain(tree: dict[str, Any], tally: Tally, hints: Hints) -> None:
    """An object with model and usage at its top: embeddings, decisions, moderations (which has no usage)."""
    del hints
    _identity(tree, tally)
    tally.usage = tokens.read(tree.get("usage")) or tally.usage
    if tree.get("error"):
        tally.error(tree["error"])


def read_generic(tree: dict[str, Any], tally: Tally, hints: Hints) -> None:
    """An object of a route nobody told us about: usage at the top, or inside `response`, if it looks like one."""
    del hints
    inner = tree.get("response")
    for each in (tree, inner if type(inner) is dict else {}):
        _identity(each, tally)
        if each.get("error"):
            tally.error(each["error"])
        if tokens.looks_like_usage(each.get("usage")):
            tally.usage = tokens.read(each["usage"])


def read_nothing(tree: dict[str, Any], tally: Tally, hints: Hints) -> None:
    """A replay or an object without usage: only what it is. Its usage, if any, was billed elsewhere."""
    del hints
    _identity(tree, tally)
    tally.usage = None
    file = tree.get("file")
    if tree.get("object") == "upload" and type(file) is dict:
        tally.belongs(file.get("id"), "file")


def read_media(tree: dict[str, Any], tally: Tally, hints: Hints) -> None:
    """A call whose sound and picture go past any proxy: what it will use can't be known here."""
    del hints
    _identity(tree, tally)
    tally.unknown = True


def _identity(tree: dict[str, Any], tally: Tally) -> None:
    tally.model = word(tree.get("model")) or tally.model
    tally.service_tier = word(tree.get("service_tier")) or tally.service_tier
    tally.object_id = word(tree.get("id")) or tally.object_id


BODIES: Final[Mapping[str, Reader]] = {
    "chat": read_completion,
    "completions": read_completion,
    "embeddings": read_plain,
    "moderations": read_plain,
    "decisions": read_plain,
    "responses": read_response,
    "compact": read_compact,
    "images": read_images,
    "speech": read_speech,
    "transcription": read_transcription,
    "translation": read_translation,
    "runs": read_run,
    "batches": read_batch,
    "evals": read_eval,
    "fine_tuning": read_fine_tuning,
    "graders": read_grader,
    "agents": read_turn,
    "videos": read_video,
    "containers": read_container,
    "media": read_media,
    "generic": read_generic,
    "none": read_nothing,
}
"""How a whole JSON answer is read, by Endpoint.meter."""


def read_body(meter: str, tree: Any, tally: Tally, hints: Hints) -> None:
    """Read a whole JSON answer of an endpoint whose status was below 400."""
    if type(tree) is dict:
        BODIES.get(meter, read_nothing)(tree, tally, hints)


def read_error(tree: Any, tally: Tally) -> None:
    """Read `{"error": …}` of an answer whose status was 400 or more; some servers wrap it in a list."""
    if type(tree) is list and tree:
        tree = tree[0]
    if type(tree) is dict:
        tally.error(tree.get("error") or tree)
