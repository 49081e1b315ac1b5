"""Estimates: what a request may cost before it is answered, and what a broken stream has cost when no usage came.

The rules, in UTF-8 bytes because bytes track tokens across languages better than characters do:

    upper estimate of input   text bytes / 3, rounded up, + media   (what admission reserves)
    estimate of input         text bytes / 4, rounded up, + media   (what a broken stream is billed)
    estimate of output        delivered text bytes / 4, rounded up

Text bytes are the JSON body without its base64 data. Media: 1,600 tokens for an image, a token for each 1,600 decoded
bytes of audio, a token for each 50 decoded bytes of another file. What a request only refers to by id (a previous
response, a conversation, an uploaded file, a stored prompt) can't be seen and is not in the estimate.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import orjson

from proxy.core.lightbody import BASE64_MARK, BLOCK_BYTES, IN_BASE64, MEDIA_MAX, NOTHING_TAKEN
from proxy.core.usage import Reading, Usage

if TYPE_CHECKING:
    from proxy.core.call import Call

UPPER_BYTES_PER_TOKEN: Final = 3
BYTES_PER_TOKEN: Final = 4
IMAGE_TOKENS: Final = 1_600
AUDIO_BYTES_PER_TOKEN: Final = 1_600
FILE_BYTES_PER_TOKEN: Final = 50
MEDIA_BYTES_MIN: Final = 2_048
"""In a body up to this size base64 data counts as text: there can't be much of it."""
TEXTS_MAX: Final = 65_536
_NOT_READ: Final = frozenset(
    {"model", "type", "id", "call_id", "tool_call_id", "file_id", "file_data", "image_url", "input_audio", "detail", "user",
     "safety_identifier", "prompt_cache_key", "service_tier", "metadata", "stream_options", "tool_choice", "include",
     "previous_response_id", "conversation", "reasoning_effort", "verbosity", "truncation", "stop"}
)  # fmt: skip

_DATA_URL: Final = re.compile(rb"data:([a-z]{1,32}+)[^,\"]{0,128}+\Z", re.IGNORECASE)
_HEAD_MAX_BYTES: Final = 256
_INPUT_AUDIO: Final = re.compile(rb'"data"\s*+:\s*+"')
_INPUT_AUDIO_MIN_BYTES: Final = 256
# Some encoders write "/" as "\/", which is why a backslash belongs to the data.
_OUTSIDE: Final = bytes(byte not in IN_BASE64 + b"\\" for byte in range(256))
_FIRST_BLOCK_BYTES: Final = 512
_IMAGE_LINKS: Final = (b'"image_url"', b'"input_image"')


def input_of(body: bytes, taken: Mapping[int, int] = NOTHING_TAKEN) -> tuple[int, int]:
    """Text bytes of a JSON body, and the tokens assumed for the media in it. `taken`: what lightbody.py took out of it, and where.
    Hot path: one scan of a small body.
    """
    text_bytes, media_tokens = len(body), 0
    large = text_bytes > MEDIA_BYTES_MIN or taken
    if taken:
        text_bytes += sum(taken.values())
    if large and BASE64_MARK in body:
        for kind, size in _data_urls(body, taken):
            text_bytes -= size
            if kind == b"audio":
                media_tokens += size * 3 // 4 // AUDIO_BYTES_PER_TOKEN + 1
            elif kind != b"image":
                media_tokens += size * 3 // 4 // FILE_BYTES_PER_TOKEN + 1
    if large and b"input_audio" in body:
        after = 0
        for found in islice(_INPUT_AUDIO.finditer(body), MEDIA_MAX):
            if found.start() < after:
                continue
            end = _end_of_base64(body, found.end())
            if end - found.end() >= _INPUT_AUDIO_MIN_BYTES and body.startswith(b'"', end):
                after = end + 1
                size = after - found.start()
                text_bytes -= size
                media_tokens += size * 3 // 4 // AUDIO_BYTES_PER_TOKEN + 1
    if body.find(b"image") >= 0:  # not `in`: see references.hides_names
        # {"type":"image_url","image_url":…} names it twice, {"type":"input_image","image_url":…} once each.
        media_tokens += (sum(map(body.count, _IMAGE_LINKS)) + 1) // 2 * IMAGE_TOKENS
    return max(text_bytes, 0) if large else text_bytes, media_tokens


def _data_urls(body: bytes, taken: Mapping[int, int] = NOTHING_TAKEN) -> Iterator[tuple[bytes, int]]:
    """The kind and the size of each data URL with base64. By methods of bytes, which take a tenth of the time that a pattern does:
    20 MB of pictures took 160 ms, in which nobody else was served.
    """
    at, end = body.find(BASE64_MARK), 0
    for _ in range(MEDIA_MAX):
        if at < 0:
            return
        from_ = max(end, at - _HEAD_MAX_BYTES)
        head = _DATA_URL.search(body[from_:at])
        end = at + len(BASE64_MARK)
        if head is not None:
            out = taken.get(end, 0)
            end = _end_of_base64(body, end)
            yield head[1].lower(), end - from_ - head.start() + out
        at = body.find(BASE64_MARK, end)


def _end_of_base64(body: bytes, at: int) -> int:
    """Where what is not base64 begins."""
    size = _FIRST_BLOCK_BYTES
    while at < len(body):
        block = body[at : at + size]
        found = block.translate(_OUTSIDE).find(1)
        if found >= 0:
            return at + found
        at += len(block)
        size = BLOCK_BYTES
    return at


def texts_of(body: bytes) -> str | None:
    """What a model reads of a JSON request: every text in it, one to a line; None when it is no JSON.

    Names of things (roles, types, models, ids) are left out, and media. For each message there are the two or three tokens
    that part it from the next, for which its role stands as a line of its own.
    """
    try:
        tree = orjson.loads(body)
    except ValueError:
        return None
    found: list[str] = []
    below: list[Any] = [tree]
    while below and len(found) < TEXTS_MAX:
        value = below.pop()
        if type(value) is dict:
            below += [each for name, each in reversed(value.items()) if name not in _NOT_READ]
        elif type(value) is list:
            below += reversed(value)
        elif type(value) is str and not value.startswith("data:"):
            found.append(value)
    return "\n".join(found)


def input_upper_tokens(text_bytes: int, media_tokens: int) -> int:
    """What admission reserves for the input."""
    return -(-text_bytes // UPPER_BYTES_PER_TOKEN) + media_tokens


def estimate_usage(
    call: Call,
    reading: Reading,
    *,
    count_tokens: Callable[[str], int] | None = None,
    input_text: str | None = None,
) -> Usage:
    """Usage of an answer that broke off before its usage came: its input, and the text that was delivered.

    `count_tokens` is a real tokenizer for the served model; it counts `input_text` and the text that the meter kept
    (`reading.delivered_text`), and the rule counts what it was not given. Never more than the request's own ceiling.
    """
    if count_tokens is not None and input_text is not None:
        input_tokens = count_tokens(input_text) + call.input_media_tokens
    else:
        input_tokens = -(-call.input_text_bytes // BYTES_PER_TOKEN) + call.input_media_tokens
    rest = reading.delivered_bytes
    output_tokens = 0
    if count_tokens is not None and reading.delivered_text:
        output_tokens = count_tokens(reading.delivered_text)
        rest -= len(reading.delivered_text.encode())
    output_tokens += -(-max(rest, 0) // BYTES_PER_TOKEN)
    if call.output_ceiling_tokens is not None:
        output_tokens = min(output_tokens, call.output_ceiling_tokens)
    usage = Usage(input_tokens, output_tokens, input_tokens + output_tokens)
    if call.endpoint.meter in {"transcription", "translation"}:
        usage.input_audio_tokens = call.input_media_tokens
    return usage
