"""Record ids are UUIDv7: unique, and in the order of their times."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.ids import Ids, uuid7


@given(st.integers(0, 2**48 * 1000 - 1), st.integers(0, 2**64 - 1))
def test_an_id_is_a_valid_uuid_of_version_7(now_us, randomness):
    made = uuid.UUID(uuid7(now_us, randomness))

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now_us // 1000


@given(st.integers(0, 2**40), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_later_microsecond_sorts_later(now_us, first, second):
    assert uuid7(now_us, first) < uuid7(now_us + 1, second)


@given(st.integers(0, 2**48 * 1000 - 1), st.integers(0, 2**48 - 1))
def test_the_ids_of_a_process_are_as_valid(now_us, drawn):
    made = uuid.UUID(Ids(lambda _: drawn).new(now_us))

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == now_us // 1000
    assert made.int & 2**48 - 1 == drawn


def test_ids_of_one_moment_differ_and_sort_in_the_order_of_their_making():
    made = [ids.new(1_795_000_000_000_000) for ids in [Ids(lambda bits: 2**bits - 1)] for _ in range(4096)]

    assert len(set(made)) == 4096
    assert made == sorted(made)


def test_what_is_random_in_ids_is_drawn_anew_before_they_repeat():
    drawn = iter([1, 2])
    ids = Ids(lambda _: next(drawn))

    made = [ids.new(1_795_000_000_000_000) for _ in range(4097)]

    assert made[4095].endswith("-8fff-000000000001")
    assert made[4096].endswith("-8000-000000000002")
