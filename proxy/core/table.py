"""Tables as text: CSV by RFC 4180 that no spreadsheet takes for a formula, and JSON lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_QUOTED = frozenset('",\r\n')


def csv_row(values: Iterable[Any]) -> str:
    """One record with its CRLF. None is an empty field, True `true`; text that could be a formula gets a leading `'`."""
    return ",".join(map(csv_field, values)) + "\r\n"


def csv_field(value: Any) -> str:
    """One field. Numbers stay numbers, negative ones too: only text is guarded. Objects and lists are JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    text = orjson.dumps(value).decode() if isinstance(value, dict | list) else str(value)
    if text.startswith(_FORMULA):
        text = "'" + text
    if _QUOTED.isdisjoint(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def json_line(names: Sequence[str], values: Iterable[Any]) -> bytes:
    """One JSON object and its newline."""
    return orjson.dumps(dict(zip(names, values, strict=True)), option=orjson.OPT_APPEND_NEWLINE)
