"""Call: what a request asks for, read from its head and, where it is JSON or a form, its body.

Reading never refuses a body: garbage leaves the fields at None and goes upstream as it came, since the answer to it is
OpenAI's to give. A body that a strict parser rejects but a lenient server may accept (lone surrogates, bytes that are not
UTF-8) is read leniently, so that it can't slip past metering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from proxy.core import endpoints, estimate, labels, sieve
from proxy.core.decode import decode_whole
from proxy.core.endpoints import Endpoint
from proxy.core.forms import read_form

DECODED_MAX_BYTES = 64 * 2**20
END_USER_BYTES_MAX = 128
WORD_CHARS_MAX = 256
COUNT_MAX = 2**40
COMPLETIONS_DEFAULT_TOKENS = 16
"""What POST /v1/completions generates at most when it says no max_tokens (OpenAPI description, 2026-08-21)."""

_HINTS = (
    "quality", "size", "seconds", "n", "response_format", "stream_format", "completion_window", "memory_limit", "purpose"
)  # fmt: skip
_BODY_KEYS = frozenset(
    {
        *_HINTS, "model", "stream", "stream_options", "include_usage", "max_tokens", "max_completion_tokens",
        "max_output_tokens", "best_of", "service_tier", "background", "background_options", "safety_identifier", "user",
        "web_search_options", "search_context_size", "tools", "type", "container", "session", "expires_after",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as the pass sees it. None is "not said"; a body that can't be read leaves the body fields at None."""

    method: str
    path: str
    """The path as it came, without the query."""
    query: str = ""
    endpoint: Endpoint
    model: str | None = None
    stream: bool = False
    """The request asks for a stream. The answer's content type, not this, decides how it is metered."""
    wants_usage: bool = False
    """The client set stream_options.include_usage itself."""
    output_ceiling_tokens: int | None = None
    """The request's own bound on output tokens, times the number of choices."""
    input_estimate_tokens: int = 0
    """An upper estimate of input tokens, from the body's size; see estimate.py."""
    input_text_bytes: int = 0
    """Bytes of the body that count as text, for the (lower) estimate of a broken stream."""
    input_media_tokens: int = 0
    """Tokens assumed for images, audio and files inside the body."""
    service_tier: str | None = None
    background: bool = False
    object_id: str | None = None
    """The first id in the path, e.g. of GET /v1/responses/{response_id}."""
    operation: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    end_user: str | None = None
    on_behalf_of: str | None = None
    """X-Usage-User, before it was checked."""
    client_request_id: str | None = None
    body_bytes: int = 0
    hints: Mapping[str, str | int] = field(default_factory=dict)
    """Facts of the request that pricing needs and answers don't repeat; names in docs/reference/metering.md."""

    @property
    def spliceable(self) -> bool:
        """A stream that would not report its usage unless asked: see splice.py."""
        return self.endpoint.splices and self.stream and not self.wants_usage


_NO_TAGS: Mapping[str, str] = {}


def read_call(
    *,
    method: str,
    target: bytes,
    header: Callable[[bytes], bytes | None],
    body: bytes | None,
    body_bytes: int,
) -> Call:
    """Read one request. `header` gives the first value of a lower-case name; `body` is None when it is streamed.

    Raises Refusal (400) for one of our own headers that can't be understood, and nothing else.
    """
    path, query = _split_target(target)
    endpoint, object_id = endpoints.match(method, path)
    tags = header(b"x-usage-tags")
    operation = labels.operation_of(header(b"x-usage-operation"))
    end_user = labels.end_user_of(header(b"x-usage-end-user"))
    fields: Any = None
    text_bytes = media_tokens = 0
    if body:
        encoding = header(b"content-encoding")
        if encoding is not None:
            body = decode_whole(body, encoding, DECODED_MAX_BYTES)
        if body:
            fields = _fields(body, header(b"content-type") or b"")
            if isinstance(fields, dict) and endpoint.meter != "none":
                text_bytes, media_tokens = estimate.input_of(body)
    asked = _Asked(fields if isinstance(fields, dict) else {}, endpoint)
    model = asked.word("model") or (_model_of_query(query) if query else None)
    return Call(
        method=method,
        path=path,
        query=query,
        endpoint=endpoint,
        model=model,
        stream=asked.true("stream"),
        wants_usage=asked.wants_usage(),
        output_ceiling_tokens=asked.ceiling(),
        input_estimate_tokens=estimate.input_upper_tokens(text_bytes, media_tokens),
        input_text_bytes=text_bytes,
        input_media_tokens=media_tokens,
        service_tier=asked.word("service_tier"),
        background=asked.true("background"),
        object_id=object_id,
        operation=operation,
        tags=_NO_TAGS if tags is None else labels.tags_of(tags),
        end_user=end_user or asked.end_user(),
        on_behalf_of=labels.on_behalf_of(header(b"x-usage-user")),
        client_request_id=labels.client_request_id_of(header(b"x-client-request-id")),
        body_bytes=body_bytes,
        hints=asked.hints(),
    )


def with_form(call: Call, fields: Mapping[str, str]) -> Call:
    """The same call with what a streamed form turned out to say (see forms.py), once its upload has passed."""
    asked = _Asked(dict(fields), call.endpoint)
    return replace(
        call,
        model=asked.word("model") or call.model,
        stream=asked.true("stream"),
        end_user=call.end_user or asked.end_user(),
        hints={**call.hints, **asked.hints()},
    )


def _split_target(target: bytes) -> tuple[str, str]:
    """Path and query of a request target; an absolute-form target (RFC 9112, 3.2.2) loses its scheme and authority."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        _, found, rest = text.partition("://")
        if found:
            slash = rest.find("/")
            text = rest[slash:] if slash >= 0 else "/"
    path, _, query = text.partition("?")
    return path, query


def _model_of_query(query: str) -> str | None:
    """`model` of a WebSocket's query (`/v1/realtime?model=…`)."""
    from urllib.parse import parse_qs

    if "model" not in query:
        return None
    try:
        found = parse_qs(query, max_num_fields=64).get("model")
    except ValueError:
        return None
    return found[0][:WORD_CHARS_MAX] if found else None


def _fields(body: bytes, content_type: bytes) -> Any:
    """The body as a mapping of its fields, whatever kind it is; None when it can't be understood.

    What a body starts with decides, not what its content type says: a wrong label is no way around metering.
    """
    try:
        return orjson.loads(body)
    except ValueError:
        pass
    if b"multipart/" in content_type.lower():
        return read_form(body, content_type)
    return sieve.reduce(body, _BODY_KEYS)


class _Asked:
    """The fields of a body, read with distrust: any of them may have any type."""

    __slots__ = ("_endpoint", "_get")

    def __init__(self, fields: dict[str, Any], endpoint: Endpoint) -> None:
        self._get = fields.get
        self._endpoint = endpoint

    def word(self, name: str) -> str | None:
        value = self._get(name)
        return value if type(value) is str and 0 < len(value) <= WORD_CHARS_MAX else None

    def true(self, name: str) -> bool:
        value = self._get(name)
        return value is True or value == "true"

    def count(self, name: str) -> int | None:
        value = self._get(name)
        if type(value) is str and len(value) <= 9 and value.isascii() and value.isdigit():
            value = int(value)
        return value if type(value) is int and 0 <= value <= COUNT_MAX else None

    def wants_usage(self) -> bool:
        options = self._get("stream_options")
        return type(options) is dict and options.get("include_usage") is True

    def ceiling(self) -> int | None:
        meter = self._endpoint.meter
        if meter in _CEILINGS:
            names = _CEILINGS[meter]
            found = [count for name in names if (count := self.count(name)) is not None]
            if not found and meter == "completions":
                found = [COMPLETIONS_DEFAULT_TOKENS]
            if not found:
                return None
            choices = self.count("n") or 1
            if meter == "completions":
                choices = max(choices, self.count("best_of") or 1)
            return max(found) * choices if meter != "responses" else max(found)
        return 0 if meter in _WITHOUT_OUTPUT_TOKENS else None

    def end_user(self) -> str | None:
        for name in ("safety_identifier", "user"):
            value = self._get(name)
            if (
                type(value) is str
                and len(value) > 0
                and len(value.encode("utf-8", "replace")) <= END_USER_BYTES_MAX
            ):
                return value if value.isprintable() else None
        return None

    def hints(self) -> Mapping[str, str | int]:
        meter = self._endpoint.meter
        if meter not in _WITH_HINTS:
            return _NO_HINTS
        found: dict[str, str | int] = {}
        for name in _HINTS:
            value = self._get(name)
            if (type(value) is int and 0 <= value <= COUNT_MAX) or (
                type(value) is str and 0 < len(value) <= 64
            ):
                found[name] = value
        if meter == "speech":
            text = self._get("input")
            if type(text) is str:
                found["input_characters"] = len(text)
        if type(options := self._get("background_options")) is dict:
            window = options.get("completion_window")
            if type(window) is str and len(window) <= 64:
                found["completion_window"] = window
        _hint_tools(self._get("tools"), found)
        if type(options := self._get("web_search_options")) is dict:
            context = options.get("search_context_size")
            found["web_search_context"] = context if type(context) is str and len(context) <= 64 else "medium"
        return found


def _hint_tools(tools: Any, found: dict[str, str | int]) -> None:
    """Which kind of web search was offered, and how big a container a code interpreter gets: both set the fee."""
    if type(tools) is not list:
        return
    for tool in tools[:256]:
        kind = tool.get("type") if type(tool) is dict else None
        if type(kind) is not str or kind == "function":
            continue
        if kind.startswith("web_search"):
            found["web_search"] = kind[:64]
        elif kind == "code_interpreter" and type(container := tool.get("container")) is dict:
            limit = container.get("memory_limit")
            if type(limit) is str and len(limit) <= 64:
                found["memory_limit"] = limit


_NO_HINTS: Mapping[str, str | int] = {}
_CEILINGS = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "compact": ("max_output_tokens",),
    "decisions": ("max_output_tokens",),
    "runs": ("max_completion_tokens",),
    "generic": ("max_output_tokens", "max_completion_tokens", "max_tokens"),
}
_WITHOUT_OUTPUT_TOKENS = frozenset(
    {"none", "embeddings", "moderations", "translation", "videos", "containers"}
)
_WITH_HINTS = frozenset(
    {"chat", "responses", "images", "speech", "transcription", "translation", "videos", "containers", "batches", "generic"}
)  # fmt: skip
