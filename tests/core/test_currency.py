"""Currencies are views over dollars: each day converts at its own rate, and a sum is rounded once."""

from __future__ import annotations

from datetime import date
from fractions import Fraction

import pytest

from proxy.core.currency import Currencies, day_of
from proxy.core.money import MoneyError

RATES = {"BRL": {"2026-02-01": "5.39", "2026-01-01": "5.43"}, "EUR": {"2026-01-15": "0.92"}}


@pytest.fixture
def currencies():
    return Currencies.parse(RATES)


def test_a_record_converts_at_the_rate_of_its_own_day(currencies):
    one = 1_000_000_000

    assert currencies.convert(one, "BRL", date(2026, 1, 1)) == 5_430_000_000
    assert currencies.convert(one, "BRL", date(2026, 1, 31)) == 5_430_000_000
    assert currencies.convert(one, "BRL", date(2026, 2, 1)) == 5_390_000_000
    assert currencies.convert(one, "BRL", date(2030, 1, 1)) == 5_390_000_000


def test_before_the_first_rate_there_is_no_amount(currencies):
    assert currencies.convert(1, "BRL", date(2025, 12, 31)) is None
    assert currencies.convert(None, "BRL", date(2026, 1, 1)) is None


def test_a_sum_takes_each_days_rate_and_is_rounded_once(currencies):
    days = [(date(2026, 1, 31), 50), (date(2026, 2, 1), 50)]

    assert currencies.total(days, "BRL") == 541  # 271.5 + 269.5
    assert currencies.total([(date(2026, 1, 31), 50)], "BRL") == 272


def test_a_sum_with_a_day_before_the_first_rate_is_unknown_unless_nothing_was_spent(currencies):
    assert currencies.total([(date(2025, 12, 31), 1), (date(2026, 1, 1), 1)], "BRL") is None
    assert currencies.total([(date(2025, 12, 31), 0), (date(2026, 1, 1), 100)], "BRL") == 543


def test_days_are_utc():
    assert day_of(1767225599.9) == date(2025, 12, 31)
    assert day_of(1767225600.0) == date(2026, 1, 1)


def test_codes_are_sorted_and_days_may_be_toml_dates():
    currencies = Currencies.parse({"EUR": {date(2026, 1, 1): "0.9"}, "BRL": {"2026-01-01": 5}})

    assert currencies.codes == ("BRL", "EUR")
    assert currencies.by_code["BRL"].rate_on(date(2026, 1, 1)) == Fraction(5)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"USD": {"2026-01-01": "1"}}, "'USD' is no other currency's code"),
        ({"brl": {"2026-01-01": "1"}}, "'brl' is no other currency's code"),
        ({"BRL": {}}, "BRL: rates are given by day"),
        ({"BRL": "5.43"}, "BRL: rates are given by day"),
        ({"BRL": {"January": "5.43"}}, "BRL: 'January' is not a day"),
        ({"BRL": {"2026-01-01": 5.43}}, "BRL: 2026-01-01: 5.43 is not a decimal string"),
        ({"BRL": {"2026-01-01": "0"}}, "BRL: 2026-01-01: a rate is more than zero"),
        (
            {chr(65 + n // 26) + chr(65 + n % 26) + "X": {"2026-01-01": "1"} for n in range(33)},
            "more than 32",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(written, message):
    with pytest.raises(MoneyError, match=message):
        Currencies.parse(written)
