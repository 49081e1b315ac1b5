"""Opening the right meter for an answer. What a meter does is told in chunks.py, typed.py and bodies.py.

Each is sans-I/O: `feed` the bytes of the body as they come, then `finish`. The answer's own content type decides, never what the
request asked for. No bytes make a meter raise, its memory is bounded, and what it reads does not depend on how they were cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from proxy.core.bodies import JsonMeter, TextMeter
from proxy.core.call import Call
from proxy.core.chunks import ChunkMeter
from proxy.core.decode import Decoder, codings_of
from proxy.core.splice import UsageStripper
from proxy.core.streams import Meter
from proxy.core.typed import METERS, TypedMeter
from proxy.core.usage import Reading

__all__ = ["DECODED_BYTES_MAX", "Kind", "Meter", "kind_of", "open_meter"]

DECODED_BYTES_MAX = 2**28
"""A compressed answer is decoded up to this many bytes; a longer one is a bomb and says nothing more."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What an answer says that it is."""

    is_stream: bool
    is_json: bool
    is_text: bool
    codings: tuple[str, ...] | None
    """To be undone, in this order; None: one of them is not known."""


@lru_cache(maxsize=256)
def kind_of(content_type: bytes, content_encoding: bytes) -> Kind:
    """Of two headers' values, b"" where there is none; upstreams have few different ones."""
    said = content_type.decode("latin-1").partition(";")[0].strip().lower()
    return Kind(
        said == "text/event-stream",
        ("json" in said and "jsonl" not in said) or not said,
        said.startswith("text/") and "json" not in said,
        codings_of(content_encoding.decode("latin-1")),
    )


def open_meter(
    call: Call,
    kind: Kind,
    *,
    status: int,
    strip_usage: bool = False,
    keep_text: bool = False,
) -> Meter:
    """The meter of one answer.

    `strip_usage`: the request was spliced; where the answer is a stream in plain encoding, the meter's `feed_through` takes the
    added bytes out (`Meter.strips` says so). `keep_text`: keep the delivered text (bounded) for a tokenizer.
    """
    codings = kind.codings
    if call.endpoint.content and status < 400:
        return TextMeter(call, status=status, text=False)
    if kind.is_stream:
        if strip_usage and codings == ():
            return UsageStripper(call, keep_text=keep_text)
        meter = _stream(call, keep_text=keep_text)
    elif kind.is_json:
        meter = JsonMeter(call, status)
    else:
        meter = TextMeter(call, status=status, text=kind.is_text)
    return meter if codings == () else EncodedMeter(call, meter, codings)


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
