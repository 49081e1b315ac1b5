"""Periods: what a person says, and the hours it means."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from proxy.core.period import (
    PeriodError,
    everything,
    period,
    this_month,
    today,
    whole_hours,
    zone,
)

NOW = datetime(2026, 8, 15, 13, 20, tzinfo=UTC)


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def test_a_bare_end_date_is_included():
    asked = period(NOW, start="2026-08-01", end="2026-08-03")

    assert (asked.start, asked.end) == (at(2026, 8, 1), at(2026, 8, 4))
    assert asked.days() == [date(2026, 8, 1), date(2026, 8, 2), date(2026, 8, 3)]


def test_date_times_are_half_open():
    asked = period(NOW, start="2026-08-01T09:00:00Z", end="2026-08-01T12:00:00+02:00")

    assert (asked.start, asked.end) == (at(2026, 8, 1, 9), at(2026, 8, 1, 10))
    with pytest.raises(PeriodError, match="the period is empty"):
        period(NOW, start="2026-08-01T10:00:00Z", end="2026-08-01T10:00:00Z")


def test_a_date_time_without_zone_is_in_the_zone_asked_for():
    asked = period(NOW, start="2026-08-01T00:00:00", end="2026-08-02T00:00", tz="Europe/Berlin")

    assert (asked.start, asked.end) == (at(2026, 7, 31, 22), at(2026, 8, 1, 22))


def test_days_are_calendar_days_of_the_zone_with_today_among_them():
    assert period(NOW, days=1).start == at(2026, 8, 15)
    assert period(NOW, days=7).start == at(2026, 8, 9)
    assert period(NOW).start == at(2026, 7, 17)
    assert period(NOW, days=1, tz="Asia/Tokyo").start == at(2026, 8, 14, 15)
    assert period(NOW, days=1).end == NOW


def test_days_may_end_in_the_past():
    asked = period(NOW, days=2, end="2026-01-10")

    assert (asked.start, asked.end) == (at(2026, 1, 9), at(2026, 1, 11))


def test_a_day_on_which_the_clock_changes_has_23_hours():
    asked = period(NOW, start="2026-03-29", end="2026-03-29", tz="Europe/Berlin")

    assert (asked.end - asked.start).total_seconds() == 23 * 3600


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"start": "yesterday"}, "start"),
        ({"end": "2026-13-01"}, "end"),
        ({"start": "2026-09-01"}, "start"),
        ({"start": "2026-08-01", "days": 3}, "days"),
        ({"tz": "Mars/Olympus"}, "tz"),
        ({"tz": "Asia/Kolkata"}, "tz"),
        ({"tz": "../etc/passwd"}, "tz"),
        ({"start": "0001-01-01"}, "start"),
        ({"end": "9999-12-31"}, "end"),
    ],
)
def test_what_is_no_period_is_refused_by_field(said, field):
    with pytest.raises(PeriodError) as refused:
        period(NOW, **said)
    assert refused.value.field == field


def test_whole_hours_are_those_that_lie_inside():
    asked = period(NOW, start="2026-08-01T10:20:00Z", end="2026-08-01T13:40:00Z")
    assert whole_hours(asked, NOW) == (at(2026, 8, 1, 11), at(2026, 8, 1, 13))

    within_one = period(NOW, start="2026-08-01T10:20:00Z", end="2026-08-01T10:40:00Z")
    assert whole_hours(within_one, NOW) == (within_one.end, within_one.end)


def test_the_hour_under_way_is_whole_when_the_period_reaches_now():
    assert whole_hours(today(NOW), NOW) == (at(2026, 8, 15), at(2026, 8, 15, 14))
    assert whole_hours(everything(NOW), NOW) == (at(1970, 1, 1), at(2026, 8, 15, 14))


def test_months_begin_in_the_zone():
    assert this_month(NOW).start == at(2026, 8, 1)
    assert this_month(at(2026, 8, 31, 23), zone("Europe/Berlin")).start == at(2026, 8, 31, 22)


def test_the_period_before_has_the_same_length():
    asked = period(NOW, start="2026-08-08", end="2026-08-14")

    assert (asked.before.start, asked.before.end) == (at(2026, 8, 1), at(2026, 8, 8))
