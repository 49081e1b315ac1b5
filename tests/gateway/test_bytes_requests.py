"""What a client sends reaches the upstream byte for byte: head in order and case, body by its hash."""

from __future__ import annotations

import gzip
import hashlib
import json
import random

import brotli
import pytest

from tests import wire
from tests.fake_upstream import Signal, answer, body_read
from tests.gateway.between import HOP_BY_HOP, Between

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
JSON = b"Content-Type: application/json"
CHAT = b'{ "model" :"gpt-4o-mini",\t"messages":[{"role":"user","content":"Ol\\u00e1 \xf0\x9f\x91\x8b"}] , "n": 1.0 }\n'
SEEDED = random.Random(7)
BINARY = SEEDED.randbytes(300_000)
MULTIPART = (
    b'--b0und\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nassistants\r\n'
    b'--b0und\r\nContent-Disposition: form-data; name="file"; filename="a b\xc3\xa9.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + BINARY + b"\r\n--b0und--\r\n"
)

HEADS = {
    "plain": (b"GET /v1/models HTTP/1.1", ()),
    "duplicates stay duplicates in their order": (
        b"GET /v1/models HTTP/1.1",
        (b"X-One: 1", b"Accept: a/b", b"X-One: 2", b"accept: c/d", b"X-One: 1"),
    ),
    "case is kept": (b"GET /v1/models HTTP/1.1", (b"x-LOWER-Upper: v", b"ACCEPT: */*", b"user-agent: uA/1")),
    "empty and odd values": (
        b"GET /v1/models HTTP/1.1",
        (b"X-Empty:", b'X-Quoted: "a;b", c=d', b"X-Latin: caf\xe9", b"X-Utf8: \xe2\x82\xac", b"X-Tab: a\tb"),
    ),
    "odd names": (b"GET /v1/models HTTP/1.1", (b"!#$%&'*+-.^_`|~09az: token", b"_under_score: 1")),
    "OpenAI's own headers": (
        b"GET /v1/models HTTP/1.1",
        (b"OpenAI-Beta: assistants=v2", b"OpenAI-Organization: org-1", b"OpenAI-Project: proj_1", b"X-Stainless-Retry-Count: 0"),
    ),
    "what other proxies said": (
        b"GET /v1/models HTTP/1.1",
        (b"X-Forwarded-For: 192.0.2.1", b"Forwarded: for=192.0.2.1", b"Via: 1.1 edge"),
    ),
    "conditional": (b"GET /v1/models HTTP/1.1", (b'If-None-Match: W/"x"', b"Range: bytes=0-9", b"Cookie: a=b; c=d")),
    "target is not touched": (b"GET /v1/files/a%2Fb%20c/./../x//y?q=%C3%A9&q=&&=z?;+!*'(),$@: HTTP/1.1", ()),
    "a long target": (b"GET /v1/models?" + b"a" * 8000 + b" HTTP/1.1", ()),
    "a large head": (b"GET /v1/models HTTP/1.1", tuple(b"X-%d: %s" % (n, b"v" * 900) for n in range(60))),
    "hop-by-hop headers stay here": (
        b"GET /v1/models HTTP/1.1",
        (b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"TE: trailers", b"Proxy-Connection: keep-alive", b"Proxy-Authorization: Basic eA=="),
    ),
    "our own headers stay here": (
        b"GET /v1/models HTTP/1.1",
        (b"X-Usage-Operation: rag", b"x-usage-tags: a=b", b"X-USAGE-End-User: 42", b"X-Usage: stays"),
    ),
    "the client's request id passes": (b"GET /v1/models HTTP/1.1", (b"X-Client-Request-Id: abc-1", b"X-Request-ID: r2")),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
async def test_a_head_passes_untouched(between: Between, name: str) -> None:
    start, lines = HEADS[name]
    between.upstream.script(answer(OK))
    sent = between.head(start, *lines)
    async with between.client() as client:
        reply = await client.ask(sent)
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert request.head.start == start
    assert list(request.head.fields) == between.forwarded(sent)
    assert request.body_bytes == 0


async def test_headers_that_connection_names_are_for_one_hop(between: Between) -> None:
    between.upstream.script(answer(OK))
    sent = between.head(
        b"GET /v1/models HTTP/1.1", b"X-Hop: 1", b"Connection: x-hop, keep-alive", b"X-End: 2"
    )
    async with between.client() as client:
        await client.ask(sent)
    request = await between.upstream.arrival()
    assert request.head.all(b"x-hop") == []
    assert request.head.all(b"x-end") == [b"2"]


@pytest.mark.parametrize("method", [b"GET", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"HEAD", b"PROPFIND", b"QUERY"])  # fmt: skip
async def test_any_method_and_path_passes(between: Between, method: bytes) -> None:
    between.upstream.script(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    sent = between.head(method + b" /v1/not/known/yet?x=1 HTTP/1.1", b"Content-Length: 0")
    async with between.client() as client:
        reply = await client.ask(sent)
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert (request.method, request.target) == (method, b"/v1/not/known/yet?x=1")


@pytest.mark.parametrize("authority", [b"http://proxy.example", b"HTTPS://u@proxy.example:80", b"http://"])
async def test_the_absolute_form_is_understood(between: Between, authority: bytes) -> None:
    between.upstream.script(answer(OK))
    sent = between.head(b"GET " + authority + b"/v1/models?x=%41&y=http://z/ HTTP/1.1")
    async with between.client() as client:
        for at in range(0, 40, 2):
            await client.send(sent[at : at + 2])
            await client.turn()
        reply = await client.ask(sent[40:])
    assert reply.status == 200
    assert (await between.upstream.arrival()).target == b"/v1/models?x=%41&y=http://z/"


@pytest.mark.parametrize("target", [b"http://proxy.example", b"http://a?x=/v1/models", b"x://y", b"*"])
async def test_a_target_without_our_path_is_never_forwarded(between: Between, target: bytes) -> None:
    between.upstream.script(answer(OK))
    other = between.head(b"OPTIONS " + target + b" HTTP/1.1")
    async with between.client() as client:
        assert (await client.ask(other)).status == 404
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/models HTTP/1.1") + other)
        assert bytes((await client.answer()).body) == b"ok"
        assert await client.ended()
    assert [request.target for request in between.upstream.requests] == [b"/v1/models"]


BODIES = {
    "chat": (JSON, CHAT),
    "JSON with duplicate members": (JSON, b'{"model":"a","model":"gpt-4o-mini","messages":[]}'),
    "JSON with a BOM": (JSON, b"\xef\xbb\xbf" + CHAT),
    "not JSON at all": (JSON, b"\xff\xfe{]"),
    "JSON of another kind": (JSON, b"[1, 2 , 3]"),
    "nested deeper than parsers like": (JSON, b'{"model":"gpt-4o-mini","x":' + b"[" * 3000 + b"]" * 3000 + b"}"),
    "numbers beyond doubles": (JSON, b'{"model":"gpt-4o-mini","seed":123456789012345678901234567890,"x":1e999}'),
    "one byte": (JSON, b"0"),
    "empty": (JSON, b""),
    "multipart": (b"Content-Type: multipart/form-data; boundary=b0und", MULTIPART),
    "binary": (b"Content-Type: application/octet-stream", BINARY),
    "SDP": (b"Content-Type: application/sdp", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n"),
    "no type": (b"X-Nothing: 1", b"\0\1\2"),
    "gzip": (JSON + b"\r\nContent-Encoding: gzip", gzip.compress(CHAT, mtime=0)),
    "br": (JSON + b"\r\nContent-Encoding: br", brotli.compress(CHAT)),
    "an encoding nobody knows": (JSON + b"\r\nContent-Encoding: x-own", CHAT),
    "a megabyte of JSON": (JSON, json.dumps({"model": "gpt-4o-mini", "input": "é" * 500_000}, ensure_ascii=False).encode()),
}  # fmt: skip


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("name", BODIES)
async def test_a_body_passes_untouched(between: Between, name: str, framing: str) -> None:
    lines, body = BODIES[name]
    between.upstream.script(answer(OK))
    framed = b"Content-Length: %d" % len(body) if framing == "length" else b"Transfer-Encoding: chunked"
    sent = between.head(b"POST /v1/files HTTP/1.1", lines, framed)
    async with between.client() as client:
        reply = await client.ask(sent, body if framing == "length" else wire.chunked(wire.cut(body, 50_000)))
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert (request.body_bytes, request.digest) == (len(body), hashlib.sha256(body).hexdigest())
    fields = [
        field for field in request.head.fields if field[0].lower() not in HOP_BY_HOP | {b"content-length"}
    ]
    expected = [field for field in between.forwarded(sent) if field[0].lower() != b"content-length"]
    assert fields == expected


@pytest.mark.parametrize("name", ["chat", "not JSON at all", "a megabyte of JSON", "gzip", "multipart"])
async def test_a_chat_body_passes_untouched(between: Between, name: str) -> None:
    lines, body = BODIES[name]
    between.upstream.script(answer(OK))
    sent = between.head(b"POST /v1/chat/completions HTTP/1.1", lines, b"Content-Length: %d" % len(body))
    async with between.client() as client:
        reply = await client.ask(sent, body)
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert bytes(request.body) == body
    assert list(request.head.fields) == between.forwarded(sent)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 4096, 65_536, 1_048_576])
@pytest.mark.parametrize("kind", [JSON, b"Content-Type: application/octet-stream"], ids=["json", "binary"])
async def test_request_chunks_of_any_size_pass(between: Between, size: int, kind: bytes) -> None:
    body = BINARY * 7 if size > 4096 else BINARY[:5000]
    between.upstream.script(answer(OK))
    sent = between.head(b"POST /v1/files HTTP/1.1", kind, b"Transfer-Encoding: chunked")
    async with between.client() as client:
        reply = await client.ask(sent, wire.chunked(wire.cut(body, size), upper=True, extension=b';n="v;"'))
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert (request.body_bytes, request.digest) == (len(body), hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("pause", [1, 17, 100, 1000])
async def test_a_request_that_comes_in_pieces_is_the_same_request(between: Between, pause: int) -> None:
    between.upstream.script(answer(OK))
    sent = between.head(b"POST /v1/chat/completions HTTP/1.1", JSON, b"Content-Length: %d" % len(CHAT))
    async with between.client() as client:
        reply = await client.ask(*wire.cut(sent + CHAT, pause), method=b"POST")
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert bytes(request.body) == CHAT
    assert list(request.head.fields) == between.forwarded(sent)


async def test_an_upload_streams_while_the_client_still_sends(between: Between) -> None:
    began = Signal("the first half at the upstream")
    between.upstream.script(answer(body_read, OK, early=True))
    sent = between.head(
        b"POST /v1/files HTTP/1.1",
        b"Content-Type: multipart/form-data; boundary=b0und",
        b"Content-Length: %d" % len(MULTIPART),
    )
    async with between.client() as client:
        await client.send(sent, MULTIPART[:1000])
        request = await between.upstream.arrival()
        between.upstream.on_body(request, 1000, began)
        await began
        assert not request.complete.is_set
        reply = await client.ask(MULTIPART[1000:], method=b"POST")
    assert reply.status == 200
    assert request.digest == hashlib.sha256(MULTIPART).hexdigest()


async def test_request_trailers_pass_behind_a_streamed_body(between: Between) -> None:
    between.upstream.script(answer(OK))
    sent = between.head(b"POST /v1/files HTTP/1.1", b"Trailer: X-Sum", b"Transfer-Encoding: chunked")
    async with between.client() as client:
        reply = await client.ask(sent, wire.chunked((b"abc",), trailers=(b"X-Sum: 1", b"x-More: 2")))
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert bytes(request.body) == b"abc"
    assert request.framing.trailers == (b"X-Sum: 1", b"x-More: 2")


@pytest.mark.parametrize("credential", [b"api-key: ", b"API-Key:  ", b"authorization: bearer "])
async def test_credentials_are_replaced_however_they_came(between: Between, credential: bytes) -> None:
    between.upstream.script(answer(OK))
    sent = wire.head(b"GET /v1/models HTTP/1.1", b"Host: a", credential + between.key.encode(), b"X: 1")
    async with between.client() as client:
        reply = await client.ask(sent)
    request = await between.upstream.arrival()
    assert reply.status == 200
    assert request.head.all(b"authorization") == [b"Bearer sk-the-accounts-own-key"]
    assert request.head.all(b"api-key") == []
    assert between.key.encode() not in request.head.raw
