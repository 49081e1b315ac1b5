"""Lists of objects as bytes: which elements they have, and the same bytes without some of them.

`{"object": "list", "data": […], "first_id": …, "last_id": …, "has_more": …}` is what OpenAI answers. Elements are cut out
with the comma that belongs to them; everything else stays as it came, but for `first_id` and `last_id` where they named an
element that went: they then name the first and last that stayed, so that a client pages on from what it has seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from proxy.core.members import Member, members, space_end, value_end
from proxy.core.tokens import unescape

ELEMENTS_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Element:
    """One element of `data`: its id (None: it has none), and where it begins and ends."""

    object_id: str | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Listing:
    """A list answer, taken apart."""

    text: bytes
    elements: tuple[Element, ...]
    data_start: int
    """Of the bracket that opens `data`."""
    data_end: int
    """Behind the bracket that closes it."""
    first_id: Member | None
    last_id: Member | None
    has_more: bool

    @property
    def cursor(self) -> str | None:
        """The id that the next page begins after; None: there is no next page."""
        if not self.has_more:
            return None
        named = _string(self.text, self.last_id) if self.last_id is not None else None
        return named or (self.elements[-1].object_id if self.elements else None)


def read_listing(text: bytes) -> Listing | None:
    """Take a list answer apart; None when it is none, or its structure is broken. What it names twice counts last."""
    found = members(text, space_end(text, 0))
    if found is None:
        return None
    named = {member.name: member for member in found[0]}
    data = named.get("data")
    if data is None or text[data.value : data.value + 1] != b"[":
        return None
    elements = _elements(text, data.value)
    if elements is None:
        return None
    more = named.get("has_more")
    return Listing(
        text,
        elements,
        data.value,
        data.end,
        named.get("first_id"),
        named.get("last_id"),
        more is not None and text[more.value : more.end] == b"true",
    )


def _elements(text: bytes, start: int) -> tuple[Element, ...] | None:
    found: list[Element] = []
    position = space_end(text, start + 1)
    if text[position : position + 1] == b"]":
        return ()
    while len(found) < ELEMENTS_MAX:
        end = value_end(text, position)
        if end is None:
            return None
        found.append(Element(_id_of(text, position), position, end))
        position = space_end(text, end)
        separator = text[position : position + 1]
        if separator == b"]":
            return tuple(found)
        if separator != b",":
            return None
        position = space_end(text, position + 1)
    return None


def _id_of(text: bytes, start: int) -> str | None:
    inside = members(text, start)
    if inside is None:
        return None
    found = None
    for member in inside[0]:
        if member.name == "id":
            found = _string(text, member)
    return found


def _string(text: bytes, member: Member) -> str | None:
    raw = text[member.value : member.end]
    return unescape(raw[1:-1]) if raw[:1] == b'"' else None


def without(listing: Listing, ids: Collection[str]) -> bytes:
    """The list's bytes without the elements of these ids."""
    kept = [element for element in listing.elements if element.object_id not in ids]
    if len(kept) == len(listing.elements):
        return listing.text
    text = listing.text
    pieces: list[tuple[int, int, bytes]] = [(listing.data_start, listing.data_end, _array(listing, kept))]
    for member, element in (
        (listing.first_id, kept[0] if kept else None),
        (listing.last_id, kept[-1] if kept else None),
    ):
        if member is None or _string(text, member) not in ids:
            continue
        if element is not None and element.object_id is not None:
            pieces.append((member.value, member.end, b'"%b"' % element.object_id.encode()))
        elif member is listing.first_id or not listing.has_more:
            pieces.append((member.value, member.end, b"null"))
    out: list[bytes] = []
    at = 0
    for start, end, instead in sorted(pieces):
        out += (text[at:start], instead)
        at = end
    out.append(text[at:])
    return b"".join(out)


def _array(listing: Listing, kept: list[Element]) -> bytes:
    """The array with the elements that stay, each with the bytes that stood between it and the one before it."""
    if not kept:
        return b"[]"
    text, elements = listing.text, listing.elements
    before = {element.start: earlier.end for earlier, element in pairwise(elements)}
    out = [text[listing.data_start : elements[0].start], text[kept[0].start : kept[0].end]]
    out.extend(text[before[element.start] : element.end] for element in kept[1:])
    out.append(text[elements[-1].end : listing.data_end])
    return b"".join(out)
