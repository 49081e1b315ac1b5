"""Opening the right meter for an answer. What a meter does is told in chunks.py, typed.py and bodies.py.

Each is sans-I/O: `feed` the bytes of the body as they come, then `finish`. The answer's own content type decides, never what the
request asked for. No bytes make a meter raise, its memory is bounded, and what it reads does not depend on how they were cut.
"""

from __future__ import annotations

from proxy.core.bodies import JsonMeter, TextMeter
from proxy.core.call import Call
from proxy.core.chunks import ChunkMeter
from proxy.core.decode import Decoder, codings_of
from proxy.core.splice import UsageStripper
from proxy.core.streams import Meter
from proxy.core.typed import METERS, TypedMeter
from proxy.core.usage import Reading

__all__ = ["DECODED_BYTES_MAX", "Meter", "open_meter"]

DECODED_BYTES_MAX = 2**28
"""A compressed answer is decoded up to this many bytes; a longer one is a bomb and says nothing more."""


def open_meter(
    call: Call,
    *,
    status: int,
    content_type: str,
    content_encoding: str = "",
    strip_usage: bool = False,
    keep_text: bool = False,
) -> Meter:
    """The meter of one answer.

    `strip_usage`: the request was spliced; where the answer is a stream in plain encoding, the meter's `feed_through` takes the
    added bytes out (`Meter.strips` says so). `keep_text`: keep the delivered text (bounded) for a tokenizer.
    """
    kind = content_type.partition(";")[0].strip().lower()
    codings = codings_of(content_encoding)
    if kind == "text/event-stream":
        if strip_usage and codings == ():
            return UsageStripper(call, keep_text=keep_text)
        meter = _stream(call, keep_text=keep_text)
    elif "json" in kind or not kind:
        meter = JsonMeter(call, status) if "jsonl" not in kind else TextMeter(call, status=status, text=False)
    else:
        meter = TextMeter(call, status=status, text=kind.startswith("text/"))
    if codings == ():
        return meter
    return EncodedMeter(call, meter, codings)


def _stream(call: Call, *, keep_text: bool) -> Meter:
    if call.endpoint.meter in METERS:
        return TypedMeter(call, keep_text=keep_text)
    return ChunkMeter(call, keep_text=keep_text)


class EncodedMeter(Meter):
    """A compressed answer: the meter inside gets a decoded copy. An answer that can't be decoded says nothing."""

    __slots__ = ("_decoder", "_inside")

    def __init__(self, call: Call, inside: Meter, codings: tuple[str, ...] | None) -> None:
        super().__init__(call)
        self._inside = inside
        self._decoder = None if codings is None else Decoder(codings, DECODED_BYTES_MAX)

    def feed(self, data: bytes) -> None:
        """Decode in pieces of bounded size."""
        if self._decoder is not None:
            for piece in self._decoder.pieces(data):
                self._inside.feed(piece)

    def finish(self, complete: bool) -> Reading:
        """What the meter inside read; nothing where the coding broke, since how much came before depends on the cut."""
        if self._decoder is None or self._decoder.failed:
            return Reading()
        return self._inside.finish(complete)
