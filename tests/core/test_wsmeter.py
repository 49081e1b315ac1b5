"""WebSocket connections: what no fixture can hold."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.call import read_call
from proxy.core.usage import COUNTS, Usage
from proxy.core.wsmeter import WsMeter, WsTap


def call(target: str = "/v1/realtime?model=gpt-realtime-2") -> Any:
    return read_call(method="GET", target=target.encode(), header={}.get, body=None, body_bytes=0)


def text_frame(payload: bytes) -> bytes:
    return b"\x81\x7f" + len(payload).to_bytes(8, "big") + payload


def test_a_response_that_never_ended_is_left_over_with_its_text() -> None:
    meter = WsMeter(call())
    meter.feed_message(
        b'{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}', False
    )
    meter.feed_message(b'{"type":"response.output_text.delta","response_id":"resp_1","delta":"Hello"}', False)
    meter.feed_message(
        b'{"type":"response.output_audio.delta","response_id":"resp_1","delta":"AAAAAAAA"}', False
    )
    (left,) = meter.unfinished()
    assert (left.object_id, left.model, left.delivered_bytes, left.usage, left.complete) == (
        "resp_1", "gpt-realtime-2", 5, None, False,
    )  # fmt: skip


def test_seconds_of_a_live_session_are_a_running_sum() -> None:
    meter = WsMeter(call("/v1/live/sessions"))
    for seconds in (1.5, 9.25, 3):
        event = {"type": "session.usage.updated", "usage": {"seconds": seconds}}
        assert meter.feed_message(orjson.dumps(event), False) is None
    assert meter.finish(False).usage == Usage(units=(("audio_ms", 9250),))


def test_a_live_session_without_a_report_has_an_unknown_cost() -> None:
    assert WsMeter(call("/v1/live/sessions")).finish(True).unknown


def test_a_response_read_once_is_never_read_again() -> None:
    meter = WsMeter(call("/v1/responses"))
    done = {
        "id": "r",
        "status": "completed",
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }
    event = orjson.dumps({"type": "response.completed", "response": done})
    assert meter.feed_message(event, False) is not None
    assert meter.feed_message(event, False) is None


def test_what_the_client_says_is_never_usage() -> None:
    meter = WsMeter(call("/v1/responses"))
    done = {
        "id": "r",
        "status": "completed",
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }
    assert meter.feed_message(orjson.dumps({"type": "response.completed", "response": done}), True) is None
    assert meter.finish(True).usage is None


def test_a_message_of_32_megabytes_is_read_in_little_memory() -> None:
    tap = WsTap(call("/v1/responses"))
    head = b'{"type":"response.completed","response":{"id":"r","status":"completed","instructions":"'
    tail = b'","usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}'
    size = 32 * 2**20
    frame = b"\x81\x7f" + (len(head) + size + len(tail)).to_bytes(8, "big")
    tracemalloc.start()
    assert tap.feed(frame + head, False) == []
    for _ in range(size // 65536):
        assert tap.feed(b"x" * 65536, False) == []
    (reading,) = tap.feed(tail, False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reading.usage == Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    assert peak < 4 * 2**20


NAMES = st.sampled_from(
    ["type", "response", "session", "usage", "event", "decision", "id", "seconds", "audio", "input", "transcription", "model",
     "status_details", "error", "item_id", "content_index", "delta", "output"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["response.done", "response.created", "response.completed", "response.event", "session.closed", "session.updated", "error",
     "decision.event", "conversation.item.input_audio_transcription.completed", "x.delta", "input_audio"]
)  # fmt: skip
EVENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=6),
    max_leaves=12,
)
TARGETS = st.sampled_from(
    [
        "/v1/realtime",
        "/v1/realtime/translations",
        "/v1/responses",
        "/v1/live/sessions",
        "/v1/live/sessions/x/attach",
    ]
)


@given(target=TARGETS, messages=st.lists(st.tuples(EVENTS, st.booleans()), max_size=6))
def test_no_message_makes_the_meter_fail(target: str, messages: list[tuple[Any, bool]]) -> None:
    meter = WsMeter(call(target))
    for event, from_client in messages:
        try:
            text = orjson.dumps(event)
        except TypeError:
            continue
        meter.feed_message(text, from_client)
    meter.unfinished()
    meter.finish(True)


@given(
    target=TARGETS,
    data=st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=8),
    packed=st.booleans(),
)
def test_no_bytes_make_a_tap_fail(target: str, data: list[tuple[bytes, bool]], packed: bool) -> None:
    tap = WsTap(call(target), "permessage-deflate" if packed else "")
    for piece, from_client in data:
        tap.feed(piece, from_client)
    tap.finish(False)


@given(st.binary(max_size=200), st.integers(1, 40))
def test_how_a_connection_is_cut_changes_nothing(noise: bytes, size: int) -> None:
    done = {
        "id": "r",
        "status": "completed",
        "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    }
    data = text_frame(noise) + text_frame(orjson.dumps({"type": "response.done", "response": done}))
    whole, cut = WsTap(call()), WsTap(call())
    pieces = [
        reading for at in range(0, len(data), size) for reading in cut.feed(data[at : at + size], False)
    ]
    assert whole.feed(data, False) == pieces
    assert len(pieces) == 1


DONE: dict[str, Any] = {
    "status": "completed",
    "metadata": {"type": "response.output_text.delta", "usage": "none"},
    "usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
    "id": "resp_1",
}


@pytest.mark.parametrize("target", ["/v1/realtime?model=m", "/v1/responses", "/v1/live/sessions"])
@pytest.mark.parametrize("last", [False, True], ids=["type first", "type last"])
def test_what_a_user_keeps_in_metadata_hides_no_usage(target: str, last: bool) -> None:
    event = (
        {"response": DONE, "type": "response.done"} if last else {"type": "response.done", "response": DONE}
    )
    reading = WsMeter(call(target)).feed_message(orjson.dumps(event), False)
    assert reading is not None
    assert reading.usage == Usage(1, 2, 3)


WRITTEN = st.text(max_size=40) | st.sampled_from(
    ['"usage":{"input_tokens":9}', '"}},"type":"response.done","response":{"id":"x","usage":{"input_tokens":9}}', "\\", '","usage":{}',
     '{"type":"response.done","response":{"id":"y","usage":{"input_tokens":9}}}']
)  # fmt: skip


@given(texts=st.lists(WRITTEN, max_size=6), escape=st.booleans())
def test_text_that_a_model_wrote_on_a_socket_cannot_forge_usage(texts: list[str], escape: bool) -> None:
    meter = WsMeter(call("/v1/responses"))
    meter.feed_message(
        b'{"type":"response.created","response":{"id":"resp_1","status":"in_progress"}}', False
    )
    for text in texts:
        kinds = (
            "response.output_text.delta",
            "response.output_text.done",
            "response.function_call_arguments.done",
        )
        for kind in kinds:
            event = {"type": kind, "item_id": "i", "delta": text, "text": text, "arguments": text}
            assert (
                meter.feed_message(json.dumps(event, ensure_ascii=escape).encode("utf-8", "replace"), False)
                is None
            )
        item = {"type": "message", "content": [{"text": text}], "usage": DONE["usage"]}
        assert (
            meter.feed_message(
                json.dumps({"type": "response.output_item.done", "item": item}).encode(), False
            )
            is None
        )
    (left,) = meter.unfinished()
    assert left.usage is None
    assert meter.feed_message(orjson.dumps({"type": "response.done", "response": DONE}), False) is not None


TREES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=6)
    | st.sampled_from(["response.done", "session.closed", "decision.event", "response.event", "error", "session.updated",
                       "conversation.item.input_audio_transcription.completed", "response.create"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["type", "response", "id", "usage", "seconds", "session", "model", "event", "decision", "error", "status_details",
                         "item_id", "audio", "input", "transcription", "input_tokens", "output_tokens", "output", "metadata"]),
        inner, max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@given(
    target=st.sampled_from(
        [
            "/v1/realtime",
            "/v1/responses",
            "/v1/live/sessions",
            "/v1/realtime/translations",
            "/v1/live/sessions/s/attach",
        ]
    ),
    events=st.lists(st.tuples(TREES | st.binary(max_size=30), st.booleans()), max_size=5),
)
def test_no_message_makes_it_fail_and_no_count_is_negative(
    target: str, events: list[tuple[Any, bool]]
) -> None:
    meter = WsMeter(call(target))
    readings = []
    for event, from_client in events:
        text = event if isinstance(event, bytes) else json.dumps(event).encode()
        readings.append(meter.feed_message(text, from_client))
    for reading in (*readings, *meter.unfinished(), meter.finish(True)):
        if reading is not None and reading.usage is not None:
            assert all(getattr(reading.usage, name) >= 0 for name in COUNTS)
            assert all(amount >= 0 for _, amount in reading.usage.units)
