"""A request's head says what the pass needs to know."""

from __future__ import annotations

import pytest

from proxy.gateway.request import read_request


def request(
    *headers: tuple[bytes, bytes], method: bytes = b"POST", http_1_0: bool = False, upgrade: bool = False
):
    return read_request(
        method,
        b"/v1/x",
        list(headers),
        http_1_0=http_1_0,
        keep_alive=True,
        upgrade=upgrade,
        started=0.0,
        started_us=0,
    )


@pytest.mark.parametrize(
    ("kind", "is_json"),
    [
        (b"application/json", True),
        (b"Application/JSON; charset=utf-8", True),
        (b"application/vnd.api+json", True),
        (b"multipart/form-data; boundary=x", False),
        (b"application/jsonl", True),
        (b"", False),
    ],
)
def test_json_is_known_by_its_type(kind, is_json):
    assert request((b"Content-Type", kind)).is_json is is_json


def test_of_duplicates_the_first_counts():
    assert request((b"X-A", b"1"), (b"x-a", b"2")).fields[b"x-a"] == b"1"


def test_a_body_is_announced_by_length_or_chunks():
    assert not request().has_body
    assert not request((b"Content-Length", b"0")).has_body
    assert request((b"Content-Length", b"1")).has_body
    assert request((b"Transfer-Encoding", b"chunked")).has_body


def test_an_old_client_can_not_expect_a_100():
    expect = (b"Expect", b"100-Continue")

    assert request(expect).expects_continue
    assert not request(expect, http_1_0=True).expects_continue


def test_only_a_websocket_is_an_upgrade_for_us():
    assert request((b"Upgrade", b"WebSocket"), upgrade=True).websocket
    assert not request((b"Upgrade", b"h2c"), upgrade=True).websocket
    assert not request((b"Upgrade", b"websocket"), upgrade=False).websocket


def test_a_preflight_has_an_origin_and_asks_for_a_method():
    origin, method = (b"Origin", b"https://a"), (b"Access-Control-Request-Method", b"POST")

    assert request(origin, method, method=b"OPTIONS").is_preflight
    assert not request(origin, method=b"OPTIONS").is_preflight
    assert not request(origin, method, method=b"POST").is_preflight


def test_a_body_is_taken_once():
    made = request((b"Content-Length", b"4"))
    made.body = [b"ab", b"cd"]

    assert (made.take_body(), made.take_body()) == (b"abcd", b"")
