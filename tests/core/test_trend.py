"""Trends: gaps filled, averages, growth, forecast."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

from proxy.core.trend import filled, forecast, growth, moving_average


def test_days_without_usage_are_zero():
    days = [date(2026, 8, 1), date(2026, 8, 2), date(2026, 8, 3)]

    assert filled(days, {date(2026, 8, 1): 5, date(2026, 8, 3): 7}) == [5, 0, 7]


def test_a_moving_average_begins_with_what_there_is():
    assert moving_average([6, 0, 3, 9, 0], 3) == [6, 3, 3, 4, 4]
    assert moving_average([1, 2]) == [1, Fraction(3, 2)]
    assert moving_average([]) == []


def test_growth_from_nothing_is_not_a_number():
    assert growth(4, 5) == 0.25
    assert growth(4, 0) == -1
    assert growth(0, 5) is None
    assert growth(3, 4) == 0.333333


def test_a_forecast_is_what_was_plus_the_rest_at_the_average():
    # 16 days of August remain after the 15th, and half of the 15th.
    assert forecast(100, [10] * 7, date(2026, 8, 15), Fraction(1, 2)) == 100 + 165
    assert forecast(100, [], date(2026, 8, 15), Fraction(0)) == 100
    assert forecast(7, [1, 2], date(2026, 2, 28), Fraction(1)) == 7
