"""Ids from a time and randomness that the caller gives."""

from __future__ import annotations


def uuid7(now_us: int, randomness: int) -> str:
    """A UUIDv7 (RFC 9562, 5.7) in canonical text: 48 bits of milliseconds, 12 bits of sub-millisecond time, 62 random.

    Ids made by one process sort by time to the microsecond; `randomness` needs at least 62 bits.
    """
    milliseconds, microseconds = divmod(now_us, 1000)
    value = (
        (milliseconds & 0xFFFFFFFFFFFF) << 80
        | 0x7 << 76
        | (microseconds * 4096 // 1000) << 64
        | 0b10 << 62
        | (randomness & 0x3FFFFFFFFFFFFFFF)
    )
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
