"""The spool's lines: `crc32 kind json` and a newline. Cut or damaged anywhere, what is whole is read and nothing is invented.

    1c291ca3 R ["0190…",null,1760000000000000,…]

The checksum covers kind and JSON. `O` opens an exchange, `R` is a record. Their JSON is the values of OPEN_FIELDS or
RECORD_FIELDS in that order, and records reach Postgres as they are. Fields are only ever added at the end, so that a line
written by another version is read rightly: what it does not have is null, what it has more is not looked at.
"""

from __future__ import annotations

import zlib
from binascii import hexlify
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from proxy.core.claims import encode_ownership
from proxy.core.openline import OpenLine
from proxy.core.quota import Charge, ChargeFields
from proxy.core.record import UsageRecord

OPEN: Final = b"O"
RECORD: Final = b"R"
LINE_MAX_BYTES: Final = 64 * 1024
STRING_CUT_CHARS: Final = 1_000
"""Strings of a payload that would exceed LINE_MAX_BYTES are cut to this."""
BIGINT_MAX: Final = 2**63 - 1


# What is imported is looked up by name for each line, even where this is compiled.
_crc32: Final = zlib.crc32
_hexlify: Final = hexlify
_dumps: Final = orjson.dumps
_BEGUN: Final = {kind: zlib.crc32(kind + b" ") for kind in (OPEN, RECORD)}
"""The checksum of what stands before the JSON."""
_HEAD_BYTES: Final = 11  # "1c291ca3 R "
OPEN_FIELDS: Final = OpenLine._fields
RECORD_FIELDS: Final = (
    *("id", "parent_id", "started_at_us", "key_id", "user_id", "group_id", "provider", "endpoint", "method"),
    *("requested_model", "served_model", "operation", "tags", "end_user", "streamed", "status", "outcome"),
    *(
        "error_type",
        "error_code",
        "error_message",
        "finish_reason",
        "service_tier",
        "usage_source",
        "cost_nanousd",
    ),
    *(
        "price_id",
        "object_id",
        "upstream_request_id",
        "client_request_id",
        "ttfb_ms",
        "duration_ms",
        "bytes_in",
    ),
    *(
        "bytes_out",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cached_input_tokens",
        "cache_write_tokens",
    ),
    *("cache_write_12h_tokens", "input_audio_tokens", "cached_audio_tokens", "input_image_tokens"),
    *(
        "cached_image_tokens",
        "reasoning_tokens",
        "output_audio_tokens",
        "output_image_tokens",
        "units",
        "charges",
    ),
    *("part", "ownership", "cache_saved_nanousd"),
)
"""As the store's `store_records` counts them. `units` is an object, a charge [quota_id, window_start, scope_id, amount,
share_id, held]; `ownership`, told by claims.py, is taken off before a record is stored, and most have none."""


def encode_line(kind: bytes, payload: bytes) -> bytes:
    """One line. `payload` is JSON on one line. Hot path."""
    checksum = _crc32(payload, _BEGUN[kind])
    # As %08x, in a fourth of the time.
    return b"%b %b %b\n" % (_hexlify(checksum.to_bytes(4, "big")), kind, payload)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a piece of a segment holds."""

    lines: list[tuple[bytes, bytes]]
    """(kind, payload) of every whole line, in order."""
    end: int
    """Offset behind the last line read; after the last newline there is a torn tail, or nothing yet."""
    damaged: int
    """Lines that are not what was written."""


def scan(data: bytes, records_max: int | None = None) -> Scan:
    """Read whole lines, up to `records_max` records. A damaged line is skipped; the next newline begins a line again."""
    lines: list[tuple[bytes, bytes]] = []
    start = damaged = records = 0
    while records != records_max and (newline := data.find(b"\n", start)) >= 0:
        # Compiled, a slice of bytes must not end before it begins (docs/adr/0012).
        body = data[start + 9 : newline] if newline > start + 9 else b""
        # the digits are compared, not read, so that a line has exactly one way to be right
        if (
            data[start + 8 : start + 9] == b" "
            and body[1:2] == b" "
            and data[start : start + 8] == b"%08x" % zlib.crc32(body)
        ):
            kind = body[:1]
            lines.append((kind, body[2:]))
            records += kind == RECORD
        else:
            damaged += 1
        start = newline + 1
    return Scan(lines, start, damaged)


def encode_open(line: OpenLine) -> bytes:
    """The payload of an open line: OPEN_FIELDS. Hot path."""
    return _dump(line[:])


def encode_record(record: UsageRecord) -> bytes:
    """The payload of a record: RECORD_FIELDS. Hot path.

    A list, because a tuple longer than 30 is made by way of one; and no attrgetter, which takes ten times as long.
    """
    usage = record.usage
    fields: list[Any] = [
        record.id, record.parent_id, record.started_at_us, record.key_id, record.user_id, record.group_id,
        record.provider, record.endpoint, record.method, record.requested_model, record.served_model,
        record.operation, record.tags, record.end_user, record.streamed, record.status, record.outcome,
        record.error_type, record.error_code, record.error_message, record.finish_reason, record.service_tier,
        record.usage_source, record.cost_nanousd,
        record.price_id, record.object_id, record.upstream_request_id, record.client_request_id, record.ttfb_ms,
        record.duration_ms, record.bytes_in, record.bytes_out,
        usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.cached_input_tokens,
        usage.cache_write_tokens, usage.cache_write_12h_tokens, usage.input_audio_tokens, usage.cached_audio_tokens,
        usage.input_image_tokens, usage.cached_image_tokens, usage.reasoning_tokens, usage.output_audio_tokens,
        usage.output_image_tokens, dict(usage.units) if usage.units else None, _charges(record.charges),
    ]  # fmt: skip
    if record.ownership is not None or record.cache_saved_nanousd:
        fields += (record.part, _ownership(record))
        if record.cache_saved_nanousd:
            fields.append(record.cache_saved_nanousd)
    elif record.part is not None:
        fields.append(record.part)
    return _dump(fields)


def _ownership(record: UsageRecord) -> dict[str, Any] | None:
    return None if record.ownership is None else encode_ownership(record.ownership, record.charges)


def _charges(charges: tuple[Charge, ...]) -> list[ChargeFields] | None:
    if not charges:
        return None
    return [charge[:6] for charge in charges]


def decode_record(payload: bytes) -> dict[str, Any]:
    """The fields of a record's payload by their names, those it does not have left out."""
    return dict(zip(RECORD_FIELDS, orjson.loads(payload), strict=False))


def lost_record(opened: bytes) -> bytes:
    """The record's payload of an exchange whose process died: its open line's payload, with the reservation as its use."""
    fields = dict(zip(OPEN_FIELDS, orjson.loads(opened), strict=False))
    tokens = (fields.get("input_tokens") or 0) + (fields.get("output_tokens") or 0)
    estimated = tokens > 0 or bool(fields.get("cost_nanousd"))
    fields |= {
        "outcome": "lost",
        "status": 0,
        "usage_source": "estimated" if estimated else "none",
        "total_tokens": tokens,
        "duration_ms": 0,
    }
    return orjson.dumps([fields.get(name) for name in RECORD_FIELDS])


def payload_id(payload: bytes) -> str:
    """The id of an open line or record."""
    return str(orjson.loads(payload)[0])


def _dump(fields: Sequence[Any]) -> bytes:
    """JSON that Postgres takes: no NUL, no half surrogate, no number beyond bigint, no line beyond its limit."""
    try:
        payload = _dumps(fields)
    except TypeError:
        return orjson.dumps(_clean(fields, None))
    # Most have no backslash at all, which is soon seen. Not `in`: see references.hides_names.
    if payload.find(b"\\") >= 0 and payload.find(b"\\u0000") >= 0:
        payload = orjson.dumps(_clean(fields, None))
    if len(payload) > LINE_MAX_BYTES - _HEAD_BYTES - 1:
        payload = orjson.dumps(_clean(fields, STRING_CUT_CHARS))
    return payload


def _clean(value: Any, cut: int | None) -> Any:
    if isinstance(value, str):
        text = value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        return text if cut is None else text[:cut]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return max(-BIGINT_MAX, min(BIGINT_MAX, value))
    if isinstance(value, Mapping):
        return {_clean(str(name), cut): _clean(item, cut) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, cut) for item in value]
    return _clean(str(value), cut)
