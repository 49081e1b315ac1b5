from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.stretches import GRAINS, Piece, ceiling, floor, following, joined, pieces

HOUR = timedelta(hours=1)


def at(*numbers):
    return datetime(2026, *numbers, tzinfo=UTC)


@pytest.mark.parametrize(
    ("grain", "moment", "start", "end"),
    [
        ("hour", at(8, 15, 13, 20), at(8, 15, 13), at(8, 15, 14)),
        ("six", at(8, 15, 13, 20), at(8, 15, 12), at(8, 15, 18)),
        ("six", at(8, 15, 5, 59), at(8, 15), at(8, 15, 6)),
        ("day", at(8, 15, 13, 20), at(8, 15), at(8, 16)),
        ("five", at(8, 5, 23), at(8, 1), at(8, 6)),
        ("five", at(8, 25, 23), at(8, 21), at(8, 26)),
        ("five", at(8, 31), at(8, 26), at(9, 1)),
        ("five", at(2, 28), at(2, 26), at(3, 1)),
        ("third", at(8, 10, 23), at(8, 1), at(8, 11)),
        ("third", at(8, 11), at(8, 11), at(8, 21)),
        ("third", at(8, 31, 23), at(8, 21), at(9, 1)),
        ("third", at(2, 28), at(2, 21), at(3, 1)),
        ("month", at(12, 31, 23), at(12, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        ("quarter", at(3, 31, 23), at(1, 1), at(4, 1)),
        ("quarter", at(4, 1), at(4, 1), at(7, 1)),
        ("quarter", at(11, 22), at(10, 1), datetime(2027, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_block_holds_its_moments(grain, moment, start, end):
    assert floor(grain, moment) == start
    assert following(grain, start) == end
    assert ceiling(grain, moment) == (start if moment == start else end)


def test_a_period_is_made_of_the_largest_blocks_that_fit():
    everything = (at(1, 1), at(9, 1))
    summed = {grain: [everything] for grain in GRAINS}

    assert pieces(at(2, 27, 22), at(6, 12, 2), summed) == [
        Piece("hour", at(2, 27, 22), at(2, 28)),
        Piece("day", at(2, 28), at(3, 1)),
        Piece("month", at(3, 1), at(6, 1)),
        Piece("third", at(6, 1), at(6, 11)),
        Piece("day", at(6, 11), at(6, 12)),
        Piece("hour", at(6, 12), at(6, 12, 2)),
    ]


def test_what_was_not_summed_is_left():
    summed = {"day": [(at(3, 1), at(3, 5)), (at(3, 6), at(3, 9))], "third": [], "month": []}

    assert pieces(at(3, 2), at(3, 9, 1), summed) == [
        Piece("day", at(3, 2), at(3, 5)),
        Piece(None, at(3, 5), at(3, 6)),
        Piece("day", at(3, 6), at(3, 9)),
        Piece(None, at(3, 9), at(3, 9, 1)),
    ]


def test_no_block_reaches_across_a_split():
    summed = {"month": [(at(3, 1), at(5, 1))], "day": [(at(3, 1), at(5, 1))]}

    assert pieces(at(3, 1), at(5, 1), summed, splits=[at(3, 1), at(4, 9), at(5, 1)]) == [
        Piece("month", at(3, 1), at(4, 1)),
        Piece("day", at(4, 1), at(5, 1)),
    ]


def test_only_the_grains_that_may_be_used_are():
    summed = {grain: [(at(3, 1), at(5, 1))] for grain in GRAINS}

    assert pieces(at(3, 1), at(5, 1), summed, ("hour",)) == [Piece("hour", at(3, 1), at(5, 1))]
    assert Piece("month", at(3, 1), at(4, 1)).one_block
    assert not Piece("month", at(3, 1), at(5, 1)).one_block
    assert not Piece(None, at(3, 1), at(4, 1)).one_block


blocks = st.lists(st.integers(0, 400), max_size=40)


@given(
    start=st.integers(0, 9000),
    length=st.integers(1, 9000),
    days=blocks,
    hours=st.lists(st.integers(0, 18_000), max_size=40),
    splits=st.lists(st.integers(0, 400), max_size=5),
)
def test_pieces_follow_each_other_from_start_to_end_and_hold_whole_blocks_that_were_summed(
    start, length, days, hours, splits
):
    first = at(1, 1)
    day_marks = {first + timedelta(days=number) for number in days}
    summed = {
        "day": joined((day, day + timedelta(days=1)) for day in day_marks),
        "hour": joined((first + number * HOUR, first + (number + 1) * HOUR) for number in hours),
    }
    begin, end = first + start * HOUR, first + (start + length) * HOUR
    moments = sorted(first + timedelta(days=number) for number in splits)

    found = pieces(begin, end, summed, splits=moments)

    assert (found[0].start, found[-1].end) == (begin, end)
    assert all(one.end == two.start and one != two for one, two in pairwise(found))
    for each in found:
        if each.grain is not None:
            assert floor(each.grain, each.start) == each.start
            assert floor(each.grain, each.end) == each.end
            assert any(one <= each.start and each.end <= two for one, two in summed[each.grain])
