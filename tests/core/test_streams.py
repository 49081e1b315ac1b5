"""Event streams: sizes, cuts and forgeries that no fixture can hold."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.core.call import read_call
from proxy.core.endpoints import routes
from proxy.core.meter import kind_of, open_meter
from proxy.core.streams import Meter, string_end
from proxy.core.usage import COUNTS, Reading, Usage

SSE = "text/event-stream"


def meter(
    path: str = "/v1/chat/completions",
    kind: str = SSE,
    coding: str = "",
    *,
    body: bytes = b"{}",
    **options: Any,
) -> Meter:
    call = read_call(method="POST", target=path.encode(), header={}.get, body=body, body_bytes=len(body))
    return open_meter(call, kind_of(kind.encode(), coding.encode()), status=200, **options)


def event(data: Any, name: str = "") -> bytes:
    return (f"event: {name}\n" if name else "").encode() + b"data: " + orjson.dumps(data) + b"\n\n"


def typed(kind: str, **more: Any) -> bytes:
    return event({"type": kind, **more}, kind)


def fed(made: Meter, data: bytes, size: int = 65536, *, complete: bool = True) -> Reading:
    for at in range(0, len(data), size):
        made.feed(data[at : at + size])
    return made.finish(complete)


USAGE = {"input_tokens": 11, "output_tokens": 22, "total_tokens": 33}
READ = Usage(input_tokens=11, output_tokens=22, total_tokens=33)


def completed(**more: Any) -> dict[str, Any]:
    return {"id": "resp_1", "status": "completed", "model": "m", "output": [], "usage": USAGE, **more}


def test_a_completed_line_of_64_megabytes_is_read_in_little_memory() -> None:
    head = b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1","status":"completed","output":['
    item = (
        b'{"type":"message","content":[{"type":"output_text","text":"'
        + b'x\\n\\"usage\\":{} ' * 4000
        + b'"}]},'
    )
    tail = b'{"type":"file_search_call"}],"usage":' + orjson.dumps(USAGE) + b',"model":"m"}}\n\n'
    made = meter("/v1/responses")
    sent = 0
    tracemalloc.start()
    made.feed(head)
    while sent < 64 * 2**20:
        made.feed(item)
        sent += len(item)
    made.feed(tail)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reading = made.finish(True)
    assert peak < 6 * 2**20
    assert reading.usage == Usage(
        input_tokens=11, output_tokens=22, total_tokens=33, units=(("file_searches", 1),)
    )
    assert (reading.object_id, reading.model, reading.complete) == ("resp_1", "m", True)


def test_an_image_line_of_megabytes_does_not_hide_the_usage_behind_its_picture() -> None:
    picture = "A" * (4 * 2**20)
    data = typed("image_generation.partial_image", b64_json=picture)
    data += typed("image_generation.completed", b64_json=picture, usage=USAGE)
    reading = fed(meter("/v1/images/generations"), data)
    assert reading.usage == Usage(input_tokens=11, output_tokens=22, total_tokens=33, output_image_tokens=22)


def test_an_embeddings_body_of_megabytes_is_read_without_building_it() -> None:
    vector = b'{"object":"embedding","index":0,"embedding":[' + b"-0.012345678," * 1535 + b"1e-05]},"
    body = (
        b'{"object":"list","data":['
        + vector * 500
        + vector[:-1]
        + b'],"model":"e","usage":{"prompt_tokens":7,"total_tokens":7}}'
    )
    assert len(body) > 8 * 2**20
    made = meter("/v1/embeddings", "application/json")
    tracemalloc.start()
    reading = fed(made, body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reading.usage == Usage(input_tokens=7, total_tokens=7)
    assert (reading.model, reading.complete) == ("e", True)
    assert peak < 4 * 2**20


def test_a_body_that_breaks_off_says_nothing() -> None:
    body = orjson.dumps({"model": "m", "usage": {"prompt_tokens": 7, "total_tokens": 7}, "data": []})
    reading = fed(meter("/v1/embeddings", "application/json"), body[:-1], complete=False)
    assert reading == Reading()


TEXT = st.text(max_size=40) | st.sampled_from(
    ['"usage":{"prompt_tokens":1}', '}],"usage":{"total_tokens":9}}\n\n', "data: [DONE]\n\n", '"finish_reason":"stop"', "\\",
     '\n\ndata: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\n', "\r\n\r\n", '"error"',
     "event: response.completed\ndata: {}", '","type":"response.completed","response":{"usage":{"input_tokens":1}}']
)  # fmt: skip
TEXT = TEXT.map(lambda text: text.encode("utf-8", "replace").decode())


@given(
    texts=st.lists(TEXT, max_size=8),
    size=st.integers(1, 300),
    tool=st.booleans(),
    pad=st.booleans(),
    cut=st.integers(1, 40),
)
def test_text_that_a_model_wrote_cannot_forge_usage(
    texts: list[str], size: int, tool: bool, pad: bool, cut: int
) -> None:
    chunks = []
    for text in texts:
        delta = {"tool_calls": [{"index": 0, "function": {"arguments": text}}]} if tool else {"content": text}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        made = {"id": "c", "model": "m", "choices": [choice], "usage": None}
        chunks.append(event(made | ({"obfuscation": "abc"} if pad else {})))
    data = b"".join(chunks)
    reading = fed(meter(), data, size, complete=False)
    assert reading.usage is None
    assert reading.finish_reason is None
    assert not reading.complete
    written = "".join(texts)
    assert reading.delivered_chars == len(written)
    assert reading.delivered_bytes == len(written.encode())
    assert fed(meter(), data[:-cut], size, complete=False).usage is None


@given(texts=st.lists(TEXT, max_size=8), size=st.integers(1, 300), named=st.booleans())
def test_text_of_a_response_cannot_forge_usage(texts: list[str], size: int, named: bool) -> None:
    data = b""
    for number, text in enumerate(texts):
        kind = "response.output_text.delta"
        made = {"type": kind, "item_id": "i", "delta": text, "logprobs": [], "sequence_number": number}
        data += event(made, kind if named else "")
        item = {"type": "message", "content": [{"text": text}], "usage": USAGE}
        data += event(
            {"type": "response.output_item.done", "item": item}, "response.output_item.done" if named else ""
        )
    reading = fed(meter("/v1/responses"), data, size)
    written = "".join(texts)
    assert reading == Reading(delivered_chars=len(written), delivered_bytes=len(written.encode()))
    real = fed(meter("/v1/responses"), data + typed("response.completed", response=completed()), size)
    assert (real.usage, real.complete) == (READ, True)


PATHS = sorted(
    {endpoint.template for method, endpoint in routes() if method == "POST" and endpoint.meter != "none"}
)
PIECES = st.binary(max_size=50) | st.sampled_from(
    [b"data: ", b"\n\n", b"\r", b"\n", b'{"usage":', b'{"prompt_tokens":1}', b"}", b'"choices":[', b"[DONE]", b"event: response.completed",
     b'{"type":"response.completed","response":', b'{"usage":{"input_tokens":-1}}', b'data: {"response":[],"turn":7,"data":{}}\n\n',
     b'data: {"type":"error","error":[1]}\n\n', b'data: {"type":7,"usage":[]}\n\n', b'data: {"choices":[7,{"finish_reason":{}}]}\n\n',
     b'{"output":[7,{"type":[],"container_id":{},"svg_usage":{"seconds":{}},"action":7}],"tools":[7],"tool_usage":{"image_gen":[]}}']
)  # fmt: skip


@given(
    path=st.sampled_from([*PATHS, "/v1/other"]),
    kind=st.sampled_from(
        [SSE, "application/json", "text/plain", "audio/mpeg", "", "\x00", "text/html;charset"]
    ),
    encoding=st.sampled_from(["", "gzip", "br", "zstd", "deflate", "odd", "gzip, br"]),
    status=st.sampled_from([200, 201, 400, 500]),
    pieces=st.lists(PIECES, max_size=12),
    strip=st.booleans(),
)
def test_no_bytes_make_a_meter_fail_and_their_cut_changes_nothing(
    path: str, kind: str, encoding: str, status: int, pieces: list[bytes], strip: bool
) -> None:
    call = read_call(method="POST", target=path.encode(), header={}.get, body=None, body_bytes=0)
    whole, cut = (
        open_meter(call, kind_of(kind.encode(), encoding.encode()), status=status, strip_usage=strip)
        for _ in range(2)
    )
    out = whole.feed_through(b"".join(pieces)) + whole.flush()
    assert b"".join([*map(cut.feed_through, pieces), cut.flush()]) == out
    if not strip:
        assert out == b"".join(pieces)
    assert whole.finish(True) == cut.finish(True)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just(USAGE),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["id", "object", "type", "status", "model", "usage", "response", "turn", "session", "output", "tools", "tool_usage",
             "error", "last_error", "errors", "data", "choices", "per_model_usage", "metadata", "model_grader_token_usage_per_model",
             "trained_tokens", "seconds", "duration", "size", "memory_limit", "svg_usage", "request_counts", "incomplete_details",
             "image_gen", "web_search", "container_id", "action", "container", "agent", "decision", "event"]
        ),
        inner, max_size=5,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=400)
@given(path=st.sampled_from([*PATHS, "/v1/other"]), tree=JSON, status=st.sampled_from([200, 404]))
def test_no_json_makes_a_reader_fail(path: str, tree: Any, status: int) -> None:
    try:
        body = orjson.dumps(tree)
    except TypeError:
        return
    call = read_call(method="POST", target=path.encode(), header={}.get, body=None, body_bytes=0)
    for kind, data in (("application/json", body), (SSE, b"data: " + body + b"\n\n")):
        made = open_meter(call, kind_of(kind.encode(), b""), status=status)
        made.feed(data)
        reading = made.finish(True)
        if reading.usage is not None:
            assert all(getattr(reading.usage, name) >= 0 for name in COUNTS)


@pytest.mark.parametrize("name", ["", "message", "response.completed"])
def test_an_event_is_known_by_the_type_in_its_data_where_its_name_says_nothing(name: str) -> None:
    data = {"sequence_number": 9, "type": "response.completed", "response": completed()}
    reading = fed(meter("/v1/responses"), event(data, name))
    assert (reading.usage, reading.complete) == (READ, True)


def test_parts_of_an_answer_are_not_in_its_total() -> None:
    image = {"input_tokens": 100, "output_tokens": 200, "total_tokens": 300}
    response = completed(tool_usage={"image_gen": image, "web_search": {"num_requests": 0}})
    reading = fed(meter("/v1/responses"), typed("response.completed", response=response))
    assert reading.usage == READ
    assert [(part.kind, part.usage.total_tokens) for part in reading.parts] == [("image_gen", 300)]


@pytest.mark.parametrize(
    ("asked", "echoed", "unit"),
    [
        (None, None, "web_searches"),
        ("web_search", [{"type": "web_search"}], "web_searches"),
        ("web_search_preview", None, "web_search_previews"),
        ("web_search_preview_2025_03_11", [], "web_search_previews"),
        (None, [{"type": "function"}, 7, {"type": "web_search_preview"}], "web_search_previews"),
        ("web_search_preview", [{"type": "web_search_2025_08_26"}], "web_searches"),
    ],
)
def test_a_search_by_the_preview_of_the_tool_has_a_unit_of_its_own(
    asked: str | None, echoed: Any, unit: str
) -> None:
    body = orjson.dumps({"model": "m", "tools": [{"type": asked}] if asked else []})
    response = completed(output=[{"type": "web_search_call", "action": {"type": "search"}}] * 2, tools=echoed)
    made = meter("/v1/responses", body=body)
    usage = fed(made, typed("response.completed", response=response)).usage
    assert usage is not None
    assert usage.units == ((unit, 2),)


@pytest.mark.parametrize(
    ("details", "images"),
    [
        (None, 22),
        ([], 22),
        ({}, 22),
        ({"text_tokens": 4}, 18),
        ({"text_tokens": 400}, 0),
        ({"image_tokens": 20, "text_tokens": 2}, 20),
        ({"image_tokens": 0, "text_tokens": 22}, 0),
    ],
)
def test_output_of_an_image_model_is_image_unless_its_details_say_text(details: Any, images: int) -> None:
    usage = USAGE | {"output_tokens_details": details}
    answer = orjson.dumps({"created": 1, "data": [{}], "usage": usage})
    reading = fed(meter("/v1/images/generations", "application/json"), answer)
    tool = orjson.dumps(completed(tool_usage={"image_gen": usage}))
    (part,) = fed(meter("/v1/responses", "application/json"), tool).parts
    stream = fed(meter("/v1/images/edits"), typed("image_edit.completed", b64_json="", usage=usage))
    for found in (reading.usage, part.usage, stream.usage):
        assert found == Usage(11, 22, 33, output_image_tokens=images)


def test_the_text_is_kept_for_a_tokenizer_only_when_told() -> None:
    delta = {
        "id": "c",
        "choices": [{"index": 0, "delta": {"content": "caf\u00e9 \U0001f600"}, "finish_reason": None}],
    }
    reading = fed(meter(keep_text=True), event(delta) * 3, complete=False)
    assert reading.delivered_text == "café 😀" * 3
    assert (reading.delivered_chars, reading.delivered_bytes) == (18, 30)
    assert fed(meter(), event(delta), complete=False).delivered_text == ""


def test_usage_in_every_chunk_is_read_from_the_last_of_them() -> None:
    # Some servers that speak OpenAI's protocol report as they go.
    data = b"".join(
        event({"id": "c", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}],
               "usage": {"prompt_tokens": 5, "completion_tokens": n, "total_tokens": 5 + n}})
        for n in (1, 2, 3)
    )  # fmt: skip
    reading = fed(meter(), data, complete=False)
    assert reading.usage == Usage(input_tokens=5, output_tokens=3, total_tokens=8)
    assert not reading.complete


def test_a_wrong_coding_is_not_counted_and_not_complete() -> None:
    reading = fed(meter("/v1/responses", "application/json", "gzip"), orjson.dumps(completed()))
    assert reading == Reading()


@pytest.mark.parametrize(
    ("text", "end"),
    [(b'abc"', 3), (rb'a\"b"', 4), (rb'a\\"', 3), (rb'\\\""', 4), (b"abc", -1), (rb"a\"", -1), (b'"', 0)],
)
def test_a_string_ends_at_its_first_bare_quote(text: bytes, end: int) -> None:
    assert string_end(text, 0) == end
