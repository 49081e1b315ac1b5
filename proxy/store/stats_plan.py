"""Which sums answer a question: the cut of folds with the fewest rows that tells its dimensions and filters apart, over the
largest blocks of time that fit; the hourly sums for what is not folded; records for parts of hours and filters in DETAIL.

Users are counted apart from sums, since distinct users don't add up: by the numbers that folds keep where a row of the answer
is one block of one cut, or a day of another zone; by when each combination was used last where the period reaches up to
now; else by the users in the folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from proxy.core.period import Period
from proxy.core.stretches import DAY, GRAINS, HOUR, Grain, Piece, Stretch, floor, pieces
from proxy.store import folds
from proxy.store.folds import CUTS, FULL, WHO, WINDOW, Cut
from proxy.store.postgres import Connection

TIMES = frozenset({"year", "month", "day", "hour"})
_PEOPLE = (WHO, FULL)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a plan is made for. `filtered`: how many values each filter of a dimension has; `splits`: moments that no block may
    reach across, ascending.
    """

    period: Period
    now: datetime
    hours: tuple[datetime, datetime]
    """The part that sums answer."""
    grouped: frozenset[str] = frozenset()
    filtered: dict[str, int] = field(default_factory=dict)
    splits: tuple[datetime, ...] = ()
    count_users: bool = True


@dataclass(frozen=True, slots=True)
class DayPart:
    """Of whole folded days the hours, as bits, that are of one day in another zone, and how far into the day the first is."""

    start: datetime
    end: datetime
    hours: int
    shift: int


@dataclass(slots=True)
class Plan:
    """Parameters $4 to $20, $22 and $23 of the statements over _facts."""

    hours: tuple[datetime, datetime]
    from_records: bool
    cut: Cut
    pieces: list[Piece]
    windows: list[datetime] = field(default_factory=list)
    """Beginnings of days of another zone whose number of users is known."""
    known_grain: Grain | Literal["window"] | None = None
    people_cut: Cut | None = None
    people_pieces: list[Piece] = field(default_factory=list)
    people_spans: bool = False
    people_parts: list[DayPart] = field(default_factory=list)

    def parameters(self) -> tuple[Any, ...]:
        """In their order."""
        grains, starts, ends, *left = columns(self.people_pieces)
        summed_grains, summed_starts, summed_ends, *summed_left = columns(self.pieces)
        parts = self.people_parts
        return (
            *self.hours, self.from_records, self.cut.name,
            [*summed_grains, *(WINDOW for _ in self.windows)],
            [*summed_starts, *self.windows],
            [*summed_ends, *(start + HOUR for start in self.windows)],
            *summed_left, self.known_grain or "",
            self.people_cut.name if self.people_cut is not None else "",
            [*grains, *("day" for _ in parts)],
            [*starts, *(part.start for part in parts)],
            [*ends, *(part.end for part in parts)],
            *left, self.people_spans,
        )  # fmt: skip

    def hours_of_days(self) -> tuple[list[int], list[int]]:
        """Parameters $22 and $23."""
        whole = [0] * sum(each.grain is not None for each in self.people_pieces)
        parts = self.people_parts
        return [*whole, *(part.hours for part in parts)], [*whole, *(part.shift for part in parts)]


def columns(cover: Sequence[Piece]) -> tuple[list[Any], ...]:
    """Grains, starts and ends of folded pieces, and starts and ends of the others."""
    folded = [each for each in cover if each.grain is not None]
    left = [each for each in cover if each.grain is None]
    return (
        [each.grain for each in folded],
        [each.start for each in folded],
        [each.end for each in folded],
        [each.start for each in left],
        [each.end for each in left],
    )


def cut_of(dimensions: frozenset[str], cuts: Sequence[Cut] = CUTS) -> Cut:
    """The smallest that tells the dimensions apart."""
    return next(cut for cut in cuts if dimensions <= cut.dimensions)


async def plan(connection: Connection, asked: Asked) -> Plan:
    """The plan of one statement."""
    start, end = asked.hours
    period = asked.period
    times, dimensions = asked.grouped & TIMES, asked.grouped - TIMES
    needed = dimensions | asked.filtered.keys()
    made = Plan(asked.hours, start > period.start or end < period.end, cut_of(needed), [])
    if start >= end:
        made.people_cut = FULL
        return made
    summed = await folds.folded(connection, start, end)
    splits = _splits(asked, times)

    def cover(cut: Cut) -> list[Piece]:
        grains = tuple(grain for grain in _grains(times, period.zone.key) if grain in cut.grains)
        return pieces(start, end, summed, grains, splits)

    made.pieces = cover(made.cut)
    if not asked.count_users or "user" in dimensions:
        return made
    people_cut = cut_of(needed | {"user"}, _PEOPLE)
    made.people_cut = people_cut
    if not times and period.end >= asked.now:
        left = pieces(start, end, summed, ("hour",))
        made.people_spans = True
        made.people_pieces = [each for each in left if each.grain is None]
        return made
    if "day" in times and "hour" not in times and period.zone.key != "UTC":
        if _is_one_row(asked, made):
            made.known_grain = WINDOW
            made.windows = _windows(start, end, await folds.windows(connection, start, end), period.zone)
        _count_local_days(made, summed.get("day", ()), period.zone)
        return made
    made.known_grain = _known_grain(asked, made, times)
    known = [each for each in made.pieces if each.grain is not None and each.grain == made.known_grain]
    made.people_pieces = _without(cover(people_cut), known)
    return made


def _grains(times: frozenset[str], zone: str) -> tuple[Grain, ...]:
    """Those that a row of time can be made of, beside splits."""
    if "hour" in times or ("day" in times and zone != "UTC"):
        return ("hour",)
    return ("day", "hour") if "day" in times else GRAINS


def _splits(asked: Asked, times: frozenset[str]) -> list[datetime]:
    """Where rates change, and where months and years begin elsewhere than in UTC."""
    found = set(asked.splits)
    if times & {"month", "year"}:
        found |= _month_beginnings(asked.period)
    return sorted(found)


def _month_beginnings(period: Period) -> set[datetime]:
    if period.zone.key == "UTC":
        return set()
    # Nothing is older than the first mark; a period since 1970 has 700 months, which is little.
    month = period.start.astimezone(period.zone).date().replace(day=1)
    last = period.end.astimezone(period.zone).date()
    found = set()
    while month <= last:
        found.add(datetime(month.year, month.month, 1, tzinfo=period.zone).astimezone(UTC))
        month = (month + timedelta(days=32)).replace(day=1)
    return found


def _known_grain(asked: Asked, made: Plan, times: frozenset[str]) -> Grain | None:
    """The grain of the pieces each of whose rows is one row of the answer, its number of users known; None: there is none."""
    if not _is_one_row(asked, made) or len(times) > 1:
        return None
    if not times:
        whole = len(made.pieces) == 1 and made.pieces[0].one_block and not made.from_records
        return made.pieces[0].grain if whole else None
    (time,) = times
    if time == "hour":
        return "hour"
    if asked.period.zone.key != "UTC" or time == "year":
        return None
    return "day" if time == "day" else "month"


def _is_one_row(asked: Asked, made: Plan) -> bool:
    """Whether each row of the cut, at its time, is part of one row of the answer, and the only one there."""
    single = {name for name, count in asked.filtered.items() if count == 1}
    return made.cut.counted and made.cut.dimensions <= (asked.grouped - TIMES) | single


def _windows(start: datetime, end: datetime, known: Sequence[Stretch], zone: ZoneInfo) -> list[datetime]:
    """The beginnings of a zone's days of 24 hours that lie within a period and end on UTC days whose windows are known."""
    found: list[datetime] = []
    if not known:
        return found
    # A period may begin long before anything was used.
    start = max(start, known[0][0] - DAY)
    day = start.astimezone(zone).date()
    while (begins := datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)) + DAY <= end:
        day += timedelta(days=1)
        ends = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
        if begins >= start and ends - begins == DAY and any(first < ends <= last for first, last in known):
            found.append(begins)
    return found


def _count_local_days(made: Plan, days: Sequence[Stretch], zone: ZoneInfo) -> None:
    """What windows don't tell is counted in folded days, by their hours, and in the hourly sums."""
    at = made.hours[0]
    for begins in (*made.windows, made.hours[1]):
        if at < begins:
            made.people_parts += _day_parts(at, begins, days, zone)
            left = pieces(at, begins, {"hour": days}, ("hour",))
            made.people_pieces += [each for each in left if each.grain is None]
        at = begins + DAY


def _day_parts(start: datetime, end: datetime, days: Sequence[Stretch], zone: ZoneInfo) -> list[DayPart]:
    """The folded days that a period touches, cut where days of a zone begin; alike ones that follow each other are one."""
    open_parts: dict[tuple[int, int], DayPart] = {}
    found: list[DayPart] = []
    for first, last in days:
        day = max(first, floor("day", start))
        while day < min(last, end):
            begins, ends = max(start, day), min(end, day + DAY)
            midnight = datetime.combine((day + DAY - HOUR).astimezone(zone).date(), time(), tzinfo=zone)
            cut = min(max(midnight.astimezone(UTC), begins), ends)
            for since, until in ((begins, cut), (cut, ends)):
                if since >= until:
                    continue
                shift = (since - day) // HOUR
                key = (((1 << (until - since) // HOUR) - 1) << shift, shift)
                before = open_parts.get(key)
                if before is None or before.end != day:
                    if before is not None:
                        found.append(before)
                    before = DayPart(day, day, *key)
                open_parts[key] = replace(before, end=day + DAY)
            day += DAY
    return [*found, *open_parts.values()]


def _without(cover: list[Piece], taken: list[Piece]) -> list[Piece]:
    """The pieces outside others, whose bounds are all bounds of blocks of the same or a larger grain."""
    found = []
    for each in cover:
        at = each.start
        for other in taken:
            if other.end <= at or other.start >= each.end:
                continue
            if at < other.start:
                found.append(Piece(each.grain, at, other.start))
            at = max(at, other.end)
        if at < each.end:
            found.append(Piece(each.grain, at, each.end))
    return found


def rate_changes(days: Sequence[date], period: Period) -> tuple[datetime, ...]:
    """The moments within a period at which rates change."""
    moments = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in days)
    return tuple(moment for moment in moments if period.start < moment < period.end)
