"""Connections on both sides: kept, closed, pipelined, reused, dying; clients as old as HTTP/1.0."""

from __future__ import annotations

import pytest

from tests import wire
from tests.fake_upstream import answer, body_read, close, flushed, half_close, reset
from tests.gateway.between import Between
from tests.signals import Signal

OK = wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 2") + b"ok"
JSON = b"Content-Type: application/json"


def numbered(number: int) -> bytes:
    body = b"answer %d" % number
    return wire.head(b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body)) + body


# The client's side


async def test_a_connection_serves_many_requests(between: Between) -> None:
    between.upstream.script(*(answer(numbered(n)) for n in range(20)))
    async with between.client() as client:
        for n in range(20):
            reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
            assert bytes(reply.body) == b"answer %d" % n


async def test_pipelined_requests_are_answered_in_order(between: Between) -> None:
    body = b'{"model":"gpt-4o-mini"}'
    posted = between.head(b"POST /v1/files HTTP/1.1", JSON, b"Content-Length: %d" % len(body)) + body
    chunked = between.head(b"POST /v1/files HTTP/1.1", b"Transfer-Encoding: chunked") + wire.chunked(
        (b"ab", b"c")
    )
    plain = between.head(b"GET /v1/models HTTP/1.1")
    between.upstream.script(*(answer(numbered(n)) for n in range(9)))
    async with between.client() as client:
        await client.send((posted + chunked + plain) * 3)
        replies = [await client.answer() for _ in range(9)]
    assert [bytes(reply.body) for reply in replies] == [b"answer %d" % n for n in range(9)]
    assert [request.method for request in between.upstream.requests] == [b"POST", b"POST", b"GET"] * 3
    assert [bytes(request.body) for request in between.upstream.requests] == [body, b"abc", b""] * 3


async def test_a_pipelined_request_waits_for_the_answer_before_it(between: Between) -> None:
    first = Signal("leave for the first answer")
    between.upstream.script(answer(first, numbered(1)), answer(numbered(2)))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/models HTTP/1.1") * 2)
        await between.upstream.arrival(1)
        first.set()
        assert bytes((await client.answer()).body) == b"answer 1"
        assert bytes((await client.answer()).body) == b"answer 2"


async def test_a_hundred_pipelined_refusals_are_answered(between: Between) -> None:
    stranger = wire.head(b"GET /v1/models HTTP/1.1", b"Host: a", b"Authorization: Bearer sk-proxy-unknown")
    async with between.client() as client:
        await client.send(stranger * 100)
        assert [(await client.answer()).status for _ in range(100)] == [401] * 100
    assert between.upstream.requests == []


async def test_control_and_data_plane_share_a_connection(between: Between) -> None:
    between.upstream.script(answer(OK), answer(OK))
    health = wire.head(b"GET /healthz HTTP/1.1", b"Host: a")
    async with between.client() as client:
        for _ in range(2):
            assert (await client.ask(health)).status == 200
            assert bytes((await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).body) == b"ok"
        assert (await client.ask(health)).status == 200
    assert len(between.upstream.requests) == 2


async def test_what_a_request_to_the_control_plane_holds_is_no_request(between: Between) -> None:
    held = between.head(b"GET /v1/smuggled HTTP/1.1")
    admin = b"POST /admin/users HTTP/1.1"
    answered_already = wire.head(admin, b"Host: a", b"Content-Length: %d" % len(held))
    chunks = wire.head(admin, b"Host: a", b"Transfer-Encoding: chunked") + b"%x\r\n" % len(held)
    in_its_head = admin + b"\r\nContent-Length: 0\r\nX-Note: "
    for before, after in ((answered_already, b""), (chunks, b"\r\n0\r\n\r\n"), (in_its_head, b"")):
        async with between.client() as client:
            await client.send(before)
            if before is not in_its_head:  # the answer does not wait for the body
                assert (await client.answer()).status == 401
            await client.send(held)
            if before is in_its_head:
                assert (await client.answer()).status == 403
            health = await client.ask(after + wire.head(b"GET /healthz HTTP/1.1", b"Host: a"))
            assert (health.status, health.head.one(b"x-proxy-request-id")) == (200, None)
    assert between.upstream.requests == []


async def test_a_request_pipelined_behind_the_control_plane_is_to_be_asked_again(between: Between) -> None:
    health = wire.head(b"GET /healthz HTTP/1.1", b"Host: a")
    async with between.client() as client:
        await client.send(health + between.head(b"GET /v1/models HTTP/1.1"))
        assert (await client.answer()).status == 200
        second = await client.answer()
        assert await client.ended()
    assert (second.status, second.json()["error"]["code"]) == (421, "misdirected")


async def test_a_request_in_pieces_leaves_the_control_plane(between: Between) -> None:
    between.upstream.script(answer(OK))
    async with between.client() as client:
        assert (await client.ask(wire.head(b"GET /healthz HTTP/1.1", b"Host: a"))).status == 200
        sent = between.head(b"GET /v1/models HTTP/1.1")
        for at in range(len(sent)):
            await client.send(sent[at : at + 1])
            await client.turn()
        assert bytes((await client.answer()).body) == b"ok"


async def test_connection_close_is_honoured(between: Between) -> None:
    between.upstream.script(answer(OK))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1", b"Connection: close"))
        assert await client.ended()
    assert reply.head.tokens(b"connection") == [b"close"]


async def test_an_http_1_0_client_is_served_and_closed(between: Between) -> None:
    between.upstream.script(answer(OK))
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.0"))
        assert await client.ended()
    assert (reply.status, bytes(reply.body)) == (200, b"ok")
    assert between.upstream.requests[0].head.start == b"GET /v1/models HTTP/1.1"


async def test_an_http_1_0_client_may_keep_its_connection(between: Between) -> None:
    between.upstream.script(answer(OK), answer(OK))
    async with between.client() as client:
        for _ in range(2):
            reply = await client.ask(between.head(b"GET /v1/models HTTP/1.0", b"Connection: keep-alive"))
            assert reply.head.tokens(b"connection") == [b"keep-alive"]
            assert bytes(reply.body) == b"ok"


async def test_an_http_1_0_client_gets_chunks_without_their_framing(between: Between) -> None:
    raw = wire.head(b"HTTP/1.1 200 OK", b"Content-Type: text/event-stream", b"Transfer-Encoding: chunked")
    between.upstream.script(
        answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + raw, wire.chunked((b"data: 1\n\n", b"data: 2\n\n")))
    )
    async with between.client() as client:
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.0", b"Connection: keep-alive"))
    assert bytes(reply.body) == b"data: 1\n\ndata: 2\n\n"
    assert reply.head.all(b"transfer-encoding") == []
    assert (reply.interim, reply.cut) == ([], False)


async def test_a_client_that_waits_to_continue_is_told_to(between: Between) -> None:
    body = b'{"model":"gpt-4o-mini"}'
    between.upstream.script(answer(OK))
    lines = (JSON, b"Expect: 100-continue", b"Content-Length: %d" % len(body))
    async with between.client() as client:
        await client.send(between.head(b"POST /v1/files HTTP/1.1", *lines))
        assert (await client.any_head()).status == 100
        reply = await client.ask(body, method=b"POST")
    assert (reply.status, reply.interim) == (200, [])
    assert bytes(between.upstream.requests[0].body) == body


async def test_an_upload_that_waits_is_continued_by_the_upstream(between: Between) -> None:
    between.upstream.script(answer(b"HTTP/1.1 100 Continue\r\n\r\n", body_read, OK, early=True))
    lines = (b"Content-Type: x/y", b"Expect: 100-continue", b"Content-Length: 3")
    async with between.client() as client:
        await client.send(between.head(b"POST /v1/files HTTP/1.1", *lines))
        assert (await client.any_head()).status == 100
        reply = await client.ask(b"abc", method=b"POST")
    assert (reply.status, reply.interim) == (200, [])
    assert between.upstream.requests[0].head.all(b"expect") == [b"100-continue"]


async def test_an_upload_that_waits_may_be_refused_by_the_upstream(between: Between) -> None:
    refusal = wire.head(b"HTTP/1.1 413 Too Large", b"Content-Length: 3") + b"big"
    between.upstream.script(answer(refusal, close, early=True))
    lines = (b"Content-Type: x/y", b"Expect: 100-continue", b"Content-Length: 300000")
    async with between.client() as client:
        reply = await client.ask(between.head(b"POST /v1/files HTTP/1.1", *lines))
    assert (reply.status, bytes(reply.body), reply.interim) == (413, b"big", [])


async def test_an_unknown_key_is_refused_before_the_body_is_sent(between: Between) -> None:
    lines = (
        b"Host: a",
        b"Authorization: Bearer sk-proxy-none",
        JSON,
        b"Expect: 100-continue",
        b"Content-Length: 9",
    )
    async with between.client() as client:
        reply = await client.ask(wire.head(b"POST /v1/files HTTP/1.1", *lines))
    assert (reply.status, reply.interim) == (401, [])
    assert between.upstream.requests == []


async def test_an_answer_before_the_upload_ended_reaches_the_client(between: Between) -> None:
    refusal = wire.head(b"HTTP/1.1 413 Too Large", b"Content-Length: 3", b"Connection: close") + b"big"
    between.upstream.script(answer(refusal, flushed, early=True))
    sent = between.head(b"POST /v1/files HTTP/1.1", b"Content-Type: x/y", b"Content-Length: 1000000")
    async with between.client() as client:
        await client.send(sent, b"x" * 1000)
        reply = await client.answer(b"POST")
    assert (reply.status, bytes(reply.body)) == (413, b"big")
    assert reply.head.tokens(b"connection") == [b"close"]


# The upstream's side


async def test_upstream_connections_are_kept_and_used_again(between: Between) -> None:
    between.upstream.drop_connections()
    async with between.client() as client:
        for _ in range(10):
            await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    async with between.client() as client:
        await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert {request.connection.number for request in between.upstream.requests} == {1}
    assert [request.on_connection for request in between.upstream.requests] == list(range(1, 12))


@pytest.mark.parametrize("line", [b"Connection: close", b"connection: Close, x"])
async def test_a_connection_that_the_upstream_closes_is_not_used_again(between: Between, line: bytes) -> None:
    between.upstream.script(
        answer(wire.head(b"HTTP/1.1 200 OK", line, b"Content-Length: 2") + b"ok"), answer(OK)
    )
    async with between.client() as client:
        await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    first, second = between.upstream.requests
    assert second.connection is not first.connection
    assert second.on_connection == 1


@pytest.mark.parametrize("end", [close, reset], ids=["close", "reset"])
async def test_a_connection_that_died_while_idle_costs_nobody_an_answer(
    between: Between, end: object
) -> None:
    between.upstream.script(answer(OK, end), answer(OK))
    async with between.client() as client:
        assert (await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).status == 200
        await between.upstream.requests[0].connection.lost
        body = b'{"model":"gpt-4o-mini"}'
        lines = (JSON, b"Content-Length: %d" % len(body))
        reply = await client.ask(between.head(b"POST /v1/chat/completions HTTP/1.1", *lines) + body)
    assert reply.status == 200
    assert len(between.upstream.requests) == 2


@pytest.mark.parametrize("end", [close, reset, half_close], ids=["close", "reset", "half_close"])
async def test_a_reused_connection_that_dies_is_retried_where_that_is_safe(
    between: Between, end: object
) -> None:
    between.upstream.drop_connections()
    between.upstream.script(answer(OK), answer(end), answer(OK))
    async with between.client() as client:
        await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        reply = await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
    assert reply.status == 200
    assert [request.on_connection for request in between.upstream.requests] == [1, 2, 1]


async def test_a_post_on_a_dying_connection_is_not_sent_twice(between: Between) -> None:
    between.upstream.drop_connections()
    between.upstream.script(answer(OK), answer(close), answer(OK))
    lines = (JSON, b"Content-Length: 2")
    async with between.client() as client:
        await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        reply = await client.ask(between.head(b"POST /v1/chat/completions HTTP/1.1", *lines) + b"{}")
    assert reply.status == 502
    assert [request.on_connection for request in between.upstream.requests] == [1, 2]


async def test_a_post_with_an_idempotency_key_is_retried(between: Between) -> None:
    between.upstream.drop_connections()
    between.upstream.script(answer(OK), answer(close), answer(OK))
    lines = (JSON, b"Idempotency-Key: once", b"Content-Length: 2")
    async with between.client() as client:
        await client.ask(between.head(b"GET /v1/models HTTP/1.1"))
        reply = await client.ask(between.head(b"POST /v1/chat/completions HTTP/1.1", *lines) + b"{}")
    assert reply.status == 200
    assert [bytes(request.body) for request in between.upstream.requests] == [b"", b"{}", b"{}"]


async def test_a_connection_left_in_mid_answer_is_not_used_again(between: Between) -> None:
    between.upstream.drop_connections()
    head = wire.head(b"HTTP/1.1 200 OK", b"Content-Length: 10")
    between.upstream.script(answer(head, b"half", Signal("never")), answer(OK))
    async with between.client() as client:
        await client.send(between.head(b"GET /v1/models HTTP/1.1"))
        await client.body_until(await client.answer_head(), 4)
        client.hang_up()
        await between.upstream.requests[0].connection.lost
    async with between.client() as client:
        assert bytes((await client.ask(between.head(b"GET /v1/models HTTP/1.1"))).body) == b"ok"
    assert between.upstream.requests[1].on_connection == 1
