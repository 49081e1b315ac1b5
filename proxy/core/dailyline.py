"""One line of the daily JSONL log: a record under the names that older tools read, followed by its own fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from proxy.core.spoolformat import decode_record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEFT_OUT = frozenset({"charges", "ownership"})
_ZERO_SAYS_SOMETHING = frozenset({"cost_nanousd", "ttfb_ms", "status", "duration_ms"})


def daily_line(payload: bytes) -> tuple[str, str, bytes]:
    """(day as YYYY-MM-DD, record id, line with its newline) of a record's spool payload. The day is UTC's.

    `cost_estimate` is US dollars, null when the price is unknown; `response_time` is seconds.
    """
    record = decode_record(payload)
    started = _EPOCH + timedelta(microseconds=record["started_at_us"])
    cost = record.get("cost_nanousd")
    line = {
        "timestamp": started.isoformat(timespec="microseconds"),
        "user_id": record["user_id"],
        "operation_type": record.get("operation"),
        "model_name": record.get("served_model") or record.get("requested_model"),
        "prompt_tokens": record.get("input_tokens") or 0,
        "completion_tokens": record.get("output_tokens") or 0,
        "total_tokens": record.get("total_tokens") or 0,
        "cost_estimate": None if cost is None else cost / 1e9,
        "response_time": (record.get("duration_ms") or 0) / 1000,
        "success": record["outcome"] == "success",
        "error_message": record.get("error_message"),
    }
    line |= {name: value for name, value in record.items() if name not in line and _is_said(name, value)}
    return started.date().isoformat(), record["id"], orjson.dumps(line) + b"\n"


def _is_said(name: str, value: Any) -> bool:
    return name not in _LEFT_OUT and (bool(value) or (value is not None and name in _ZERO_SAYS_SOMETHING))
