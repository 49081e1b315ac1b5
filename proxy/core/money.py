"""Money: whole nano-US-dollars in `int`, read from and written as decimal strings, never through floats.

One US dollar is NANO = 1,000,000,000. What can't be said exactly is refused with a MoneyError that names the text; what
has to be rounded (a cost, a converted amount) is rounded half up, once, by `round_half_up`.
"""

from __future__ import annotations

import re
from decimal import Decimal, Inexact, localcontext
from fractions import Fraction
from typing import Any

NANO = 1_000_000_000
PLACES = 9
AMOUNT_MAX_NANOUSD = 2**63 - 1
"""What a Postgres bigint holds: about 9.2 billion dollars."""
_DIGITS_MAX = 40
_EXACT_DIGITS = 100
_DECIMAL = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


class MoneyError(ValueError):
    """The text is no amount of money; the message says what is wrong with it."""


def parse_usd(value: Any) -> int:
    """A decimal string (or whole number) of US dollars as nano-dollars: "0.15" is 150_000_000.

    Raises MoneyError for signs, exponents, more than nine decimals, floats, and more than a bigint holds.
    """
    amount = parse_decimal(value) * NANO
    if amount.denominator != 1:
        raise MoneyError(f"{value!r} has more than {PLACES} decimals")
    if amount > AMOUNT_MAX_NANOUSD:
        raise MoneyError(f"{value!r} is more than {format_nano(AMOUNT_MAX_NANOUSD)}")
    return int(amount)


def parse_decimal(value: Any) -> Fraction:
    """A decimal string (or whole number) that is not negative, exactly. Raises MoneyError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise MoneyError(f'{value!r} is not a decimal string such as "0.15"')
    text = str(value).strip()
    found = _DECIMAL.fullmatch(text)
    if found is None or len(text) > _DIGITS_MAX:
        raise MoneyError(f'{str(value)[:_DIGITS_MAX]!r} is not a decimal number such as "0.15"')
    whole, decimals = found[1], found[2] or ""
    return Fraction(int(whole + decimals), 10 ** len(decimals))


def format_nano(amount: int, *, places_min: int = 0) -> str:
    """Nano-units as an exact decimal string without exponent: 150_000_000 is "0.15", with `places_min` 4 "0.1500"."""
    whole, rest = divmod(abs(amount), NANO)
    decimals = f"{rest:0{PLACES}d}".rstrip("0").ljust(places_min, "0")
    sign = "-" if amount < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def format_rate(rate: Fraction) -> str:
    """A rate as a decimal string: exact where its decimals end, else to 18 digits."""
    with localcontext(prec=_EXACT_DIGITS) as context:
        context.clear_flags()  # they come along from whoever rounded before
        exact = Decimal(rate.numerator) / rate.denominator
        if context.flags[Inexact]:
            context.prec = 18
            exact = +exact
        text = f"{exact:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def round_half_up(amount: Fraction) -> int:
    """The nearest whole number, halves upwards."""
    return (2 * amount.numerator + amount.denominator) // (2 * amount.denominator)
