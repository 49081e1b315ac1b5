"""HTTP/1.1 as bytes, for both ends of a test: a strict sans-I/O reader and the encoders of odd but legal framing.

It shares no code with the proxy, so that a mistake made there can't be made here too. Whatever it is not sure of is a
WireError: a proxy that sends it fails the test. Framing follows RFC 9112, sections 2 to 7.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

HEAD_BYTES_MAX = 1 << 20
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;.*)?")


class WireError(Exception):
    """The other side broke HTTP/1.1's framing."""


@dataclass(frozen=True, slots=True)
class Head:
    """A start line and its header lines, exactly as they came."""

    raw: bytes
    start: bytes
    lines: tuple[bytes, ...]

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """`raw` ends with the blank line. Bare CR or LF, folded lines and bad names are WireErrors."""
        start, *lines = raw.removesuffix(b"\r\n\r\n").split(b"\r\n")
        for line in (start, *lines):
            if b"\r" in line or b"\n" in line or b"\0" in line:
                raise WireError(f"a control character in {line!r}")
        for line in lines:
            name, colon, _ = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(name):
                raise WireError(f"not a header line: {line!r}")
        return cls(raw, start, tuple(lines))

    @property
    def fields(self) -> tuple[tuple[bytes, bytes], ...]:
        """(name, value) in order; names keep their case, values lose the space around them."""
        parted = (line.partition(b":") for line in self.lines)
        return tuple((name, value.strip(b" \t")) for name, _, value in parted)

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header, in order; the name's case doesn't matter."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: bytes) -> bytes | None:
        """The only value of a header, None without it. Two are a WireError."""
        values = self.all(name)
        if len(values) > 1:
            raise WireError(f"{name!r} came {len(values)} times")
        return values[0] if values else None

    def tokens(self, name: bytes) -> list[bytes]:
        """A list header's members in lower case, e.g. of Connection."""
        members = b",".join(self.all(name)).split(b",")
        return [member.strip().lower() for member in members if member.strip()]

    @property
    def status(self) -> int:
        """The status of an answer's start line."""
        version, _, rest = self.start.partition(b" ")
        code = rest[:3]
        if not version.startswith(b"HTTP/1.") or not code.isdigit() or len(code) != 3:
            raise WireError(f"not a status line: {self.start!r}")
        return int(code)


def _framing(head: Head) -> int | str | None:
    """A length, "chunked", or None where the head says neither."""
    coding = head.tokens(b"transfer-encoding")
    length = head.one(b"content-length")
    if coding:
        if coding != [b"chunked"]:
            raise WireError(f"transfer-encoding {coding!r}")
        if length is not None:
            raise WireError("both content-length and transfer-encoding")
        return "chunked"
    if length is None:
        return None
    if not length.isdigit():
        raise WireError(f"content-length {length!r}")
    return int(length)


@dataclass(slots=True)
class Body:
    """One message's body as it is read. `feed` takes bytes, returns the payload in them and what lies behind the body."""

    framing: int | str | None
    """A length, "chunked", or None: until the connection closes."""
    done: bool = False
    chunk_sizes: list[int] = field(default_factory=list)
    extensions: list[bytes] = field(default_factory=list)
    trailers: tuple[bytes, ...] = ()
    _buffer: bytearray = field(default_factory=bytearray)
    _left: int = 0
    _state: str = "size"

    def __post_init__(self) -> None:
        if isinstance(self.framing, int):
            self._left = self.framing
            self.done = self._left == 0

    @classmethod
    def of_request(cls, head: Head) -> Body:
        """Without either header a request has no body."""
        return cls(_framing(head) or 0)

    @classmethod
    def of_answer(cls, head: Head, method: bytes) -> Body:
        """RFC 9112, section 6.3."""
        if method == b"HEAD" or head.status < 200 or head.status in (204, 304):
            return cls(0)
        return cls(_framing(head))

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """(payload, rest): rest belongs to the next message."""
        if self.done:
            return b"", data
        if self.framing is None:
            return data, b""
        if self.framing != "chunked":
            taken = data[: self._left]
            self._left -= len(taken)
            self.done = self._left == 0
            return taken, data[len(taken) :]
        self._buffer += data
        payload = b"".join(self._chunks())
        rest = b""
        if self.done:
            rest, self._buffer = bytes(self._buffer), bytearray()
        return payload, rest

    def eof(self) -> bool:
        """The connection ended here; True when that is this body's legal end."""
        if self.framing is None:
            self.done = True
        return self.done

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                raise WireError("a line without end")
            return None
        line = bytes(self._buffer[: end + 1])
        if not line.endswith(b"\r\n"):
            raise WireError(f"a bare LF after {line!r}")
        del self._buffer[: end + 1]
        return line[:-2]

    def _chunks(self) -> Iterator[bytes]:
        while not self.done:
            if self._state == "data":
                taken = bytes(self._buffer[: self._left])
                del self._buffer[: len(taken)]
                self._left -= len(taken)
                yield taken
                if self._left:
                    return
                self._state = "end"
            if self._state == "end" and not b"\r\n".startswith(self._buffer[:2]):
                raise WireError(f"{bytes(self._buffer[:2])!r} where a chunk ends")
            line = self._line()
            if line is None:
                return
            self._take_line(line)

    def _take_line(self, line: bytes) -> None:
        if self._state == "end":
            self._state = "size"
        elif self._state == "size":
            size = _SIZE.fullmatch(line)
            if size is None:
                raise WireError(f"not a chunk size: {line!r}")
            self._left = int(size[1], 16)
            self._state = "data" if self._left else "trailers"
            if size[2]:
                self.extensions.append(size[2])
            if self._left:
                self.chunk_sizes.append(self._left)
        elif line:
            self.trailers += (line,)
        else:
            self.done = True


def chunked(
    parts: Iterable[bytes], *, trailers: Iterable[bytes] = (), extension: bytes = b"", upper: bool = False
) -> bytes:
    """Each part as one chunk. `extension` such as b';name="value"' goes on every size line."""
    size = b"%X%b\r\n" if upper else b"%x%b\r\n"
    body = b"".join(size % (len(part), extension) + part + b"\r\n" for part in parts if part)
    return body + b"0%b\r\n" % extension + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"


def cut(data: bytes, size: int) -> Iterator[bytes]:
    """`data` in pieces of `size` bytes, the last one shorter."""
    return (data[at : at + size] for at in range(0, len(data), size))


def head(start: bytes, *lines: bytes) -> bytes:
    """A message's head as bytes; the lines are sent just as they are."""
    return b"\r\n".join((start, *lines)) + b"\r\n\r\n"
