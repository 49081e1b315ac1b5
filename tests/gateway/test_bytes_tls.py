"""TLS on both sides, the egress proxy, and an upstream that can't be reached or does not answer in time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests import wire
from tests.certificates import Authority
from tests.egress_proxy import EgressProxy
from tests.fake_upstream import FakeUpstream, answer
from tests.gateway.between import proxied
from tests.proxy_process import refusing_port
from tests.raw_client import RawClient
from tests.signals import Signal

MODELS = b"GET /v1/models HTTP/1.1"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_tls_to_the_upstream_is_verified_against_the_given_ca(
    authority: Authority, database_url: str, tmp_path: Path
) -> None:
    with FakeUpstream.running(tls=authority.server("localhost")) as upstream:
        url = f"https://localhost:{upstream.port}"
        with proxied(upstream, url, database_url, tmp_path, upstream_ca_file=authority.ca_file) as between:
            async with between.client() as client:
                reply = await client.ask(between.head(MODELS))
            assert reply.status == 200
            assert upstream.requests[-1].head.all(b"host") == [b"localhost:%d" % upstream.port]


@pytest.mark.parametrize("wrong", ["name", "issuer"])
async def test_a_certificate_that_does_not_fit_is_a_502(
    authority: Authority, database_url: str, tmp_path: Path, wrong: str
) -> None:
    names = ("other.example",) if wrong == "name" else ("localhost",)
    settings = {"upstream_ca_file": authority.ca_file} if wrong == "name" else {}
    with FakeUpstream.running(tls=authority.server(*names)) as upstream:
        url = f"https://localhost:{upstream.port}"
        with proxied(upstream, url, database_url, tmp_path, **settings) as between:
            async with between.client() as client:
                reply = await client.ask(between.head(MODELS))
        assert reply.status == 502
        assert reply.json()["error"]["code"] == "upstream_tls_error"
        assert upstream.requests == []


async def test_the_upstream_is_reached_through_the_egress_proxy(
    authority: Authority, database_url: str, tmp_path: Path
) -> None:
    with FakeUpstream.running(tls=authority.server("api.openai.test")) as upstream:
        with EgressProxy.running({"api.openai.test:443": upstream.port}) as egress:
            settings = {
                "upstream_ca_file": authority.ca_file,
                "upstream_proxy": egress.url.replace("//", "//user:p%40ss@"),
            }
            with proxied(upstream, "https://api.openai.test", database_url, tmp_path, **settings) as between:
                async with between.client() as client:
                    reply = await client.ask(between.head(MODELS))
                assert reply.status == 200
            head = egress.heads[0].split(b"\r\n")
            assert head[0] == b"CONNECT api.openai.test:443 HTTP/1.1"
            assert b"Proxy-Authorization: Basic dXNlcjpwQHNz" in head
            assert upstream.requests[-1].head.all(b"host") == [b"api.openai.test"]
            assert upstream.requests[-1].head.all(b"proxy-authorization") == []


async def test_an_egress_proxy_that_refuses_is_a_502(
    authority: Authority, database_url: str, tmp_path: Path
) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with FakeUpstream.running(tls=authority.server("api.openai.test")) as upstream:
        with EgressProxy.running({}, refuse=refusal) as egress:
            settings = {"upstream_ca_file": authority.ca_file, "upstream_proxy": egress.url}
            with proxied(upstream, "https://api.openai.test", database_url, tmp_path, **settings) as between:
                async with between.client() as client:
                    reply = await client.ask(between.head(MODELS))
            assert reply.status == 502
            assert reply.json()["error"]["code"] == "upstream_unreachable"


async def test_no_proxy_exempts_a_host(authority: Authority, database_url: str, tmp_path: Path) -> None:
    with (
        FakeUpstream.running(tls=authority.server("localhost")) as upstream,
        EgressProxy.running({}) as egress,
    ):
        settings = {
            "upstream_ca_file": authority.ca_file,
            "upstream_proxy": egress.url,
            "upstream_no_proxy": "example.org, localhost",
        }
        url = f"https://localhost:{upstream.port}"
        with proxied(upstream, url, database_url, tmp_path, **settings) as between:
            async with between.client() as client:
                assert (await client.ask(between.head(MODELS))).status == 200
        assert egress.heads == []


async def test_our_own_listener_speaks_tls(authority: Authority, database_url: str, tmp_path: Path) -> None:
    certificate, key = authority.files("localhost")
    settings = {"tls_cert_file": certificate, "tls_key_file": key}
    with FakeUpstream.running() as upstream:
        with proxied(
            upstream, upstream.url, database_url, tmp_path, trust=authority.client(), **settings
        ) as between:
            async with RawClient.connected(between.proxy.port, tls=authority.client()) as client:
                reply = await client.ask(between.head(MODELS))
                assert reply.status == 200
                body = b"x" * 2_000_000
                lines = (b"Content-Type: x/y", b"Content-Length: %d" % len(body))
                reply = await client.ask(between.head(b"POST /v1/files HTTP/1.1", *lines), body)
            assert reply.status == 404
            assert upstream.requests[-1].body_bytes == len(body)


async def test_an_upstream_that_is_not_there_is_a_502(database_url: str, tmp_path: Path) -> None:
    with FakeUpstream.running() as upstream, refusing_port() as port:
        with proxied(upstream, f"http://127.0.0.1:{port}", database_url, tmp_path) as between:
            async with between.client() as client:
                reply = await client.ask(between.head(MODELS))
                again = await client.ask(between.head(MODELS))
            assert (reply.status, again.status) == (502, 502)
            error = reply.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert (error["type"], error["code"]) == ("upstream_error", "upstream_unreachable")


async def test_an_upstream_that_does_not_answer_in_time_is_a_504(database_url: str, tmp_path: Path) -> None:
    settings = {"upstream_first_byte_timeout_s": 0.5}
    with FakeUpstream.running() as upstream:
        with proxied(upstream, upstream.url, database_url, tmp_path, **settings) as between:
            upstream.forget()
            upstream.script(answer(Signal("never")))
            async with between.client() as client:
                reply = await client.ask(between.head(MODELS))
            assert reply.status == 504
            assert reply.json()["error"]["code"] == "upstream_timeout"
            await upstream.requests[0].connection.lost


async def test_an_answer_that_stops_in_the_middle_is_cut(database_url: str, tmp_path: Path) -> None:
    settings = {"upstream_idle_timeout_s": 0.5}
    head = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
    with FakeUpstream.running() as upstream:
        with proxied(upstream, upstream.url, database_url, tmp_path, **settings) as between:
            upstream.forget()
            upstream.script(answer(head, b"9\r\ndata: 1\n\n\r\n", Signal("never")))
            async with between.client() as client:
                reply = await client.ask(between.head(MODELS))
            assert reply.cut
            assert bytes(reply.body) == b"data: 1\n\n"
            await upstream.requests[0].connection.lost


async def test_clients_that_send_nothing_or_half_a_head_are_not_waited_for(
    database_url: str, tmp_path: Path
) -> None:
    settings = {"request_head_timeout_s": 1, "request_idle_timeout_s": 1, "keepalive_timeout_s": 1}
    with FakeUpstream.running() as upstream:
        with proxied(upstream, upstream.url, database_url, tmp_path, **settings) as between:
            upstream.forget()

            async def ends(*pieces: bytes) -> None:
                async with between.client() as client:
                    await client.send(*pieces)
                    while not await client.ended():
                        pass

            lines = (b"Content-Type: application/json", b"Content-Length: 9")
            await asyncio.gather(
                ends(),
                ends(b"GET /v1/mod"),
                ends(between.head(b"POST /v1/files HTTP/1.1", *lines), b"{}"),
                ends(wire.head(b"GET /v1/models HTTP/1.1", b"Host: a", b"Authorization: Bearer x")),
            )
            assert upstream.requests == []


async def test_beyond_the_bound_of_exchanges_new_ones_are_asked_to_wait(
    database_url: str, tmp_path: Path
) -> None:
    with FakeUpstream.running() as upstream:
        with proxied(upstream, upstream.url, database_url, tmp_path, exchanges_max=2) as between:
            upstream.forget()
            go = Signal("leave to answer")
            ok = wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"
            upstream.script(answer(go, ok), answer(go, ok))
            async with between.client() as one, between.client() as two, between.client() as three:
                await one.send(between.head(MODELS))
                await two.send(between.head(MODELS))
                await upstream.arrival(2)
                refused = await three.ask(between.head(MODELS))
                assert refused.status == 503
                assert refused.head.one(b"retry-after") == b"1"
                assert refused.json()["error"]["code"] == "overloaded"
                go.set()
                assert [(await client.answer()).status for client in (one, two)] == [200, 200]
                assert (await three.ask(between.head(MODELS))).status == 200
