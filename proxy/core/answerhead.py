"""Heads of HTTP/1.1 answers as bytes: where one ends, what it says that matters, how a client gets it (RFC 9112, sections 4-6).

A head is kept as the bytes that came, so that status line, header order, case and duplicates survive. Requests are read by llhttp
(httptools); answers are read here and in framing.py, because llhttp hides the bytes that we pass on.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

HEAD_MAX_BYTES: Final = 256 * 1024

_STATUS_LINE: Final = re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9][0-9])(?: [^\r\n\0]*)?")
_OUR_PREFIX: Final = b"x-quota-"
"""Lines whose names begin so are ours to set; this is the name that they are noted by."""
# Lines that frame the message, describe it for the meter, or must not cross the proxy, in a head in lower case.
_NOTED: Final = re.compile(
    rb"\r\n(connection|keep-alive|proxy-connection|proxy-authenticate|proxy-authorization|te|trailer|transfer-encoding|upgrade"
    rb"|content-length|content-type|content-encoding|x-request-id|x-proxy-request-id|location|access-control-allow-origin"
    rb"|sec-websocket-extensions|x-quota-[^:\r\n]*)[ \t]*(?::[ \t]*([^\r\n]*)|(?=\r\n))"
)
# Hop-by-hop (RFC 9110, 7.6.1), and names that are ours to set. Transfer-Encoding and Trailer are dropped only where the
# body is framed anew, since otherwise the chunks pass as they are.
DROPPED: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"upgrade", b"x-proxy-request-id", _OUR_PREFIX})  # fmt: skip
_FRAMING: Final = frozenset({b"transfer-encoding", b"content-length", b"trailer"})
_NOTHING: Final[frozenset[bytes]] = frozenset()


class FramingError(Exception):
    """The upstream broke HTTP's framing; what came after can't be told apart from the next answer."""


class ResponseHead:
    """The head of one answer. `raw` runs from the status line to the CRLF of the last header line."""

    def __init__(
        self,
        raw: bytes,
        status: int,
        http_1_0: bool,
        fields: dict[bytes, bytes],
        noted: list[tuple[int, bytes]] | tuple[list[bytes], tuple[tuple[int, bytes, int], ...]],
        keep_alive: bool,
        plain: bool = False,
    ) -> None:
        self.raw = raw
        self.status = status
        self.http_1_0 = http_1_0
        self.fields = fields
        """The noted headers, names in lower case; of duplicates the first, except transfer-encoding, which is joined."""
        self.noted = noted
        """Where the noted lines begin in `raw`, and their lower-case names; or all lines, the empty one and what is behind
        it the last, and of the noted ones the number from 0, the name, and where the value begins."""
        self.keep_alive = keep_alive
        self.plain = plain
        """It is known that no line of it has to go."""

    def render(self, added: bytes, *, reframed: bool) -> bytes:
        """The head as the client gets it: hop-by-hop lines out, `added` (whole lines with CRLF) at the end. Hot path.

        `reframed`: the body will be framed by us, so the upstream's own framing lines go too.
        """
        raw = self.raw
        if self.plain and not reframed:
            return raw + added + b"\r\n"
        if self.http_1_0:
            raw = b"HTTP/1.1" + raw[8:]
        dropped = DROPPED | _FRAMING if reframed else DROPPED
        if dropped.isdisjoint(self.fields):
            return raw + added + b"\r\n"
        connection = self.fields.get(b"connection")
        named = _removable(connection) if connection else _NOTHING
        gone = dropped | named if named else dropped
        noted = self.noted
        if isinstance(noted, list):
            kept, start = [], 0
            for at, name in noted:
                if name in gone:
                    kept.append(raw[start:at])
                    start = raw.index(b"\r\n", at) + 2
            rendered = b"".join((*kept, raw[start:], added, b"\r\n"))
        else:
            lines, numbered = noted
            kept = lines[:-2]
            for number, name, _ in reversed(numbered):
                if name in gone:
                    del kept[number]
            rendered = b"\r\n".join((*kept, added + b"\r\n"))
        if named - DROPPED:
            rendered = _without_named(rendered, named)
        return rendered


def _connection_options(value: bytes) -> frozenset[bytes]:
    """What `Connection:` names, lower case."""
    if not value:
        return frozenset()
    return frozenset(option.strip().lower() for option in value.split(b",") if option.strip())


@lru_cache(maxsize=256)
def _removable(connection: bytes) -> frozenset[bytes]:
    """Of what `Connection:` names, the headers that may be taken off: never the body's framing or description."""
    return (
        _connection_options(connection)
        - _FRAMING
        - {b"close", b"keep-alive", b"content-type", b"content-encoding"}
    )


def _without_named(head: bytes, named: frozenset[bytes]) -> bytes:
    """Drop the header lines that `Connection:` declared hop-by-hop; rare, so it may take its time."""
    lines = head.split(b"\r\n")
    kept = [line for line in lines[1:] if line.partition(b":")[0].strip().lower() not in named or not line]
    return b"\r\n".join([lines[0], *kept])


def parse_head(buffer: bytes) -> tuple[ResponseHead, int] | None:
    """Read a head from the start of `buffer`: the head and how many bytes it took, or None when more must come first.

    Raises FramingError when it is no HTTP/1 answer or grows beyond HEAD_MAX_BYTES.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_MAX_BYTES:
            raise FramingError("the answer's head is too large")
        if not b"HTTP/1."[: len(buffer)] == buffer[:7]:
            raise FramingError("the answer is not HTTP/1")
        return None
    if end > HEAD_MAX_BYTES:
        raise FramingError("the answer's head is too large")
    raw = buffer[: end + 2]
    status, http_1_0 = _status_of(raw[: raw.index(b"\r\n")])
    fields: dict[bytes, bytes] = {}
    noted = []
    # A head of 15 lines, of which 3 are noted, costs 43,000 instructions so, and 64,000 when each line is looked at in turn.
    for found in _NOTED.finditer(raw.lower()):
        name = found[1]
        if name.startswith(_OUR_PREFIX):
            name = _OUR_PREFIX
        noted.append((found.start(1), name))
        start, stop = found.span(2)  # a bare CR or LF ends a value
        value = raw[start:stop].rstrip(b" \t")
        if name not in fields:
            fields[name] = value
        elif name in {b"transfer-encoding", b"connection"}:
            fields[name] += b", " + value
        elif name == b"content-length" and value != fields[name]:
            raise FramingError("the answer has two different lengths")
    connection = fields.get(b"connection")
    keep_alive = not http_1_0 if connection is None else keeps_alive(connection, http_1_0=http_1_0)
    return ResponseHead(raw, status, http_1_0, fields, noted, keep_alive), end + 4


@lru_cache(maxsize=256)
def keeps_alive(connection: bytes, *, http_1_0: bool = False) -> bool:
    """Whether a connection may be used again whose answer has this Connection header."""
    options = _connection_options(connection)
    return b"close" not in options and (not http_1_0 or b"keep-alive" in options)


@lru_cache(maxsize=256)
def _status_of(line: bytes) -> tuple[int, bool]:
    """The status and whether it is HTTP/1.0, of a status line; of few different ones. Raises FramingError."""
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        raise FramingError("the answer's status line is malformed")
    return int(found[2]), found[1] == b"1.0"
