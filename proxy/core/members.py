"""Where the members of a JSON object stand in its bytes, found by structure and without building anything.

Lenient about what it skips, strict about where it is: a text that is not an object in structure gives None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxy.core.tokens import unescape

MEMBERS_MAX = 4_096
DEPTH_MAX = 10_000

_SPACE = re.compile(rb"[ \t\r\n]*+")
_PLAIN = re.compile(rb"[^\"{}\[\]]*+(?:\"[^\"\\]*+\"[^\"{}\[\]]*+){0,256}")
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")


@dataclass(frozen=True, slots=True)
class Member:
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
    if first not in {b"{", b"["}:
        scalar = _SCALAR.match(text, position)
        return scalar.end() if scalar else None
    depth, position = 1, position + 1
    while depth:
        found = _PLAIN.match(text, position)
        position = found.end() if found else position
        if position >= len(text) or depth > DEPTH_MAX:
            return None
        byte = text[position]
        if byte == 0x22:
            end = _string_end(text, position)
            if end is None:
                return None
            position = end
            continue
        depth += 1 if byte in {0x7B, 0x5B} else -1
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
        member = _member(text, position)
        if member is None:
            return None
        found.append(member)
        position = space_end(text, member.end)
        separator = text[position : position + 1]
        if separator == b"}":
            return found, position + 1
        if separator != b",":
            return None
        position = space_end(text, position + 1)
    return None


def _member(text: bytes, position: int) -> Member | None:
    if text[position : position + 1] != b'"':
        return None
    name_end = _string_end(text, position)
    if name_end is None:
        return None
    colon = space_end(text, name_end)
    if text[colon : colon + 1] != b":":
        return None
    value = space_end(text, colon + 1)
    end = value_end(text, value)
    return None if end is None else Member(unescape(text[position + 1 : name_end - 1]), position, value, end)


def _string_end(text: bytes, position: int) -> int | None:
    """Where the string that begins here ends. A search from quote to quote: no limit on its length or escapes."""
    quote = text.find(b'"', position + 1)
    while quote >= 0:
        before = quote - 1
        while text[before] == 0x5C:
            before -= 1
        if (quote - before) % 2:
            return quote + 1
        quote = text.find(b'"', quote + 1)
    return None
