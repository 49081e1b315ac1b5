"""Ids of rows: text with a prefix that says what it names, e.g. `user_01k3…`. They sort in the order they were made.

After the prefix come 48 bits of milliseconds and 80 of randomness in 26 characters of Crockford's base 32, lower case
(the layout of a ULID), so a list ordered by id is ordered by creation and pages of it are stable.
"""

from __future__ import annotations

import secrets
import time
from typing import Literal

Kind = Literal["user", "key", "group", "quota", "plan", "admin", "price"]
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARS = 26


def new_id(kind: Kind) -> str:
    """A fresh id; two never collide in practice (80 random bits within one millisecond)."""
    return f"{kind}_{encode(time.time_ns() // 1_000_000, secrets.randbits(80))}"


def encode(milliseconds: int, randomness: int) -> str:
    """26 characters that compare like (milliseconds, randomness)."""
    number = (milliseconds & (1 << 48) - 1) << 80 | randomness
    digits = []
    for _ in range(_CHARS):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))
