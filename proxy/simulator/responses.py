"""POST /v1/responses, plain and streamed, as OpenAI shapes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.simulator import models
from proxy.simulator.problems import invalid, missing, raise_wanted
from proxy.simulator.words import Reply, ceiling_of, made_id, reply, texts_of


def response(body: dict[str, Any], created: int, request_id: str) -> dict[str, Any]:
    """The whole answer."""
    answer, model = _reply(body)
    return _object(body, model, created, request_id) | _ending(answer, request_id)


def response_events(body: dict[str, Any], created: int, request_id: str) -> Iterator[dict[str, Any]]:
    """The answer as the events of a stream; each has its `type`, and they are numbered from 0."""
    for number, event in enumerate(_events(body, created, request_id)):
        yield event | {"sequence_number": number}


def _events(body: dict[str, Any], created: int, request_id: str) -> Iterator[dict[str, Any]]:
    answer, model = _reply(body)
    begun = _object(body, model, created, request_id)
    message_id = made_id("msg_", request_id)
    at: dict[str, Any] = {"item_id": message_id, "output_index": 0, "content_index": 0}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    item = {"id": message_id, "type": "message", "status": "in_progress", "content": [], "role": "assistant"}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item}
    yield {"type": "response.content_part.added", **at, "part": _part("")}
    for piece in answer.pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": answer.text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": _part(answer.text)}
    ended = begun | _ending(answer, request_id)
    yield {"type": "response.output_item.done", "output_index": 0, "item": ended["output"][0]}
    yield {"type": f"response.{ended['status']}", "response": ended}


def _reply(body: dict[str, Any]) -> tuple[Reply, models.Model]:
    given = body.get("input")
    if given is None:
        raise missing("input")
    if isinstance(given, str):
        contents: list[Any] = [given]
    elif isinstance(given, list) and given and all(isinstance(item, dict) for item in given):
        contents = [item.get("content", item.get("output")) for item in given]
    else:
        raise invalid("input", "Invalid 'input': expected a string or a non-empty array of items.")
    raise_wanted(str(body.get("model")), *texts_of(contents[-1]))
    model = models.find(body.get("model"))
    if isinstance(body.get("instructions"), str):
        contents = [body["instructions"], *contents]
    form = body.get("text")
    kind = (form.get("format") or {}).get("type") if isinstance(form, dict) else None
    ceiling = ceiling_of(body, "max_output_tokens")
    return reply(model, contents, ceiling, as_json=kind in {"json_object", "json_schema"}), model


def _object(body: dict[str, Any], model: models.Model, created: int, request_id: str) -> dict[str, Any]:
    """A response that has just begun."""
    return {
        "id": made_id("resp_", request_id),
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": model.served,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": "medium" if model.reasoning_tokens else None, "summary": None},
        "service_tier": "default",
        "store": body.get("store", True),
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _ending(answer: Reply, request_id: str) -> dict[str, Any]:
    """What changes when the response is done."""
    cut = answer.finish_reason == "length"
    status = "incomplete" if cut else "completed"
    message = {
        "id": made_id("msg_", request_id),
        "type": "message",
        "status": status,
        "content": [_part(answer.text)],
        "role": "assistant",
    }
    return {
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "output": [message],
        "usage": {
            "input_tokens": answer.input_tokens,
            "input_tokens_details": {"cached_tokens": answer.cached_tokens},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": answer.input_tokens + answer.output_tokens,
        },
    }


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "annotations": [], "logprobs": [], "text": text}
