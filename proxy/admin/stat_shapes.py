"""Sums of usage as JSON: tokens are integers, money is decimal strings, shares are between 0 and 1.

Every amount is there in US dollars and in each configured currency. A sum is converted day by day (UTC), each at its own rate,
and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Self

from pydantic import ConfigDict, Field

from proxy.admin.route import Ask
from proxy.admin.shapes import Usd, View
from proxy.core.currency import Currencies
from proxy.core.money import format_nano
from proxy.core.period import Period
from proxy.store.rows import Row


class Amounts(View):
    """Each `…_usd` is there in the configured currencies as well, such as `cost_brl`; null where no rate holds yet."""

    model_config = ConfigDict(frozen=True, extra="allow")
    __pydantic_extra__: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Money:
    """Amounts in every configured currency."""

    currencies: Currencies

    @classmethod
    def of(cls, ask: Ask) -> Self:
        """As the settings say."""
        return cls(ask.context.currencies)

    def costs(self, row: Row) -> dict[str, int | None]:
        """The cost of a row of sums in nano-units, by the currency's code."""
        return self._converted(row, 0)

    def of_record(self, row: Row) -> dict[str, str | None]:
        """What one record cost, at the rate of its day, as members of an answer."""
        day = row["started_at"].astimezone(UTC).date()
        convert = self.currencies.convert
        return self.members(
            "cost", {code: convert(row["cost_nanousd"], code, day) for code in self.currencies.codes}
        )

    def saved(self, row: Row) -> dict[str, int | None]:
        """What the prompt cache saved, in the same way."""
        return self._converted(row, 1)

    def _converted(self, row: Row, place: int) -> dict[str, int | None]:
        by_day = [(date.fromisoformat(day), amounts[place]) for day, amounts in row["by_rate"].items()]
        return {code: self.currencies.total(by_day, code) for code in self.currencies.codes}

    def members(self, name: str, amounts: dict[str, int | None]) -> dict[str, str | None]:
        """As members of an answer: `cost_brl` …"""
        return {
            f"{name}_{code.lower()}": None if amount is None else format_nano(amount)
            for code, amount in amounts.items()
        }


class Totals(Amounts):
    """The sums that the dashboard's first line shows."""

    requests: int
    users: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: Usd
    errors: int


class Sums(Amounts):
    """Everything that is summed, and what follows from it. Averages are null when there was no request."""

    requests: int
    errors: int
    error_rate: float | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    cost_usd: Usd
    unpriced_requests: int = Field(
        description="Requests whose price is unknown; their cost is not in the sum."
    )
    average_tokens: float | None
    average_cost_usd: Usd | None
    average_duration_ms: float | None
    average_ttfb_ms: float | None
    cache_hit_rate: float | None = Field(description="The cached part of all input tokens.")
    cache_saved_usd: Usd = Field(description="How much more it would have cost without the prompt cache.")
    first_request_at: datetime | None
    last_request_at: datetime | None


class PeriodView(View):
    """What a report is about: from start up to but not including end."""

    start: datetime
    end: datetime
    tz: str


def period_view(period: Period) -> PeriodView:
    """A period as the API shows it."""
    return PeriodView(start=period.start, end=period.end, tz=period.zone.key)


def totals_view(row: Row, money: Money) -> Totals:
    """A row of sums as the first line of the dashboard."""
    return Totals(
        requests=row["requests"],
        users=row["users"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        total_tokens=row["total_tokens"],
        cost_usd=format_nano(row["cost_nanousd"]),
        errors=row["errors"],
        **money.members("cost", money.costs(row)),
    )


def sums(row: Row, money: Money) -> dict[str, Any]:
    """The fields of Sums from a row of sums."""
    requests, costs = row["requests"], money.costs(row)
    return {
        "requests": requests,
        "errors": row["errors"],
        "error_rate": share(row["errors"], requests),
        "input_tokens": row["input_tokens"],
        "cached_input_tokens": row["cached_input_tokens"],
        "cache_write_tokens": row["cache_write_tokens"],
        "output_tokens": row["output_tokens"],
        "reasoning_tokens": row["reasoning_tokens"],
        "total_tokens": row["total_tokens"],
        "cost_usd": format_nano(row["cost_nanousd"]),
        "unpriced_requests": row["unpriced"],
        "average_tokens": share(row["total_tokens"], requests, 2),
        "average_cost_usd": format_nano(_half_up(row["cost_nanousd"], requests)) if requests else None,
        "average_duration_ms": share(row["duration_ms"], requests, 2),
        "average_ttfb_ms": share(row["ttfb_ms"], row["ttfb_count"], 2),
        "cache_hit_rate": share(row["cached_input_tokens"], row["input_tokens"]),
        "cache_saved_usd": format_nano(row["cache_saved_nanousd"]),
        "first_request_at": row["first_at"],
        "last_request_at": row["last_at"],
        **money.members("cost", costs),
        **money.members("average_cost", {code: average(cost, requests) for code, cost in costs.items()}),
        **money.members("cache_saved", money.saved(row)),
    }


def sums_view(row: Row, money: Money) -> Sums:
    """A row of sums as the API shows it."""
    return Sums(**sums(row, money))


def share(part: float, whole: float, places: int = 6) -> float | None:
    """The quotient for people; None when there is no whole."""
    return round(part / whole, places) if whole else None


def average(amount: int | None, count: int) -> int | None:
    """The quotient, rounded half up; None of nothing."""
    return _half_up(amount, count) if amount is not None and count else None


def _half_up(amount: int, count: int) -> int:
    return (2 * amount + count) // (2 * count)
