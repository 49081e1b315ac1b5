"""Stretches: how a period is pieced together of sums over longer and shorter blocks of time, and of what is left.

A grain is a way to cut time (UTC): hours, sixes of them, days, fives of a month (its days 1-5, 6-10, …, 26 and the rest), months,
quarters. Beside them stand heads, from the beginning of a month to the end of a day, or of a year to the end of a month, and tails,
from there to the end of the month or year. Which blocks of each have been summed is given; the fewest and largest of them that fit are
taken, so that a report reads few rows: with heads and tails, a year that ends on any day is five blocks and some days.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

Grain = Literal[
    "hour", "six", "day", "five", "month_tail", "month_head", "month", "quarter", "year_tail", "year_head"
]  # fmt: skip
GRAINS: tuple[Grain, ...] = (
    "year_head", "year_tail", "quarter", "month", "month_head", "month_tail", "five", "day", "six", "hour",
)  # fmt: skip
"""The largest first."""
LARGE = GRAINS[: GRAINS.index("day")]
"""Those of which each block is looked at by itself."""
OVERLAPPING: frozenset[Grain] = frozenset({"year_head", "year_tail", "month_head", "month_tail"})
"""Heads and tails, whose blocks reach across each other. A head stands at the beginning of its last part (day, or month), a tail at that
of its first, so all blocks of a grain stand at different moments.
"""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_STEPS: Mapping[Grain, timedelta] = {"hour": HOUR, "six": 6 * HOUR, "day": DAY}
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
# Parts of a month: the days of each but the last, and the day on which the last begins.
_PARTS: Mapping[Grain, tuple[int, int]] = {"five": (5, 26), "month": (31, 1)}
_QUARTER_MONTHS = 3
Stretch: TypeAlias = tuple[datetime, datetime]
"""From the first up to but not including the second."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of whole blocks of a grain; None: what no sum covers."""

    grain: Grain | None
    start: datetime
    end: datetime

    @property
    def one_block(self) -> bool:
        """Whether it is exactly one block."""
        if self.grain is None:
            return False
        return self.grain in OVERLAPPING or following(self.grain, self.start) == self.end

    @property
    def stands(self) -> Stretch:
        """Where its blocks, and none but its, stand."""
        if self.grain not in OVERLAPPING:
            return self.start, self.end
        if self.grain == "month_head":
            at = self.end - DAY
        elif self.grain == "year_head":
            at = floor("month", self.end - DAY)
        else:
            at = self.start
        return at, at + HOUR


def floor(grain: Grain, moment: datetime) -> datetime:
    """The beginning of the block that holds a moment; not of OVERLAPPING ones."""
    step = _STEPS.get(grain, DAY)
    day = _FIRST + (moment - _FIRST) // step * step
    if grain in _STEPS:
        return day
    if grain == "quarter":
        return day.replace(month=(day.month - 1) // _QUARTER_MONTHS * _QUARTER_MONTHS + 1, day=1)
    days, last = _PARTS[grain]
    return day.replace(day=min((day.day - 1) // days * days + 1, last))


def following(grain: Grain, start: datetime) -> datetime:
    """The end of the block that begins at `start`; not of OVERLAPPING ones."""
    if grain in _STEPS:
        return start + _STEPS[grain]
    days, last = _PARTS.get(grain, (0, 0))
    if start.day < last:
        return start + days * DAY
    months = _QUARTER_MONTHS if grain == "quarter" else 1
    return (start.replace(day=1) + months * 31 * DAY).replace(day=1)


def ceiling(grain: Grain, moment: datetime) -> datetime:
    """The first beginning of a block that is not before a moment; not of OVERLAPPING ones."""
    start = floor(grain, moment)
    return start if start == moment else following(grain, start)


def block(grain: Grain, at: datetime) -> Piece:
    """The block that stands at a moment."""
    match grain:
        case "month_head":
            return Piece(grain, at.replace(day=1), at + DAY)
        case "month_tail":
            return Piece(grain, at, following("month", at))
        case "year_head":
            return Piece(grain, at.replace(month=1), following("month", at))
        case "year_tail":
            return Piece(grain, at, at.replace(year=at.year + 1, month=1))
        case _:
            return Piece(grain, at, following(grain, at))


def large_blocks(start: datetime, end: datetime) -> Iterator[Piece]:
    """Every block of LARGE grains between two beginnings of days, those first that others may be made of.

    Heads and tails begin or end where fives do; none stands for what is a block of another grain.
    """
    fives = _run("five", start, end)
    months = _run("month", start, end)
    found = [
        *(Piece("five", one, two) for one, two in fives),
        *(block("month_head", two - DAY) for _, two in fives if two.day not in (1, 6)),
        *(block("month_tail", one) for one, _ in fives if one.day not in (1, 26)),
        *(Piece("month", one, two) for one, two in months),
        *(Piece("quarter", one, two) for one, two in _run("quarter", start, end)),
        *(block("year_head", one) for one, _ in months if one.month not in (1, _QUARTER_MONTHS)),
        *(block("year_tail", one) for one, _ in months if one.month not in (1, 12 - _QUARTER_MONTHS + 1, 12)),
    ]
    return (each for each in found if start <= each.start and each.end <= end)


def _run(grain: Grain, start: datetime, end: datetime) -> list[Stretch]:
    found = []
    at = ceiling(grain, start)
    while (until := following(grain, at)) <= end:
        found.append((at, until))
        at = until
    return found


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same time in as few stretches as it takes, in order."""
    found: list[Stretch] = []
    for start, end in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return found


def pieces(
    start: datetime,
    end: datetime,
    summed: Mapping[Grain, Sequence[Stretch]],
    grains: Sequence[Grain] = GRAINS,
    splits: Sequence[datetime] = (),
) -> list[Piece]:
    """The period in pieces, in order. `summed` by grain: of LARGE ones each block, of others stretches of whole blocks, ordered;
    `grains`: which may be used, the largest first; `splits`: moments, ascending, across which no block may reach.
    """
    large = [
        Piece(grain, first, last)
        for grain in grains
        if grain in LARGE
        for first, last in summed.get(grain, ())
        if start <= first and last <= end
    ]
    # Where several begin, the one that reaches furthest comes first.
    large.sort(key=lambda each: (each.start, start - each.end))
    small = [grain for grain in grains if grain not in LARGE]
    found: list[Piece] = []
    begin = start
    for moment in (*(each for each in splits if start < each < end), end):
        at = begin
        for each in large:
            if each.start >= at and each.end <= moment:
                found += [*_cover(at, each.start, summed, small), each]
                at = each.end
        found += _cover(at, moment, summed, small)
        begin = moment
    whole: list[Piece] = []
    for each in found:
        before = whole[-1] if whole else None
        if before is not None and before.grain == each.grain and each.grain not in OVERLAPPING:
            whole[-1] = Piece(each.grain, before.start, each.end)
        else:
            whole.append(each)
    return whole


def _cover(
    start: datetime, end: datetime, summed: Mapping[Grain, Sequence[Stretch]], grains: Sequence[Grain]
) -> list[Piece]:
    if start >= end:
        return []
    if not grains:
        return [Piece(None, start, end)]
    grain, finer = grains[0], grains[1:]
    found: list[Piece] = []
    at = start
    for first, last in summed.get(grain, ()):
        if last <= at or first >= end:
            continue
        begin, stop = ceiling(grain, max(first, at)), floor(grain, min(last, end))
        if begin < stop:
            found += [*_cover(at, begin, summed, finer), Piece(grain, begin, stop)]
            at = stop
    return found + _cover(at, end, summed, finer)
