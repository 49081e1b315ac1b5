"""Heads of answers keep their bytes, lose what must not cross the proxy, and what is no head is an error."""

from __future__ import annotations

import pytest

from proxy.core.answerhead import HEAD_MAX_BYTES, FramingError, parse_head


def head_of(raw: bytes):
    parsed = parse_head(raw)
    assert parsed is not None
    return parsed[0]


def test_a_head_keeps_its_status_line_order_case_and_duplicates():
    raw = (
        b"HTTP/1.1 299 Fine  Indeed\r\nX-B: 1\r\nx-a:2\r\nX-B:  3 \r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n"
    )

    head = head_of(raw + b"body")

    assert head.status == 299
    assert head.render(b"", reframed=False) == raw


def test_hop_by_hop_headers_stay_behind_and_ours_are_added():
    raw = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private\r\nKeep-Alive: timeout=5\r\nX-Private: 1\r\n"
        b"Upgrade: h2c\r\nProxy-Authenticate: x\r\nContent-Length: 0\r\nx-proxy-request-id: other\r\nX-Quota-Limit-Cost: 1\r\n\r\n"
    )

    rendered = head_of(raw).render(b"x-proxy-request-id: mine\r\n", reframed=False)

    assert rendered == b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx-proxy-request-id: mine\r\n\r\n"


def test_connection_can_not_take_the_framing_away():
    raw = b"HTTP/1.1 200 OK\r\nConnection: content-length, transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n"

    assert b"Transfer-Encoding: chunked" in head_of(raw).render(b"", reframed=False)


def test_the_answer_of_an_old_server_becomes_http_1_1():
    head = head_of(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n")

    assert head.http_1_0
    assert not head.keep_alive
    assert head.render(b"", reframed=False).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_reason_may_be_missing():
    assert head_of(b"HTTP/1.1 200\r\n\r\n").status == 200
    assert head_of(b"HTTP/1.1 200 \r\n\r\n").status == 200


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"garbage\r\n\r\n",
        b"SSH-2.0-x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * HEAD_MAX_BYTES,
    ],
)
def test_what_is_no_answer_is_an_error(raw):
    with pytest.raises(FramingError):
        parse_head(raw)


@pytest.mark.parametrize("cut", range(20))
def test_a_head_that_has_not_come_whole_is_waited_for(cut):
    assert parse_head(b"HTTP/1.1 200 OK\r\n\r\n"[:cut]) is None or cut == 19
