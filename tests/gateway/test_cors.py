"""Preflights are answered here only where a setting says so, and only for the origins it names."""

from __future__ import annotations

from proxy.gateway.cors import Cors
from tests.gateway.test_request import request

ORIGIN = (b"Origin", b"https://app.example")
ASKS = (b"Access-Control-Request-Method", b"POST")
WANTS = (b"Access-Control-Request-Headers", b"authorization, x-usage-tags")


def preflight():
    return request(ORIGIN, ASKS, WANTS, method=b"OPTIONS")


def test_passing_adds_nothing():
    cors = Cors("pass", ("*",))

    assert cors.preflight(preflight()) is None
    assert cors.lines(preflight()) == b""


def test_an_allowed_origin_may_send_what_it_asked_for():
    answer = Cors("answer", ("https://app.example",)).preflight(preflight())

    assert answer is not None
    assert answer.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"access-control-allow-origin: https://app.example\r\n" in answer
    assert b"access-control-allow-headers: authorization, x-usage-tags\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


def test_another_origin_is_told_nothing():
    cors = Cors("answer", ("https://other.example",))

    answer = cors.preflight(preflight())

    assert answer is not None
    assert b"access-control" not in answer
    assert cors.lines(preflight()) == b""
