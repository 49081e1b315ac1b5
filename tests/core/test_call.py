import gzip
import zlib
from typing import Any

import brotli
import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.call import Call, read_call, with_form
from proxy.core.refusal import Refusal


def call(path: str = "/v1/chat/completions", body: Any = None, method: str = "POST", **headers: str) -> Call:
    data = body if isinstance(body, bytes) else orjson.dumps(body) if body is not None else None
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return read_call(
        method=method, target=path.encode(), header=fields.get, body=data, body_bytes=len(data or b"")
    )


ASK = {"model": "gpt-5.5", "messages": [{"role": "user", "content": "Hi"}]}


def test_a_chat_request_says_model_stream_and_ceiling() -> None:
    found = call(body={**ASK, "stream": True, "max_completion_tokens": 50, "n": 3, "service_tier": "flex"})
    assert (found.model, found.stream, found.output_ceiling_tokens, found.service_tier) == (
        "gpt-5.5",
        True,
        150,
        "flex",
    )
    assert found.spliceable
    assert not found.wants_usage


def test_a_client_that_asks_for_usage_is_not_spliced() -> None:
    found = call(body={**ASK, "stream": True, "stream_options": {"include_usage": True}})
    assert found.wants_usage
    assert not found.spliceable


@pytest.mark.parametrize(
    ("path", "body", "ceiling"),
    [
        ("/v1/chat/completions", {}, None),
        ("/v1/chat/completions", {"max_tokens": 10}, 10),
        ("/v1/chat/completions", {"max_tokens": 10, "max_completion_tokens": 20}, 20),
        ("/v1/chat/completions", {"max_tokens": -1}, None),
        ("/v1/chat/completions", {"max_tokens": True}, None),
        ("/v1/chat/completions", {"max_tokens": 1e3, "n": 2}, None),
        ("/v1/completions", {}, 16),
        ("/v1/completions", {"max_tokens": 10, "n": 2, "best_of": 5}, 50),
        ("/v1/chat/completions", {"max_tokens": 2**40, "n": 2**40}, 2**40),
        ("/v1/completions", {"max_tokens": 2**40, "best_of": 2**40}, 2**40),
        ("/v1/chat/completions", {"max_tokens": 2**41}, None),
        ("/v1/responses", {"max_output_tokens": 100, "n": 7}, 100),
        ("/v1/threads/runs", {"max_completion_tokens": 9}, 9),
        ("/v1/embeddings", {"max_tokens": 10}, 0),
        ("/v1/files", {}, 0),
        ("/v1/newer", {"max_output_tokens": 5}, 5),
    ],
)
def test_the_output_ceiling_is_the_requests_own(path: str, body: dict[str, Any], ceiling: int | None) -> None:
    assert call(path, body).output_ceiling_tokens == ceiling


def test_a_path_keeps_its_query_and_an_absolute_target_loses_its_authority() -> None:
    found = call("/v1/responses/resp_1?stream=true&x=?", method="GET")
    assert (found.path, found.query, found.object_id) == ("/v1/responses/resp_1", "stream=true&x=?", "resp_1")
    assert call("http://api.example/v1/models?x", method="GET").path == "/v1/models"
    assert call("http://api.example", method="GET").path == "/"
    assert call("HTTP://api.example?x=/v1/models", method="GET").path == "/"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/audio/transcriptions", "/v1/x"])
def test_the_query_names_no_model_where_a_body_does(path: str) -> None:
    body = b'{"model":"gpt-5.5-pro"}'
    assert call(f"{path}?model=gpt-4o-mini", body, content_encoding="gzip").model is None
    assert call(f"{path}?model=gpt-4o-mini", b"{}").model is None
    assert call(f"{path}?model=gpt-4o-mini", body).model == "gpt-5.5-pro"


def test_a_coding_that_nobody_knows_hides_no_model() -> None:
    assert call(body=b'{"model":"gpt-4o"}', content_encoding="x-own").model == "gpt-4o"


def test_a_websocket_names_its_model_in_the_query() -> None:
    found = call("/v1/realtime?call_id=1&model=gpt%2Drealtime", method="GET")
    assert found.model == "gpt-realtime"
    assert found.endpoint.websocket
    assert call("/v1/realtime?model=a&model=a", method="GET").model == "a"
    assert call("/v1/realtime?model=a&model=b", method="GET").model is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"model"',
        b"\xff\xfe",
        b'{"model": 5}',
        b'{"model":""}',
        b'{"model":null}',
        b"{" * 9999,
    ],
)
def test_a_body_that_is_no_request_leaves_the_fields_empty(body: bytes) -> None:
    found = call(body=body)
    assert (found.model, found.stream, found.output_ceiling_tokens) == (None, False, None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"gpt-5.5","stream":true,"messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"gpt-5.5","stream":true,"messages":[{"role":"user","content":"\xff\xfe"}]}',
        b'{"model":"gpt-5.5","stream":true,"temperature":NaN}',
        b'{"model":"other","model":"gpt-5.5","stream":false,"stream":true}',
        b'{"mod\\u0065l":"gpt-5.5","str\\u0065am":true}',
    ],
)
def test_a_body_that_only_a_lenient_server_reads_is_read_leniently(body: bytes) -> None:
    found = call(body=body)
    assert (found.model, found.stream) == ("gpt-5.5", True)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("br", brotli.compress),
        ("zstd", zstandard.compress),
        ("identity", bytes),
        ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
    ],
)
def test_a_compressed_body_is_understood(encoding: str, pack: Any) -> None:
    found = call(body=pack(orjson.dumps({**ASK, "max_tokens": 4})), content_encoding=encoding)
    assert (found.model, found.output_ceiling_tokens) == ("gpt-5.5", 4)


def test_a_bomb_is_not_understood_and_does_no_harm() -> None:
    bomb = gzip.compress(b'{"model":"x","pad":"' + bytes(200 * 2**20) + b'"}', 1)
    assert call(body=bomb, content_encoding="gzip").model is None


def test_a_form_says_its_fields() -> None:
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\nID3\r\n'
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
        b'--b\r\nContent-Disposition: form-data; name="stream"\r\n\r\ntrue\r\n--b--\r\n'
    )
    found = call("/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=b")
    assert (found.model, found.stream) == ("whisper-1", True)
    assert (found.input_text_bytes, found.input_estimate_tokens) == (0, 0)


def test_a_recording_is_estimated_by_its_size_even_when_it_is_not_read() -> None:
    found = read_call(
        method="POST", target=b"/v1/audio/transcriptions", header={}.get, body=None, body_bytes=16_000_000
    )
    assert found.input_estimate_tokens == 10_000


def test_a_form_that_was_streamed_completes_its_call() -> None:
    begun = call("/v1/videos", content_type="multipart/form-data; boundary=b")
    done = with_form(begun, {"model": "sora-2", "size": "1024x1792", "seconds": "8", "user": "u1"})
    assert (done.model, done.end_user, dict(done.hints)) == (
        "sora-2",
        "u1",
        {"size": "1024x1792", "seconds": "8"},
    )


def test_the_facts_that_only_the_request_knows_are_hints() -> None:
    assert call("/v1/audio/speech", {"model": "tts-1", "input": "Grüße"}).hints == {"input_characters": 5}
    assert call("/v1/images/generations", {"n": 2, "quality": "high", "size": "1024x1024"}).hints == {
        "quality": "high", "size": "1024x1024", "n": 2,
    }  # fmt: skip
    tools = [
        {"type": "function", "name": "f"}, {"type": "web_search_preview"}, 7,
        {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}},
    ]  # fmt: skip
    asked = {"tools": tools, "background": True, "background_options": {"completion_window": "8h"}}
    found = call("/v1/responses", asked)
    assert found.hints == {
        "web_search": "web_search_preview",
        "memory_limit": "4g",
        "completion_window": "8h",
    }
    assert found.background
    assert call(body={**ASK, "web_search_options": {}}).hints == {"web_search_context": "medium"}


def test_labels_of_the_application_are_read() -> None:
    found = call(
        body={**ASK, "user": "ignored"},
        x_usage_operation="rag_answer",
        x_usage_tags="session=abc, grade=9%2Fb,leer=",
        x_usage_end_user="42",
        x_usage_user="ana%40example.org",
        x_client_request_id="trace-1",
    )
    assert (found.operation, found.end_user, found.on_behalf_of) == ("rag_answer", "42", "ana@example.org")
    assert found.tags == {"session": "abc", "grade": "9/b", "leer": ""}
    assert found.client_request_id == "trace-1"


def test_without_a_header_the_end_user_is_the_one_the_body_names() -> None:
    assert call(body={**ASK, "safety_identifier": "s", "user": "u"}).end_user == "s"
    assert call(body={**ASK, "user": "u"}).end_user == "u"
    assert call(body={**ASK, "user": "u" * 129}).end_user is None
    assert call(body={**ASK, "user": {"id": 1}}).end_user is None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("x_usage_operation", ""),
        ("x_usage_operation", "a" * 129),
        ("x_usage_operation", "100%"),
        ("x_usage_operation", "%ff"),
        ("x_usage_operation", "a%0ab"),
        ("x_usage_operation", "größe"),
        ("x_usage_tags", "a"),
        ("x_usage_tags", "=b"),
        ("x_usage_tags", "a=b,"),
        ("x_usage_tags", "a=b,a=c"),
        ("x_usage_tags", ",".join(f"t{i}=v" for i in range(17))),
        ("x_usage_tags", "a=" + "b" * 127),
        ("x_usage_end_user", "b" * 129),
        ("x_usage_user", "b" * 257),
    ],
)
def test_a_label_that_can_not_be_understood_is_refused_by_name(header: str, value: str) -> None:
    with pytest.raises(Refusal) as refused:
        call(body=ASK, **{header: value})
    assert refused.value.status == 400
    assert refused.value.param is not None
    assert refused.value.param.lower() == header.replace("_", "-")
    assert refused.value.param in refused.value.message


def test_sixteen_tags_of_128_bytes_are_read() -> None:
    value = ",".join(f"{i:02}={'%C3%A9' * 62}x" for i in range(16))
    assert len(call(body=ASK, x_usage_tags=value).tags) == 16


def test_the_clients_request_id_is_shortened_and_never_refused() -> None:
    assert call(body=ASK, x_client_request_id="x" * 600).client_request_id == "x" * 512
    assert call(body=ASK, x_client_request_id="ü\t ").client_request_id == "???"
    assert call(body=ASK, x_client_request_id="").client_request_id is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=20,
)
NAMES = st.sampled_from(
    ["model", "stream", "stream_options", "max_tokens", "n", "best_of", "tools", "user", "input", "background_options",
     "web_search_options", "service_tier", "background", "safety_identifier", "size"]
)  # fmt: skip
PATHS = st.sampled_from(
    [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/audio/speech",
        "/v1/videos",
        "/v1/batches",
        "/v1/x",
    ]
)


@given(
    path=PATHS, body=st.dictionaries(NAMES, JSON), encoding=st.sampled_from(["", "gzip", "zstd", "br", "odd"])
)
def test_no_body_makes_reading_fail(path: str, body: dict[str, Any], encoding: str) -> None:
    try:
        data = orjson.dumps(body)
    except (TypeError, orjson.JSONEncodeError):
        return
    headers = {"content_encoding": encoding} if encoding else {}
    found = call(path, data, **headers)
    assert found.body_bytes == len(data)


@given(
    body=st.binary(max_size=300),
    kind=st.sampled_from(["application/json", "multipart/form-data; boundary=b", ""]),
)
def test_no_bytes_make_reading_fail(body: bytes, kind: str) -> None:
    call(body=body, content_type=kind)
