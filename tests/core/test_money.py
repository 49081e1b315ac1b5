"""Amounts are read and written exactly; what can't be exact is refused, and rounding is half up."""

from __future__ import annotations

from decimal import Inexact, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.money import (
    AMOUNT_MAX_NANOUSD,
    MoneyError,
    format_nano,
    format_rate,
    parse_decimal,
    parse_usd,
    round_half_up,
)


@pytest.mark.parametrize(
    ("text", "nanousd"),
    [
        ("0", 0),
        ("1", 1_000_000_000),
        (25, 25_000_000_000),
        ("0.15", 150_000_000),
        ("0.000000001", 1),
        (" 12.50 ", 12_500_000_000),
        ("0.1500000000000", 150_000_000),
        ("9223372036.854775807", AMOUNT_MAX_NANOUSD),
    ],
)
def test_a_decimal_string_is_read_exactly(text, nanousd):
    assert parse_usd(text) == nanousd


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.0000000001", "more than 9 decimals"),
        ("9223372036.854775808", "is more than 9223372036.854775807"),
        (0.15, "is not a decimal string"),
        (True, "is not a decimal string"),
        (None, "is not a decimal string"),
        ("", "is not a decimal number"),
        ("-1", "is not a decimal number"),
        ("+1", "is not a decimal number"),
        ("1e3", "is not a decimal number"),
        ("1,5", "is not a decimal number"),
        (".5", "is not a decimal number"),
        ("1.", "is not a decimal number"),
        ("NaN", "is not a decimal number"),
        ("٣", "is not a decimal number"),
        ("1" * 41, "is not a decimal number"),
    ],
)
def test_what_is_no_amount_is_refused_and_named(value, message):
    with pytest.raises(MoneyError, match=message):
        parse_usd(value)


@pytest.mark.parametrize(
    ("nanousd", "text"),
    [
        (0, "0"),
        (1, "0.000000001"),
        (150_000_000, "0.15"),
        (1_000_000_000, "1"),
        (-1_500_000_000, "-1.5"),
        (12_345_678_900_000_000_000, "12345678900"),
    ],
)
def test_an_amount_is_written_without_exponent_or_needless_zeros(nanousd, text):
    assert format_nano(nanousd) == text


def test_an_amount_can_be_written_with_at_least_so_many_decimals():
    assert format_nano(1_500_000_000, places_min=2) == "1.50"
    assert format_nano(0, places_min=2) == "0.00"
    assert format_nano(1, places_min=2) == "0.000000001"


@given(st.integers(0, AMOUNT_MAX_NANOUSD))
def test_what_was_written_is_read_as_the_same_amount(nanousd):
    assert parse_usd(format_nano(nanousd)) == nanousd


@given(st.integers(0, 10**20), st.integers(0, 20))
def test_a_rate_is_written_exactly(digits, decimals):
    rate = Fraction(digits, 10**decimals)

    assert parse_decimal(format_rate(rate)) == rate


def test_a_rate_is_written_exactly_whatever_was_rounded_before():
    with localcontext() as context:
        context.flags[Inexact] = True

        assert format_rate(Fraction(10**18 + 1)) == "1000000000000000001"


def test_a_rate_without_end_is_written_to_18_digits():
    assert format_rate(Fraction(1, 3)) == "0.333333333333333333"


@pytest.mark.parametrize(
    ("amount", "whole"),
    [("0", 0), ("0.4999", 0), ("0.5", 1), ("1.5", 2), ("2.5", 3), ("-0.5", 0), ("-0.51", -1)],
)
def test_halves_are_rounded_up(amount, whole):
    assert round_half_up(Fraction(amount)) == whole
