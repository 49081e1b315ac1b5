"""Requests are understood by what they are: whatever label they carry, compressed or not, and forms while they stream."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import brotli
import pytest
import zstandard

from tests import openai_answers, wire
from tests.fake_upstream import answer
from tests.gateway.between import Between
from tests.proxy_process import Person
from tests.signals import Signal

STREAMED = b'{"model":"gpt-4o-mini","messages":[],"stream":true}'
MODEL_FORM = b"\r\n".join(
    (
        b"--x",
        b'Content-Disposition: form-data; name="file"; filename="a.mp3"',
        b"Content-Type: audio/mpeg",
        b"",
        b"\0\1--x not a boundary" * 4000,
        b"--x",
        b'Content-Disposition: form-data; name="model"',
        b"",
        b"whisper-1",
        b"--x--",
        b"",
    )
)
FORM = b"Content-Type: multipart/form-data; boundary=x"
TRANSCRIBED = json.dumps({"text": "Hello.", "usage": {"type": "duration", "seconds": 30}}).encode()
ANSWER = (
    wire.head(b"HTTP/1.1 200 OK", b"Content-Type: application/json", b"Content-Length: %d" % len(TRANSCRIBED))
    + TRANSCRIBED
)


def head(key: str, path: bytes, *lines: bytes) -> bytes:
    first = (b"POST %b HTTP/1.1" % path, b"Host: p", b"Authorization: Bearer " + key.encode())
    return b"\r\n".join((*first, *lines)) + b"\r\n\r\n"


@pytest.fixture
def person(between: Between) -> Person:
    made = between.proxy.person("who labels oddly")
    between.upstream.forget()
    return made


async def record_of(between: Between, person: Person) -> dict[str, Any]:
    (record,) = await between.proxy.records(1, user_id=person.user_id)
    return record


@pytest.mark.parametrize(
    "label",
    [b"text/plain", b"application/x-www-form-urlencoded", b"application/octet-stream", None],
)
async def test_a_chat_request_by_any_other_name_is_read_and_spliced(
    between: Between, person: Person, label: bytes | None
) -> None:
    lines = [] if label is None else [b"Content-Type: " + label]
    lines.append(b"Content-Length: %d" % len(STREAMED))
    async with between.client() as client:
        reply = await client.ask(head(person.key, b"/v1/chat/completions", *lines), STREAMED, method=b"POST")

    sent = json.loads(between.upstream.requests[0].body)
    assert sent == json.loads(STREAMED) | {"stream_options": {"include_usage": True}}
    assert b'"usage"' not in reply.body
    record = await record_of(between, person)
    assert (record["requested_model"], record["usage_source"], record["total_tokens"]) == (
        "gpt-4o-mini",
        "reported",
        1163,
    )


PACKED = {
    b"gzip": gzip.compress,
    b"deflate": zlib.compress,
    b"br": brotli.compress,
    b"zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("coding", PACKED)
async def test_a_compressed_request_is_forwarded_as_it_came_and_understood(
    between: Between, coding: bytes
) -> None:
    person = between.proxy.person("packs", quotas=[{"unit": "tokens", "window": "month", "limit": "50000"}])
    between.upstream.forget()

    def packed(ceiling: int) -> tuple[bytes, bytes]:
        body = PACKED[coding](b'{"model":"gpt-4o-mini","messages":[],"max_tokens":%d}' % ceiling)
        coded = (b"Content-Type: application/json", b"Content-Encoding: " + coding)
        return head(person.key, b"/v1/chat/completions", *coded, b"Content-Length: %d" % len(body)), body

    plain = b'{"model":"gpt-4o-mini","messages":[]}'
    between.upstream.script(answer(*openai_answers.answer(b"POST", b"/v1/chat/completions", plain)))
    start, body = packed(200)
    async with between.client() as client:
        assert (await client.ask(start, body, method=b"POST")).status == 200
        assert (await client.ask(*packed(60_000), method=b"POST")).status == 429
    (request,) = between.upstream.requests
    assert bytes(request.body) == body
    assert request.head.one(b"content-encoding") == coding
    passed, refused = await between.proxy.records(2, user_id=person.user_id)
    assert (passed["requested_model"], passed["total_tokens"], passed["outcome"]) == (
        "gpt-4o-mini",
        1163,
        "success",
    )
    assert (refused["requested_model"], refused["outcome"]) == ("gpt-4o-mini", "refused")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_form_is_read_while_it_is_streamed_on(
    between: Between, person: Person, chunked: bool
) -> None:
    between.upstream.script(answer(ANSWER))
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(MODEL_FORM)
    pieces = list(wire.cut(MODEL_FORM, 7001))
    if chunked:
        pieces = list(wire.cut(wire.chunked(pieces), 5000))
    async with between.client() as client:
        reply = await client.ask(
            head(person.key, b"/v1/audio/transcriptions", FORM, framing), *pieces, method=b"POST"
        )

    assert reply.status == 200
    assert bytes(between.upstream.requests[0].body) == MODEL_FORM
    record = await record_of(between, person)
    assert record["requested_model"] == "whisper-1"
    assert json.loads(record["units"]) == {"audio_ms": 30_000}
    assert record["cost_nanousd"] == 3_000_000  # $0.006 a minute


async def test_an_answer_that_comes_before_the_whole_form_still_is_of_its_model(
    between: Between, person: Person
) -> None:
    refused = b'{"error":{"message":"No.","type":"invalid_request_error","param":null,"code":"too_large"}}'
    lines = (b"Content-Type: application/json", b"Content-Length: %d" % len(refused))
    uploaded = Signal("the whole form")
    between.upstream.script(answer(wire.head(b"HTTP/1.1 413 No", *lines), uploaded, refused, early=True))
    framing = b"Content-Length: %d" % len(MODEL_FORM)
    async with between.client() as client:
        await client.send(head(person.key, b"/v1/audio/transcriptions", FORM, framing))
        request = await between.upstream.arrival()
        between.upstream.on_body(request, len(MODEL_FORM), uploaded)
        await client.send(MODEL_FORM)
        reply = await client.answer(b"POST")

    assert bytes(reply.body) == refused
    record = await record_of(between, person)
    assert (record["requested_model"], record["status"], record["error_code"]) == (
        "whisper-1",
        413,
        "too_large",
    )


async def test_a_form_is_read_whole_where_a_rule_asks_for_its_model(between: Between) -> None:
    other = between.proxy.person("may not", rules={"allowed_models": ["gpt-4o-transcribe"]})
    person = between.proxy.person("may", rules={"allowed_models": ["whisper-*"]})
    between.upstream.forget()
    between.upstream.script(answer(ANSWER))
    framing = b"Content-Length: %d" % len(MODEL_FORM)
    async with between.client() as client:
        start = head(other.key, b"/v1/audio/transcriptions", FORM, framing)
        refused = await client.ask(start, MODEL_FORM, method=b"POST")
        start = head(person.key, b"/v1/audio/transcriptions", FORM, framing)
        passed = await client.ask(start, MODEL_FORM, method=b"POST")

    assert (refused.status, refused.json()["error"]["code"]) == (403, "model_not_allowed")
    assert passed.status == 200
    assert [bytes(request.body) for request in between.upstream.requests] == [MODEL_FORM]
    assert (await record_of(between, other))["requested_model"] == "whisper-1"


async def test_objects_of_others_are_not_named_under_another_label(between: Between) -> None:
    ana, ben = between.proxy.people(2)
    between.upstream.forget()
    made = b'{"id":"file-of-ana","object":"file"}'
    line = b"Content-Length: %d" % len(made)
    between.upstream.script(
        answer(wire.head(b"HTTP/1.1 200 OK", b"Content-Type: application/json", line) + made)
    )
    body = b'{"name":"mine","file_ids":["file-of-ana"]}'
    lines = (b"Content-Type: text/plain", b"Content-Length: %d" % len(body))
    async with between.client() as client:
        await client.ask(head(ana.key, b"/v1/files", b"Content-Length: 0"))
        refused = await client.ask(head(ben.key, b"/v1/vector_stores", *lines), body, method=b"POST")

    assert refused.status == 404
    assert len(between.upstream.requests) == 1
