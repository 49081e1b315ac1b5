"""Periods: which time a report is about, from what a person said, and in which zone its days begin.

A bare date is a whole day, the end included; date-times are half-open. Zones are whole hours off UTC, because sums are kept
by the hour. All results are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

HOUR = timedelta(hours=1)
DAYS_MAX = 3660
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = datetime(9000, 1, 1, tzinfo=UTC)


class PeriodError(ValueError):
    """What was said is no period; `field` says which part of it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` up to but not including `end`."""

    start: datetime
    end: datetime
    zone: ZoneInfo

    @property
    def before(self) -> Period:
        """The period of the same length that ends where this one starts."""
        return Period(max(_FIRST, self.start - (self.end - self.start)), self.start, self.zone)

    def days(self) -> list[date]:
        """Every day that it touches, in its zone."""
        first = self.start.astimezone(self.zone).date()
        last = (self.end - timedelta(microseconds=1)).astimezone(self.zone).date()
        return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def zone(name: str) -> ZoneInfo:
    """A zone by its IANA name. Raises PeriodError for unknown ones, and for those with half hours."""
    try:
        found = ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PeriodError("tz", f"{name!r} is not a time zone, such as Europe/Berlin") from None
    for month in (1, 7):
        offset = datetime(2026, month, 1, tzinfo=found).utcoffset()
        if offset is None or offset % HOUR:
            raise PeriodError("tz", f"{name} is not a whole number of hours off UTC; use UTC or a neighbour")
    return found


def period(
    now: datetime,
    *,
    start: str | None = None,
    end: str | None = None,
    days: int | None = None,
    tz: str = "UTC",
    days_default: int = 30,
) -> Period:
    """The period that was asked for; without `start` it is the last `days` days in the zone, today included.

    Without `end` it ends now. Raises PeriodError.
    """
    found = zone(tz)
    if days is not None and start is not None:
        raise PeriodError("days", "give either days or start")
    until = _moment("end", end, found, whole_day=True) if end is not None else now
    if start is not None:
        since = _moment("start", start, found, whole_day=False)
    else:
        last_day = (until - timedelta(microseconds=1)).astimezone(found).date()
        since = _midnight(last_day - timedelta(days=(days or days_default) - 1), found)
    if since >= until:
        raise PeriodError(
            "end" if end is not None else "start", "the period is empty: start is not before end"
        )
    return Period(since, until, found)


def everything(now: datetime, tz: ZoneInfo | None = None) -> Period:
    """All time up to now."""
    return Period(_FIRST, now, tz or ZoneInfo("UTC"))


def this_month(now: datetime, tz: ZoneInfo | None = None) -> Period:
    """The calendar month that holds `now`, up to now."""
    found = tz or ZoneInfo("UTC")
    return Period(_midnight(now.astimezone(found).date().replace(day=1), found), now, found)


def today(now: datetime, tz: ZoneInfo | None = None) -> Period:
    """The day that holds `now`, up to now."""
    found = tz or ZoneInfo("UTC")
    return Period(_midnight(now.astimezone(found).date(), found), now, found)


def whole_hours(asked: Period, now: datetime) -> tuple[datetime, datetime]:
    """The part of a period that hourly sums answer: [first, last). What lies outside it must be counted one by one.

    The hour that is under way counts as whole when the period reaches up to now, since nothing in it is later.
    """
    first = -(-(asked.start - _FIRST) // HOUR)
    last = -(-(asked.end - _FIRST) // HOUR) if asked.end >= now else (asked.end - _FIRST) // HOUR
    begin, stop = _FIRST + first * HOUR, _FIRST + last * HOUR
    return (begin, stop) if begin < stop else (asked.end, asked.end)


def _moment(field: str, text: str, tz: ZoneInfo, *, whole_day: bool) -> datetime:
    try:
        if len(text) <= 10:
            day = date.fromisoformat(text)
            found = _midnight(day + timedelta(days=1) if whole_day else day, tz)
        else:
            given = datetime.fromisoformat(text)
            found = (given if given.tzinfo is not None else given.replace(tzinfo=tz)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PeriodError(field, f"{text!r} is not a date such as 2026-08-31 or a time in ISO 8601") from None
    if not _FIRST <= found <= _LAST:
        raise PeriodError(field, f"{text!r} lies outside the years 1970 to 9000")
    return found


def _midnight(day: date, tz: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=tz).astimezone(UTC)
