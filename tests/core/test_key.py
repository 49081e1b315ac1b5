from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import key

ZEROS = "sk-proxy-" + "0" * 40


def test_a_key_is_the_prefix_forty_characters_and_six_of_checksum() -> None:
    made = key.make_key(bytes(40))
    assert made.startswith(ZEROS)
    assert len(made) == 9 + 40 + 6


def test_the_checksum_is_crc32_in_base62() -> None:
    import binascii

    number = binascii.crc32(ZEROS.encode())
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    value = 0
    for letter in key.make_key(bytes(40))[-6:]:
        value = value * 62 + digits.index(letter)
    assert value == number


def test_admin_keys_have_their_own_prefix_and_are_no_proxy_keys() -> None:
    made = key.make_key(bytes(range(40)), key.ADMIN_PREFIX)
    assert made.startswith("sk-admin-")
    assert key.is_well_formed(made, key.ADMIN_PREFIX)
    assert not key.is_well_formed(made)


def test_too_little_randomness_is_refused() -> None:
    with pytest.raises(ValueError, match="40 random bytes"):
        key.make_key(bytes(39))


@given(st.binary(min_size=40, max_size=64))
def test_every_made_key_is_well_formed_as_text_and_as_bytes(random: bytes) -> None:
    made = key.make_key(random)
    assert key.is_well_formed(made)
    assert key.is_well_formed(made.encode())


@given(st.binary(min_size=40, max_size=40), st.integers(9, 54), st.characters(codec="ascii"))
def test_one_changed_character_is_always_noticed(random: bytes, place: int, other: str) -> None:
    made = key.make_key(random)
    if made[place] != other:
        assert not key.is_well_formed(made[:place] + other + made[place + 1 :])


@given(st.binary(max_size=80))
def test_no_bytes_make_it_raise(token: bytes) -> None:
    assert not key.is_well_formed(token)


@pytest.mark.parametrize("token", ["", "sk-proxy-", "sk-abc", ZEROS, ZEROS + "00000", b"\xff" * 55])
def test_other_text_is_malformed(token: str | bytes) -> None:
    assert not key.is_well_formed(token)


def test_the_digest_is_sha256() -> None:
    assert key.digest(b"sk-proxy-x") == hashlib.sha256(b"sk-proxy-x").digest()


def test_a_masked_key_shows_four_characters() -> None:
    made = "sk-proxy-ab" + "c" * 42 + "yz"
    assert key.mask(made) == "sk-proxy-ab…yz"
    assert key.mask("sk-admin-ab" + "c" * 42 + "yz") == "sk-admin-ab…yz"


@pytest.mark.parametrize("token", ["", "sk-proxy-abcd", "sk-1234567890", "hello"])
def test_what_is_no_key_of_ours_is_masked_whole(token: str) -> None:
    assert key.mask(token) == "…"
