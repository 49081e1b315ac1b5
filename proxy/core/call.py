"""Call: what a request asks for, read from its head and, where it is JSON or a form, its body.

Reading refuses no body but one that it would take seconds to read (density.py): garbage leaves the fields at None and goes
upstream as it came, since the answer to it is OpenAI's to give. A body that a strict parser rejects but a lenient server may accept (lone surrogates, bytes that are not
UTF-8) is read leniently, so that it can't slip past metering.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import orjson

from proxy.core import estimate, sieve
from proxy.core.callhead import WORD_CHARS_MAX, CallHead, read_call_head
from proxy.core.decode import as_utf8, decode_labelled
from proxy.core.density import CONTAINERS_MAX, refuse_dense, refuse_dense_text
from proxy.core.endpoints import Endpoint
from proxy.core.forms import read_form
from proxy.core.given import set_given
from proxy.core.lightbody import NOTHING_TAKEN

DECODED_MAX_BYTES: Final = 64 * 2**20
END_USER_BYTES_MAX: Final = 128
COUNT_MAX: Final = 2**40
"""What a request may ask for; more than anybody has, and no product of two such numbers may leave Postgres' range."""
COMPLETIONS_DEFAULT_TOKENS: Final = 16
"""What POST /v1/completions generates at most when it says no max_tokens (OpenAPI description, 2026-08-21)."""

HINT_CHARS_MAX: Final = 64
TOOLS_MAX: Final = 256
_BODY_KEYS: Final = frozenset(
    [
        "model", "stream", "stream_options", "include_usage", "max_tokens", "max_completion_tokens",
        "max_output_tokens", "n", "best_of", "service_tier", "background", "store", "background_options",
        "completion_window", "safety_identifier", "user", "web_search_options", "search_context_size",
        "tools", "type", "container", "memory_limit", "quality", "size", "seconds", "response_format",
        "stream_format", "endpoint",
    ]
)  # fmt: skip
"""What a lenient reading of a body keeps; see sieve.py."""
_OPTIONS: Final = _BODY_KEYS - {"model"}


_loads: Final = orjson.loads
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(init=False, slots=True)  # made for each request: see given.py
class Call:
    """One request as the pass sees it. None is "not said"; a body that can't be read leaves the body fields at None."""

    method: str
    path: str
    """The path as it came, without the query."""
    endpoint: Endpoint
    tags: Mapping[str, str]
    hints: Mapping[str, str | int]
    """Facts of the request that pricing needs and answers don't repeat; names in docs/reference/metering.md."""
    query: str
    model: str | None
    stream: bool
    """The request asks for a stream. The answer's content type, not this, decides how it is metered."""
    wants_usage: bool
    """The client set stream_options.include_usage itself."""
    output_ceiling_tokens: int | None
    """The request's own bound on output tokens, times the number of choices."""
    input_estimate_tokens: int
    """An upper estimate of input tokens, from the body's size; see estimate.py."""
    input_text_bytes: int
    """Bytes of the body that count as text, for the (lower) estimate of a broken stream."""
    input_media_tokens: int
    """Tokens assumed for images, audio and files inside the body."""
    service_tier: str | None
    background: bool
    stores: bool | None
    """`store`, as the request says it."""
    object_id: str | None
    """The first id in the path, e.g. of GET /v1/responses/{response_id}."""
    operation: str | None
    end_user: str | None
    on_behalf_of: str | None
    """X-Usage-User, before it was checked."""
    client_request_id: str | None
    body_bytes: int

    def __init__(
        self,
        method: str,
        path: str,
        endpoint: Endpoint,
        tags: Mapping[str, str] = _NOTHING,
        hints: Mapping[str, str | int] = _NOTHING,
        **given: Any,
    ) -> None:
        self.method = method
        self.path = path
        self.endpoint = endpoint
        self.tags = tags
        self.hints = hints
        self.query = ""
        self.model = self.output_ceiling_tokens = self.service_tier = self.stores = self.object_id = None
        self.operation = self.end_user = self.on_behalf_of = self.client_request_id = None
        self.stream = self.wants_usage = self.background = False
        self.input_estimate_tokens = self.input_text_bytes = self.input_media_tokens = self.body_bytes = 0
        if given:
            set_given(self, given)

    @property
    def spliceable(self) -> bool:
        """A stream that would not report its usage unless asked: see splice.py."""
        return self.endpoint.splices and self.stream and not self.wants_usage


Get: TypeAlias = Callable[[str], Any]


def read_call(
    *,
    method: str,
    target: bytes,
    header: Callable[[bytes], bytes | None],
    body: bytes | None,
    body_bytes: int,
) -> Call:
    """Read one request. `header` gives the first value of a lower-case name; `body` is None when it is streamed.

    Raises Refusal: 400 for one of our own headers that can't be understood, 413 for a body as density.py has it.
    """
    return read_call_behind(read_call_head(method, target, header), header, body, body_bytes)


def read_call_behind(
    head: CallHead,
    header: Callable[[bytes], bytes | None],
    body: bytes | None,
    body_bytes: int,
    taken: Mapping[int, int] = NOTHING_TAKEN,
) -> Call:
    """The same where the head has been read, and the body may be a light one (lightbody.py). Raises Refusal 413. Hot path."""
    endpoint = head.endpoint
    fields: Any = None
    text_bytes = media_tokens = 0
    if body:
        encoding = header(b"content-encoding")
        if encoding is not None:
            body = decode_labelled(body, encoding, DECODED_MAX_BYTES)
        if body:
            # What a body is decides, not what its content type says: a wrong label is no way around metering.
            is_form = False
            if len(body) > CONTAINERS_MAX:
                refuse_dense(body)
            try:
                fields = _loads(body)
            except ValueError:
                fields, is_form = _lenient_fields(body, header)
            if type(fields) is dict and not is_form and endpoint.meter != "none":
                text_bytes, media_tokens = estimate.input_of(body, taken)
    if endpoint.meter in _LISTENS:
        media_tokens = body_bytes // estimate.AUDIO_BYTES_PER_TOKEN
    said = fields if type(fields) is dict else _NOTHING
    # Set one by one, since keywords to a class cost a dictionary: docs/adr/0007.
    call = Call(head.method, head.path, endpoint, head.tags, _NOTHING)
    call.query = head.query
    call.model = _word(said.get("model")) or head.model
    call.input_estimate_tokens = estimate.input_upper_tokens(text_bytes, media_tokens)
    call.input_text_bytes = text_bytes
    call.input_media_tokens = media_tokens
    call.object_id = head.object_id
    call.operation = head.operation
    call.end_user = head.end_user
    call.on_behalf_of = head.on_behalf_of
    call.client_request_id = head.client_request_id
    call.body_bytes = body_bytes
    if endpoint.meter != "chat" or not _OPTIONS.isdisjoint(said):  # else there is nothing more to read
        _read_options(call, said.get)
    return call


def _read_options(call: Call, get: Get) -> None:
    """What the body says besides its model."""
    meter = call.endpoint.meter
    options = get("stream_options")
    call.stream = _true(get("stream"))
    call.wants_usage = type(options) is dict and options.get("include_usage") is True
    call.output_ceiling_tokens = _ceiling(get, meter)
    call.service_tier = _word(get("service_tier"))
    call.background = _true(get("background"))
    call.stores = _said(get("store"))
    call.end_user = call.end_user or _end_user(get)
    call.hints = _hints(get, meter)


def with_form(call: Call, fields: Mapping[str, str]) -> Call:
    """The same call with what a streamed form turned out to say (see forms.py), once its upload has passed."""
    return replace(
        call,
        model=_word(fields.get("model")) or call.model,
        stream=_true(fields.get("stream")),
        end_user=call.end_user or _end_user(fields.get),
        hints={**call.hints, **_hints(fields.get, call.endpoint.meter)},
    )


def _lenient_fields(body: bytes, header: Callable[[bytes], bytes | None]) -> tuple[Any, bool]:
    """A body that is no strict JSON as a mapping of its fields, and whether it is a form; None when it can't be understood."""
    content_type = header(b"content-type") or b""
    if b"multipart/" in content_type.lower():
        return read_form(body, content_type), True
    text = as_utf8(body)
    refuse_dense_text(text)
    return sieve.reduce(text, _BODY_KEYS), False


def _word(value: Any) -> str | None:
    return value if type(value) is str and 0 < len(value) <= WORD_CHARS_MAX else None


def _true(value: Any) -> bool:
    """True in JSON, or "true" in a form."""
    return value is True or value == "true"


def _said(value: Any) -> bool | None:
    return value if type(value) is bool else None


def _count(value: Any) -> int | None:
    """A whole number, or its digits in a form."""
    if type(value) is str and len(value) <= 9 and value.isascii() and value.isdigit():
        return int(value)
    return value if type(value) is int and 0 <= value <= COUNT_MAX else None


def _ceiling(get: Get, meter: str) -> int | None:
    """The bound on all output tokens together. With two names for it the larger counts, as for choices."""
    names = _CEILINGS.get(meter)
    if names is None:
        return 0 if meter in _WITHOUT_OUTPUT_TOKENS else None
    ceiling = None
    for name in names:
        value = get(name)
        if value is not None and (count := _count(value)) is not None:
            ceiling = count if ceiling is None else max(ceiling, count)
    if meter == "completions":
        ceiling = COMPLETIONS_DEFAULT_TOKENS if ceiling is None else ceiling
        return min(ceiling * max(_count(get("n")) or 1, _count(get("best_of")) or 1), COUNT_MAX)
    if ceiling is not None and meter == "chat":
        return min(ceiling * (_count(get("n")) or 1), COUNT_MAX)
    return ceiling


def _end_user(get: Get) -> str | None:
    """What OpenAI calls the end user, where the application used its own names for it."""
    value = get("safety_identifier") or get("user")
    if type(value) is not str or not value.isprintable() or len(value) > END_USER_BYTES_MAX:
        return None
    return value if len(value.encode("utf-8", "replace")) <= END_USER_BYTES_MAX and value else None


def _hints(get: Get, meter: str) -> Mapping[str, str | int]:
    names = _HINTS.get(meter)
    if names is None:
        return _NOTHING
    found: dict[str, str | int] = {}
    for name in names:
        value = get(name)
        if value is None:
            continue
        if name == "tools":
            _hint_tools(value, found)
        elif name == "input":
            if type(value) is str:
                found["input_characters"] = len(value)
        elif type(value) is dict:
            inner, hint = _INSIDE.get(name, ("", ""))
            word = value.get(inner)
            if hint and type(word) is str and len(word) <= HINT_CHARS_MAX:
                found[hint] = word
            elif hint == "web_search_context":
                found[hint] = "medium"
        elif (type(value) is str and 0 < len(value) <= HINT_CHARS_MAX) or (
            type(value) is int and 0 <= value <= COUNT_MAX
        ):
            found[name] = value
    return found or _NOTHING


def _hint_tools(tools: Any, found: dict[str, str | int]) -> None:
    """Which kind of web search was offered, and how big a container a code interpreter gets: both set the fee."""
    if type(tools) is not list:
        return
    for tool in tools[:TOOLS_MAX]:
        kind = tool.get("type") if type(tool) is dict else None
        if type(kind) is not str or kind == "function":
            continue
        if kind.startswith("web_search"):
            found["web_search"] = kind[:HINT_CHARS_MAX]
        elif kind == "code_interpreter" and type(container := tool.get("container")) is dict:
            limit = container.get("memory_limit")
            if type(limit) is str and len(limit) <= HINT_CHARS_MAX:
                found["memory_limit"] = limit


_CEILINGS: Final = {
    "chat": ("max_completion_tokens", "max_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "compact": ("max_output_tokens",),
    "decisions": ("max_output_tokens",),
    "runs": ("max_completion_tokens",),
    "generic": ("max_output_tokens", "max_completion_tokens", "max_tokens"),
}
_LISTENS: Final = frozenset({"transcription", "translation"})
_WITHOUT_OUTPUT_TOKENS: Final = frozenset(
    {"none", "embeddings", "moderations", "translation", "videos", "containers"}
)
_HINTS: Final = {
    "chat": ("tools", "web_search_options"),
    "responses": ("tools", "background_options"),
    "images": ("quality", "size", "n", "response_format"),
    "speech": ("input", "response_format", "stream_format"),
    "transcription": ("response_format",),
    "translation": ("response_format",),
    "videos": ("size", "seconds"),
    "containers": ("memory_limit",),
    "batches": ("completion_window", "endpoint"),
}
_INSIDE: Final = {
    "background_options": ("completion_window", "completion_window"),
    "web_search_options": ("search_context_size", "web_search_context"),
}
