"""The corpus end to end: every exchange through a started proxy, the bytes that its client sees, and its records in Postgres.

One user makes all calls, each with an operation of its own, by which its records are found. Ids of objects are made
different in each exchange, since an object's usage is billed once.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.core import endpoints
from proxy.core.price import price_list_of
from proxy.core.usage import COUNTS, Usage
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from tests import corpus, wire
from tests.corpus import Exchange
from tests.fake_upstream import Answer, FakeUpstream, Request, Step, answer, close, hear
from tests.gateway.between import Between
from tests.proxy_process import PROBE, ProxyProcess
from tests.raw_client import RawClient
from tests.signals import DEADLINE_S

AT_ONCE = 12
PIECE_BYTES = 37
NAME = b"x-client-request-id"
_HEAD = frozenset({b"host", b"authorization"})
_NAMED = (
    "served_model", "requested_model", "service_tier", "finish_reason", "object_id", "error_type", "error_code",
    "error_message",
)  # fmt: skip


class CorpusUpstream(FakeUpstream):
    """Answers each request with its exchange's answer, told by the request's id."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.exchanges: dict[bytes, Exchange] = {}
        self.seen: dict[bytes, Request] = {}

    def arrived(self, request: Request) -> Answer | None:
        """Take down the request; its answer."""
        usual = super().arrived(request)
        name = request.head.one(NAME)
        if name is None:
            return usual
        self.seen[name] = request
        return answer(*script(self.exchanges[name]))


def script(exchange: Exchange) -> list[Step]:
    """What the upstream sends: the body in one length, in small chunks where it is a stream, cut where it is one that broke off."""
    lines = [name + b": " + value for name, value in exchange.response_headers]
    start = b"HTTP/1.1 %d Said" % exchange.status
    if exchange.status == 101:
        return [hear(0), wire.head(start, *lines), *socket_steps(exchange), close]
    if not exchange.answer(b"content-type").startswith("text/event-stream"):
        body = exchange.response_body
        return [wire.head(start, *lines, b"Content-Length: %d" % len(body)) + body]
    chunks = wire.chunked(wire.cut(exchange.response_body, PIECE_BYTES))
    steps: list[Step] = [wire.head(start, *lines, b"Transfer-Encoding: chunked")]
    if exchange.record.get("outcome") == "upstream_cut":
        return [*steps, *wire.cut(chunks.removesuffix(b"0\r\n\r\n"), 1000), close]
    return [*steps, *wire.cut(chunks, 1000)]


def socket_steps(exchange: Exchange) -> list[Step]:
    """The server's frames, each after the client's that came before it."""
    steps: list[Step] = []
    heard = 0
    for message in exchange.messages:
        if message.from_client:
            heard += len(frame(message.text, masked=True))
            steps.append(hear(heard))
        else:
            steps.append(frame(message.text))
    return steps


def frame(text: bytes, *, masked: bool = False) -> bytes:
    """A text frame (RFC 6455, 5.2)."""
    length = bytes((len(text),)) if len(text) < 126 else b"\x7e" + len(text).to_bytes(2, "big")
    if not masked:
        return b"\x81" + length + text
    key = b"\x11\x22\x33\x44"
    hidden = bytes(byte ^ key[at % 4] for at, byte in enumerate(text))
    return b"\x81" + bytes((length[0] | 0x80,)) + length[1:] + key + hidden


def unique(exchange: Exchange, number: int) -> Exchange:
    """The exchange with object ids that no other has."""
    path = exchange.target.partition(b"?")[0].decode()
    template = endpoints.match(exchange.method, path)[0].template.split("/")
    segments = path.split("/")
    ids = {
        segment
        for name, segment in zip(template, segments, strict=False)
        if name.startswith("{") and name not in {"{other}", "{rest}"}
    }
    expected = [exchange.record, *exchange.parts, *exchange.children]
    expected += [part for child in exchange.children for part in child.get("parts", ())]
    ids |= {each["object_id"] for each in expected if each.get("object_id")}
    if not ids or exchange.answer(b"content-encoding"):
        return exchange
    pattern = re.compile(
        "|".join(re.escape(each) for each in sorted(ids, key=len, reverse=True)) + r"(?![0-9])"
    )

    def other(text: bytes) -> bytes:
        return re.sub(pattern.pattern.encode(), lambda found: found[0] + b"x%d" % number, text)

    def other_fields(fields: Any) -> Any:
        return json.loads(other(json.dumps(fields).encode()))

    return replace(
        exchange,
        target=other(exchange.target),
        request_body=other(exchange.request_body),
        response_body=other(exchange.response_body),
        messages=tuple(replace(each, text=other(each.text)) for each in exchange.messages),
        visible=None if exchange.visible is None else other(exchange.visible),
        record=other_fields(exchange.record),
        parts=tuple(other_fields(list(exchange.parts))),
        children=tuple(other_fields(list(exchange.children))),
    )


EXCHANGES = [unique(exchange, number) for number, exchange in enumerate(corpus.load())]


@pytest.fixture(scope="module")
def book() -> Any:
    return PriceSource.from_settings(Settings()).book


@asynccontextmanager
async def passed(
    database_url: str, directory: Path
) -> AsyncIterator[tuple[Between, CorpusUpstream, dict[str, bytes]]]:
    """All exchanges, passed through one proxy: what the clients got, by name."""
    with (
        CorpusUpstream.running() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url, database_url=database_url, directory=directory, follow=False
        ) as proxy,
    ):
        upstream.exchanges = {each.name.encode(): each for each in EXCHANGES}
        between = Between(proxy, upstream, proxy.person().key)
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(exchange: Exchange) -> tuple[str, bytes]:
            async with turns, between.client() as client:
                return exchange.name, await ask(between, client, exchange)

        got = dict(await asyncio.gather(*map(one, EXCHANGES)))
        yield between, upstream, got


async def ask(between: Between, client: RawClient, exchange: Exchange) -> bytes:
    """One exchange as a client has it: the body, or the bytes of its WebSocket."""
    lines = [name + b": " + value for name, value in exchange.request_headers if name.lower() not in _HEAD]
    lines += [NAME + b": " + exchange.name.encode(), b"X-Usage-Operation: " + exchange.name.encode()]
    body = exchange.request_body
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    start = b"%b %b HTTP/1.1" % (exchange.method.encode(), exchange.target)
    head = between.head(start, *lines)
    if exchange.status != 101:
        reply = await client.ask(head + body[:100], body[100:], method=exchange.method.encode())
        assert reply.status == exchange.status, exchange.name
        return bytes(reply.body)
    await client.send(head)
    reply = await client.answer_head()
    received = b""
    due = 0
    for message in exchange.messages:
        if message.from_client:
            await client.send(frame(message.text, masked=True))
            continue
        due += len(frame(message.text))
        while len(received) < due:
            data = await client.some()
            assert data, f"{exchange.name}: the connection ended early"
            received += data
    assert await client.ended()
    return received


async def stored(proxy: ProxyProcess, wanted: dict[str, int]) -> dict[str, list[dict[str, Any]]]:
    """The records of each operation, once there are as many as wanted; parents before their children."""
    end = time.monotonic() + DEADLINE_S
    while True:
        rows = await proxy.rows(
            "select * from usage_records where operation <> $1 order by started_at, id", PROBE
        )
        found: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            found.setdefault(row["operation"], []).append(row)
        counts = {name: len(each) for name, each in found.items()}
        if sum(counts.values()) >= sum(wanted.values()) or time.monotonic() > end:
            assert counts == wanted
            return found
        await asyncio.sleep(0.1)


async def test_every_exchange_of_the_corpus_ends_in_its_records(
    database_url: str, tmp_path: Path, book: Any
) -> None:
    async with passed(database_url, tmp_path) as (between, upstream, got):
        wanted = {each.name: 1 + len(children_of(each)) for each in EXCHANGES}
        found = await stored(between.proxy, wanted)

    wrong: dict[str, Any] = {}
    for exchange in EXCHANGES:
        differences = compare(exchange, got[exchange.name], upstream.seen[exchange.name.encode()])
        differences |= compare_records(exchange, found[exchange.name], book)
        if differences:
            wrong[exchange.name] = differences
    assert wrong == {}, "\n".join(f"{name}: {each}" for name, each in wrong.items())


def children_of(exchange: Exchange) -> list[dict[str, Any]]:
    """What is expected besides the record itself: a WebSocket's responses, and other models' parts of any answer."""
    below = [*exchange.parts]
    for child in exchange.children:
        below += [child, *child.get("parts", ())]
    return below


def compare(exchange: Exchange, got: bytes, request: Request) -> dict[str, Any]:
    """What the client and the upstream saw, against what they should have."""
    visible = exchange.response_body if exchange.visible is None else exchange.visible
    if exchange.status == 101:
        visible = b"".join(frame(each.text) for each in exchange.messages if not each.from_client)
    wrong: dict[str, Any] = {}
    if got != visible:
        wrong["client"] = (got, visible)
    if exchange.status == 101:
        return wrong
    if (spliced := asked_for_usage(exchange)) is None:
        if bytes(request.body) != exchange.request_body:
            wrong["upstream"] = bytes(request.body)
    elif json.loads(request.body) != spliced:
        wrong["spliced"] = bytes(request.body)
    return wrong


def asked_for_usage(exchange: Exchange) -> Any:
    """The request with the member that the proxy adds; None where it adds none."""
    if not exchange.record["endpoint"].endswith("completions") or not exchange.record.get("requested_model"):
        return None
    if exchange.header()(b"content-encoding") is not None:
        return None
    asked = json.loads(exchange.request_body)
    if not asked.get("stream") or asked.get("stream_options", {}).get("include_usage"):
        return None
    return asked | {"stream_options": asked.get("stream_options", {}) | {"include_usage": True}}


def compare_records(exchange: Exchange, rows: list[dict[str, Any]], book: Any) -> dict[str, Any]:
    """The records against what stands beside the exchange; {} when they are the same."""
    (record,) = [row for row in rows if row["parent_id"] is None]
    described = json.loads((corpus.DIRECTORY / exchange.name / "expected.json").read_text())
    wrong = differ(record, own(exchange.record), book, unknown=described.get("unknown", False))
    wrong |= status_of(exchange, record)
    children = [row for row in rows if row["parent_id"] == record["id"] and row["part"] is None]
    if len(children) != len(exchange.children):
        wrong["children"] = len(children)
    for number, (row, child) in enumerate(zip(children, exchange.children, strict=False)):
        expected = {name: value for name, value in child.items() if name != "parts"}
        of_connection = {
            "requested_model": exchange.record.get("requested_model"),
            "usage_source": "reported",
        }
        wrong |= {
            f"child {number} {name}": each
            for name, each in differ(row, of_connection | expected, book).items()
        }
        wrong |= parts_differ(rows, row, child.get("parts", ()), book)
    return wrong | parts_differ(rows, record, exchange.parts, book)


def parts_differ(rows: list[dict[str, Any]], parent: dict[str, Any], parts: Any, book: Any) -> dict[str, Any]:
    """The parts of one record, in whatever order."""
    wrong: dict[str, Any] = {}
    below = [row for row in rows if row["parent_id"] == parent["id"] and row["part"] is not None]
    left = list(below)
    for part in parts:
        served = part.get("model") or f"tool:{part['kind']}"
        row = next(
            (
                each
                for each in left
                if (each["part"], each["served_model"], each["object_id"])
                == (part["kind"], served, part.get("object_id"))
            ),
            None,
        )
        if row is None:
            wrong[f"part {part['kind']}"] = "missing"
            continue
        left.remove(row)
        counts = {name: value for name, value in part.items() if name not in {"kind", "model"}}
        expected = counts | {
            "served_model": served,
            "requested_model": parent["requested_model"],
            "usage_source": "reported",
            "service_tier": row["service_tier"],
        }
        wrong |= {f"part {served} {name}": each for name, each in differ(row, expected, book).items()}
    return wrong | ({"more parts": [row["served_model"] for row in left]} if left else {})


def own(record: dict[str, Any]) -> dict[str, Any]:
    """What is expected of a record, without what `status_of` looks at."""
    return {
        name: value
        for name, value in record.items()
        if name not in {"endpoint", "streamed", "outcome", "status"}
    }


def status_of(exchange: Exchange, row: dict[str, Any]) -> dict[str, Any]:
    """How the exchange ended."""
    expected = {
        "endpoint": exchange.record["endpoint"],
        "method": exchange.method,
        "streamed": exchange.record.get("streamed", exchange.status == 101),
        "status": exchange.status,
        "outcome": exchange.record.get("outcome", "upstream_error" if exchange.status >= 400 else "success"),
        "provider": "openai",
    }
    return {name: (row[name], value) for name, value in expected.items() if row[name] != value}


def differ(
    row: dict[str, Any], expected: dict[str, Any], book: Any, *, unknown: bool = False
) -> dict[str, Any]:
    """(found, expected) of each field that is not as expected, its cost by the price book among them."""
    units = json.loads(row["units"]) if isinstance(row["units"], str) else row["units"]
    usage = Usage(**{name: row[name] for name in COUNTS}, units=tuple(sorted(units.items())))
    wrong: dict[str, Any] = {}
    for name in (*COUNTS, *_NAMED):
        value = expected.get(name, 0 if name in COUNTS else None)
        if row[name] != value:
            wrong[name] = (row[name], value)
    for name in ("units", "usage_source"):
        value = units if name == "units" else row[name]
        if value != expected.get(name, {}):
            wrong[name] = (value, expected.get(name, {}))
    cost: tuple[Any, Any] = (None if unknown else 0, None)
    if row["usage_source"] != "none":
        model = expected.get("served_model") or expected.get("requested_model")
        prices = price_list_of("openai", row["endpoint"])
        answer_ = book.cost(prices, model, expected.get("service_tier"), usage, row["started_at"].timestamp())
        cost = (answer_.nanousd, answer_.price_id)
    if (row["cost_nanousd"], row["price_id"]) != cost:
        wrong["cost"] = ((row["cost_nanousd"], row["price_id"]), cost)
    return wrong
