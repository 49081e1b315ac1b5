"""Whatever the end of an exchange, it is one record, with numbers that say where they came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core.framing import ChunkedBody
from tests import openai_answers, wire
from tests.fake_upstream import answer, reset
from tests.gateway.between import Between
from tests.proxy_process import Person
from tests.signals import Signal

JSON = b"Content-Type: application/json"
SSE = b"Content-Type: text/event-stream; charset=utf-8"
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini-2024-07-18",'
    b'"choices":[{"index":0,"delta":{"content":"0123456789abcdef"},"logprobs":null,"finish_reason":null}]}\n\n'
)


def post(between: Between, key: str, body: dict[str, Any], *lines: bytes) -> bytes:
    data = json.dumps(body).encode()
    head = (b"Host: proxy", b"Authorization: Bearer " + key.encode(), JSON, b"Content-Length: %d" % len(data))
    return b"\r\n".join((b"POST /v1/chat/completions HTTP/1.1", *head, *lines)) + b"\r\n\r\n" + data


@pytest.fixture
def person(between: Between) -> Iterator[Person]:
    """A user of this test alone."""
    made = between.proxy.person("of one test")
    between.upstream.forget()
    yield made


async def only_record(between: Between, person: Person) -> dict[str, Any]:
    (record,) = await between.proxy.records(1, user_id=person.user_id)
    return record


async def test_a_plain_answer_is_recorded_to_the_token_and_nano_dollar(
    between: Between, person: Person
) -> None:
    labels = (
        b"X-Usage-Operation: rag_answer",
        b"X-Usage-Tags: session=abc,grade=9%C2%AA",
        b"X-Usage-End-User: 42",
        b"X-Client-Request-Id: mine-1",
    )
    async with between.client() as client:
        reply = await client.ask(post(between, person.key, {"model": "gpt-4o-mini", "messages": []}, *labels))

    record = await only_record(between, person)
    assert reply.status == 200
    assert str(record["id"]).encode() == reply.head.all(b"x-proxy-request-id")[0]
    assert (record["requested_model"], record["served_model"]) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert (record["input_tokens"], record["cached_input_tokens"]) == (1117, 1024)
    assert (record["output_tokens"], record["reasoning_tokens"], record["total_tokens"]) == (46, 32, 1163)
    # $0.15 in, $0.075 cached, $0.60 out per million: 93 x 150 + 1024 x 75 + 46 x 600 nano-dollars
    assert record["cost_nanousd"] == 118_350
    assert (record["usage_source"], record["outcome"], record["status"]) == ("reported", "success", 200)
    assert (record["operation"], record["end_user"]) == ("rag_answer", "42")
    assert record["tags"] == '{"grade": "9ª", "session": "abc"}'
    assert (record["finish_reason"], record["service_tier"]) == ("stop", "default")
    assert (record["upstream_request_id"], record["client_request_id"]) == ("req_5f1f2b8c9a7e4d31", "mine-1")
    assert (record["endpoint"], record["method"], record["provider"]) == (
        "/v1/chat/completions",
        "POST",
        "openai",
    )
    assert record["key_id"] == person.key_id
    assert record["bytes_out"] == len(reply.body)
    assert record["ttfb_ms"] is not None


async def test_our_own_headers_stay_here(between: Between, person: Person) -> None:
    async with between.client() as client:
        await client.ask(
            post(between, person.key, {"model": "gpt-4o"}, b"X-Usage-Operation: x", b"x-usage-tags: a=b")
        )

    names = {name.lower() for name, _ in between.upstream.requests[0].head.fields}
    assert not {name for name in names if name.startswith(b"x-usage")}


async def test_a_spliced_stream_is_reported_and_shows_nothing_of_it(between: Between, person: Person) -> None:
    asked = {"model": "gpt-4o-mini", "messages": [], "stream": True}
    async with between.client() as client:
        reply = await client.ask(post(between, person.key, asked))

    unasked = ChunkedBody()
    unasked.take(b"".join(openai_answers.chat(asked)[1:]))
    assert bytes(reply.body) == unasked.content
    assert b'"include_usage":true' in between.upstream.requests[0].body.replace(b" ", b"")
    record = await only_record(between, person)
    assert (record["usage_source"], record["input_tokens"], record["output_tokens"]) == ("reported", 1117, 46)
    assert record["streamed"]


async def test_an_error_of_the_upstream_is_recorded_and_costs_nothing(
    between: Between, person: Person
) -> None:
    between.upstream.script(
        answer(
            *openai_answers.error(
                b"429 Too Many Requests",
                "rate_limit_exceeded",
                "Slow down sk-abc123def456ghi789jkl012mno345.",
            )
        )
    )
    async with between.client() as client:
        reply = await client.ask(post(between, person.key, {"model": "gpt-4o-mini"}))

    record = await only_record(between, person)
    assert reply.status == record["status"] == 429
    assert (record["outcome"], record["error_code"]) == ("upstream_error", "rate_limit_exceeded")
    assert "sk-abc" not in record["error_message"]
    assert (record["usage_source"], record["cost_nanousd"], record["total_tokens"]) == ("none", 0, 0)


async def test_a_client_that_hangs_up_is_estimated_and_its_upstream_cancelled(
    between: Between, person: Person
) -> None:
    head = wire.head(b"HTTP/1.1 200 OK", SSE, b"Transfer-Encoding: chunked")
    never = Signal("never")
    between.upstream.script(answer(head, *[b"%x\r\n%b\r\n" % (len(EVENT), EVENT)] * 4, never))
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 400}], "stream": True}
    async with between.client() as client:
        await client.send(post(between, person.key, asked))
        reply = await client.answer_head()
        await client.body_until(reply, 4 * len(EVENT))
        client.hang_up()

    record = await only_record(between, person)
    assert (record["outcome"], record["usage_source"]) == ("client_gone", "estimated")
    assert record["output_tokens"] == 4 * 16 // 4  # a token for each four bytes delivered
    assert 100 <= record["input_tokens"] <= 150
    assert record["cost_nanousd"] == record["input_tokens"] * 150 + record["output_tokens"] * 600


async def test_a_client_that_hangs_up_before_the_answer_still_pays_its_input(
    between: Between, person: Person
) -> None:
    never = Signal("never")
    between.upstream.script(answer(never))
    async with between.client() as client:
        await client.send(
            post(between, person.key, {"model": "gpt-4o-mini", "messages": [{"content": "x" * 400}]})
        )
        await between.upstream.arrival()
        client.hang_up()

    record = await only_record(between, person)
    assert (record["outcome"], record["usage_source"], record["status"]) == ("client_gone", "estimated", 0)
    assert record["input_tokens"] > 0
    assert record["output_tokens"] == 0


async def test_a_stream_that_the_upstream_cuts_is_estimated(between: Between, person: Person) -> None:
    head = wire.head(b"HTTP/1.1 200 OK", SSE, b"Transfer-Encoding: chunked")
    between.upstream.script(answer(head, b"%x\r\n%b\r\n" % (len(EVENT), EVENT), reset))
    async with between.client() as client:
        await client.send(post(between, person.key, {"model": "gpt-4o-mini", "messages": [], "stream": True}))
        await client.answer_head()
        await client.was_reset()  # or ended; what comes before is read

    record = await only_record(between, person)
    assert (record["outcome"], record["usage_source"]) == ("upstream_cut", "estimated")
    assert record["output_tokens"] == 4


async def test_an_error_in_mid_stream_is_an_error(between: Between, person: Person) -> None:
    body = b'data: {"error":{"message":"The server had an error","type":"server_error","param":null,"code":"boom"}}\n\n'
    head = wire.head(b"HTTP/1.1 200 OK", SSE, b"Content-Length: %d" % len(body))
    between.upstream.script(answer(head + body))
    async with between.client() as client:
        reply = await client.ask(
            post(between, person.key, {"model": "gpt-4o-mini", "messages": [], "stream": True})
        )

    record = await only_record(between, person)
    assert bytes(reply.body) == body
    assert (record["outcome"], record["error_code"], record["status"]) == ("upstream_error", "boom", 200)


async def test_an_unknown_model_costs_unknown_not_zero(between: Between, person: Person) -> None:
    async with between.client() as client:
        await client.ask(post(between, person.key, {"model": "model-of-tomorrow", "messages": []}))

    record = await only_record(between, person)
    assert record["total_tokens"] == 1163
    assert record["cost_nanousd"] is None
    assert record["price_id"] is None


async def test_a_refusal_of_a_known_key_is_a_record(between: Between) -> None:
    person = between.proxy.person("spent", quotas=[{"unit": "tokens", "window": "month", "limit": "10"}])
    between.upstream.forget()
    async with between.client() as client:
        reply = await client.ask(
            post(between, person.key, {"model": "gpt-4o-mini", "messages": [], "max_tokens": 500})
        )

    record = await only_record(between, person)
    assert reply.status == record["status"] == 429
    assert reply.json()["error"]["code"] == record["error_code"] == "insufficient_quota"
    assert record["outcome"] == "refused"
    assert reply.head.all(b"x-should-retry") == [b"false"]
    assert str(record["id"]).encode() == reply.head.all(b"x-proxy-request-id")[0]
    assert between.upstream.requests == []


async def test_settled_quotas_are_the_sum_of_the_records(between: Between) -> None:
    person = between.proxy.person(
        "counted",
        quotas=[
            {"unit": "tokens", "window": "month", "limit": "100000"},
            {"unit": "cost", "window": "month", "limit": "5"},
            {"unit": "requests", "window": "month", "limit": "50"},
        ],
    )
    async with between.client() as client:
        for _ in range(3):
            reply = await client.ask(
                post(between, person.key, {"model": "gpt-4o-mini", "messages": [], "max_tokens": 100})
            )
            assert reply.status == 200

    await between.proxy.records(3, user_id=person.user_id)
    rows = await between.proxy.rows(
        "select q.unit, w.settled from quota_windows w join quotas q on q.id = w.quota_id where w.scope_id = $1",
        person.user_id,
    )
    assert {row["unit"]: row["settled"] for row in rows} == {
        "tokens": 3 * 1163,
        "cost": 3 * 118_350,
        "requests": 3,
    }


async def test_parts_of_an_answer_have_records_of_their_own_and_quotas_count_all_of_it_once(
    between: Between,
) -> None:
    quotas = [
        {"unit": unit, "window": "month", "limit": "1000000"} for unit in ("tokens", "cost", "requests")
    ]
    person = between.proxy.person("tools", quotas=quotas)
    between.upstream.forget()
    body = json.dumps(
        {
            "id": "resp_tools_of_the_ledger",
            "object": "response",
            "status": "completed",
            "model": "gpt-5-mini-2025-08-07",
            "output": [{"type": "code_interpreter_call", "container_id": "cntr_of_the_ledger"}],
            "tools": [{"type": "image_generation", "model": "gpt-image-1"}],
            "tool_usage": {"image_gen": {"input_tokens": 10, "output_tokens": 1000, "total_tokens": 1010}},
            "usage": {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120},
        }
    ).encode()
    head = wire.head(b"HTTP/1.1 200 OK", JSON, b"Content-Length: %d" % len(body))
    between.upstream.script(answer(head + body))
    asked = post(between, person.key, {"model": "gpt-5-mini", "input": "Draw.", "max_output_tokens": 50})
    async with between.client() as client:
        await client.ask(asked.replace(b"/v1/chat/completions", b"/v1/responses"))

    records = await between.proxy.records(3, user_id=person.user_id)
    (whole,) = [record for record in records if record["part"] is None]
    parts = {record["part"]: record for record in records if record["part"] is not None}
    assert {part["parent_id"] for part in parts.values()} == {whole["id"]}
    assert {kind: part["served_model"] for kind, part in parts.items()} == {
        "container": "tool:container",
        "image_gen": "gpt-image-1",
    }
    # gpt-5-mini: $0.25 in, $2 out; gpt-image-1: $5 text in, $40 image out, per million; a container $0.03
    costs = {
        "whole": whole["cost_nanousd"],
        **{kind: part["cost_nanousd"] for kind, part in parts.items()},
    }
    assert costs == {
        "whole": 100 * 250 + 20 * 2_000,
        "image_gen": 10 * 5_000 + 1000 * 40_000,
        "container": 30_000_000,
    }
    rows = await between.proxy.rows(
        "select q.unit, w.settled, (select coalesce(sum(amount), 0) from quota_shares s where s.quota_id = q.id) as held"
        " from quota_windows w join quotas q on q.id = w.quota_id where w.scope_id = $1",
        person.user_id,
    )
    assert {row["unit"]: row["settled"] for row in rows} == {
        "tokens": 120 + 1010,
        "cost": sum(costs.values()),
        "requests": 1,
    }
    hourly = await between.proxy.rows(
        "select model, requests, cost_nanousd from usage_hourly where user_id = $1 and cost_nanousd > 0 order by model",
        person.user_id,
    )
    assert [tuple(row.values()) for row in hourly] == [
        ("gpt-5-mini-2025-08-07", 1, costs["whole"]),
        ("gpt-image-1", 0, costs["image_gen"]),
        ("tool:container", 0, costs["container"]),
    ]
