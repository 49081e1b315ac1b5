"""Values that no honest client or server sends, through a started proxy up to Postgres: each exchange ends in its record, none
holds up another's, and neither quotas nor reports break on them.
"""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from proxy.core.costs import COST_MAX_NANOUSD
from proxy.core.tokens import COUNT_MAX
from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream, answer
from tests.openai_answers import plain, streamed
from tests.proxy_process import Person, ProxyProcess, wait_until
from tests.signals import DEADLINE_S

CHAT = "/v1/chat/completions"
ASKED = b'{"model":"gpt-4o-mini","messages":[]}'
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class House:
    """A proxy, its upstream, and people whom no test has used yet."""

    proxy: ProxyProcess
    upstream: FakeUpstream
    people: list[Person]

    def someone(self) -> Person:
        if not self.people:
            self.people.extend(self.proxy.people(15))
        self.upstream.forget()
        return self.people.pop()

    def send(
        self, who: Person, body: bytes, path: str = CHAT, method: str = "POST", **lines: str
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.proxy.port, timeout=DEADLINE_S)
        sent = {"content-type": JSON} | {name.replace("_", "-"): value for name, value in lines.items()}
        try:
            connection.request(method, path, body, sent | {"authorization": f"Bearer {who.key}"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def records(self, who: Person, count: int) -> list[dict[str, Any]]:
        return asyncio.run(self.proxy.records(count, user_id=who.user_id))


@pytest.fixture(scope="module")
def house(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with (
        lasting_database(postgres_server) as database_url,
        FakeUpstream.running() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=tmp_path_factory.mktemp("hostile"),
            quota_unknown_price="allow",
            follow_first_s=1000,
        ) as proxy,
    ):
        yield House(proxy, upstream, [])


# answers

USED = b'"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}'
ANSWERS: dict[str, tuple[bytes, tuple[str, int, int, int]]] = {
    "more tokens than a float holds": (b'{"usage":{"prompt_tokens":1e400,"completion_tokens":5}}', ("reported", 0, 5, 5)),
    "more than 64 bits": (b'{"usage":{"prompt_tokens":%d,"completion_tokens":5}}' % 2**70, ("reported", 0, 5, 5)),
    "more than anybody can use": (b'{"usage":{"prompt_tokens":%d,"completion_tokens":5}}' % (COUNT_MAX + 1), ("reported", 0, 5, 5)),
    "a hundred digits": (b'{"usage":{"prompt_tokens":%b,"completion_tokens":5}}' % (b"9" * 100), ("reported", 0, 5, 5)),
    "less than nothing": (b'{"usage":{"prompt_tokens":-9,"completion_tokens":5,"total_tokens":-4}}', ("reported", 0, 5, 5)),
    "a part of a token": (b'{"usage":{"prompt_tokens":3.0,"completion_tokens":5.5,"total_tokens":1e1}}', ("reported", 3, 5, 10)),
    "words for numbers": (b'{"usage":{"prompt_tokens":"3","completion_tokens":true,"total_tokens":null}}', ("reported", 0, 0, 0)),
    "not a number": (b'{"usage":{"prompt_tokens":NaN,"completion_tokens":5,"total_tokens":-Infinity}}', ("reported", 0, 5, 5)),
    "usage that is a word": (b'{"usage":"much"}', ("none", 0, 0, 0)),
    "usage that is a list": (b'{"usage":[{"prompt_tokens":3}]}', ("none", 0, 0, 0)),
    "usage that is empty": (b'{"usage":{}}', ("none", 0, 0, 0)),
    "no details": (b'{"usage":{"prompt_tokens":3,"completion_tokens":5,"prompt_tokens_details":[],"completion_tokens_details":"x"}}', ("reported", 3, 5, 8)),
    "two usages": (b'{"usage":{"prompt_tokens":1},%b}' % USED, ("reported", 3, 5, 8)),
    "a NUL in each text": (b'{"id":"a\\u0000","model":"m\\u0000","service_tier":"\\u0000","choices":[{"finish_reason":"\\u0000"}],%b}' % USED, ("reported", 3, 5, 8)),
    "half a surrogate pair": (b'{"id":"\\ud800","model":"\\udfff","system_fingerprint":"\\ud800x",%b}' % USED, ("reported", 3, 5, 8)),
    "bytes that are no UTF-8": (b'{"id":"\xff","model":"\xc3\x28",%b}' % USED, ("reported", 3, 5, 8)),
    "a byte order mark": (b"\xef\xbb\xbf{%b}" % USED, ("reported", 3, 5, 8)),
    "nesting": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b",%b}" % USED, ("reported", 3, 5, 8)),
    "nesting that stays open": (b'{%b,"x":' % USED + b"[" * 100_000, ("none", 0, 0, 0)),
    "a model of 10 kB": (b'{"model":"%b","id":"%b",%b}' % (b"m" * 10_000, b"i" * 10_000, USED), ("reported", 3, 5, 8)),
    "other types": (b'{"model":7,"id":1.5,"service_tier":[],"choices":{"x":1},"error":[],%b}' % USED, ("reported", 3, 5, 8)),
    "a list": (b"[]", ("none", 0, 0, 0)),
    "a null": (b"null", ("none", 0, 0, 0)),
    "nothing": (b"", ("none", 0, 0, 0)),
    "not JSON": (b"<html>", ("none", 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("form", ["plain", "streamed"])
def test_whatever_an_answer_says_it_is_passed_on_and_recorded(house: House, form: str) -> None:
    ana = house.someone()
    if form == "plain":
        house.upstream.script(*[answer(*plain(body)) for body, _ in ANSWERS.values()])
    else:
        house.upstream.script(
            *[answer(*streamed([b"data: " + body + b"\n\n"])) for body, _ in ANSWERS.values()]
        )
    got = [house.send(ana, ASKED) for _ in ANSWERS]
    records = house.records(ana, len(ANSWERS))

    wrong = {}
    for (name, (body, expected)), (status, seen), record in zip(ANSWERS.items(), got, records, strict=True):
        found = tuple(
            record[each] for each in ("usage_source", "input_tokens", "output_tokens", "total_tokens")
        )
        passed = body if form == "plain" else b"data: " + body + b"\n\n"
        if (status, seen, found) != (200, passed, expected):
            wrong[name] = (status, seen[:80], found)
    assert wrong == {}


def test_an_absurd_cost_is_unknown_and_breaks_no_sum(house: House) -> None:
    ana = house.someone()
    most = json.dumps(
        {"model": "gpt-5.5-pro", "usage": {"prompt_tokens": COUNT_MAX, "completion_tokens": COUNT_MAX}}
    )
    house.upstream.script(*[answer(*plain(most.encode()))] * 3)
    for _ in range(3):
        assert house.send(ana, ASKED)[0] == 200
    house.upstream.script(answer(*plain(b'{"model":"gpt-5.5-pro",%b}' % USED)))
    house.send(ana, ASKED)
    records = house.records(ana, 4)
    assert [record["cost_nanousd"] for record in records] == [None] * 3 + [3 * 30_000 + 5 * 180_000]
    assert COUNT_MAX * (30_000 + 180_000) > COST_MAX_NANOUSD
    (row,) = house.proxy.query(
        "select sum(cost_nanousd)::bigint as cost, sum(unpriced)::bigint as unpriced, sum(requests)::bigint as requests"
        " from usage_hourly where user_id = $1",
        ana.user_id,
    )
    assert (row["cost"], row["unpriced"], row["requests"]) == (990_000, 3, 4)
    stats = house.proxy.admin("GET", "/admin/stats")
    assert stats["overall"]["input_tokens"] >= 3 * COUNT_MAX


IDS = [
    b"", b"\\u0000", b"\\ud800", b"x" * 10_000, b"../../v1/files?x=#", b"a b\\r\\nHost: evil", b"%2F%00", b"\xff", "\u00e9\U0001f600".encode(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (
            "/v1/responses",
            b'"object":"response","status":"completed","usage":{"input_tokens":3,"output_tokens":5}',
        ),
        ("/v1/responses", b'"object":"response","status":"queued","background":true'),
        ("/v1/batches", b'"object":"batch","status":"validating"'),
        ("/v1/threads/runs", b'"object":"thread.run","status":"queued","thread_id":"th read\\u0000/"'),
        ("/v1/evals/%00%20/runs", b'"object":"eval.run","status":"queued"'),
        ("/v1/realtime/client_secrets", b'"value":"ek_\\u0000","session":{}'),
        ("/v1/files", b'"object":"file"'),
    ],
)
def test_whatever_a_server_calls_what_it_made_it_is_recorded(house: House, path: str, fields: bytes) -> None:
    ana = house.someone()
    house.upstream.script(*[answer(*plain(b'{"id":"%b",%b}' % (each, fields))) for each in IDS])
    asked = b'{"model":"gpt-4o-mini","background":true}' if b"background" in fields else ASKED
    assert [house.send(ana, asked, path)[0] for _ in IDS] == [200] * len(IDS)
    assert len(house.records(ana, len(IDS))) == len(IDS)


# requests

BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a NUL": b"\0",
    "a list": b"[]",
    "a number": b"1e400",
    "a number beyond floats in it": b'{"model":"gpt-4o-mini","temperature":1e400,"messages":[]}',
    "open brackets": b"[" * 100_000,
    "nesting": b'{"model":"gpt-4o-mini","messages":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "a byte order mark": b'\xef\xbb\xbf{"model":"gpt-4o-mini","messages":[]}',
    "UTF-16": '{"model":"gpt-4o-mini","messages":[]}'.encode("utf-16"),
    "no UTF-8": b'{"model":"gpt-4o-mini","messages":["\xff\xfe"],"user":"\xff"}',
    "a NUL in each text": b'{"model":"gpt\\u0000","user":"\\u0000","service_tier":"\\u0000","messages":[]}',
    "half a surrogate pair": b'{"model":"gpt\\ud800","user":"\\udc00","safety_identifier":"\\ud800","messages":[]}',
    "other types": b'{"model":[],"stream":"yes","stream_options":7,"user":{},"service_tier":1,"tools":{},"n":"x","max_tokens":[]}',
    "duplicates": b'{"model":"a","model":"gpt-4o-mini","stream":true,"stream":false,"messages":[]}',
    "a model of 10 kB": b'{"model":"%b","messages":[]}' % (b"m" * 10_000),
    "many members": b"{" + b",".join(b'"x%d":1' % number for number in range(20_000)) + b',"model":"gpt-4o-mini"}',
    "huge numbers": b'{"model":"gpt-4o-mini","n":%d,"max_tokens":%d,"seed":%d,"messages":[]}' % (2**40, 2**40, 2**300),
    "numbers below zero": b'{"model":"gpt-4o-mini","n":-1,"max_tokens":-1e400,"max_completion_tokens":-5,"messages":[]}',
}  # fmt: skip


@pytest.mark.parametrize("lines", [{"content_type": JSON}, {"content_type": "application/x-odd; charset=\xff"}, {"content_type": "text/plain"}, {"content_type": ""}])  # fmt: skip
def test_whatever_a_request_says_it_is_passed_on_and_recorded(house: House, lines: dict[str, str]) -> None:
    ana = house.someone()
    house.upstream.script(*[answer(*plain(b"{%b}" % USED))] * len(BODIES))
    replies = [house.send(ana, body, **lines) for body in BODIES.values()]
    records = house.records(ana, len(BODIES))

    assert {
        name: reply for name, reply in zip(BODIES, replies, strict=True) if reply != (200, b"{%b}" % USED)
    } == {}
    assert [bytes(request.body) for request in house.upstream.requests] == list(BODIES.values())
    assert [record["total_tokens"] for record in records] == [8] * len(BODIES)
    models = dict(zip(BODIES, (record["requested_model"] for record in records), strict=True))
    assert {
        models[name] for name in ("a byte order mark", "UTF-16", "nesting", "no UTF-8", "many members")
    } == {"gpt-4o-mini"}
    assert models["a number beyond floats in it"] == "gpt-4o-mini"


QUOTAS = [
    {"unit": "tokens", "window": "month", "limit": "1000000"},
    {"unit": "cost", "window": "month", "limit": "5"},
    {"unit": "requests", "window": "day", "limit": "100"},
]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_a_request_for_more_than_there_is_is_refused_and_suspends_no_quota(house: House, name: str) -> None:
    ana, eva = (house.proxy.person(each, quotas=QUOTAS) for each in ("Ana", "Eva"))
    house.upstream.forget()
    for n, most in ((2**40, 2**40), (1, 2**40), (2**40, 1), (1, 10**300), (10**18, 10**18)):
        asked = {"model": "gpt-4o-mini", "messages": [], "n": n, name: most}
        status, body = house.send(ana, json.dumps(asked).encode())
        assert status in {200, 429}, body
        if n < 2**41 and most < 2**41:
            assert (status, json.loads(body)["error"]["code"]) == (429, "insufficient_quota")
    assert house.send(eva, ASKED)[0] == 200
    metrics = house.proxy.request("GET", "/metrics").body
    assert "\nopenai_proxy_quota_suspended 0" in metrics
    assert house.send(ana, ASKED)[0] == 200


ODD: list[tuple[str, str, bytes]] = [
    ("POST", "/v1/unheard/of", b'{"model":"gpt-4o-mini"}'),
    ("PATCH", "/v1/chat/completions", b"{}"),
    ("PROPFIND", "/v1/coffee", b""),
    ("POST", "/v1/chat/completions/", ASKED),
    ("POST", "/v1//chat/completions", ASKED),
    ("GET", "/v1/files/odd%00", b""),
    ("GET", "/v1/files/%ED%A0%80", b""),
    ("GET", "/v1/responses/" + "x" * 5000, b""),
    ("GET", "/v1/responses/a%2Fb?stream=%FF&starting_after=%00", b""),
    ("DELETE", "/v1/models/ft:gpt-4o:%00", b""),
    ("POST", "/v1/audio/transcriptions", b"--x\r\n"),
    ("POST", "/v1/threads/odd%00/runs", b"{}"),
    ("GET", "/v1/" + "a/" * 200, b""),
]


def test_odd_routes_and_ids_are_passed_on_and_recorded(house: House) -> None:
    ana = house.someone()
    house.upstream.script(*[answer(*plain(b"{%b}" % USED))] * len(ODD))
    replies = [house.send(ana, body, path, method)[0] for method, path, body in ODD]
    assert replies == [200] * len(ODD)
    records = house.records(ana, len(ODD))
    assert {(record["outcome"], record["status"]) for record in records} == {("success", 200)}


def test_labels_that_can_not_be_stored_as_they_are_hold_up_nothing(house: House) -> None:
    ana = house.someone()
    for value in ("%00", "a=%00", "%ED%A0%80", "a" * 5000, "a=b=c", "=", ",,,", "\xff"):
        for line in ("x_usage_operation", "x_usage_tags", "x_usage_end_user", "x_client_request_id"):
            status, _ = house.send(ana, ASKED, **{line: value})
            assert status in {200, 400}
    house.send(ana, ASKED, x_usage_operation="the-last")
    wait_until(
        lambda: bool(
            house.proxy.query(
                "select from usage_records where user_id = $1 and operation = 'the-last'", ana.user_id
            )
        ),
        "the last record",
    )


def test_nothing_was_set_aside_and_nothing_waits(house: House) -> None:
    metrics = house.proxy.request("GET", "/metrics").body
    dropped = [
        line for line in metrics.splitlines() if line.startswith("openai_proxy_recorder_dropped_total{")
    ]
    assert all(line.endswith((" 0", " 0.0")) for line in dropped), dropped
    faults = [line for line in metrics.splitlines() if line.startswith("openai_proxy_metering_faults_total{")]
    assert all(line.endswith((" 0", " 0.0")) for line in faults), faults
