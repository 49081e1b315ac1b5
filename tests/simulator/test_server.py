"""The simulator as applications meet it: through the official SDK, and its bytes as they are on the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

QUESTION = [{"role": "user", "content": "Hello!"}]
ANSWER_START = "This is a simulated answer by gpt-4o-mini. You said: “Hello!”"


@pytest.fixture
async def client(simulator: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{simulator}/v1", api_key="sk-any", max_retries=0) as made:
        yield made


async def post(simulator: str, path: str, body: Any, **headers: str) -> tuple[int, Any, bytes]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"authorization": "Bearer sk-any", "content-type": "application/json"} | headers
    async with (
        aiohttp.ClientSession() as session,
        session.post(simulator + path, data=data, headers=headers) as answer,
    ):
        return answer.status, answer.headers, await answer.read()


async def test_a_chat_completion(client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    assert answer.model == "gpt-4o-mini-2024-07-18"
    assert answer.choices[0].message.content.startswith(ANSWER_START)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.prompt_tokens == 3 + 4 + 2
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_answers_are_the_same_for_the_same_question(client: openai.AsyncOpenAI):
    texts = set()
    for _ in range(3):
        answer = await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
        texts.add((answer.choices[0].message.content, answer.usage.total_tokens))
    assert len(texts) == 1


async def test_a_streamed_chat_completion_without_usage(client: openai.AsyncOpenAI):
    stream = await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, stream=True)
    chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    whole = await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    assert text == whole.choices[0].message.content
    assert [chunk.choices[0].finish_reason for chunk in chunks[-2:]] == [None, "stop"]
    assert all(chunk.usage is None for chunk in chunks)


async def test_a_streamed_chat_completion_with_usage(client: openai.AsyncOpenAI):
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=QUESTION, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    whole = await client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_the_usage_member_is_there_exactly_when_asked_for(simulator: str):
    asked = {"model": "gpt-4o-mini", "messages": QUESTION, "stream": True}
    _, headers, without = await post(simulator, "/v1/chat/completions", asked)
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert b'"usage"' not in without
    assert without.endswith(b"data: [DONE]\n\n")
    _, _, given = await post(
        simulator, "/v1/chat/completions", asked | {"stream_options": {"include_usage": True}}
    )
    events = [json.loads(line[6:]) for line in given.split(b"\n\n") if line.startswith(b"data: {")]
    assert all(event["usage"] is None and event["choices"] for event in events[:-1])
    assert events[-1]["choices"] == []
    assert events[-1]["usage"]["total_tokens"] > 0


async def test_several_choices_bill_their_tokens(client: openai.AsyncOpenAI):
    one = await client.chat.completions.create(model="gpt-4o", messages=QUESTION)
    three = await client.chat.completions.create(model="gpt-4o", messages=QUESTION, n=3)
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert three.usage.prompt_tokens == one.usage.prompt_tokens


async def test_a_ceiling_cuts_the_answer(client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(model="gpt-4o", messages=QUESTION, max_completion_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5


async def test_a_reasoning_model_thinks_first(client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(model="gpt-5", messages=QUESTION)
    assert answer.usage.completion_tokens_details.reasoning_tokens == 128
    cut = await client.chat.completions.create(model="gpt-5", messages=QUESTION, max_completion_tokens=50)
    assert (cut.choices[0].message.content, cut.usage.completion_tokens) == ("", 50)


async def test_long_prompts_are_partly_cached(client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "word " * 2000}]
    )
    assert answer.usage.prompt_tokens == 2507
    assert answer.usage.prompt_tokens_details.cached_tokens == 1152


async def test_a_tool_that_is_required_is_called(client: openai.AsyncOpenAI):
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
    answer = await client.chat.completions.create(
        model="gpt-4o", messages=QUESTION, tools=[tool], tool_choice="required"
    )
    assert answer.choices[0].message.tool_calls[0].function.name == "look_up"
    assert answer.choices[0].finish_reason == "tool_calls"


async def test_json_is_answered_where_json_is_asked_for(client: openai.AsyncOpenAI):
    answer = await client.chat.completions.create(
        model="gpt-4o", messages=QUESTION, response_format={"type": "json_object"}
    )
    assert json.loads(answer.choices[0].message.content)["simulated"] is True


async def test_an_older_completion_plain_and_streamed(client: openai.AsyncOpenAI):
    model, prompt = "gpt-3.5-turbo-instruct", "Once upon a time"
    whole = await client.completions.create(model=model, prompt=prompt)
    stream = await client.completions.create(
        model=model, prompt=prompt, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 16


async def test_a_response_plain_streamed_and_asked_for_again(client: openai.AsyncOpenAI):
    whole = await client.responses.create(model="gpt-5-mini", input="Hello!", instructions="Be brief.")
    assert whole.output_text.startswith("This is a simulated answer by gpt-5-mini.")
    assert whole.usage.output_tokens_details.reasoning_tokens == 64
    assert whole.usage.input_tokens == 3 + 4 + 3 + 4 + 2
    assert (await client.responses.retrieve(whole.id)).output_text == whole.output_text
    await client.responses.delete(whole.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(whole.id)
    stream = await client.responses.create(
        model="gpt-5-mini", input="Hello!", instructions="Be brief.", stream=True
    )
    events = [event async for event in stream]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == (
        whole.output_text
    )
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage == whole.usage


async def test_a_response_that_is_cut_is_incomplete(client: openai.AsyncOpenAI):
    stream = await client.responses.create(model="gpt-4o", input="Hi", max_output_tokens=3, stream=True)
    *_, last = [event async for event in stream]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert last.response.usage.output_tokens == 3


async def test_embeddings_are_unit_vectors_in_both_encodings(client: openai.AsyncOpenAI):
    asked = {"model": "text-embedding-3-small", "input": ["one", "two"], "dimensions": 64}
    as_base64 = await client.embeddings.create(**asked)  # the SDK asks for base64 by itself
    as_floats = await client.embeddings.create(**asked, encoding_format="float")
    assert as_base64.usage.prompt_tokens == 2
    for packed, plain in zip(as_base64.data, as_floats.data, strict=True):
        assert packed.embedding == pytest.approx(plain.embedding, abs=1e-6)
        assert sum(value * value for value in plain.embedding) == pytest.approx(1.0)
    assert as_floats.data[0].embedding != as_floats.data[1].embedding


async def test_models_are_listed_and_shown(client: openai.AsyncOpenAI):
    listed = [model.id async for model in client.models.list()]
    assert {"gpt-4o", "gpt-4o-2024-08-06", "text-embedding-3-small"} <= set(listed)
    assert (await client.models.retrieve("gpt-4o")).owned_by == "system"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-none")


async def test_the_synchronous_sdk_works_too(simulator: str):
    def use() -> tuple[str, int]:
        with openai.OpenAI(base_url=f"{simulator}/v1", api_key="sk-any") as client:
            plain = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION)
            stream = client.chat.completions.create(model="gpt-4o-mini", messages=QUESTION, stream=True)
            return plain.choices[0].message.content, sum(1 for _ in stream)

    text, chunks = await asyncio.to_thread(use)
    assert text.startswith(ANSWER_START)
    assert chunks > 10


@pytest.mark.parametrize(
    ("asked", "error", "code"),
    [
        ({"model": "gpt-none", "messages": QUESTION}, openai.NotFoundError, "model_not_found"),
        ({"model": "simulate-error-429", "messages": QUESTION}, openai.RateLimitError, "rate_limit_exceeded"),
        ({"model": "simulate-error-500", "messages": QUESTION}, openai.InternalServerError, None),
        (
            {"model": "gpt-4o", "messages": [{"role": "user", "content": "simulate-error-quota please"}]},
            openai.RateLimitError,
            "insufficient_quota",
        ),
        ({"model": "gpt-4o", "messages": []}, openai.BadRequestError, "invalid_value"),
        ({"model": "gpt-4o", "messages": QUESTION, "n": 0}, openai.BadRequestError, "invalid_value"),
        ({"model": "text-embedding-3-small", "messages": QUESTION}, openai.NotFoundError, None),
    ],
)
async def test_errors_are_those_of_openai(client: openai.AsyncOpenAI, asked: Any, error: type, code: str):
    for stream in (False, True):
        with pytest.raises(error) as raised:
            await client.chat.completions.create(**asked, stream=stream)
        assert raised.value.code == code
        assert raised.value.request_id.startswith("req_")


async def test_a_request_that_is_no_json_or_has_no_key_is_refused(simulator: str):
    status, _, body = await post(simulator, "/v1/chat/completions", b"{nonsense")
    assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
    status, _, body = await post(simulator, "/v1/chat/completions", b"[1]")
    assert status == 400
    status, _, body = await post(simulator, "/v1/chat/completions", {}, authorization="none")
    assert status == 401
    assert "You didn't provide an API key" in json.loads(body)["error"]["message"]
    status, _, body = await post(simulator, "/v1/no/such/thing", {})
    assert (status, json.loads(body)["error"]["message"]) == (404, "Invalid URL (POST /v1/no/such/thing)")


async def test_every_answer_says_that_it_is_simulated(simulator: str):
    asked = {"model": "gpt-4o", "messages": QUESTION}
    answers = [
        await post(simulator, "/v1/chat/completions", asked),
        await post(simulator, "/v1/chat/completions", asked | {"stream": True}),
        await post(simulator, "/v1/chat/completions", b"{"),
        await post(simulator, "/v1/nothing", {}),
    ]
    assert [headers["openai-proxy-simulated"] for _, headers, _ in answers] == ["true"] * 4
    assert len({headers["x-request-id"] for _, headers, _ in answers}) == 4


async def test_a_stream_can_be_made_to_break(client: openai.AsyncOpenAI):
    stream = await client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "simulate-cut"}], stream=True
    )
    seen = 0
    with pytest.raises(Exception, match=r"(?i)peer closed|incomplete|disconnected|reset|connection"):
        async for _ in stream:
            seen += 1
    assert seen == 5
