from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.stretches import (
    LARGE,
    OVERLAPPING,
    Piece,
    block,
    ceiling,
    floor,
    following,
    joined,
    large_blocks,
    pieces,
)

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


def everything(start, end):
    """All that can be summed between two beginnings of days."""
    summed = {grain: [] for grain in LARGE} | {grain: [(start, end)] for grain in ("hour", "six", "day")}
    for each in large_blocks(start, end):
        summed[each.grain].append((each.start, each.end))
    return summed


@pytest.mark.parametrize(
    ("grain", "stands", "start", "end"),
    [
        ("month_head", at(8, 15), at(8, 1), at(8, 16)),
        ("month_head", at(2, 25), at(2, 1), at(2, 26)),
        ("month_tail", at(2, 6), at(2, 6), at(3, 1)),
        ("year_head", at(11, 1), at(1, 1), at(12, 1)),
        ("year_head", at(12, 1), at(1, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        ("year_tail", at(11, 1), at(11, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        ("five", at(8, 26), at(8, 26), at(9, 1)),
    ],
)
def test_a_block_stands_for_its_stretch(grain, stands, start, end):
    made = block(grain, stands)

    assert (made.start, made.end, made.one_block) == (start, end, True)
    assert made.stands[0] == stands


def test_the_large_blocks_of_a_month_are_its_fives_their_heads_and_tails_and_itself():
    found = [(each.grain, each.start.day, each.end.day) for each in large_blocks(at(8, 1), at(9, 1))]

    fives = [("five", first, first + 5) for first in (1, 6, 11, 16, 21)]
    heads = [("month_head", 1, last) for last in (11, 16, 21, 26)]
    tails = [("month_tail", first, 1) for first in (6, 11, 16, 21)]
    assert found == [*fives, ("five", 26, 1), *heads, *tails, ("month", 1, 1)]


def test_the_large_blocks_of_a_year_are_its_quarters_and_heads_and_tails_that_are_not_quarters_or_months():
    year = large_blocks(at(1, 1), datetime(2027, 1, 1, tzinfo=UTC))
    found = [(each.grain, each.start.month, each.end.month) for each in year]

    assert [each for each in found if each[0] == "quarter"] == [
        ("quarter", 1, 4),
        ("quarter", 4, 7),
        ("quarter", 7, 10),
        ("quarter", 10, 1),
    ]
    assert [each[2] for each in found if each[0] == "year_head"] == [3, 5, 6, 7, 8, 9, 10, 11, 12, 1]
    assert [each[1] for each in found if each[0] == "year_tail"] == [2, 3, 4, 5, 6, 7, 8, 9, 11]


def test_large_blocks_lie_within_what_was_asked():
    found = list(large_blocks(at(8, 3), at(9, 20)))

    assert {each.grain for each in found} == {"five", "month_head", "month_tail"}
    assert {each.start for each in found if each.grain == "month_head"} == {at(9, 1)}
    assert {each.start for each in found if each.grain == "month_tail"} == {
        at(8, day) for day in (6, 11, 16, 21)
    }


@given(start=st.integers(0, 800), length=st.integers(1, 800))
def test_blocks_of_a_grain_stand_apart(start, length):
    begin = at(1, 1) + timedelta(days=start)
    stand = [(each.grain, each.stands) for each in large_blocks(begin, begin + timedelta(days=length))]

    assert len({(grain, moment) for grain, (moment, _) in stand}) == len(stand)
    for grain, (first, last) in stand:
        if grain in OVERLAPPING:
            assert not [other for of, (other, _) in stand if of == grain and first < other < last]


def test_a_period_is_made_of_the_largest_blocks_that_fit():
    assert pieces(at(2, 24, 22), at(6, 12, 2), everything(at(1, 1), at(9, 1))) == [
        Piece("hour", at(2, 24, 22), at(2, 25)),
        Piece("day", at(2, 25), at(2, 26)),
        Piece("five", at(2, 26), at(3, 1)),
        Piece("month", at(3, 1), at(6, 1)),
        Piece("month_head", at(6, 1), at(6, 11)),
        Piece("day", at(6, 11), at(6, 12)),
        Piece("hour", at(6, 12), at(6, 12, 2)),
    ]


def test_a_year_that_ends_on_any_day_is_four_blocks_and_days():
    end = datetime(2027, 9, 1, tzinfo=UTC)

    assert pieces(at(8, 3), datetime(2027, 8, 3, tzinfo=UTC), everything(at(1, 1), end)) == [
        Piece("day", at(8, 3), at(8, 6)),
        Piece("month_tail", at(8, 6), at(9, 1)),
        Piece("year_tail", at(9, 1), datetime(2027, 1, 1, tzinfo=UTC)),
        Piece("year_head", datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 8, 1, tzinfo=UTC)),
        Piece("day", datetime(2027, 8, 1, tzinfo=UTC), datetime(2027, 8, 3, tzinfo=UTC)),
    ]


def test_what_was_not_summed_is_left():
    summed = {"day": [(at(3, 1), at(3, 5)), (at(3, 6), at(3, 9))], "month": []}

    assert pieces(at(3, 2), at(3, 9, 1), summed) == [
        Piece("day", at(3, 2), at(3, 5)),
        Piece(None, at(3, 5), at(3, 6)),
        Piece("day", at(3, 6), at(3, 9)),
        Piece(None, at(3, 9), at(3, 9, 1)),
    ]


def test_no_block_reaches_across_a_split():
    months = [(at(3, 1), at(4, 1)), (at(4, 1), at(5, 1))]
    summed = {"month": months, "day": [(at(3, 1), at(5, 1))]}

    assert pieces(at(3, 1), at(5, 1), summed, splits=[at(3, 1), at(4, 9), at(5, 1)]) == [
        Piece("month", at(3, 1), at(4, 1)),
        Piece("day", at(4, 1), at(5, 1)),
    ]


def test_only_the_grains_that_may_be_used_are():
    summed = everything(at(3, 1), at(5, 1))

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
    chosen=st.sets(st.integers(0, 300)),
)
def test_pieces_follow_each_other_from_start_to_end_and_hold_whole_blocks_that_were_summed(
    start, length, days, hours, splits, chosen
):
    first = at(1, 1)
    day_marks = {first + timedelta(days=number) for number in days}
    summed = {
        "day": joined((day, day + timedelta(days=1)) for day in day_marks),
        "hour": joined((first + number * HOUR, first + (number + 1) * HOUR) for number in hours),
    }
    large = list(large_blocks(first, first + timedelta(days=400)))
    for number in chosen:
        each = large[number % len(large)]
        summed.setdefault(each.grain, []).append((each.start, each.end))
    begin, end = first + start * HOUR, first + (start + length) * HOUR
    moments = sorted(first + timedelta(days=number) for number in splits)

    found = pieces(begin, end, summed, splits=moments)

    assert (found[0].start, found[-1].end) == (begin, end)
    assert all(one.end == two.start and one != two for one, two in pairwise(found))
    for each in found:
        assert not any(each.start < moment < each.end and each.one_block for moment in moments)
        if each.grain in OVERLAPPING:
            assert (each.start, each.end) in summed[each.grain]
        elif each.grain is not None:
            assert floor(each.grain, each.start) == each.start
            assert floor(each.grain, each.end) == each.end
            blocks = [(one, two) for one, two in summed[each.grain] if one < each.end and each.start < two]
            assert joined(blocks)[0][0] <= each.start
            assert each.end <= joined(blocks)[0][1]
