from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.quota import Charge, Quota, QuotaStatus, is_long, window_at

MONTH = Quota("q", "user", "u", "tokens", "month", 1000)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("window", "moment", "start", "ends"),
    [
        ("minute", "2026-02-28T23:59:59.9", "2026-02-28T23:59", "2026-03-01T00:00"),
        ("hour", "2026-02-28T23:00:00", "2026-02-28T23:00", "2026-03-01T00:00"),
        ("day", "2026-02-28T23:59:59.9", "2026-02-28", "2026-03-01"),
        ("month", "2026-02-28T23:59:59.9", "2026-02-01", "2026-03-01"),
        ("month", "2026-12-01T00:00:00", "2026-12-01", "2027-01-01"),
    ],
)
def test_windows_are_utcs(window, moment, start, ends):
    assert window_at(replace(MONTH, window=window), at(moment)) == (at(start), at(ends))


@pytest.mark.parametrize(
    ("day", "moment", "start", "ends"),
    [
        (15, "2026-03-14T23:59:59.9", "2026-02-15", "2026-03-15"),
        (15, "2026-03-15T00:00:00", "2026-03-15", "2026-04-15"),
        (28, "2026-01-01T00:00:00", "2025-12-28", "2026-01-28"),
        (2, "2026-12-31T12:00:00", "2026-12-02", "2027-01-02"),
    ],
)
def test_a_month_may_begin_on_a_billing_day(day, moment, start, ends):
    assert window_at(replace(MONTH, billing_day=day), at(moment)) == (at(start), at(ends))


def test_a_total_never_ends():
    assert window_at(replace(MONTH, window="total"), at("2026-05-05")) == (0, math.inf)


@given(
    moment=st.floats(0, 4e9),
    window=st.sampled_from(["minute", "hour", "day", "month"]),
    day=st.integers(1, 28),
)
def test_every_moment_lies_in_its_window_and_windows_touch(moment, window, day):
    quota = replace(MONTH, window=window, billing_day=day)

    start, ends = window_at(quota, moment)

    assert start <= moment < ends
    assert window_at(quota, ends)[0] == ends
    assert window_at(quota, start) == (start, ends)


def test_only_windows_of_a_day_and_more_are_quotas_to_the_client():
    windows = ("minute", "hour", "day", "month", "total")

    assert [is_long(replace(MONTH, window=window)) for window in windows] == [False, False, True, True, True]


def test_what_remains_is_never_below_zero():
    assert QuotaStatus(MONTH, "u", 10, 25, 0, 0, None).remaining == 0


def test_a_charge_names_its_window():
    assert Charge("q", 60, "u", 5).key == ("q", "u", 60)
