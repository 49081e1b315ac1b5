"""A large body without the pictures and files in it, which are most of it: what it says is read from what is left.

Looking for names and parsing JSON take a nanosecond for a byte or more, several times over, and nobody else is served meanwhile; finding
where a text ends takes a tenth of that. Only what stands in a text behind `;base64,` and is nothing but base64 is taken out, so
what is left is the same JSON, with shorter texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

LIGHT_FROM_BYTES: Final = 65_536
"""Smaller bodies are read as they are."""
PIECE_BYTES_MIN: Final = 4_096
"""Smaller pieces are left."""
MEDIA_MAX: Final = 2_048
"""Pieces of base64 data that are looked at, of either kind; more of them count as text, which is more."""
BASE64_MARK: Final = b";base64,"
IN_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
BLOCK_BYTES: Final = 65_536
"""How much of it is looked at in one go."""
NOTHING_TAKEN: Final[Mapping[int, int]] = MappingProxyType({})


def without_media(body: bytes) -> tuple[bytes, Mapping[int, int]]:
    """What is left, and how many bytes were taken out of it where: place in what is left -> bytes."""
    kept: list[bytes] = []
    taken: dict[int, int] = {}
    start = left = 0
    at = body.find(BASE64_MARK)
    for _ in range(MEDIA_MAX):
        if at < 0:
            break
        first = at + len(BASE64_MARK)
        last = body.find(b'"', first)
        if last < 0:
            break
        if last - first >= PIECE_BYTES_MIN and _is_base64(body, first, last):
            kept.append(body[start:first])
            left += first - start
            taken[left] = last - first
            start = last
        at = body.find(BASE64_MARK, last)
    if not taken:
        return body, taken
    kept.append(body[start:])
    return b"".join(kept), taken


def _is_base64(body: bytes, start: int, end: int) -> bool:
    """Whether there is nothing else: no backslash either, so that the quote behind it ends the text."""
    for at in range(start, end, BLOCK_BYTES):
        if body[at : min(at + BLOCK_BYTES, end)].translate(None, IN_BASE64):
            return False
    return True
