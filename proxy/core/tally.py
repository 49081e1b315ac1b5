"""Tally: what a meter has learned of one answer so far. Readers write it, `reading` turns it into the value that is kept."""

from __future__ import annotations

from typing import Any, Final

from proxy.core import tokens
from proxy.core.record import MESSAGE_CHARS_MAX
from proxy.core.redact import shorten
from proxy.core.usage import Part, Reading, Usage

WORD_CHARS_MAX: Final = 256
PARTS_MAX: Final = 256
TEXT_BYTES_MAX: Final = 2**20
"""Text kept for a tokenizer, where one is used."""
ASIDE_BYTES_MAX: Final = 16 * 1024
"""Text put aside before it is counted."""


def word(value: Any) -> str | None:
    """A short text, or None; a number counts as its digits (some servers send error codes as numbers)."""
    if type(value) is str and value:
        return value if len(value) <= WORD_CHARS_MAX else value[:WORD_CHARS_MAX]
    if type(value) is int:
        return str(value)[:WORD_CHARS_MAX]
    return None


class Tally:
    """Mutable; belongs to one meter."""

    __slots__ = (
        "_aside",
        "_aside_bytes",
        "_keep_text",
        "_text",
        "_text_bytes",
        "_text_chars",
        "also",
        "complete",
        "error_code",
        "error_message",
        "error_type",
        "estimated",
        "finish_reason",
        "model",
        "object_id",
        "parts",
        "service_tier",
        "units",
        "unknown",
        "usage",
    )

    def __init__(self, keep_text: bool = False) -> None:
        self.usage: Usage | None = None
        self.units: dict[str, int] = {}
        self.model: str | None = None
        self.service_tier: str | None = None
        self.finish_reason: str | None = None
        self.object_id: str | None = None
        self.error_type: str | None = None
        self.error_code: str | None = None
        self.error_message: str | None = None
        self.parts: list[Part] = []
        self.also: dict[str, str] = {}
        self._keep_text = keep_text
        self._aside: list[bytes] = []
        self._aside_bytes = 0
        self._text: list[str] = []
        self._text_bytes = 0
        self._text_chars = 0
        self.estimated = False
        self.unknown = False
        self.complete = False

    def part(self, part: Part) -> None:
        """Add a part; beyond PARTS_MAX they are added up in the last one of the same model, else dropped."""
        if len(self.parts) < PARTS_MAX:
            self.parts.append(part)

    def belongs(self, object_id: Any, kind: str) -> None:
        """A further object of the answer's maker."""
        if type(object_id) is str and 0 < len(object_id) <= WORD_CHARS_MAX and len(self.also) < PARTS_MAX:
            self.also[object_id] = kind

    def error(self, error: Any) -> None:
        """Read `{"type", "code", "message"}`, or a bare text, as OpenAI and others write errors."""
        if type(error) is str:
            self.error_message = shorten(error, MESSAGE_CHARS_MAX)
        elif type(error) is dict and error:
            self.error_type = word(error.get("type")) or self.error_type
            self.error_code = word(error.get("code")) or self.error_code
            message = error.get("message")
            if type(message) is str:
                self.error_message = shorten(message, MESSAGE_CHARS_MAX)

    def wrote(self, raw: bytes) -> None:
        """Count text that the model wrote, given as the inside of a JSON string. Hot path: it is only put aside."""
        self._aside.append(raw)
        self._aside_bytes += len(raw)
        if self._aside_bytes > ASIDE_BYTES_MAX:
            self._count()

    def _count(self) -> None:
        """Count what was put aside, all at once: insides of strings are, joined, the inside of one string."""
        text = tokens.unescape(b"".join(self._aside))
        self._aside.clear()
        self._aside_bytes = 0
        if self._keep_text and self._text_bytes < TEXT_BYTES_MAX:
            self._text.append(text)
        self._text_chars += len(text)
        self._text_bytes += len(text.encode("utf-8", "surrogatepass"))

    def reading(self) -> Reading:
        """The value of what is known now."""
        if self._aside:
            self._count()
        usage = tokens.with_units(self.usage, self.units) if self.units else self.usage
        reading = Reading(usage, self.model, self.service_tier, self.finish_reason, self.object_id)
        reading.estimated = self.estimated
        reading.unknown = self.unknown
        reading.complete = self.complete
        if self.error_type or self.error_code or self.error_message:
            reading.error_type = self.error_type
            reading.error_code = self.error_code
            reading.error_message = self.error_message
        if self.parts:
            reading.parts = tuple(self.parts)
        if self.also:
            reading.also = tuple(self.also.items())
        if self._text_bytes:
            reading.delivered_chars = self._text_chars
            reading.delivered_bytes = self._text_bytes
            reading.delivered_text = "".join(self._text)
        return reading
