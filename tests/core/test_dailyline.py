from __future__ import annotations

import orjson

from proxy.core.dailyline import daily_line
from proxy.core.quota import Charge
from proxy.core.spoolformat import encode_record
from tests.exchanges import exchange_id, make_record


def test_a_line_has_the_names_that_older_tools_read_and_the_records_own() -> None:
    record = make_record(
        1, operation="rag", error_message=None, tags={"grade": "9"}, charges=(Charge("q", 0, "u", 1),)
    )
    day, record_id, line = daily_line(encode_record(record))
    assert (day, record_id) == ("2025-10-09", exchange_id(1))
    assert line.endswith(b"}\n")
    assert orjson.loads(line) == {
        "timestamp": "2025-10-09T08:53:20.000001+00:00",
        "user_id": "user_a",
        "operation_type": "rag",
        "model_name": "gpt-5-2025-08-07",
        "prompt_tokens": 90,
        "completion_tokens": 10,
        "total_tokens": 100,
        "cost_estimate": 5e-07,
        "response_time": 0.1,
        "success": True,
        "error_message": None,
        "id": exchange_id(1),
        "started_at_us": 1_760_000_000_000_001,
        "key_id": "key_a",
        "provider": "openai",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "requested_model": "gpt-5",
        "served_model": "gpt-5-2025-08-07",
        "operation": "rag",
        "tags": {"grade": "9"},
        "status": 200,
        "outcome": "success",
        "finish_reason": "stop",
        "usage_source": "reported",
        "input_tokens": 90,
        "output_tokens": 10,
        "cost_nanousd": 500,
        "ttfb_ms": 40,
        "duration_ms": 100,
    }


def test_an_unknown_cost_is_null_and_a_failure_no_success() -> None:
    _, _, line = daily_line(encode_record(make_record(1, cost_nanousd=None, outcome="upstream_error")))
    found = orjson.loads(line)
    assert found["cost_estimate"] is None
    assert found["success"] is False


def test_the_day_is_that_of_the_start_in_utc() -> None:
    before_midnight = 1_760_054_399_999_999  # 2025-10-09 23:59:59.999999
    assert daily_line(encode_record(make_record(1, started_at_us=before_midnight)))[0] == "2025-10-09"
    assert daily_line(encode_record(make_record(1, started_at_us=before_midnight + 1)))[0] == "2025-10-10"
