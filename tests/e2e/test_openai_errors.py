"""Errors through the official SDK: the right exception, as many attempts as make sense, and a record of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from tests import openai_answers, wire
from tests.fake_upstream import FakeUpstream, answer, reset
from tests.proxy_process import Person, ProxyProcess
from tests.signals import Signal

ASKED: dict[str, Any] = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


def ask(client: openai.OpenAI, **more: Any) -> Any:
    return client.chat.completions.create(**ASKED, **more)


def scripted_error(*error: Any) -> Any:
    return answer(*openai_answers.error(*error))


@pytest.mark.parametrize("key", ["sk-something-else", "sk-proxy-tooshort", "sk-proxy-" + "a" * 46, ""])
async def test_a_wrong_key_is_an_authentication_error_after_one_attempt(
    proxy: ProxyProcess, upstream: FakeUpstream, key: str
) -> None:
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=key or "x") as stranger:
        headers = {} if key else {"Authorization": openai.Omit()}
        with pytest.raises(openai.AuthenticationError) as raised:
            await asyncio.to_thread(lambda: ask(stranger, extra_headers=headers))
    assert raised.value.code == "invalid_api_key"
    assert raised.value.type == "invalid_request_error"
    assert upstream.requests == []


async def test_a_revoked_key_stops_working_in_every_worker(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    await asyncio.to_thread(ask, client)
    proxy.admin("DELETE", f"/admin/keys/{ana.key_id}")
    proxy.wait_for_key(ana.key, accepted=False)
    upstream.forget()
    with pytest.raises(openai.AuthenticationError):
        await asyncio.to_thread(ask, client)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (b"400 Bad Request", "invalid_value", openai.BadRequestError),
        (b"401 Unauthorized", "invalid_api_key", openai.AuthenticationError),
        (b"403 Forbidden", "unsupported_country_region_territory", openai.PermissionDeniedError),
        (b"404 Not Found", "model_not_found", openai.NotFoundError),
        (b"422 Unprocessable Entity", None, openai.UnprocessableEntityError),
    ],
)
async def test_the_upstreams_own_refusals_pass(
    proxy: ProxyProcess,
    upstream: FakeUpstream,
    client: openai.OpenAI,
    ana: Person,
    status: bytes,
    code: str | None,
    kind: type[openai.APIStatusError],
) -> None:
    upstream.script(scripted_error(status, code, "No sk-abcdefghijklmnop here."))
    with pytest.raises(kind) as raised:
        await asyncio.to_thread(ask, client)
    assert (raised.value.code, raised.value.request_id) == (code, "req_5f1f2b8c9a7e4d31")
    assert "No sk-abcdefghijklmnop here." in str(raised.value)
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert (record["status"], record["outcome"]) == (int(status[:3]), "upstream_error")
    assert (record["error_code"], record["error_type"]) == (code, "invalid_request_error")
    assert "sk-abc" not in record["error_message"]
    assert (record["usage_source"], record["cost_nanousd"]) == ("none", 0)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("status", [b"429 Too Many Requests", b"500 Internal Server Error", b"503 Busy"])
async def test_what_the_sdk_retries_is_recorded_attempt_by_attempt(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person, status: bytes
) -> None:
    again = scripted_error(status, "rate_limit_exceeded", "Again.", "requests", b"retry-after-ms: 1")
    upstream.script(again, again)
    made = await asyncio.to_thread(ask, client)
    assert made.choices[0].message.content == openai_answers.TEXT
    records = await proxy.records(3, user_id=ana.user_id)
    assert [record["outcome"] for record in records] == ["upstream_error", "upstream_error", "success"]
    assert [record["total_tokens"] for record in records] == [0, 0, 1163]
    retries = [request.head.one(b"x-stainless-retry-count") for request in upstream.requests]
    assert retries == [b"0", b"1", b"2"]


async def test_an_upstream_that_keeps_failing_is_given_up_after_three_attempts(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    again = scripted_error(b"500 Internal Server Error", None, "Again.", "server_error", b"retry-after-ms: 1")
    upstream.script(again, again, again)
    with pytest.raises(openai.InternalServerError):
        await asyncio.to_thread(ask, client)
    records = await proxy.records(3, user_id=ana.user_id)
    assert [record["status"] for record in records] == [500, 500, 500]


@pytest.mark.parametrize("unit", ["tokens", "cost"])
async def test_a_spent_quota_is_a_rate_limit_error_after_exactly_one_attempt(
    proxy: ProxyProcess, upstream: FakeUpstream, person: Callable[..., Person], unit: str
) -> None:
    eva = person(
        "Eva", quotas=[{"unit": unit, "window": "month", "limit": "0.000001" if unit == "cost" else "5"}]
    )
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=eva.key) as client:
        with pytest.raises(openai.RateLimitError) as raised:
            await asyncio.to_thread(ask, client)
    assert raised.value.code == "insufficient_quota"
    headers = raised.value.response.headers
    assert headers["x-should-retry"] == "false"
    assert int(headers["retry-after"]) > 0
    (record,) = await proxy.records(1, user_id=eva.user_id)
    assert (record["status"], record["outcome"]) == (429, "refused")
    assert (record["usage_source"], record["total_tokens"], record["cost_nanousd"]) == ("none", 0, 0)
    assert upstream.requests == []


async def test_an_error_in_the_middle_of_a_stream_reaches_the_application(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    error = b'data: {"error":{"message":"Broke.","type":"server_error","param":null,"code":"broke"}}\n\n'
    first, *_ = openai_answers.chat({**ASKED, "stream": True})[1:]
    upstream.script(answer(*openai_answers.streamed(())[:1], first, wire.chunked((error,))))
    with pytest.raises(openai.APIError) as raised:
        await asyncio.to_thread(lambda: list(ask(client, stream=True)))
    assert raised.value.message == "Broke."
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert (record["status"], record["outcome"]) == (200, "upstream_error")
    assert (record["error_type"], record["error_code"]) == ("server_error", "broke")


async def test_a_stream_that_breaks_off_is_an_error_and_is_estimated(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    pieces = openai_answers.chat({**ASKED, "stream": True})
    seen = Signal("the application has the first words")
    upstream.script(answer(*pieces[:4], seen, reset))

    def read() -> str:
        text = ""
        for chunk in ask(client, stream=True):
            text += chunk.choices[0].delta.content or ""
            if len(text) == len(openai_answers.WORDS[0] + openai_answers.WORDS[1]):
                seen.set()
        return text

    with pytest.raises(openai.APIError):
        await asyncio.to_thread(read)
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert (record["outcome"], record["usage_source"], record["streamed"]) == (
        "upstream_cut",
        "estimated",
        True,
    )
    assert record["output_tokens"] > 0
    assert record["cost_nanousd"] > 0


async def test_an_application_that_leaves_a_stream_is_billed_for_what_it_got(
    proxy: ProxyProcess, upstream: FakeUpstream, client: openai.OpenAI, ana: Person
) -> None:
    pieces = openai_answers.chat({**ASKED, "stream": True})
    upstream.script(answer(*pieces[:4], Signal("never")))

    def read_two() -> None:
        with ask(client, stream=True) as stream:
            for number, _ in enumerate(stream):
                if number == 2:
                    break

    await asyncio.to_thread(read_two)
    await upstream.requests[0].connection.lost
    (record,) = await proxy.records(1, user_id=ana.user_id)
    assert (record["outcome"], record["usage_source"]) == ("client_gone", "estimated")
    assert 0 < record["output_tokens"] <= len(openai_answers.TEXT)
    assert record["cost_nanousd"] > 0
