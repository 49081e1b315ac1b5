"""POST /v1/chat/completions and /v1/completions, plain and streamed, as OpenAI shapes them.

With `stream_options.include_usage` every chunk carries `"usage": null`, and one more chunk with empty choices carries the sum;
without it no chunk has the member at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from proxy.simulator import models
from proxy.simulator.problems import Problem, invalid, missing, raise_wanted
from proxy.simulator.words import Reply, ceiling_of, count_tokens, made_id, reply, texts_of

CHOICES_MAX = 8
FINGERPRINT = "fp_simulated"


def chat(body: dict[str, Any], created: int, request_id: str) -> dict[str, Any]:
    """The whole answer."""
    answer, count, model = _chat_reply(body)
    choices = []
    for index in range(count):
        message: dict[str, Any] = {
            "role": "assistant",
            "content": answer.text,
            "refusal": None,
            "annotations": [],
        }
        finish = answer.finish_reason
        if call := _tool_call(body, request_id):
            message |= {"content": None, "tool_calls": [call]}
            finish = "tool_calls"
        choices.append({"index": index, "message": message, "logprobs": None, "finish_reason": finish})
    return {
        "id": made_id("chatcmpl-", request_id),
        "object": "chat.completion",
        "created": created,
        "model": model.served,
        "choices": choices,
        "usage": _usage(answer, count),
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }


def chat_chunks(body: dict[str, Any], created: int, request_id: str) -> Iterator[dict[str, Any]]:
    """The answer as the chunks of a stream, without the closing [DONE]."""
    answer, count, model = _chat_reply(body)
    with_usage = _include_usage(body)
    head: dict[str, Any] = {
        "id": made_id("chatcmpl-", request_id),
        "object": "chat.completion.chunk",
        "created": created,
        "model": model.served,
        "service_tier": "default",
        "system_fingerprint": FINGERPRINT,
    }
    usage = {"usage": None} if with_usage else {}
    call = _tool_call(body, request_id)
    for index in range(count):

        def chunk(delta: dict[str, Any], finish: str | None = None, index: int = index) -> dict[str, Any]:
            choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
            return head | {"choices": [choice]} | usage

        if call:
            opening = {"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}
            yield chunk(opening | {"refusal": None})
        else:
            yield chunk({"role": "assistant", "content": "", "refusal": None})
            for piece in answer.pieces:
                yield chunk({"content": piece})
        yield chunk({}, "tool_calls" if call else answer.finish_reason)
    if with_usage:
        yield head | {"choices": [], "usage": _usage(answer, count)}


def completion(body: dict[str, Any], created: int, request_id: str) -> dict[str, Any]:
    """The whole answer of the older endpoint."""
    answer, count, model = _completion_reply(body)
    choices = [
        {"text": answer.text, "index": index, "logprobs": None, "finish_reason": answer.finish_reason}
        for index in range(count)
    ]
    head = _completion_head(model, created, request_id)
    return head | {"choices": choices, "usage": _completion_usage(answer, count)}


def completion_chunks(body: dict[str, Any], created: int, request_id: str) -> Iterator[dict[str, Any]]:
    """The older endpoint's stream, without the closing [DONE]."""
    answer, count, model = _completion_reply(body)
    head = _completion_head(model, created, request_id)
    usage = {"usage": None} if _include_usage(body) else {}
    for index in range(count):
        for number, piece in enumerate(answer.pieces):
            finish = answer.finish_reason if number == len(answer.pieces) - 1 else None
            choice = {"text": piece, "index": index, "logprobs": None, "finish_reason": finish}
            yield head | {"choices": [choice]} | usage
    if usage:
        yield head | {"choices": [], "usage": _completion_usage(answer, count)}


def _chat_reply(body: dict[str, Any]) -> tuple[Reply, int, models.Model]:
    messages = body.get("messages")
    if messages is None:
        raise missing("messages")
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages) or not messages:
        raise invalid("messages", "Invalid 'messages': expected a non-empty array of messages.")
    contents = [message.get("content") for message in messages]
    raise_wanted(str(body.get("model")), *texts_of(contents[-1]))
    model = models.find(body.get("model"))
    ceiling = ceiling_of(body, "max_completion_tokens", "max_tokens")
    form = body.get("response_format")
    as_json = isinstance(form, dict) and form.get("type") in {"json_object", "json_schema"}
    return reply(model, contents, ceiling, as_json=as_json), _choices(body), model


def _completion_reply(body: dict[str, Any]) -> tuple[Reply, int, models.Model]:
    prompt = body.get("prompt", "")
    contents = [prompt] if isinstance(prompt, str) else list(texts_of(prompt)) or [""]
    raise_wanted(str(body.get("model")), *contents)
    model = models.find(body.get("model"), "legacy")
    answer = reply(model, contents, ceiling_of(body, "max_tokens") or 16)
    return answer, _choices(body), model


def _completion_head(model: models.Model, created: int, request_id: str) -> dict[str, Any]:
    return {
        "id": made_id("cmpl-", request_id),
        "object": "text_completion",
        "created": created,
        "model": model.served,
    }


def _choices(body: dict[str, Any]) -> int:
    count = ceiling_of(body, "n") or 1
    if count > CHOICES_MAX:
        raise Problem(400, f"Invalid 'n': the simulator gives at most {CHOICES_MAX} choices.", param="n")
    return count


def _include_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _tool_call(body: dict[str, Any], request_id: str) -> dict[str, Any] | None:
    """A call of the tool that the request insists on."""
    choice, tools = body.get("tool_choice"), body.get("tools")
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
    elif choice == "required" and isinstance(tools, list) and tools and isinstance(tools[0], dict):
        name = (tools[0].get("function") or {}).get("name")
    else:
        return None
    function = {"name": str(name), "arguments": "{}"}
    return {"id": made_id("call_", request_id), "type": "function", "function": function}


def _usage(answer: Reply, count: int) -> dict[str, Any]:
    output = answer.output_tokens * count
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": output,
        "total_tokens": answer.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens * count,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _completion_usage(answer: Reply, count: int) -> dict[str, int]:
    output = count_tokens(answer.text) * count
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": output,
        "total_tokens": answer.input_tokens + output,
    }
