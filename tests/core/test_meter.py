"""The corpus through the meters: every exchange, cut at every byte, gives the record that stands beside it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core import bodies, streams
from proxy.core.call import Call, read_call
from proxy.core.estimate import estimate_usage
from proxy.core.meter import kind_of, open_meter
from proxy.core.usage import Part, Reading
from proxy.core.wsmeter import WsTap
from tests.corpus import DIRECTORY, Exchange, load, recorded, usage_fields

CORPUS = load()
PLAIN = [exchange for exchange in CORPUS if exchange.status != 101]
SOCKETS = [exchange for exchange in CORPUS if exchange.status == 101]
SPLICED = [exchange for exchange in PLAIN if exchange.visible is not None]
OF_THE_CALL = ("endpoint", "requested_model", "streamed", "usage_source", "outcome")
SHORT_BYTES = 800
CUTS_MAX = 120


def named(exchange: Exchange) -> str:
    return exchange.name


def call_of(exchange: Exchange) -> Call:
    return read_call(
        method=exchange.method,
        target=exchange.target,
        header=exchange.header(),
        body=exchange.request_body or None,
        body_bytes=len(exchange.request_body),
    )


def read(exchange: Exchange, pieces: list[bytes], *, strip: bool = False) -> Reading:
    meter = open_meter(
        call_of(exchange),
        kind_of(exchange.answer(b"content-type").encode(), exchange.answer(b"content-encoding").encode()),
        status=exchange.status,
        strip_usage=strip,
    )
    for piece in pieces:
        meter.feed_through(piece)
    meter.flush()
    return meter.finish("cut" not in exchange.name)


def expected(exchange: Exchange) -> dict[str, Any]:
    return {
        name: value
        for name, value in exchange.record.items()
        if name not in OF_THE_CALL and value is not None
    }


def parts(found: tuple[Part, ...]) -> list[dict[str, Any]]:
    return [
        {
            name: value
            for name, value in (("kind", part.kind), ("model", part.model), ("object_id", part.object_id))
            if value is not None
        }
        | usage_fields(part.usage)
        for part in found
    ]


def cuts(length: int) -> Iterator[int]:
    """Every position of a short body; of a long one as many, spread out, and all near its ends."""
    if length <= SHORT_BYTES:
        yield from range(length + 1)
        return
    yield from range(40)
    yield from range(40, length - 40, max(1, length // CUTS_MAX))
    yield from range(length - 40, length + 1)


@pytest.mark.parametrize("exchange", PLAIN, ids=named)
def test_an_exchange_gives_the_record_beside_it(exchange: Exchange) -> None:
    call = call_of(exchange)
    reading = read(exchange, [exchange.response_body])
    record = exchange.record
    assert call.endpoint.template == record["endpoint"]
    assert call.model == record.get("requested_model")
    assert exchange.answer(b"content-type").startswith("text/event-stream") == record.get("streamed", False)
    found = recorded(reading)
    if record["usage_source"] == "estimated" and reading.usage is None:
        assert call.endpoint.bills
        found |= usage_fields(estimate_usage(call, reading))
    elif record["usage_source"] == "none":
        assert reading.usage is None
        assert not reading.parts
    else:
        assert reading.usage is not None
        assert reading.estimated == (record["usage_source"] == "estimated")
        assert call.endpoint.bills or call.endpoint.by_object
    assert found == expected(exchange)
    assert parts(reading.parts) == list(exchange.parts)
    described = json.loads((DIRECTORY / exchange.name / "expected.json").read_text())
    assert reading.unknown == described.get("unknown", False)
    assert reading.complete == described.get("complete", True)


@pytest.mark.parametrize("exchange", PLAIN, ids=named)
def test_how_an_answer_is_cut_changes_nothing(exchange: Exchange) -> None:
    body = exchange.response_body
    whole = read(exchange, [body])
    assert read(exchange, [body[at : at + 1] for at in range(len(body))]) == whole
    for at in cuts(len(body)):
        assert read(exchange, [body[:at], body[at:]]) == whole, at


@pytest.mark.parametrize("exchange", PLAIN, ids=named)
def test_an_answer_too_long_to_be_held_reads_the_same(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exchange.name == "grader_run":
        pytest.skip("its map is keyed by model names, which the sieve can't know; it is never long")
    whole = read(exchange, [exchange.response_body])
    monkeypatch.setattr(streams, "EVENT_BYTES_MAX", 16)
    monkeypatch.setattr(bodies, "BODY_BYTES_MAX", 16)
    for size in (len(exchange.response_body) or 1, 1000, 7, 1):
        body = exchange.response_body
        reading = read(exchange, [body[at : at + size] for at in range(0, len(body), size)])
        # What was delivered is not counted in events too long to be held.
        reading.delivered_bytes, reading.delivered_chars = whole.delivered_bytes, whole.delivered_chars
        assert reading == whole, size


@pytest.mark.parametrize("exchange", SPLICED, ids=named)
def test_a_client_that_did_not_ask_sees_no_usage(exchange: Exchange) -> None:
    body = exchange.response_body
    for at in (*cuts(len(body)), None):
        meter = open_meter(
            call_of(exchange),
            kind_of(exchange.answer(b"content-type").encode(), b""),
            status=200,
            strip_usage=True,
        )
        pieces = [body[:at], body[at:]] if at is not None else [body[i : i + 1] for i in range(len(body))]
        assert b"".join([*map(meter.feed_through, pieces), meter.flush()]) == exchange.visible, at
        assert recorded(meter.finish(True)) == recorded(read(exchange, [body]))


def frame(
    text: bytes, *, masked: bool, opcode: int = 1, final: bool = True, compressed: bool = False
) -> bytes:
    """One WebSocket frame (RFC 6455, 5.2), written here so that the reader is not tested with itself."""
    length = len(text)
    head = bytes([(0x80 if final else 0) | (0x40 if compressed else 0) | opcode])
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 65536:
        head += bytes([mask_bit | 126]) + length.to_bytes(2, "big")
    else:
        head += bytes([mask_bit | 127]) + length.to_bytes(8, "big")
    if not masked:
        return head + text
    key = b"\x37\xfa\x21\x3d"
    return head + key + bytes(byte ^ key[place % 4] for place, byte in enumerate(text))


def child(reading: Reading) -> dict[str, Any]:
    found = recorded(reading)
    return found | {"parts": parts(reading.parts)} if reading.parts else found


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("exchange", SOCKETS, ids=named)
def test_a_connection_gives_a_record_for_each_response(exchange: Exchange, compressed: bool) -> None:
    for size in (1 << 20, 11, 1):
        call = call_of(exchange)
        assert call.endpoint.template == exchange.record["endpoint"]
        assert call.endpoint.websocket
        tap = WsTap(call, "permessage-deflate; client_no_context_takeover" if compressed else "")
        server = zlib.compressobj(wbits=-15)
        children = []
        for message in exchange.messages:
            text = message.text
            if compressed:
                packer = zlib.compressobj(wbits=-15) if message.from_client else server
                text = (packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
            half = len(text) // 2
            data = (
                frame(text[:half], masked=message.from_client, final=False, compressed=compressed)
                + frame(b"ping", masked=message.from_client, opcode=9)
                + frame(text[half:], masked=message.from_client, opcode=0)
            )
            for at in range(0, len(data), size):
                children += tap.feed(data[at : at + size], message.from_client)
        own = tap.finish(True)
        assert not tap.failed
        told = [{**each} for each in exchange.children]
        for each in told:
            each.pop("usage_source", None)  # the pass says it
        assert [child(reading) for reading in children] == told
        assert recorded(own) == expected(exchange)
        assert tap.meter.unfinished() == ()
        assert own.estimated == (exchange.record["usage_source"] == "estimated")


@pytest.mark.parametrize(
    ("kind", "status"),
    [(b"application/json", 200), (b"text/event-stream", 200), (b"", 200), (b"application/json", 404)],
)
def test_what_somebody_stored_is_no_answer_to_be_read(kind: bytes, status: int) -> None:
    call = read_call(method="GET", target=b"/v1/files/file-1/content", header={}.get, body=None, body_bytes=0)
    stored = {"id": "file-2", "object": "upload", "model": "gpt-5", "file": {"id": "file-3"}}
    meter = open_meter(call, kind_of(kind, b""), status=status)
    meter.feed(json.dumps(stored if status == 200 else {"error": {"message": "No such file"}}).encode())
    reading = meter.finish(True)
    assert (reading.object_id, reading.model, reading.usage, reading.complete) == (None, None, None, True)
    assert reading.error_message == (None if status == 200 else "No such file")
