"""Currencies: views over nano-US-dollars with configured, dated rates. What is stored stays in dollars.

A rate holds from its day (UTC) until the next one: {"BRL": {"2026-01-01": "5.43", "2026-02-01": "5.39"}} says how many
units of the currency one dollar is. A record converts at the rate of its own day, and a sum is rounded once. Before a
currency's first rate there is no amount in it: None, never a guess.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from proxy.core.money import MoneyError, parse_decimal, round_half_up

USD = "USD"
CURRENCIES_MAX = 32
RATES_MAX = 10_000
_CODE = re.compile(r"[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class Currency:
    """One currency's rates: units for one dollar, from a day on."""

    code: str
    days: tuple[date, ...]
    """Ascending."""
    rates: tuple[Fraction, ...]

    def rate_on(self, day: date) -> Fraction | None:
        """The rate that holds on a day; None before the first."""
        index = bisect_right(self.days, day)
        return self.rates[index - 1] if index else None


@dataclass(frozen=True, slots=True)
class Currencies:
    """All that are configured, in the order of their codes."""

    by_code: Mapping[str, Currency] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, written: Mapping[str, Mapping[Any, Any]]) -> Currencies:
        """The `currencies` setting. Raises MoneyError that names the currency and what is wrong."""
        if len(written) > CURRENCIES_MAX:
            raise MoneyError(f"more than {CURRENCIES_MAX} currencies")
        found = {}
        for code in sorted(written):
            if not _CODE.fullmatch(code) or code == USD:
                raise MoneyError(f"{code!r} is no other currency's code, such as BRL")
            found[code] = _parse_rates(code, written[code])
        return cls(MappingProxyType(found))

    @property
    def codes(self) -> tuple[str, ...]:
        """E.g. ("BRL", "EUR"). Dollars are always there and not named."""
        return tuple(self.by_code)

    @property
    def change_days(self) -> tuple[date, ...]:
        """Every day on which some rate begins to hold, ascending."""
        return tuple(sorted({day for currency in self.by_code.values() for day in currency.days}))

    def convert(self, nanousd: int | None, code: str, day: date) -> int | None:
        """Nano-units of a currency at a day's rate, rounded half up. None: no amount, or no rate yet on that day."""
        return None if nanousd is None else self.total(((day, nanousd),), code)

    def total(self, by_day: Iterable[tuple[date, int]], code: str) -> int | None:
        """The sum of each day's nano-dollars at its own rate, rounded once. None when a day with an amount has no rate."""
        currency = self.by_code[code]
        total = Fraction(0)
        for day, nanousd in by_day:
            rate = currency.rate_on(day)
            if rate is None:
                if nanousd:
                    return None
                continue
            total += nanousd * rate
        return round_half_up(total)


def day_of(at: float) -> date:
    """The UTC day of a Unix time."""
    return datetime.fromtimestamp(at, UTC).date()


def _parse_rates(code: str, written: Any) -> Currency:
    if not isinstance(written, Mapping) or not 0 < len(written) <= RATES_MAX:
        raise MoneyError(f'{code}: rates are given by day, such as {{"2026-01-01": "5.43"}}')
    rates = {}
    for day, rate in written.items():
        try:
            since = day if isinstance(day, date) else date.fromisoformat(str(day))
            rates[since] = parse_decimal(rate)
        except MoneyError as error:
            raise MoneyError(f"{code}: {day}: {error}") from None
        except ValueError:
            raise MoneyError(f"{code}: {str(day)[:40]!r} is not a day such as 2026-01-01") from None
        if not rates[since]:
            raise MoneyError(f"{code}: {day}: a rate is more than zero")
    return Currency(code, tuple(sorted(rates)), tuple(rates[day] for day in sorted(rates)))
