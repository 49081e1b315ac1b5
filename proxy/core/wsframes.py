"""WebSocket frames as they pass by in one direction (RFC 6455), also compressed (RFC 7692), read without taking part.

Bytes in, pieces of text messages out. Nothing is answered, corrected or held back: the frames themselves travel on as they
came. Memory is bounded: payloads come in pieces as they arrive. Bytes that are no frames set `failed`, and then nothing more
is read.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import NamedTuple

INFLATED_BYTES_MAX = 2**30
"""One message may grow to this when it is inflated; a longer one is a bomb, and the direction is given up."""
PIECE_BYTES_MAX = 256 * 1024
_TEXT, _BINARY, _CLOSE = 1, 2, 8
_TAIL = b"\x00\x00\xff\xff"


class Piece(NamedTuple):
    """A part of a text message; `last` ends the message."""

    data: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Deflate:
    """permessage-deflate as it was agreed, for one direction."""

    window_bits: int = 15
    takeover: bool = True
    """The window is kept from message to message."""


def deflate_of(extensions: str, *, from_client: bool) -> Deflate | None:
    """What the answer's Sec-WebSocket-Extensions agrees on for one direction; None without compression."""
    for offer in extensions.split(","):
        name, *parameters = (part.strip().lower() for part in offer.split(";"))
        if name != "permessage-deflate":
            continue
        given = dict(parameter.partition("=")[::2] for parameter in parameters)
        side = "client" if from_client else "server"
        bits = given.get(f"{side}_max_window_bits", "").strip('"')
        return Deflate(
            window_bits=int(bits) if bits.isdigit() and 8 <= int(bits) <= 15 else 15,
            takeover=f"{side}_no_context_takeover" not in given,
        )
    return None


class FrameReader:
    """One direction of one connection."""

    __slots__ = (
        "_compressed", "_control", "_deflate", "_final", "_head", "_inflated", "_inflater", "_left", "_mask", "_open",
        "_place", "_read", "_text", "closed", "failed", "settled",
    )  # fmt: skip

    def __init__(self, deflate: Deflate | None = None) -> None:
        self._deflate = deflate
        self._inflater = _inflater(deflate)
        self._inflated = 0
        self._head = bytearray()
        self._left = -1
        """Bytes of the frame's payload that have not come; -1 while its head is not whole."""
        self._mask: bytes | None = None
        self._place = 0
        """How far into the payload, for the mask."""
        self._final = True
        self._control = False
        self._open = False
        """Between two frames of one message."""
        self._text = False
        self._compressed = False
        self._read = 0
        """Bytes read before the piece at hand."""
        self.settled = 0
        """Bytes up to the end of the last frame behind which no message was under way."""
        self.closed = False
        """A close frame went by."""
        self.failed = False

    @property
    def between_frames(self) -> bool:
        """All of what came is whole frames, so that another one could follow."""
        return self._left < 0 and not self._head and not self.failed

    @property
    def between_messages(self) -> bool:
        """All of what came is whole messages."""
        return self.between_frames and not self._open

    def feed(self, data: bytes) -> list[Piece]:
        """The next bytes of the direction; returns the text that they hold. Never raises."""
        pieces: list[Piece] = []
        position = 0
        while position < len(data) and not self.failed:
            if self._left < 0:
                position = self._read_head(data, position)
                if self._left == 0:
                    self._end_frame(pieces, self._read + position)
                continue
            taken = data[position : position + self._left]
            position += len(taken)
            self._left -= len(taken)
            if not self._control:
                self._payload(taken, pieces)
            self._place += len(taken)
            if self._left == 0:
                self._end_frame(pieces, self._read + position)
        self._read += len(data)
        return pieces

    def _read_head(self, data: bytes, position: int) -> int:
        head = self._head
        while True:
            need = _head_length(head)
            if len(head) == need:
                break
            if position == len(data):
                return position
            taken = data[position : position + need - len(head)]
            head += taken
            position += len(taken)
        self._start_frame(bytes(head))
        head.clear()
        return position

    def _start_frame(self, head: bytes) -> None:
        opcode, length = head[0] & 0x0F, head[1] & 0x7F
        masked = head[1] & 0x80
        at = 2
        if length >= 126:
            width = 2 if length == 126 else 8
            length = int.from_bytes(head[2 : 2 + width], "big")
            at += width
        self._mask = head[at : at + 4] if masked else None
        self._left, self._place = length, 0
        self._control = opcode >= 8
        compressed = bool(head[0] & 0x40)
        if self._control:
            self.closed = self.closed or opcode == _CLOSE
            self.failed = length > 125 or opcode > 10 or not head[0] & 0x80
            return
        self._final = bool(head[0] & 0x80)
        if opcode:
            self._text, self._compressed, self._inflated = opcode == _TEXT, compressed, 0
        known = opcode in {0, _TEXT, _BINARY} and bool(opcode) != self._open
        allowed = not head[0] & 0x30 and (not compressed or (self._deflate is not None and bool(opcode)))
        self.failed = not known or not allowed or length >= 2**63
        self._open = True

    def _payload(self, data: bytes, pieces: list[Piece]) -> None:
        if not self._text and not self._compressed:
            return
        if self._mask is not None:
            data = _unmasked(data, self._mask, self._place)
        if self._compressed:
            self._inflate(data, pieces)
        else:
            pieces.append(Piece(data, False))

    def _inflate(self, data: bytes, pieces: list[Piece]) -> None:
        """Binary messages are inflated as well: the next text may refer to them."""
        inflater = self._inflater
        assert inflater is not None
        try:
            while data:
                out = inflater.decompress(data, PIECE_BYTES_MAX)
                data = inflater.unconsumed_tail
                self._inflated += len(out)
                if self._inflated > INFLATED_BYTES_MAX:
                    self.failed = True
                    return
                if self._text and out:
                    pieces.append(Piece(out, False))
                if inflater.eof:
                    # A message may end its stream (RFC 7692, 7.2.3.4); what follows starts a new one.
                    data = inflater.unused_data
                    inflater = self._inflater = _inflater(self._deflate)
                    assert inflater is not None
        except zlib.error:
            self.failed = True

    def _end_frame(self, pieces: list[Piece], end: int) -> None:
        self._left = -1
        if self._control and not self._open and not self.failed:
            self.settled = end
        if self._control or not self._final or self.failed:
            return
        if self._compressed:
            self._inflate(_TAIL, pieces)
            if self._deflate is not None and not self._deflate.takeover:
                self._inflater = _inflater(self._deflate)
        if self._text and not self.failed:
            pieces.append(Piece(b"", True))
        self._open = self._text = self._compressed = False
        if not self.failed:
            self.settled = end


def _head_length(head: bytearray) -> int:
    """How long the head will be, as far as its bytes say."""
    if len(head) < 2:
        return 2
    length = head[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if head[1] & 0x80 else 0)


def _unmasked(data: bytes, mask: bytes, place: int) -> bytes:
    shift = place % 4
    key = (mask[shift:] + mask[:shift]) * (len(data) // 4 + 1)
    mixed = int.from_bytes(data, "little") ^ int.from_bytes(key[: len(data)], "little")
    return mixed.to_bytes(len(data), "little")


def _inflater(deflate: Deflate | None) -> zlib._Decompress | None:
    # zlib can't read streams of 8 bits; one of 9 reads them all the same.
    return None if deflate is None else zlib.decompressobj(-max(deflate.window_bits, 9))
