"""The pass: who is let through, with which words others are turned away, and what never reaches the upstream."""

from __future__ import annotations

import json

import pytest

from tests import wire
from tests.fake_upstream import answer
from tests.gateway.between import Between

UNKNOWN = "sk-proxy-" + "0" * 46


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ((), "missing"),
        ((b"Authorization: Basic abc",), "missing"),
        ((b"Authorization: Bearer sk-proxy-tooshort",), "malformed"),
        ((b"Authorization: Bearer " + UNKNOWN.encode(),), "malformed"),
        ((b"api-key: sk-live-of-openai",), "malformed"),
    ],
)
async def test_without_a_valid_key_nothing_reaches_the_upstream(
    between: Between, lines: tuple[bytes, ...], reason: str
) -> None:
    head = b"\r\n".join((b"GET /v1/models HTTP/1.1", b"Host: proxy", *lines)) + b"\r\n\r\n"
    async with between.client() as client:
        reply = await client.ask(head)
        again = await client.ask(head)

    assert (reply.status, again.status) == (401, 401)
    assert reply.json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert between.upstream.requests == []
    metrics = between.proxy.request("GET", "/metrics").body
    assert f'openai_proxy_auth_failures_total{{reason="{reason}"}}' in metrics


async def test_a_key_works_as_bearer_and_as_api_key(between: Between) -> None:
    async with between.client() as client:
        for line in (b"Authorization: bearer ", b"api-key: "):
            head = b"GET /v1/models HTTP/1.1\r\nHost: p\r\n" + line + between.key.encode() + b"\r\n\r\n"
            assert (await client.ask(head)).status == 200

    sent = [request.head.all(b"authorization") for request in between.upstream.requests]
    assert len(sent) == 2
    assert sent[0] == sent[1]
    assert between.key.encode() not in sent[0][0]


async def test_a_revoked_key_is_refused_at_once(between: Between) -> None:
    person = between.proxy.person("leaver")
    between.proxy.admin("DELETE", f"/admin/keys/{person.key_id}")
    between.proxy.wait_for_key(person.key, accepted=False)
    between.upstream.forget()

    reply = between.proxy.request("GET", "/v1/models", key=person.key)

    assert reply.status == 401
    assert "revoked" in reply.body["error"]["message"]
    assert between.upstream.requests == []


async def test_a_preflight_is_passed_on_without_any_credential(between: Between) -> None:
    between.upstream.script(answer(wire.head(b"HTTP/1.1 204 No Content", b"Access-Control-Allow-Origin: *")))
    head = (
        b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: p\r\nOrigin: https://app.example\r\n"
        b"Access-Control-Request-Method: POST\r\nAuthorization: Bearer stolen\r\n\r\n"
    )
    async with between.client() as client:
        reply = await client.ask(head, method=b"OPTIONS")

    assert reply.status == 204
    assert between.upstream.requests[0].head.all(b"authorization") == []


async def test_an_options_that_is_no_preflight_needs_a_key(between: Between) -> None:
    async with between.client() as client:
        reply = await client.ask(b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: p\r\n\r\n")

    assert reply.status == 401
    assert between.upstream.requests == []


async def test_only_a_service_key_speaks_for_others(between: Between) -> None:
    async with between.client() as client:
        reply = await client.ask(
            between.head(b"GET /v1/models HTTP/1.1", b"X-Usage-User: someone@example.com")
        )

    assert reply.status == 403
    assert reply.json()["error"]["param"] == "X-Usage-User"
    assert between.upstream.requests == []


async def test_labels_that_can_not_be_read_are_refused_by_name(between: Between) -> None:
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1", b"X-Usage-Tags: =="))

    assert reply.status == 400
    assert "X-Usage-Tags" in reply.json()["error"]["message"]
    assert between.upstream.requests == []


async def test_admin_and_data_plane_share_a_connection(between: Between) -> None:
    """Also shows that the attributes of aiohttp which the front looks at are still there (docs/adr/0002)."""
    async with between.client() as client:
        for _ in range(3):
            assert (await client.ask(b"GET /healthz HTTP/1.1\r\nHost: p\r\n\r\n")).status == 200
            assert (await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).status == 200

    assert len(between.upstream.requests) == 3


async def test_keys_of_the_data_plane_do_not_open_the_control_plane(between: Between) -> None:
    assert between.proxy.request("GET", "/admin/stats", key=between.key).status in {401, 403}
    assert between.proxy.request("GET", "/admin/stats").status == 401


async def test_a_dead_upstream_is_a_502_in_openais_shape(between: Between) -> None:
    between.upstream.drop_connections()
    head = between.head(
        b"POST /v1/chat/completions HTTP/1.1", b"Content-Type: application/json", b"Content-Length: 2"
    )
    between.upstream.script(answer(b"this is not HTTP\r\n\r\n"))
    async with between.client() as client:
        reply = await client.ask(head + b"{}")

    assert reply.status == 502
    error = json.loads(bytes(reply.body))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == "upstream_disconnected"
