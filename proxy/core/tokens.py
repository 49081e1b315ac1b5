"""OpenAI's usage objects, read into Usage. One tolerant reader for all their shapes, since no two of them disagree.

The shapes (names as in docs/reference/metering.md):

    prompt_tokens/completion_tokens, prompt_tokens_details/completion_tokens_details    chat, completions, embeddings, runs, evals
    input_tokens/output_tokens, input_tokens_details/output_tokens_details              responses, decisions, images, speech, batches, agents
    input_tokens/output_tokens, input_token_details/output_token_details                transcription, realtime (singular `token`)
    type: duration, seconds                                                             transcription by the minute, live sessions

Values that are no numbers, negative or absurd count as 0, of fractions the whole part: no answer can make a reader raise.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final

import orjson

from proxy.core.usage import COUNTS, Usage

COUNT_MAX: Final = 2**40
"""More tokens than any answer can report: a batch of 50,000 requests of a million each has a twentieth of it. Sums of millions
of such records fit a bigint.
"""
SECONDS_MAX: Final = 10**9

_INPUT_DETAILS: Final = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS: Final = ("completion_tokens_details", "output_tokens_details", "output_token_details")
_KNOWN: Final = frozenset(
    {"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "seconds"}
)


def unescape(raw: bytes) -> str:
    """The text of a JSON string, given what stands between its quotes. Lone surrogates and bad UTF-8 are let pass."""
    if b"\\" not in raw:
        return raw.decode("utf-8", "replace")
    try:
        return str(orjson.loads(b'"%b"' % raw))
    except ValueError:
        pass
    text = raw.decode("utf-8", "replace")
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def count(value: Any) -> int:
    """A number from 0 to COUNT_MAX, without its fraction; anything else is 0."""
    if type(value) is int:
        return value if 0 <= value <= COUNT_MAX else 0
    if type(value) is float and 0 <= value <= COUNT_MAX:
        return int(value)
    return 0


def milliseconds(seconds: Any) -> int | None:
    """Seconds as a number or decimal text, in whole milliseconds, rounded half up; None when it is neither."""
    if type(seconds) is str and len(seconds) <= 32:
        try:
            seconds = float(seconds)
        except ValueError:
            return None
    if type(seconds) not in {int, float} or not 0 <= seconds <= SECONDS_MAX:
        return None
    return int(seconds * 1000 + 0.5)


def looks_like_usage(value: Any) -> bool:
    """A mapping with at least one of the names that every usage object has."""
    return type(value) is dict and not _KNOWN.isdisjoint(value)


def read(value: Any, *, duration_unit: str = "audio_ms") -> Usage | None:
    """Usage of one object; None when it is not a usage object. A duration becomes the unit `duration_unit`."""
    if type(value) is not dict or _KNOWN.isdisjoint(value):
        return None
    said: dict[str, Any] = value
    units: tuple[tuple[str, int], ...] = ()
    if "seconds" in said:
        length = milliseconds(said.get("seconds"))
        if length is not None:
            units = ((duration_unit, length),)
    input_tokens = count(said.get("prompt_tokens") or said.get("input_tokens"))
    output_tokens = count(said.get("completion_tokens") or said.get("output_tokens"))
    total_tokens = count(said.get("total_tokens")) or input_tokens + output_tokens
    into, outof = said.get(_INPUT_DETAILS[0]), said.get(_OUTPUT_DETAILS[0])
    if type(into) is not dict:
        into = _details(said, _INPUT_DETAILS)
    if type(outof) is not dict:
        outof = _details(said, _OUTPUT_DETAILS)
    usage = Usage(input_tokens, output_tokens, total_tokens)
    usage.units = units
    # Most answers detail nothing but zeros, and others only a few classes: the rest of them need not be counted.
    beside = "cached_tokens" in said or "cached_tokens_details" in said or "reasoning_tokens" in said
    if beside or _tells(into):
        if amount := into.get("cached_tokens") or said.get("cached_tokens"):
            usage.cached_input_tokens = count(amount)
        if amount := into.get("cache_write_tokens"):
            usage.cache_write_tokens = count(amount)
        if amount := into.get("audio_tokens"):
            usage.input_audio_tokens = count(amount)
        if amount := into.get("image_tokens"):
            usage.input_image_tokens = count(amount)
        cached = into.get("cached_tokens_details") or said.get("cached_tokens_details")
        if type(cached) is dict:
            usage.cached_audio_tokens = count(cached.get("audio_tokens"))
            usage.cached_image_tokens = count(cached.get("image_tokens") or cached.get("cached_image_tokens"))
        written = into.get("cache_write_tokens_details")
        if type(written) is dict:
            usage.cache_write_12h_tokens = count(written.get("ttl_12h_tokens"))
    if beside or _tells(outof):
        if amount := outof.get("reasoning_tokens") or said.get("reasoning_tokens"):
            usage.reasoning_tokens = count(amount)
        if amount := outof.get("audio_tokens"):
            usage.output_audio_tokens = count(amount)
        if amount := outof.get("image_tokens"):
            usage.output_image_tokens = count(amount)
    return usage


def _tells(details: dict[str, Any]) -> bool:
    """Whether they have anything but zeros."""
    for amount in details.values():  # noqa: SIM110  any() takes twice as long
        if amount:
            return True
    return False


def _details(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    for name in names:
        details = value.get(name)
        if type(details) is dict:
            return details
    return {}


def add(first: Usage, second: Usage) -> Usage:
    """Both together, class by class and unit by unit."""
    units = dict(first.units)
    for name, amount in second.units:
        units[name] = units.get(name, 0) + amount
    sums = {name: getattr(first, name) + getattr(second, name) for name in COUNTS}
    return Usage(**sums, units=tuple(sorted(units.items())))


def with_units(usage: Usage | None, more: dict[str, int]) -> Usage | None:
    """The usage with further units; zero amounts are left out. None stays None only when there are no units to add."""
    more = {name: amount for name, amount in more.items() if amount > 0}
    if not more:
        return usage
    return add(usage or Usage(), Usage(units=tuple(sorted(more.items()))))


def replaced(usage: Usage, **changes: int) -> Usage:
    """The usage with some classes set anew."""
    return replace(usage, **changes)  # type: ignore[arg-type]
