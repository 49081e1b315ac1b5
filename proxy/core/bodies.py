"""Meters of answers that are not event streams: JSON of any size, subtitles, binary."""

from __future__ import annotations

import re
from typing import Final

import orjson

from proxy.core import readers
from proxy.core.call import Call
from proxy.core.record import MESSAGE_CHARS_MAX
from proxy.core.redact import shorten
from proxy.core.sieve import Sieve, reduce
from proxy.core.streams import Meter
from proxy.core.tally import Tally
from proxy.core.usage import Reading

BODY_BYTES_MAX = 2**20
"""Bodies up to this size are held and parsed whole; longer ones go through the sieve as they come."""
ERROR_TEXT_BYTES_MAX: Final = 8_192
SUBTITLE_TAIL_BYTES: Final = 4_096
_loads: Final = orjson.loads
_CUE: Final = re.compile(
    rb"(?:(\d{1,3}):)?(\d{2}):(\d{2})[.,](\d{3})\s*-->\s*(?:(\d{1,3}):)?(\d{2}):(\d{2})[.,](\d{3})"
)


class JsonMeter(Meter):
    """A JSON answer, or a JSON error. Memory is bounded whatever its size."""

    __slots__ = ("_failed", "_held", "_held_bytes", "_sieve")

    def __init__(self, call: Call, status: int) -> None:
        self._call = call  # not through super(), see LengthBody
        self._tally = Tally()
        self._failed = status >= 400
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sieve: Sieve | None = None
        if call.endpoint.meter == "media" and not self._failed:
            self._tally.unknown = True  # an answer without a body says as little

    def feed(self, data: bytes) -> None:
        """Hold it, or pass it through the sieve."""
        if self._sieve is not None:
            self._sieve.feed(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > BODY_BYTES_MAX:
            self._sieve = Sieve(readers.KEEP)
            for piece in self._held:
                self._sieve.feed(piece)
            self._held.clear()

    def finish(self, complete: bool) -> Reading:
        """Parse and read. A body that broke off is not JSON and says nothing."""
        body = b"".join(self._held) if len(self._held) != 1 else self._held[0]
        tree: object = None
        if self._sieve is not None:
            tree = self._sieve.result()
        elif body:
            try:
                tree = _loads(body)
            except ValueError:
                tree = reduce(body, readers.KEEP)
        tally = self._tally
        if self._failed:
            readers.read_error(tree, tally)
            if tally.error_message is None and body:
                tally.error_message = shorten(
                    body[:ERROR_TEXT_BYTES_MAX].decode("utf-8", "replace"), MESSAGE_CHARS_MAX
                )
        elif tree is not None:
            readers.read_body(self._call.endpoint.meter, tree, tally, self._call.hints)
        tally.complete = complete and (tree is not None or not body)
        return tally.reading()


class TextMeter(Meter):
    """Text and binary: an error page's message, a transcription's length by its last subtitle, speech by its characters."""

    __slots__ = ("_failed", "_head", "_tail")

    def __init__(self, call: Call, *, status: int, text: bool) -> None:
        super().__init__(call)
        self._failed = status >= 400 and text
        self._head = bytearray()
        meter = call.endpoint.meter
        listens = meter in {"transcription", "translation"} and status < 400
        self._tail: bytearray | None = bytearray() if listens and text else None
        if listens or (meter == "media" and status < 400):
            self._tally.unknown = True
        if meter == "speech" and status < 400:
            characters = call.hints.get("input_characters")
            if type(characters) is int:
                self._tally.units["input_characters"] = characters
            else:
                self._tally.unknown = True

    def feed(self, data: bytes) -> None:
        """Keep the head of an error, the tail of a transcription, nothing of anything else."""
        if self._failed and len(self._head) < ERROR_TEXT_BYTES_MAX:
            self._head += data[: ERROR_TEXT_BYTES_MAX - len(self._head)]
        if self._tail is not None:
            self._tail += data
            if len(self._tail) > 2 * SUBTITLE_TAIL_BYTES:
                del self._tail[:-SUBTITLE_TAIL_BYTES]

    def finish(self, complete: bool) -> Reading:
        """What little such an answer says."""
        tally = self._tally
        if self._failed and self._head:
            tally.error_message = shorten(self._head.decode("utf-8", "replace"), MESSAGE_CHARS_MAX)
        if self._tail is not None:
            cues = _CUE.findall(bytes(self._tail[-SUBTITLE_TAIL_BYTES:]))
            if cues:
                hours, minutes, seconds, thousandths = (int(digits or 0) for digits in cues[-1][4:])
                tally.units["audio_ms"] = ((hours * 60 + minutes) * 60 + seconds) * 1000 + thousandths
                tally.estimated, tally.unknown = True, False
        tally.complete = complete
        return tally.reading()
