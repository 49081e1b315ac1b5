"""Record ids are UUIDv7: unique, and in the order of their times."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.ids import uuid7


@given(st.integers(0, 2**48 * 1000 - 1), st.integers(0, 2**64 - 1))
def test_an_id_is_a_valid_uuid_of_version_7(now_us, randomness):
    made = uuid.UUID(uuid7(now_us, randomness))

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now_us // 1000


@given(st.integers(0, 2**40), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_later_microsecond_sorts_later(now_us, first, second):
    assert uuid7(now_us, first) < uuid7(now_us + 1, second)
