"""Content codings undone for a look inside: gzip, deflate, br, zstd, also stacked; incremental and bounded.

The bytes that pass are never touched. A decompression bomb costs no memory: output comes in pieces of at most
PIECE_BYTES_MAX, and once an answer has grown beyond its limit the rest is not decoded.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
import zstandard

PIECE_BYTES_MAX = 256 * 1024
CODINGS_MAX = 4


class _Decoder(Protocol):
    def pieces(self, data: bytes) -> Iterator[bytes]: ...


class _Zlib:
    """gzip and deflate; deflate as zlib, or raw as some servers send it (RFC 9110, 8.4.1.2, note)."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._decoder = zlib.decompressobj(31) if self._gzip else None
        self._head = b""
        self._members = 0
        """Whole gzip members so far."""

    def pieces(self, data: bytes) -> Iterator[bytes]:
        decoder = self._decoder
        if decoder is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            wrapped = data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0  # RFC 1950, 2.2
            decoder = self._decoder = zlib.decompressobj(15 if wrapped else -15)
        while data:
            try:
                out = decoder.decompress(data, PIECE_BYTES_MAX)
            except zlib.error:
                if not self._members:
                    raise
                return  # padding after the last member
            if out:
                yield out
            data = decoder.unconsumed_tail
            if decoder.eof:
                data = decoder.unused_data
                if not self._gzip or not data:
                    return
                self._members += 1
                decoder = self._decoder = zlib.decompressobj(31)


class _Brotli:
    """The library's limit on output is rounded up to its own blocks."""

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        out = self._decoder.process(data, output_buffer_limit=PIECE_BYTES_MAX)
        while out:
            yield out
            if self._decoder.can_accept_more_data():
                return
            out = self._decoder.process(b"", output_buffer_limit=PIECE_BYTES_MAX)


class _Zstd:
    """Input in small slices, since the library's streaming object has no bound on what one call returns."""

    SLICE_BYTES = 64
    WINDOW_BYTES_MAX = 8 * 2**20

    def __init__(self) -> None:
        self._decoder = self._new()

    def _new(self) -> zstandard.ZstdDecompressionObj:
        return zstandard.ZstdDecompressor(max_window_size=self.WINDOW_BYTES_MAX).decompressobj()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        view = memoryview(data)
        position = 0
        while position < len(view):
            piece = bytes(view[position : position + self.SLICE_BYTES])
            position += len(piece)
            out = self._decoder.decompress(piece)
            if out:
                yield out
            if self._decoder.eof:
                position -= len(self._decoder.unused_data)
                self._decoder = self._new()


def codings_of(content_encoding: str) -> tuple[str, ...] | None:
    """The codings in the order they are to be undone; () for none; None when one is not known."""
    if not content_encoding:
        return ()
    names = [name.strip().lower() for name in content_encoding.split(",")]
    kept = [_ALIASES.get(name, name) for name in names if name not in {"", "identity"}]
    if len(kept) > CODINGS_MAX or any(name not in _DECODERS for name in kept):
        return None
    return tuple(reversed(kept))


_ALIASES = {"x-gzip": "gzip", "x-deflate": "deflate"}
_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: _Zlib("gzip"),
    "deflate": lambda: _Zlib("deflate"),
    "br": _Brotli,
    "zstd": _Zstd,
}


class Decoder:
    """Undoes one answer's codings. After an error, or beyond the limit, it yields nothing more and `failed` is true."""

    __slots__ = ("_left", "_steps", "failed")

    def __init__(self, codings: tuple[str, ...], bytes_max: int) -> None:
        self._steps: list[_Decoder] = [_DECODERS[name]() for name in codings]
        self._left = bytes_max
        self.failed = False

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Decoded pieces, each at most PIECE_BYTES_MAX where the coding allows a bound. Never raises."""
        if self.failed:
            return
        try:
            for piece in self._run(data, 0):
                self._left -= len(piece)
                if self._left < 0:
                    self.failed = True
                    return
                yield piece
        except (zlib.error, brotli.error, zstandard.ZstdError, EOFError, MemoryError):
            self.failed = True

    def _run(self, data: bytes, step: int) -> Iterator[bytes]:
        if step == len(self._steps):
            yield data
            return
        for piece in self._steps[step].pieces(data):
            yield from self._run(piece, step + 1)


def decode_whole(body: bytes, content_encoding: bytes, bytes_max: int) -> bytes | None:
    """A whole body without its codings; None when one is not known, it is broken, or it grows beyond `bytes_max`."""
    codings = codings_of(content_encoding.decode("latin-1"))
    if codings is None:
        return None
    if not codings:
        return body
    decoder = Decoder(codings, bytes_max)
    decoded = b"".join(decoder.pieces(body))
    return None if decoder.failed else decoded


def decode_labelled(body: bytes, content_encoding: bytes, bytes_max: int) -> bytes | None:
    """As decode_whole, but with a coding that is not known the body as it is: who ignores such a label reads it so."""
    if codings_of(content_encoding.decode("latin-1")) is None:
        return body
    return decode_whole(body, content_encoding, bytes_max)


def as_utf8(body: bytes) -> bytes:
    """A JSON body in UTF-8 without a byte order mark, whatever Unicode encoding it came in (RFC 4627, 3)."""
    encoding = json.detect_encoding(body)
    if encoding == "utf-8":
        return body
    return body.decode(encoding, "replace").encode("utf-8", "replace")
