"""Which sums answer a question: the cut of folds with the fewest rows that tells its dimensions and filters apart, over the
largest blocks of time that fit; the hourly sums for what is not folded; records for parts of hours and filters in DETAIL.

Days of another zone are folded too, as windows. Users are counted apart from sums, since distinct users don't add up: by the
numbers that folds keep where a row of the answer is one block, or window, of one cut; by when each combination was used last where
the period reaches up to now; else by the users in the folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal
from zoneinfo import ZoneInfo

from proxy.core.period import Period
from proxy.core.stretches import DAY, GRAINS, HOUR, Grain, Piece, Stretch, floor, pieces
from proxy.store.folds import CUTS, PEOPLE_CUTS, WINDOW, Cut
from proxy.store.marks import Marks
from proxy.store.postgres import Connection

TIMES = frozenset({"year", "month", "day", "hour"})
FEW_HOURS = 3


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
    users: Literal["counted", "listed", "none"] = "counted"
    """Whether the answer tells their number, who they are, or nothing of them."""
    marks: Marks = field(default_factory=Marks)


@dataclass(frozen=True, slots=True)
class DayPart:
    """Of whole folded days the hours, as bits, that are of one day in another zone, and how far into the day the first is."""

    start: datetime
    end: datetime
    hours: int
    shift: int


@dataclass(slots=True)
class Plan:
    """Sources of the statements in stats.sql."""

    hours: tuple[datetime, datetime]
    from_records: bool
    cut: Cut
    pieces: list[Piece]
    windows: list[datetime] = field(default_factory=list)
    """Beginnings of days of another zone that are folded."""
    known_grain: Grain | Literal["window"] | None = None
    people_cut: Cut | None = None
    people_pieces: list[Piece] = field(default_factory=list)
    people_spans: bool = False
    people_parts: list[DayPart] = field(default_factory=list)

    def facts(self) -> tuple[str, ...]:
        """The parts that tell sums; one at least."""
        found = {
            "_folded_facts": self.windows or any(each.grain is not None for each in self.pieces),
            "_hourly_facts": any(each.grain is None for each in self.pieces),
            "_recorded_facts": self.from_records,
        }
        return present(found) or ("_hourly_facts",)

    def people(self) -> tuple[str, ...]:
        """The parts that tell who else was there; none when that need not be known."""
        if self.people_cut is None:
            return ()
        found = {
            "_folded_people": any(each.grain is not None for each in self.people_pieces),
            "_people_of_parts": self.people_parts,
            "_hourly_people": any(each.grain is None for each in self.people_pieces),
            "_people_since": self.people_spans,
            "_recorded_people": self.from_records,
        }
        return present(found)

    def values(self) -> dict[str, Any]:
        """Parameters."""
        pieces, people, parts = columns(self.pieces), columns(self.people_pieces), self.people_parts
        return {
            "first_hour": self.hours[0],
            "last_hour": self.hours[1],
            "known_grain": self.known_grain or "",
            **pieces,
            "grains": [*pieces["grains"], *(WINDOW for _ in self.windows)],
            "starts": [*pieces["starts"], *self.windows],
            "ends": [*pieces["ends"], *(start + HOUR for start in self.windows)],
            **{f"people_{name}": values for name, values in people.items()},
            "people_cut": self.people_cut.name if self.people_cut is not None else "",
            "part_starts": [part.start for part in parts],
            "part_ends": [part.end for part in parts],
            "part_hours": [part.hours for part in parts],
            "part_shifts": [part.shift for part in parts],
        }


def present(sources: Mapping[str, object]) -> tuple[str, ...]:
    """The parts of a statement that have something to tell."""
    return tuple(name for name, there in sources.items() if there)


def columns(cover: Sequence[Piece]) -> dict[str, list[Any]]:
    """Parameters: grains, starts and ends of folded pieces, and starts and ends of the others."""
    folded = [each for each in cover if each.grain is not None]
    left = [each for each in cover if each.grain is None]
    return {
        "grains": [each.grain for each in folded],
        "starts": [each.stands[0] for each in folded],
        "ends": [each.stands[1] for each in folded],
        "hour_starts": [each.start for each in left],
        "hour_ends": [each.end for each in left],
    }


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
    counted = asked.users != "none" and "user" not in dimensions
    if counted:
        made.people_cut = cut_of(needed | {"user"}, PEOPLE_CUTS)
    if start >= end:
        return made
    summed = await asked.marks.folded(connection, start, end)
    splits = _splits(asked, times)

    def cover(cut: Cut, first: datetime, last: datetime) -> list[Piece]:
        grains = tuple(grain for grain in _grains(times, period.zone.key) if grain in cut.grains)
        return pieces(first, last, summed, grains, splits)

    local_days = "day" in times and "hour" not in times and period.zone.key != "UTC"
    if local_days and made.cut.hours:
        made.windows = _windows(
            asked.hours, await asked.marks.windows(connection, start, end), period.zone, splits
        )
    for first, last in _between(made.windows, start, end):
        made.pieces += cover(made.cut, first, last)
    if made.people_cut is None:
        return made
    if not times and period.end >= asked.now:
        left = pieces(start, end, summed, ("hour",))
        made.people_spans = True
        made.people_pieces = [each for each in left if each.grain is None]
    elif local_days:
        known = _is_one_row(asked, made)
        made.known_grain = WINDOW if known else None
        for first, last in _between(made.windows if known else (), start, end):
            _count_local_days(made, first, last, summed.get("day", ()), period.zone)
    else:
        made.known_grain = _known_grain(asked, made, times)
        known_pieces = [
            each for each in made.pieces if each.grain is not None and each.grain == made.known_grain
        ]
        made.people_pieces = _without(cover(made.people_cut, start, end), known_pieces)
    return made


def _grains(times: frozenset[str], zone: str) -> tuple[Grain, ...]:
    """Those that a row of time can be made of, beside splits."""
    if "hour" in times or ("day" in times and zone != "UTC"):
        return ("hour",)
    if "day" in times:
        return GRAINS[GRAINS.index("day") :]
    return (
        GRAINS[GRAINS.index("month") :] if "month" in times else GRAINS
    )  # heads and tails of months are parts of them


def _splits(asked: Asked, times: frozenset[str]) -> list[datetime]:
    """Where rates change, and where months, or years, begin elsewhere than in UTC."""
    found = set(asked.splits)
    if times & {"month", "year"} and asked.period.zone.key != "UTC":
        months = _month_beginnings(asked.period)
        found |= {moment for moment, number in months.items() if number == 1 or "month" in times}
    return sorted(found)


def _month_beginnings(period: Period) -> dict[datetime, int]:
    """The moments, and the numbers of the months."""
    # Nothing is older than the first mark; a period since 1970 has 700 months, which is little.
    month = period.start.astimezone(period.zone).date().replace(day=1)
    last = period.end.astimezone(period.zone).date()
    found = {}
    while month <= last:
        begins = datetime(month.year, month.month, 1, tzinfo=period.zone).astimezone(UTC)
        found[begins] = month.month
        month = (month + timedelta(days=32)).replace(day=1)
    return found


def _known_grain(asked: Asked, made: Plan, times: frozenset[str]) -> Grain | None:
    """The grain of the pieces each of whose rows is one row of the answer, its number of users known; None: there is none."""
    if not _is_one_row(asked, made) or len(times) > 1:
        return None
    if asked.users == "listed":
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


def _windows(
    hours: tuple[datetime, datetime], known: Sequence[Stretch], zone: ZoneInfo, splits: Sequence[datetime]
) -> list[datetime]:
    """The beginnings of a zone's days of 24 hours that lie within a period, end on UTC days whose windows are folded, and that
    nothing splits.
    """
    start, end = hours
    found: list[datetime] = []
    if not known:
        return found
    # A period may begin long before anything was used.
    start = max(start, known[0][0] - DAY)
    day = start.astimezone(zone).date()
    while (begins := datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)) + DAY <= end:
        day += timedelta(days=1)
        ends = datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
        if begins < start or ends - begins != DAY or any(begins < moment < ends for moment in splits):
            continue
        if any(first < ends <= last for first, last in known):
            found.append(begins)
    return found


def _between(windows: Sequence[datetime], start: datetime, end: datetime) -> Iterator[Stretch]:
    """What of a period lies outside windows."""
    at = start
    for begins in (*windows, end):
        if at < begins:
            yield at, begins
        at = begins + DAY


def _count_local_days(
    made: Plan, start: datetime, end: datetime, days: Sequence[Stretch], zone: ZoneInfo
) -> None:
    """Users are counted in folded days, by their hours, and in the hourly sums: also where few hours of a day are wanted, since the sums of
    these have fewer rows than the day.
    """
    left = pieces(start, end, {"hour": days}, ("hour",))
    made.people_pieces += [each for each in left if each.grain is None]
    for part in _day_parts(start, end, days, zone):
        hours = part.hours.bit_count()
        if hours > FEW_HOURS:
            made.people_parts.append(part)
            continue
        day = part.start
        while day < part.end:
            begins = day + part.shift * HOUR
            made.people_pieces.append(Piece(None, begins, begins + hours * HOUR))
            day += DAY


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
