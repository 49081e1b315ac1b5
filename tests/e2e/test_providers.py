"""Several upstreams, set in a config file: each gets the models it serves, with its own key, priced as its own provider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.account import MODEL, Account
from tests.fake_upstream import FakeUpstream
from tests.openai_answers import plain
from tests.proxy_process import UPSTREAM_KEY, ProxyProcess, wait_until

CONFIG = """
[[upstreams]]
name = "router"
url = "{router}/api"
key_file = "{key_file}"
models = ["anthropic/*", "meta-llama/*"]
provider = "openrouter"

[[upstreams]]
name = "local"
url = "{local}"
key = "sk-local"
models = ["*-local"]

[[prices]]
provider = "local"
model = "llama-local"
rates = {{ input_tokens = "0.01", output_tokens = "0.02" }}

[[prices]]
provider = "openrouter"
model = "anthropic/claude-of-the-test"
rates = {{ input_tokens = "3", output_tokens = "15" }}
"""
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def respond(method: bytes, target: bytes, body: bytes) -> tuple[bytes, ...]:
    asked = json.loads(body) if body else {}
    said = {"id": "chatcmpl-1", "object": "chat.completion", "model": asked.get("model"), "usage": USAGE}
    return plain(json.dumps(said | {"choices": []}).encode())


async def test_each_upstream_gets_its_models_with_its_key_at_its_price(
    database_url: str, tmp_path: Path
) -> None:
    key_file = tmp_path / "router.key"
    key_file.write_text("sk-router\n")
    config = tmp_path / "config.toml"
    models = ["gpt-4o-mini", "anthropic/claude-of-the-test", "llama-local"]
    with (
        FakeUpstream.running(respond) as openai,
        FakeUpstream.running(respond) as router,
        FakeUpstream.running(respond) as local,
    ):
        config.write_text(CONFIG.format(router=router.url, local=local.url, key_file=key_file))
        with ProxyProcess.running(
            upstream_url=openai.url, database_url=database_url, directory=tmp_path / "proxy", config=config
        ) as proxy:
            person = proxy.person()
            openai.requests.clear()
            for model in models:
                asked = {"model": model, "messages": []}
                assert proxy.request("POST", "/v1/chat/completions", asked, person.key).status == 200
            records = await proxy.records(3, user_id=person.user_id)
            by_provider = await proxy.rows(
                "select provider, cost_nanousd from usage_hourly where user_id = $1 and cost_nanousd > 0"
                " order by provider",
                person.user_id,
            )

    assert [told(upstream) for upstream in (openai, router, local)] == [
        [(b"/v1/chat/completions", b"Bearer " + UPSTREAM_KEY.encode(), "gpt-4o-mini")],
        [(b"/api/v1/chat/completions", b"Bearer sk-router", "anthropic/claude-of-the-test")],
        [(b"/v1/chat/completions", b"Bearer sk-local", "llama-local")],
    ]
    assert [(record["provider"], record["served_model"], record["cost_nanousd"]) for record in records] == [
        ("openai", "gpt-4o-mini", 1000 * 150 + 100 * 600),
        ("openrouter", "anthropic/claude-of-the-test", 1000 * 3000 + 100 * 15_000),
        ("local", "llama-local", 1000 * 10 + 100 * 20),
    ]
    assert [tuple(row.values()) for row in by_provider] == [
        ("local", 12_000),
        ("openai", 210_000),
        ("openrouter", 4_500_000),
    ]


OBJECTS_CONFIG = """
[[upstreams]]
name = "local"
url = "{local}"
key = "sk-local"
models = ["*-local"]

[[prices]]
provider = "local"
model = "{model}"
rates = {{ input_tokens = "0.01", output_tokens = "0.02" }}
"""


@pytest.mark.parametrize("isolation", ["user", "off"])
def test_what_was_made_at_an_upstream_is_asked_for_there_in_every_worker_and_by_the_follower(
    database_url: str, tmp_path: Path, isolation: str
) -> None:
    elsewhere, openai = Account(), Account()
    config = tmp_path / "config.toml"
    with FakeUpstream.running(openai.respond) as default, FakeUpstream.running(elsewhere.respond) as local:
        config.write_text(OBJECTS_CONFIG.format(local=local.url, model=MODEL))
        with ProxyProcess.running(
            upstream_url=default.url, database_url=database_url, directory=tmp_path / "proxy", config=config,
            workers=2, follow_first_s=0.2, follow_max_s=0.5, object_isolation=isolation,
        ) as proxy:  # fmt: skip
            ana = proxy.person("Ana")
            default.forget()
            asked = {"model": "llama-local", "input": "Hello", "background": True}
            waits, read = (
                proxy.request("POST", "/v1/responses", asked, ana.key).body["id"] for _ in range(2)
            )
            elsewhere.finish(read)
            wait_until(
                lambda: len(proxy.query("select from objects where upstream = 'local'")) == 2, "two objects"
            )
            for _ in range(6):
                reply = proxy.request("GET", f"/v1/responses/{read}", key=ana.key)
                assert (reply.status, reply.body["usage"]["total_tokens"]) == (200, 1200)
                reply = proxy.request("GET", f"/v1/responses/{read}/input_items", key=ana.key)
                assert reply.status == 200
            elsewhere.finish(waits)
            billed = "select * from usage_records where user_id = $1 and total_tokens > 0"
            wait_until(lambda: len(proxy.query(billed, ana.user_id)) == 2, "two bills")
            bills = proxy.query(billed, ana.user_id)

    assert default.requests == []
    assert {request.head.one(b"authorization") for request in local.requests} == {b"Bearer sk-local"}
    assert {(bill["provider"], bill["cost_nanousd"], bill["user_id"]) for bill in bills} == {
        ("local", 1000 * 10 + 200 * 20, ana.user_id)
    }


def told(upstream: FakeUpstream) -> list[tuple[bytes, bytes | None, Any]]:
    """Target, credential and model of each request; Host must be the upstream's own."""
    assert {request.head.one(b"host") for request in upstream.requests} == {b"127.0.0.1:%d" % upstream.port}
    return [
        (request.target, request.head.one(b"authorization"), json.loads(request.body)["model"])
        for request in upstream.requests
    ]
