"""Trends: daily series without gaps, moving averages, growth, and a forecast to the month's end. Pure arithmetic."""

from __future__ import annotations

import calendar
from collections.abc import Mapping, Sequence
from datetime import date
from fractions import Fraction

WINDOW_DAYS = 7


def filled(days: Sequence[date], values: Mapping[date, int]) -> list[int]:
    """One value for each day, 0 where there was none."""
    return [values.get(day, 0) for day in days]


def moving_average(values: Sequence[int], window: int = WINDOW_DAYS) -> list[Fraction]:
    """For each value the mean of it and those before it, at most `window` in all."""
    sums = []
    running = 0
    for index, value in enumerate(values):
        running += value
        if index >= window:
            running -= values[index - window]
        sums.append(Fraction(running, min(index + 1, window)))
    return sums


def growth(before: int, after: int) -> float | None:
    """The relative change, 0.25 for a quarter more; None from nothing."""
    return None if before == 0 else round(float(Fraction(after - before, before)), 6)


def forecast(this_month: int, last_days: Sequence[int], today: date, day_share: Fraction) -> int:
    """What the whole month will come to: what it came to so far, and the rest of it at the average of the last days.

    `last_days` are whole days before today; `day_share` is how much of today is over, 0 to 1.
    """
    days = calendar.monthrange(today.year, today.month)[1]
    rest = days - today.day + 1 - day_share
    average = Fraction(sum(last_days), len(last_days)) if last_days else Fraction(0)
    return this_month + round(average * rest)
