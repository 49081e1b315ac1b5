"""Bodies of HTTP/1.1 answers as bytes: what frames one, and where it ends (RFC 9112, sections 6-7).

Sans-I/O. A reader says how many bytes belong to the message, so that the relay can pass them on untouched, chunk sizes and
trailers included, and gives the decoded content to the meter. Heads are read in answerhead.py.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.answerhead import FramingError, ResponseHead

CHUNK_LINE_MAX_BYTES: Final = 8 * 1024
TRAILERS_MAX_BYTES: Final = 64 * 1024
WHOLE_BYTES_MAX: Final = 4096
"""A chunk that comes alone and is not longer, as those of streams are, is known by its length and how it begins."""
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n\0]*)?\r\n")


class Body:
    """How an answer's body is framed. `take` says how many of the bytes given belong to it.

    `content` is the decoded content of the last `take`; `done` that the body has ended by its own framing.
    """

    __slots__ = ("content", "done")

    framed = True
    """The framing tells the end; False: the end of the connection does."""
    chunked = False

    def __init__(self, *, done: bool = False) -> None:
        self.done = done
        self.content: bytes = b""

    def take(self, data: bytes) -> int:
        """No body: nothing belongs to it."""
        del data
        return 0


class LengthBody(Body):
    """Framed by Content-Length."""

    __slots__ = ("left",)

    def __init__(self, length: int) -> None:
        # Not through super(), which costs as much as all the rest: one is made for each answer.
        self.done = length == 0
        self.content = b""
        self.left = length

    def take(self, data: bytes) -> int:
        """Up to `left` bytes."""
        size = len(data)
        if size > self.left:
            size = self.left
            data = data[:size]
        self.left -= size
        self.done = self.left == 0
        self.content = data
        return size


class UntilCloseBody(Body):
    """Ends with the connection (RFC 9112, 6.3, rule 8)."""

    __slots__ = ()

    framed = False

    def take(self, data: bytes) -> int:
        """All of it."""
        self.content = data
        return len(data)


_SIZE, _DATA, _DATA_END, _TRAILER = range(4)


class ChunkedBody(Body):
    """Framed in chunks. Strict: a size that is not plain hexadecimal, or a bare LF, is an error."""

    __slots__ = ("_left", "_line", "_state", "_trailers")

    chunked = True

    def __init__(self) -> None:
        super().__init__()
        self._state = _SIZE
        self._left = 0
        self._line = b""
        self._trailers = 0

    def take(self, data: bytes) -> int:
        """Everything up to the end of the last chunk's trailers. Raises FramingError. Hot path: one whole chunk."""
        at, end = 0, len(data)
        if end <= WHOLE_BYTES_MAX and self._state == _SIZE and not self._line:
            line = _WHOLE[end]
            if line and data.startswith(line) and data.endswith(b"\r\n"):
                self.content = data[len(line) : -2]
                return end
        pieces: list[bytes] = []
        while at < end and not self.done:
            if self._state == _DATA:
                stop = min(end, at + self._left)
                pieces.append(data[at:stop])
                self._left -= stop - at
                at = stop
                if not self._left:
                    self._state = _DATA_END
                continue
            line_end = data.find(b"\n", at)
            if line_end < 0:
                self._line += data[at:]
                if len(self._line) > CHUNK_LINE_MAX_BYTES:
                    raise FramingError("a chunk's header is too long")
                at = end
                break
            line = data[at : line_end + 1]
            if self._line:
                line = self._line + line
                self._line = b""
            at = line_end + 1
            self._take_line(line)
        self.content = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return at

    def _take_line(self, line: bytes) -> None:
        if self._state == _SIZE:
            if len(line) > CHUNK_LINE_MAX_BYTES:
                raise FramingError("a chunk's header is too long")
            self._left = _read_size(line)
            self._state = _DATA if self._left else _TRAILER
        elif self._state == _DATA_END:
            if line != b"\r\n":
                raise FramingError("a chunk is longer than its size")
            self._state = _SIZE
        else:
            self._trailers += len(line)
            if not line.endswith(b"\r\n") or self._trailers > TRAILERS_MAX_BYTES:
                raise FramingError("the trailers are malformed or too large")
            self.done = line == b"\r\n"


def _read_size(line: bytes) -> int:
    """The size that begins a chunk. Raises FramingError."""
    size = _CHUNK_SIZE.fullmatch(line)
    if size is None:
        raise FramingError("a chunk's size is malformed")
    return int(size[1], 16)


def _whole_chunks() -> list[bytes]:
    """What a chunk begins with that has so many bytes, its framing included; empty where no chunk has."""
    lines = [b""] * (WHOLE_BYTES_MAX + 1)
    for size in range(1, WHOLE_BYTES_MAX):
        line = b"%x\r\n" % size
        whole = len(line) + size + 2
        if whole <= WHOLE_BYTES_MAX:
            lines[whole] = line
    return lines


_WHOLE: Final = _whole_chunks()


def body_of(head: ResponseHead, method: bytes) -> Body:
    """The reader for this answer's body (RFC 9112, 6.3). Raises FramingError."""
    status = head.status
    if method == b"HEAD" or (status != 200 and (status in {204, 304} or status < 200)):
        return Body(done=True)
    encoding = head.fields.get(b"transfer-encoding")
    length = head.fields.get(b"content-length")
    if encoding is not None:
        if length is not None:
            raise FramingError("the answer has a length and a transfer encoding")
        if encoding.lower().rpartition(b",")[2].strip() == b"chunked" and not head.http_1_0:
            return ChunkedBody()
        head.keep_alive = False
        return UntilCloseBody()
    if length is None:
        head.keep_alive = False
        return UntilCloseBody()
    if not length.isdigit() or len(length) > 18:
        raise FramingError("the answer's length is malformed")
    return LengthBody(decimal(length))


def decimal(digits: bytes) -> int:
    """The number that these digits write. Hot path: compiled, int() takes ten times as long."""
    number = 0
    for digit in digits:
        number = number * 10 + digit - 48
    return number


def chunk(data: bytes) -> bytes:
    """`data`, not empty, as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"
