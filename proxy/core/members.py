"""Where the members of a JSON object stand in its bytes, found by structure and without building anything.

Lenient about what it skips, strict about where it is: a text that is not an object in structure gives None.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.core.tokens import unescape

MEMBERS_MAX = 4_096
DEPTH_MAX = 10_000

_SPACE = re.compile(rb"[ \t\r\n]*+")
_COLON = re.compile(rb"[ \t\r\n]*+:[ \t\r\n]*+")
_NEXT = re.compile(rb"[ \t\r\n]*+([,}])[ \t\r\n]*+")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
# The group is bounded because the engine remembers each turn of it.
_ESCAPES = re.compile(rb'(?:[^"\\]*+\\.){0,256}', re.DOTALL)
_PLAIN = re.compile(rb"[^\"{}\[\]]*+(?:\"[^\"\\]*+\"[^\"{}\[\]]*+){0,256}")


class Member(NamedTuple):
    """One member of an object: its name, and where its name and its value begin and its value ends."""

    name: str
    start: int
    value: int
    end: int


def space_end(text: bytes, position: int) -> int:
    """The first position that is not white space."""
    found = _SPACE.match(text, position)
    return found.end() if found else position


def value_end(text: bytes, position: int) -> int | None:
    """Where the value that begins here ends; None when it is cut or no value."""
    first = text[position : position + 1]
    if first == b'"':
        return _string_end(text, position)
    if first != b"{" and first != b"[":  # noqa: PLR1714  hot path: twice as fast as a set
        scalar = _SCALAR.match(text, position)
        return scalar.end() if scalar else None
    depth, position, length = 1, position + 1, len(text)
    while depth:
        found = _PLAIN.match(text, position)
        position = found.end() if found else position
        if position >= length or depth > DEPTH_MAX:
            return None
        byte = text[position]
        if byte == 0x22:
            end = _string_end(text, position)
            if end is None:
                return None
            position = end
            continue
        depth += 1 if byte in b"{[" else -1
        position += 1
    return position


def members(text: bytes, position: int) -> tuple[list[Member], int] | None:
    """The members of the object that begins here, and where it ends; None when its structure is broken."""
    if text[position : position + 1] != b"{":
        return None
    found: list[Member] = []
    position = space_end(text, position + 1)
    if text[position : position + 1] == b"}":
        return found, position + 1
    while len(found) < MEMBERS_MAX:
        if text[position : position + 1] != b'"':
            return None
        name_end = _string_end(text, position)
        colon = _COLON.match(text, name_end) if name_end is not None else None
        end = value_end(text, colon.end()) if colon is not None else None
        if name_end is None or colon is None or end is None:
            return None
        found.append(Member(unescape(text[position + 1 : name_end - 1]), position, colon.end(), end))
        following = _NEXT.match(text, end)
        if following is None:
            return None
        if following[1] == b"}":
            return found, following.end(1)
        position = following.end()
    return None


def _string_end(text: bytes, position: int) -> int | None:
    """Where the string that begins here ends. A search from quote to quote: no limit on its length or escapes."""
    start = position + 1
    while (quote := text.find(b'"', start)) >= 0:
        if text[quote - 1] != 0x5C:
            return quote + 1
        before = text[start:quote]
        if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
            return quote + 1
        start = quote + 1
        escapes = _ESCAPES.match(text, start)  # where one quote is escaped, so are others
        start = escapes.end() if escapes else start
    return None
