"""The official SDK through the proxy: what it sees is what OpenAI sent, what is recorded is what was used."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest

from tests import openai_answers
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import Person, ProxyProcess

MESSAGES = [{"role": "user", "content": "Ol\u00e1, \U0001f44b"}]
USAGE = {"stream": True, "stream_options": {"include_usage": True}}
CHAT_USE = {
    "input_tokens": 1117,
    "cached_input_tokens": 1024,
    "output_tokens": 46,
    "reasoning_tokens": 32,
    "total_tokens": 1163,
    # 93 new at $0.15, 1024 cached at $0.075, 46 out at $0.60 a million
    "cost_nanousd": 93 * 150 + 1024 * 75 + 46 * 600,
    "served_model": "gpt-4o-mini-2024-07-18",
    "finish_reason": "stop",
    "service_tier": "default",
    "object_id": "chatcmpl-CSkw5m0o5uWbWfyq3hKzJQ",
}
COMPLETION_USE = {
    "input_tokens": 5,
    "output_tokens": 7,
    "total_tokens": 12,
    "cost_nanousd": 5 * 1500 + 7 * 2000,  # $1.50 and $2.00 a million
    "served_model": "gpt-3.5-turbo-instruct:20230824-v2",
    "finish_reason": "length",
}
RESPONSE_USE = {
    "input_tokens": 2006,
    "cached_input_tokens": 1920,
    "output_tokens": 300,
    "reasoning_tokens": 256,
    "total_tokens": 2306,
    # 86 new at $0.25, 1920 cached at $0.025, 300 out at $2.00 a million
    "cost_nanousd": 86 * 250 + 1920 * 25 + 300 * 2000,
    "served_model": "gpt-5-mini-2025-08-07",
    "service_tier": "default",
    "object_id": "resp_68f5e0c0a1b88190",
}
EMBEDDING_USE = {
    "input_tokens": 8,
    "output_tokens": 0,
    "total_tokens": 8,
    "cost_nanousd": 8 * 20,  # $0.02 a million
    "served_model": "text-embedding-3-small",
}


@dataclass(frozen=True)
class Case:
    """One way to call, and the record it must leave."""

    call: Callable[[Any], Any]
    endpoint: str
    model: str | None
    use: dict[str, Any] = field(default_factory=dict)
    streamed: bool = False
    method: str = "POST"


def chat(**more: Any) -> Callable[[Any], Any]:
    return lambda client: client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, **more)


def completion(**more: Any) -> Callable[[Any], Any]:
    return lambda client: client.completions.create(model="gpt-3.5-turbo-instruct", prompt="Once", **more)


def response(**more: Any) -> Callable[[Any], Any]:
    return lambda client: client.responses.create(model="gpt-5-mini", input="hi", **more)


def embedding(**more: Any) -> Callable[[Any], Any]:
    return lambda client: client.embeddings.create(model="text-embedding-3-small", input="hi", **more)


CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
CASES = {
    "chat": Case(chat(), CHAT, "gpt-4o-mini", CHAT_USE),
    "chat, streamed": Case(chat(stream=True), CHAT, "gpt-4o-mini", CHAT_USE, streamed=True),
    "chat, streamed with usage": Case(chat(**USAGE), CHAT, "gpt-4o-mini", CHAT_USE, streamed=True),
    "completion": Case(completion(), COMPLETIONS, "gpt-3.5-turbo-instruct", COMPLETION_USE),
    "completion, streamed": Case(
        completion(stream=True), COMPLETIONS, "gpt-3.5-turbo-instruct", COMPLETION_USE, streamed=True
    ),
    "completion, streamed with usage": Case(
        completion(**USAGE), COMPLETIONS, "gpt-3.5-turbo-instruct", COMPLETION_USE, streamed=True
    ),
    "response": Case(response(), RESPONSES, "gpt-5-mini", RESPONSE_USE),
    "response, streamed": Case(response(stream=True), RESPONSES, "gpt-5-mini", RESPONSE_USE, streamed=True),
    "embedding": Case(embedding(), "/v1/embeddings", "text-embedding-3-small", EMBEDDING_USE),
    "embedding as floats": Case(
        embedding(encoding_format="float"), "/v1/embeddings", "text-embedding-3-small", EMBEDDING_USE
    ),
    "models": Case(lambda client: client.models.list(), "/v1/models", None, method="GET"),
}


def dumped(made: Any) -> Any:
    """What the SDK made of the answer, streams event by event, as plain JSON."""
    if isinstance(made, openai.Stream):
        return [event.model_dump() for event in made]
    return made.model_dump()


async def dumped_async(making: Any) -> Any:
    made = await making
    if isinstance(made, openai.AsyncStream):
        return [event.model_dump() async for event in made]
    return made.model_dump()


def assert_record(record: dict[str, Any], case: Case, who: Person) -> None:
    """The record says exactly what the case used."""
    expected = {
        "user_id": who.user_id,
        "key_id": who.key_id,
        "group_id": None,
        "provider": "openai",
        "endpoint": case.endpoint,
        "method": case.method,
        "requested_model": case.model,
        "streamed": case.streamed,
        "status": 200,
        "outcome": "success",
        "error_type": None,
        "error_code": None,
        "upstream_request_id": "req_5f1f2b8c9a7e4d31",
        "usage_source": "reported" if case.use else "none",
        "cached_input_tokens": 0,
        "reasoning_tokens": 0,
        "cost_nanousd": 0,
        **case.use,
    }
    assert {name: record[name] for name in expected} == expected


@pytest.mark.parametrize("name", CASES)
async def test_a_call_looks_as_if_made_directly_and_is_recorded_to_the_nano_dollar(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person, name: str
) -> None:
    case = CASES[name]
    through = await asyncio.to_thread(lambda: dumped(case.call(client)))
    sent = upstream.requests[-1]
    (record,) = await proxy.records(1, user_id=ana.user_id)
    with openai.OpenAI(base_url=f"{upstream.url}/v1", api_key="k") as straight:
        directly = await asyncio.to_thread(lambda: dumped(case.call(straight)))
    assert through == directly
    assert_record(record, case, ana)
    assert record["bytes_in"] == upstream.requests[-1].body_bytes  # what the client sent, before any splicing
    assert sent.body_bytes >= record["bytes_in"]
    assert record["bytes_out"] > 0
    assert record["duration_ms"] >= record["ttfb_ms"] >= 0


@pytest.mark.parametrize("name", CASES)
async def test_the_async_client_sees_and_leaves_the_same(
    proxy: ProxyProcess, upstream: FakeUpstream, async_client: openai.AsyncOpenAI, ana: Person, name: str
) -> None:
    case = CASES[name]
    if name == "models":
        through = [model.model_dump() async for model in async_client.models.list()]
        assert [model["id"] for model in through] == list(openai_answers.SERVED)
    else:
        through = await dumped_async(case.call(async_client))
        async with openai.AsyncOpenAI(base_url=f"{upstream.url}/v1", api_key="k") as straight:
            assert through == await dumped_async(case.call(straight))
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert_record(record, case, ana)


@pytest.mark.parametrize("name", ["chat, streamed", "completion, streamed"])
async def test_usage_that_was_not_asked_for_is_asked_for_and_taken_out_again(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person, name: str
) -> None:
    events = await asyncio.to_thread(lambda: dumped(CASES[name].call(client)))
    (sent,) = upstream.requests
    assert json.loads(sent.body)["stream_options"] == {"include_usage": True}
    assert all(event["choices"] for event in events)
    assert all(event.get("usage") is None for event in events)
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert record["usage_source"] == "reported"


async def test_what_the_application_says_of_a_call_is_recorded_and_not_sent_on(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    headers = {
        "X-Usage-Operation": "rag_answer",
        "X-Usage-Tags": "session=abc,escola=S%C3%A3o%20Jos%C3%A9",
        "X-Usage-End-User": "42",
        "X-Client-Request-Id": "mine-1",
    }
    raw = await asyncio.to_thread(
        lambda: client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers
        )
    )
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert raw.headers["x-proxy-request-id"] == str(record["id"])
    assert raw.headers["x-request-id"] == "req_5f1f2b8c9a7e4d31"
    assert record["operation"] == "rag_answer"
    assert json.loads(record["tags"]) == {"session": "abc", "escola": "S\u00e3o Jos\u00e9"}
    assert (record["end_user"], record["client_request_id"]) == ("42", "mine-1")
    names = {name.lower() for name, _ in upstream.requests[0].head.fields}
    assert not {name for name in names if name.startswith(b"x-usage")}
    assert upstream.requests[0].head.all(b"x-client-request-id") == [b"mine-1"]


async def test_many_calls_at_once_are_all_recorded_once(
    proxy: ProxyProcess, upstream: FakeUpstream, async_client: openai.AsyncOpenAI, ana: Person
) -> None:
    names = [name for name in CASES if name != "models"]
    before = proxy.admin("GET", "/admin/stats")["overall"]
    await asyncio.gather(*(dumped_async(CASES[name].call(async_client)) for name in names * 20))
    records = await proxy.records(20 * len(names), user_id=ana.user_id)
    after = proxy.admin("GET", "/admin/stats")["overall"]
    uses = [CASES[name].use for name in names]
    for column in ("input_tokens", "output_tokens", "total_tokens", "cost_nanousd"):
        assert sum(record[column] for record in records) == 20 * sum(use[column] for use in uses)
    assert len({record["id"] for record in records}) == len(records)
    for column in ("input_tokens", "output_tokens", "total_tokens"):
        assert after[column] - before[column] == 20 * sum(use[column] for use in uses)
    assert after["requests"] - before["requests"] == len(records)


async def test_a_user_sees_what_was_used(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    before = proxy.request("GET", "/me", key=ana.key).body["month"]
    raw = await asyncio.to_thread(
        lambda: client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES)
    )
    await proxy.records(1, user_id=ana.user_id)
    call = proxy.request("GET", f"/me/requests/{raw.headers['x-proxy-request-id']}", key=ana.key).body
    month = proxy.request("GET", "/me", key=ana.key).body["month"]
    assert (call["input_tokens"], call["cached_input_tokens"], call["output_tokens"]) == (1117, 1024, 46)
    assert call["cost_usd"] == "0.00011835"
    assert month["requests"] - before["requests"] == 1
    assert month["total_tokens"] - before["total_tokens"] == 1163
    assert month["cost_usd"] == "0.00011835"
