"""What the official SDK makes of our 429s: it waits for a rate limit as long as it is told, and leaves a spent quota alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import openai
import pytest
from aiohttp import web

from proxy.core.admission import spent
from proxy.core.quota import Quota
from proxy.core.refusal import Refusal
from proxy.core.shares import Binding
from tests.openai_answers import SERVED
from tests.proxy_process import Person, ProxyProcess

QUOTA = Quota("q", "user", "u", "requests", "minute", 5)
OK = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 0,
    "model": SERVED["gpt-4o-mini"],
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi"}}],
}


@dataclass
class Gateway:
    """Refuses the first request as the proxy does, and answers those after it."""

    refusal: Refusal
    came: list[float] = field(default_factory=list)

    async def answer(self, _request: web.Request) -> web.Response:
        self.came.append(time.monotonic())
        if len(self.came) > 1:
            return web.json_response(OK)
        return web.Response(
            status=self.refusal.status,
            body=self.refusal.body(),
            headers=dict(self.refusal.headers),
            content_type="application/json",
        )


async def ask(gateway: Gateway) -> None:
    app = web.Application()
    app.router.add_post("/v1/chat/completions", gateway.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    try:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-x") as client:
            await client.chat.completions.create(
                model="gpt-4o-mini", messages=[{"role": "user", "content": "hi"}]
            )
    finally:
        await runner.cleanup()


async def test_a_rate_limit_is_waited_for_as_long_as_it_lasts_and_then_passes() -> None:
    gateway = Gateway(spent(Binding(QUOTA, "u"), used=5, needed=1, ends=1000.0, at=998.9))

    await ask(gateway)

    first, second = gateway.came
    assert second - first >= 2.0, "1.1 s are 2 in whole seconds"


async def test_a_spent_quota_is_not_asked_for_again() -> None:
    month = Binding(Quota("q", "user", "u", "tokens", "month", 5), "u")
    gateway = Gateway(spent(month, used=5, needed=1, ends=1_000_000.0, at=0.0))

    with pytest.raises(openai.RateLimitError) as refused:
        await ask(gateway)

    assert len(gateway.came) == 1
    assert (refused.value.code, refused.value.type) == ("insufficient_quota", "insufficient_quota")


def test_through_the_proxy_a_spent_quota_costs_one_request(
    proxy: ProxyProcess, person: Callable[..., Person]
) -> None:
    poor = person(quotas=[{"unit": "requests", "window": "month", "limit": "1"}])
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=poor.key) as client:
        asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}
        answer = client.chat.completions.with_raw_response.create(**asked)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(**asked)

    assert answer.headers["x-quota-limit-requests"] == "1"
    assert answer.headers["x-quota-remaining-requests"] == "0"
    assert int(answer.headers["x-quota-reset-requests"]) > 0
    told = refused.value.response.headers
    assert (told["x-should-retry"], told["x-quota-remaining-requests"]) == ("false", "0")
    assert abs(int(told["retry-after"]) - int(told["x-quota-reset-requests"])) <= 1
    assert "the limit is 1 requests per month, 1 used or reserved" in refused.value.message
