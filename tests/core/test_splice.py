import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.call import read_call
from proxy.core.splice import UsageStripper, add_include_usage

MEMBER = b'"stream_options":{"include_usage":true},'


@pytest.mark.parametrize(
    ("body", "spliced"),
    [
        (b'{"stream":true}', b'{"stream_options":{"include_usage":true},"stream":true}'),
        (b' {\n "model" : "m", "stream" : true }\n', b' {\n "stream_options":{"include_usage":true},"model" : "m", "stream" : true }\n'),
        (b'{"str\\u0065am":true}', b'{"stream_options":{"include_usage":true},"str\\u0065am":true}'),
        (b'{"stream":true,"stream_options":null}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream":true,"stream_options":{}}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (b'{"stream":true,"stream_options":{ }}', b'{"stream":true,"stream_options":{"include_usage":true }}'),
        (
            b'{"stream_options": {"include_obfuscation":false} ,"stream":true}',
            b'{"stream_options": {"include_usage":true,"include_obfuscation":false} ,"stream":true}',
        ),
        (
            b'{"stream_options":{"include_usage":false},"stream":true}',
            b'{"stream_options":{"include_usage":true},"stream":true}',
        ),
        (
            b'{"stream_options":{"include_usage" : null},"stream":true}',
            b'{"stream_options":{"include_usage" : true},"stream":true}',
        ),
        (
            b'{"messages":[{"content":"\\"stream_options\\":{}","stream_options":{"include_usage":true},"stream":false}],"stream":true}',
            b"{" + MEMBER + b'"messages":[{"content":"\\"stream_options\\":{}","stream_options":{"include_usage":true},"stream":false}],"stream":true}',
        ),
        (b'{"a":"\xff\xfe","stream":true}', b"{" + MEMBER + b'"a":"\xff\xfe","stream":true}'),
    ],
)  # fmt: skip
def test_a_streamed_request_gets_exactly_one_member(body: bytes, spliced: bytes) -> None:
    assert add_include_usage(body) == spliced


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b"null", b"{", b'{"stream":true', b'{"stream":true}x', b'{"stream":true,}', b'{"stream" true}',
        b'{"stream":false}', b'{"stream":1}', b'{"stream":"true"}', b'{"messages":[{"stream":true}]}',
        b'{"stream":true,"stream":true}', b'{"stream":false,"stream":true}', b'{"stream":true,"str\\u0065am":false}',
        b'{"stream":true,"stream_options":{"include_usage":true}}', b'{"stream":true,"stream_options":{"include_usage":1}}',
        b'{"stream":true,"stream_options":7}', b'{"stream":true,"stream_options":[]}',
        b'{"stream":true,"stream_options":{},"stream_options":{}}',
        b'{"stream":true,"stream_options":{"include_usage":false,"include_usage":false}}',
        b"\x28\xb5\x2f\xfd\x04\x00", b'\xef\xbb\xbf{"stream":true}',
    ],
)  # fmt: skip
def test_what_is_not_clearly_a_streamed_request_stays_as_it_is(body: bytes) -> None:
    assert add_include_usage(body) is None


TEXT = st.text() | st.sampled_from(
    ['"stream":true', '{"stream_options":{"include_usage":true}}', "}]}", '\\"', "\\", '"usage":null', ',"usage":null}\n\n',
     "data: [DONE]\n\n", '"choices":[]', '"finish_reason":"stop"', '","obfuscation":"']
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT | st.sampled_from(["stream", "stream_options"]), inner, max_size=5)
    ),
    max_leaves=15,
)


@given(
    others=st.dictionaries(
        TEXT.filter(lambda name: name not in {"stream", "stream_options"}), JSON, max_size=6
    ),
    options=st.sampled_from([None, {}, {"include_obfuscation": True}, {"include_usage": False}, "absent"]),
    style=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r\n")]),
    ascii_only=st.booleans(),
    first=st.booleans(),
)
def test_splicing_adds_the_wish_and_changes_nothing_else(
    others: dict[str, Any], options: Any, style: tuple[str, str], ascii_only: bool, first: bool
) -> None:
    asked = {"stream": True} | ({} if options == "absent" else {"stream_options": options})
    request = asked | others if first else others | asked
    body = json.dumps(request, separators=style, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    spliced = add_include_usage(body)
    assert spliced is not None
    wanted = {**request, "stream_options": {**(request.get("stream_options") or {}), "include_usage": True}}
    assert json.loads(spliced.decode("utf-8", "surrogatepass")) == wanted
    shared = 0
    while shared < len(body) and spliced[shared] == body[shared]:
        shared += 1
    # One place differs: what is before and behind it is the client's own.
    tail = 0
    while tail < len(body) - shared and spliced[-1 - tail] == body[-1 - tail]:
        tail += 1
    assert body[shared : len(body) - tail] in {b"", b"null", b"false", b"fals", b"nul"}


def stripper() -> UsageStripper:
    body = b'{"model":"m","stream":true}'
    return UsageStripper(
        read_call(
            method="POST", target=b"/v1/chat/completions", header={}.get, body=body, body_bytes=len(body)
        )
    )


def chunk(
    delta: dict[str, Any], usage: bool, pad: str | None, end: str | None = None, **more: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m"}
    made["choices"] = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": end}]
    made |= {"usage": None} if usage else {}
    return made | more | ({} if pad is None else {"obfuscation": pad})


def event(data: dict[str, Any], spaces: bool, newline: bytes) -> bytes:
    text = json.dumps(data) if spaces else orjson.dumps(data).decode()
    return b"data: " + text.encode() + newline * 2


PLAIN_TEXT = TEXT.map(lambda text: text.encode("utf-8", "replace").decode())
DELTAS = st.one_of(
    PLAIN_TEXT.map(lambda text: {"content": text}),
    PLAIN_TEXT.map(lambda text: {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}),
    PLAIN_TEXT.map(lambda text: {"refusal": text, "content": None}),
    st.just({"role": "assistant", "content": ""}),
    PLAIN_TEXT.map(lambda text: {"content": text, "usage": None, "deep": {"usage": None}}),
)


@given(
    deltas=st.lists(DELTAS, max_size=8),
    pad=st.none() | st.text("abcXYZ019", max_size=20),
    spaces=st.booleans(),
    newline=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=30),
    done=st.booleans(),
)
def test_spliced_then_stripped_is_what_was_never_spliced(
    deltas: list[dict[str, Any]], pad: str | None, spaces: bool, newline: bytes, sizes: list[int], done: bool
) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    tail = b"data: [DONE]" + newline * 2 if done else b""
    plain = b"".join(event(chunk(delta, False, pad), spaces, newline) for delta in deltas)
    plain += event(chunk({}, False, pad, "stop"), spaces, newline) + tail
    spliced = b"".join(event(chunk(delta, True, pad), spaces, newline) for delta in deltas)
    spliced += event(chunk({}, True, pad, "stop"), spaces, newline)
    added = (
        chunk({}, False, None)
        | {"choices": [], "usage": usage}
        | ({} if pad is None else {"obfuscation": pad})
    )
    spliced += event(added, spaces, newline) + tail
    meter, seen, position, turn = stripper(), [], 0, 0
    while position < len(spliced):
        size = sizes[turn % len(sizes)]
        seen.append(meter.feed_through(spliced[position : position + size]))
        position, turn = position + size, turn + 1
    seen.append(meter.flush())
    assert b"".join(seen) == plain
    reading = meter.finish(True)
    assert reading.usage is not None
    assert (reading.usage.input_tokens, reading.usage.output_tokens, reading.complete) == (3, 4, True)


def test_an_ordinary_event_passes_at_once() -> None:
    meter = stripper()
    made = orjson.dumps(chunk({"content": "Hi"}, True, None))
    for _ in range(3):
        assert (
            meter.feed_through(b"data: " + made + b"\n\n")
            == b"data: " + made.replace(b',"usage":null', b"") + b"\n\n"
        )


def test_an_event_of_any_size_passes_without_its_null_usage() -> None:
    meter = stripper()
    text = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}],"usage":null,"obfuscation":"x"}\n\n'
    long = text % (b"A" * (3 * 2**20))
    seen = b"".join(meter.feed_through(long[at : at + 65536]) for at in range(0, len(long), 65536))
    assert seen + meter.flush() == long.replace(b',"usage":null', b"")
    assert meter.feed_through(long) == long.replace(b',"usage":null', b"")


def test_a_stream_that_breaks_off_shows_nothing_of_the_added_chunk() -> None:
    ordinary = b"data: " + orjson.dumps(chunk({"content": "Hi"}, True, None)) + b"\n\n"
    added = b'data: {"id":"chatcmpl-1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
    for cut in range(added.index(b"[]") + 2, len(added) + 1):
        meter = stripper()
        seen = meter.feed_through(ordinary + added[:cut]) + meter.flush()
        assert seen == ordinary.replace(b',"usage":null', b""), cut


def test_a_first_chunk_without_choices_but_without_usage_stays() -> None:
    # Azure sends its filter results so.
    meter = stripper()
    first = b'data: {"choices":[],"id":"","prompt_filter_results":[{"prompt_index":0}]}\n\n'
    assert meter.feed_through(first) == first
    null = b'data: {"choices":[],"id":"","prompt_filter_results":[],"usage":null}\n\n'
    assert meter.feed_through(null) == b'data: {"choices":[],"id":"","prompt_filter_results":[]}\n\n'


def test_usage_beside_choices_stays_since_nobody_added_it() -> None:
    meter = stripper()
    both = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
    assert meter.feed_through(both) == both
    reading = meter.finish(True)
    assert reading.usage is not None
    assert reading.usage.total_tokens == 3


def test_a_null_usage_that_stands_first_or_alone_goes_too() -> None:
    meter = stripper()
    assert meter.feed_through(b'data: {"usage": null , "id":"x"}\n\n') == b'data: {"id":"x"}\n\n'
    assert meter.feed_through(b'data: {"usage":null}\n\n') == b"data: {}\n\n"


def test_a_comment_before_the_added_chunk_stays() -> None:
    meter = stripper()
    added = (
        b': ping\ndata: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}\n\n'
    )
    assert meter.feed_through(added) == b": ping\n"


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_make_stripping_fail_and_none_but_usage_is_lost(pieces: list[bytes]) -> None:
    meter = stripper()
    seen = b"".join([*map(meter.feed_through, pieces), meter.flush()])
    if b"usage" not in b"".join(pieces) and b"choices" not in b"".join(pieces):
        assert seen == b"".join(pieces)
    meter.finish(False)
