"""Keys: the format of proxy and admin keys. `sk-proxy-` or `sk-admin-`, 40 base62 characters of randomness, 6 of checksum.

The checksum (CRC-32 of all that precedes it, in base62) lets a mistyped or truncated key be told from an unknown one
without asking anybody; it is no secret and proves nothing. Only a key's SHA-256 is ever stored: 238 bits of randomness
need no slow hash.
"""

from __future__ import annotations

import hashlib
import zlib

PROXY_PREFIX = "sk-proxy-"
ADMIN_PREFIX = "sk-admin-"
RANDOM_CHARS = 40
CHECKSUM_CHARS = 6
RANDOM_BYTES = 40
"""What `make_key` asks for: 82 bits more than it keeps, so that no character is likelier than another."""
_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LETTERS = frozenset(_ALPHABET)


def make_key(random: bytes, prefix: str = PROXY_PREFIX) -> str:
    """A new key from `random`, at least RANDOM_BYTES bytes of a cryptographic source."""
    if len(random) < RANDOM_BYTES:
        raise ValueError(f"a key needs {RANDOM_BYTES} random bytes")
    body = prefix + _base62(int.from_bytes(random, "big"), RANDOM_CHARS)
    return body + _checksum(body)


def is_well_formed(key: bytes | str, prefix: str = PROXY_PREFIX) -> bool:
    """True when `key` has our form and its checksum is right. Any bytes may be asked about."""
    if isinstance(key, bytes):
        try:
            key = key.decode("ascii")
        except UnicodeDecodeError:
            return False
    if len(key) != len(prefix) + RANDOM_CHARS + CHECKSUM_CHARS or not key.startswith(prefix):
        return False
    body, checksum = key[:-CHECKSUM_CHARS], key[-CHECKSUM_CHARS:]
    return _LETTERS.issuperset(body[len(prefix) :]) and checksum == _checksum(body)


def digest(key: bytes) -> bytes:
    """SHA-256 of the key, 32 bytes: what is stored, and what a key is looked up by."""
    return hashlib.sha256(key).digest()


def mask(key: str) -> str:
    """The key as it may be shown after its creation: its prefix and two characters at either end."""
    for prefix in (PROXY_PREFIX, ADMIN_PREFIX):
        if key.startswith(prefix) and len(key) >= len(prefix) + RANDOM_CHARS:
            return f"{key[: len(prefix) + 2]}…{key[-2:]}"
    return "…"


def _base62(number: int, length: int) -> str:
    letters = []
    for _ in range(length):
        number, letter = divmod(number, 62)
        letters.append(_ALPHABET[letter])
    return "".join(reversed(letters))


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECKSUM_CHARS)
