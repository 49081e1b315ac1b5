from __future__ import annotations

import zlib
from dataclasses import fields, replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.openline import OpenLine
from proxy.core.quota import Charge
from proxy.core.record import UsageRecord
from proxy.core.spoolformat import (
    LINE_MAX_BYTES,
    OPEN,
    OPEN_FIELDS,
    RECORD,
    RECORD_FIELDS,
    decode_record,
    encode_line,
    encode_open,
    encode_record,
    lost_record,
    scan,
)
from proxy.core.usage import Usage
from tests.exchanges import NOTHING_MORE

RECORD_ID = "01999c1e-8000-7abc-8def-0123456789ab"
SMALL = UsageRecord(
    id=RECORD_ID,
    started_at_us=1_760_000_000_000_000,
    key_id="key_a",
    user_id="user_a",
    provider="openai",
    endpoint="/v1/chat/completions",
    method="POST",
    status=200,
    outcome="success",
)
OPENED = OpenLine(
    id=RECORD_ID,
    started_at_us=1_760_000_000_000_000,
    key_id="key_a",
    user_id="user_a",
    provider="openai",
    endpoint="/v1/chat/completions",
    method="POST",
    requested_model="gpt-5",
    input_tokens=100,
    output_tokens=4096,
    cost_nanousd=7,
    **NOTHING_MORE | {"charges": (("q", 1_760_000_000, "user_a", 4196, 5, 4196),)},
)
PAYLOADS = st.lists(
    st.tuples(
        st.sampled_from([OPEN, RECORD]),
        st.dictionaries(st.text(), st.text() | st.integers(0, 9)).map(orjson.dumps),
    ),
    max_size=6,
)


def test_a_line_is_checksum_kind_and_json() -> None:
    crc = zlib.crc32(b'R {"id":1}')
    assert encode_line(RECORD, b'{"id":1}') == b'%08x R {"id":1}\n' % crc


def test_the_order_of_the_fields_is_for_ever() -> None:
    # lines of an older version lie in spools: names may be added at the end, and nothing else may change
    assert RECORD_FIELDS[:47] == (
        "id",
        "parent_id",
        "started_at_us",
        "key_id",
        "user_id",
        "group_id",
        "provider",
        "endpoint",
        "method",
        "requested_model",
        "served_model",
        "operation",
        "tags",
        "end_user",
        "streamed",
        "status",
        "outcome",
        "error_type",
        "error_code",
        "error_message",
        "finish_reason",
        "service_tier",
        "usage_source",
        "cost_nanousd",
        "price_id",
        "object_id",
        "upstream_request_id",
        "client_request_id",
        "ttfb_ms",
        "duration_ms",
        "bytes_in",
        "bytes_out",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
        "cache_write_12h_tokens",
        "input_audio_tokens",
        "cached_audio_tokens",
        "input_image_tokens",
        "cached_image_tokens",
        "reasoning_tokens",
        "output_audio_tokens",
        "output_image_tokens",
        "units",
        "charges",
    )
    assert OPEN_FIELDS[:17] == (
        "id",
        "started_at_us",
        "key_id",
        "user_id",
        "group_id",
        "provider",
        "endpoint",
        "method",
        "requested_model",
        "operation",
        "tags",
        "end_user",
        "streamed",
        "input_tokens",
        "output_tokens",
        "cost_nanousd",
        "charges",
    )


def test_every_field_of_a_record_is_written() -> None:
    recorded = {field.name for field in fields(UsageRecord)} - {"usage"} | {
        field.name for field in fields(Usage)
    }
    assert set(RECORD_FIELDS) == recorded


def test_each_value_stands_under_its_name() -> None:
    values = {field.name: number for number, field in enumerate(fields(Usage), 1) if field.name != "units"}
    usage = Usage(**values, units=(("web_searches", 2),))
    full = replace(
        SMALL,
        parent_id=RECORD_ID,
        group_id="group_g",
        requested_model="gpt-5",
        served_model="gpt-5-2025-08-07",
        operation="rag",
        tags={"session": "abc"},
        end_user="42",
        streamed=True,
        error_type="t",
        error_code="c",
        error_message="m",
        finish_reason="stop",
        service_tier="default",
        usage=usage,
        usage_source="reported",
        cost_nanousd=5,
        price_id="p",
        object_id="resp_1",
        upstream_request_id="req_1",
        client_request_id="mine",
        ttfb_ms=3,
        duration_ms=4,
        bytes_in=5,
        bytes_out=6,
        charges=(Charge("q", 1_760_000_000, "user_a", 9, 5, 8),),
        part="container",
        cache_saved_nanousd=7,
    )
    payload = decode_record(encode_record(full))
    assert payload.pop("units") == {"web_searches": 2}
    assert payload.pop("charges") == [["q", 1_760_000_000, "user_a", 9, 5, 8]]
    expected = {field.name: getattr(full, field.name) for field in fields(UsageRecord)}
    del expected["usage"], expected["charges"]
    assert payload == expected | values


def test_a_line_of_an_older_version_has_fewer_fields() -> None:
    short = orjson.dumps(orjson.loads(encode_record(SMALL))[:30])
    assert decode_record(short)["duration_ms"] == 0
    assert "bytes_in" not in decode_record(short)


def test_an_exchange_that_died_becomes_a_record_of_what_it_had_reserved() -> None:
    lost = decode_record(lost_record(encode_open(OPENED)))
    assert {name: value for name, value in lost.items() if value is not None} == {
        "id": RECORD_ID,
        "started_at_us": 1_760_000_000_000_000,
        "key_id": "key_a",
        "user_id": "user_a",
        "provider": "openai",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "requested_model": "gpt-5",
        "tags": {},
        "streamed": False,
        "input_tokens": 100,
        "output_tokens": 4096,
        "total_tokens": 4196,
        "cost_nanousd": 7,
        "charges": [["q", 1_760_000_000, "user_a", 4196, 5, 4196]],
        "status": 0,
        "outcome": "lost",
        "usage_source": "estimated",
        "duration_ms": 0,
    }


def test_an_exchange_that_had_reserved_nothing_is_lost_without_usage() -> None:
    opened = OPENED._replace(input_tokens=0, output_tokens=0, cost_nanousd=0, charges=None)
    lost = decode_record(lost_record(encode_open(opened)))
    assert lost["usage_source"] == "none"
    assert lost["total_tokens"] == 0


def test_an_unknown_cost_stays_unknown_when_an_exchange_is_lost() -> None:
    lost = decode_record(lost_record(encode_open(OPENED._replace(cost_nanousd=None))))
    assert lost["cost_nanousd"] is None
    assert lost["usage_source"] == "estimated"


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [("a\0b", "a\ufffdb"), ("half \ud800 pair", "half ? pair"), ("\\u0000 is text", "\\u0000 is text")],
)
def test_text_that_postgres_would_not_take_is_mended(given_text: str, kept: str) -> None:
    payload = encode_record(replace(SMALL, error_message=given_text, tags={given_text: "x"}))
    assert decode_record(payload)["error_message"] == kept
    assert decode_record(payload)["tags"] == {kept: "x"}


def test_a_number_beyond_bigint_is_cut_to_it() -> None:
    payload = encode_record(replace(SMALL, usage=Usage(input_tokens=10**30)))
    assert decode_record(payload)["input_tokens"] == 2**63 - 1


def test_a_line_never_exceeds_its_bound() -> None:
    line = encode_line(RECORD, encode_record(replace(SMALL, requested_model="m" * 10**6)))
    assert len(line) <= LINE_MAX_BYTES
    assert decode_record(scan(line).lines[0][1])["requested_model"] == "m" * 1000


@given(PAYLOADS, st.data())
def test_cut_anywhere_what_is_whole_is_read_and_nothing_is_invented(
    payloads: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    lines = [encode_line(kind, payload) for kind, payload in payloads]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(map(len, lines[: n + 1])) for n in range(len(lines))]
    found = scan(whole[:cut])
    assert found.lines == payloads[: sum(end <= cut for end in ends)]
    assert found.damaged == 0
    assert found.end == max([end for end in ends if end <= cut], default=0)


@given(PAYLOADS.filter(bool), st.data())
def test_a_damaged_byte_costs_its_line_at_most_and_nothing_is_invented(
    payloads: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    lines = [encode_line(kind, payload) for kind, payload in payloads]
    whole = bytearray(b"".join(lines))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    hit = next(n for n in range(len(lines)) if place < sum(map(len, lines[: n + 1])))
    others = payloads[:hit] + payloads[hit + 1 :]
    found = scan(bytes(whole)).lines
    # a newline that became something else joins two lines into one that is neither
    joined = payloads[:hit] + payloads[hit + 2 :]
    assert found in (others, joined)


@given(st.binary(max_size=300))
def test_no_bytes_make_a_scan_raise(data: bytes) -> None:
    assert scan(data).lines == []


def test_a_hole_of_zeros_costs_no_line_outside_it() -> None:
    line = encode_line(RECORD, encode_record(SMALL))
    found = scan(line + bytes(4096) + b"\n" + line)
    assert [kind for kind, _ in found.lines] == [RECORD, RECORD]
    assert found.damaged == 1


def test_a_scan_stops_behind_the_last_record_it_was_asked_for() -> None:
    line = encode_line(RECORD, b"{}")
    opening = encode_line(OPEN, b"{}")
    found = scan(opening + line + opening + line, records_max=1)
    assert [kind for kind, _ in found.lines] == [OPEN, RECORD]
    assert found.end == len(opening + line)
