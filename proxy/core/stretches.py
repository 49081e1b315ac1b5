"""Stretches: how a period is pieced together of sums over months, parts of months, days and hours, and of what is left.

A grain is a way to cut time (UTC): hours, sixes of them, days, fives of a month (its days 1-5, 6-10, …, 26 and the rest), thirds (1-10, 11-20,
21 and the rest), months and quarters. Which blocks of each have been summed is given; the fewest and largest of them that fit are
taken, so that a report reads few rows: twelve blocks, on average, for a year that ends on any day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

Grain = Literal["hour", "six", "day", "five", "third", "month", "quarter"]
GRAINS: tuple[Grain, ...] = ("quarter", "month", "third", "five", "day", "six", "hour")
"""The largest first; each is made of whole blocks of the next."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
_STEPS: Mapping[Grain, timedelta] = {"hour": HOUR, "six": 6 * HOUR, "day": DAY}
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
# Parts of a month: the days of each but the last, and the day on which the last begins.
_PARTS: Mapping[Grain, tuple[int, int]] = {"five": (5, 26), "third": (10, 21), "month": (31, 1)}
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
        return self.grain is not None and following(self.grain, self.start) == self.end


def floor(grain: Grain, moment: datetime) -> datetime:
    """The beginning of the block that holds a moment."""
    step = _STEPS.get(grain, DAY)
    day = _FIRST + (moment - _FIRST) // step * step
    if grain in _STEPS:
        return day
    if grain == "quarter":
        return day.replace(month=(day.month - 1) // _QUARTER_MONTHS * _QUARTER_MONTHS + 1, day=1)
    days, last = _PARTS[grain]
    return day.replace(day=min((day.day - 1) // days * days + 1, last))


def following(grain: Grain, start: datetime) -> datetime:
    """The end of the block that begins at `start`."""
    if grain in _STEPS:
        return start + _STEPS[grain]
    if grain in _PARTS:
        days, last = _PARTS[grain]
        if start.day < last:
            return start + days * DAY
    months = _QUARTER_MONTHS if grain == "quarter" else 1
    return (start.replace(day=1) + months * 31 * DAY).replace(day=1)


def ceiling(grain: Grain, moment: datetime) -> datetime:
    """The first beginning of a block that is not before a moment."""
    start = floor(grain, moment)
    return start if start == moment else following(grain, start)


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
    """The period in pieces, in order. `summed`: stretches of whole blocks, ordered, by grain; `grains`: which may be used, the
    largest first; `splits`: moments, ascending, across which no block may reach.
    """
    found: list[Piece] = []
    begin = start
    for moment in (*(each for each in splits if start < each < end), end):
        found += _cover(begin, moment, summed, grains)
        begin = moment
    whole: list[Piece] = []
    for each in found:
        if whole and whole[-1].grain == each.grain and whole[-1].end == each.start:
            whole[-1] = Piece(each.grain, whole[-1].start, each.end)
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
