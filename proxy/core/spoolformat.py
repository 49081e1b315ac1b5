"""The spool's lines: `crc32 kind json` and a newline. Cut or damaged anywhere, what is whole is read and nothing is invented.

    1c291ca3 R {"id":"0190…","started_at_us":1760000000000000,…}

The checksum covers kind and JSON. `O` opens an exchange, `R` is a record. Payloads are JSON objects whose names are the
columns of the store's `store_records`, nothing where nothing was said; they reach Postgres as they are, so a line
written by an older version is read by a newer one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from itertools import compress
from operator import attrgetter
from typing import Any, Final

import orjson

from proxy.core.openline import OpenLine
from proxy.core.record import UsageRecord
from proxy.core.usage import Usage

OPEN: Final = b"O"
RECORD: Final = b"R"
LINE_MAX_BYTES = 64 * 1024
STRING_CUT_CHARS = 1_000
"""Strings of a payload that would exceed LINE_MAX_BYTES are cut to this."""
BIGINT_MAX = 2**63 - 1
_HEAD_BYTES = 11  # "1c291ca3 R "
_OPEN_FIELDS: Final = tuple(
    field.name for field in fields_of(OpenLine) if field.name not in {"model", "cost_nanousd", "charges"}
)
_RECORD_FIELDS: Final = tuple(
    field.name
    for field in fields_of(UsageRecord)
    if field.name not in {"usage", "cost_nanousd", "ttfb_ms", "charges"}
)
_USAGE_FIELDS: Final = tuple(field.name for field in fields_of(Usage) if field.name != "units")
_ALL_FIELDS: Final = _RECORD_FIELDS + _USAGE_FIELDS
_open_values: Final = attrgetter(*_OPEN_FIELDS)
_record_values: Final = attrgetter(*_RECORD_FIELDS)
_usage_values: Final = attrgetter(*_USAGE_FIELDS)
_charge_values: Final = attrgetter("quota_id", "window_start", "scope_id", "amount", "share_id", "held")


def encode_line(kind: bytes, payload: bytes) -> bytes:
    """One line. `payload` is JSON on one line."""
    body = kind + b" " + payload
    return b"%08x %b\n" % (zlib.crc32(body), body)


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
        body = data[start + 9 : newline]
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
    """The payload of an open line. Hot path."""
    values = _open_values(line)
    fields = dict(compress(zip(_OPEN_FIELDS, values, strict=True), values))
    if line.model is not None:
        fields["requested_model"] = line.model
    if line.cost_nanousd is not None:
        fields["cost_nanousd"] = line.cost_nanousd
    if line.charges:
        fields["charges"] = list(map(_charge_values, line.charges))
    return _dump(fields)


def encode_record(record: UsageRecord) -> bytes:
    """The payload of a record. Hot path: what is not said, nothing or zero is left out, which the store reads as such."""
    usage = record.usage
    values = _record_values(record) + _usage_values(usage)
    fields = dict(compress(zip(_ALL_FIELDS, values, strict=True), values))
    if record.cost_nanousd is not None:
        fields["cost_nanousd"] = record.cost_nanousd  # zero is a price, nothing is an unknown one
    if record.ttfb_ms is not None:
        fields["ttfb_ms"] = record.ttfb_ms
    if usage.units:
        fields["units"] = dict(usage.units)
    if record.charges:
        fields["charges"] = list(map(_charge_values, record.charges))
    return _dump(fields)


def lost_record(opened: bytes) -> bytes:
    """The record's payload of an exchange whose process died: its open line's payload, with the reservation as its use."""
    fields: dict[str, Any] = orjson.loads(opened)
    tokens = fields.get("input_tokens", 0) + fields.get("output_tokens", 0)
    if tokens:
        fields["total_tokens"] = tokens
    estimated = tokens > 0 or bool(fields.get("cost_nanousd"))
    return orjson.dumps(
        fields
        | {
            "status": 0,
            "outcome": "lost",
            "usage_source": "estimated" if estimated else "none",
            "duration_ms": 0,
        }
    )


def payload_id(payload: bytes) -> str:
    """The id of an open line or record."""
    return str(orjson.loads(payload)["id"])


def _dump(fields: dict[str, Any]) -> bytes:
    """JSON that Postgres takes: no NUL, no half surrogate, no number beyond bigint, no line beyond its limit."""
    try:
        payload = orjson.dumps(fields)
    except TypeError:
        return orjson.dumps(_clean(fields, None))
    if b"\\u0000" in payload:
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
