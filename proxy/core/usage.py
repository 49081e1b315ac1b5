"""Usage: what one answer consumed, as numbers. The one shape that every OpenAI usage report is read into.

Token classes are nested, never disjoint, exactly as OpenAI reports them: cached, cache-written, audio and image input
tokens are parts of `input_tokens`; reasoning, audio and image tokens are parts of `output_tokens`. Pricing makes
them disjoint before it multiplies (see `price.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from proxy.core.given import set_given

TOOL_PREFIX = "tool:"


@dataclass(init=False, slots=True)  # made for each request: see given.py
class Usage:
    """Token counts of one answer, and its other units. All counts are whole and not negative."""

    input_tokens: int
    """All input, its cached and cache-written parts included."""
    output_tokens: int
    """All output, its reasoning part included."""
    total_tokens: int
    """As OpenAI reported it, else input + output."""
    cached_input_tokens: int
    cache_write_tokens: int
    """Input written to the prompt cache, for 30 minutes or 12 hours."""
    cache_write_12h_tokens: int
    """The part of `cache_write_tokens` that was written for 12 hours."""
    input_audio_tokens: int
    cached_audio_tokens: int
    """The part of the input that is both audio and cached."""
    input_image_tokens: int
    cached_image_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    units: tuple[tuple[str, int], ...]
    """What is not tokens, sorted by name, e.g. ("web_searches", 2). Durations in ms, named `…_ms`. The names with a price:

    fees, each counted    web_searches, web_search_previews (of the tool's preview), file_searches,
                          containers_1g, containers_4g, containers_16g, containers_64g
    other measures        input_characters, audio_ms (all of it), input_audio_ms, output_audio_ms (parts of it),
                          video_ms (of the model's default size), video_1024x1792_ms (of that size), trained_tokens
    sums                  requests: how many requests the other numbers are a sum of (a batch); without it one

    A fee without a price makes the cost unknown; a measure does so only where nothing else was priced.
    """

    def __init__(
        self, input_tokens: int = 0, output_tokens: int = 0, total_tokens: int = 0, **given: Any
    ) -> None:
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.total_tokens = total_tokens
        self.cached_input_tokens = self.cache_write_tokens = self.cache_write_12h_tokens = 0
        self.input_audio_tokens = self.cached_audio_tokens = 0
        self.input_image_tokens = self.cached_image_tokens = 0
        self.reasoning_tokens = self.output_audio_tokens = self.output_image_tokens = 0
        self.units = ()
        if given:
            set_given(self, given)


COUNTS: tuple[str, ...] = tuple(field.name for field in fields(Usage) if field.name != "units")
"""The names of its token counts."""


@dataclass(frozen=True, slots=True)
class Part:
    """Usage of an answer that another model served inside it, e.g. an image tool of a response."""

    kind: str
    """Where it was found: "image_gen", "svg", "grader" …"""
    model: str | None
    usage: Usage
    object_id: str | None = None
    """The object that this usage belongs to, where it may show in several answers (a container, a turn): bill it once."""

    @property
    def served_by(self) -> str:
        """What its record names as the model that served: `tool:<kind>` where the answer names none."""
        return self.model or TOOL_PREFIX + self.kind


@dataclass(init=False, slots=True)  # made for each request: see given.py
class Reading:
    """What a meter read from one answer. Nothing in it is guessed: None is "the answer did not say"."""

    usage: Usage | None
    """None: no usage was reported. `Usage()`: zero was reported."""
    model: str | None
    service_tier: str | None
    finish_reason: str | None
    object_id: str | None
    """The id of the object that the usage belongs to (`resp_…`, `chatcmpl-…`, `batch_…`)."""
    error_type: str | None
    error_code: str | None
    error_message: str | None
    parts: tuple[Part, ...]
    delivered_chars: int
    """Characters of text that the model wrote and that passed by; for estimates of broken streams."""
    delivered_bytes: int
    """The same text in UTF-8 bytes, which track tokens better across languages."""
    delivered_text: str = field(repr=False)
    """The text itself, bounded; only where the meter was told to keep it for a tokenizer."""
    also: tuple[tuple[str, str], ...]
    """(id, kind) of further objects that the answer shows to be its maker's: a run's thread, a batch's output file."""
    estimated: bool
    """The usage was inferred (a subtitle's last time stamp), not reported."""
    unknown: bool
    """Something was consumed that the answer can't say (plain text of a transcription): its cost is unknown, not zero."""
    complete: bool
    """The answer came to its own end (last event, whole body), so nothing more was to come."""

    def __init__(
        self,
        usage: Usage | None = None,
        model: str | None = None,
        service_tier: str | None = None,
        finish_reason: str | None = None,
        object_id: str | None = None,
        **given: Any,
    ) -> None:
        self.usage = usage
        self.model = model
        self.service_tier = service_tier
        self.finish_reason = finish_reason
        self.object_id = object_id
        self.error_type = self.error_code = self.error_message = None
        self.parts = ()
        self.delivered_chars = self.delivered_bytes = 0
        self.delivered_text = ""
        self.also = ()
        self.estimated = self.unknown = self.complete = False
        if given:
            set_given(self, given)
