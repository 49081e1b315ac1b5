"""Sums of usage as JSON: tokens are integers, money is decimal strings in US dollars, shares are between 0 and 1."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from proxy.admin.shapes import Usd, View
from proxy.core.money import format_nano
from proxy.core.period import Period
from proxy.store.rows import Row


class Totals(View):
    """The sums that the dashboard's first line shows."""

    requests: int
    users: int
    input_tokens: int
    output_tokens: int
    total_tokens: int
    cost_usd: Usd
    errors: int


class Sums(View):
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


def totals_view(row: Row) -> Totals:
    """A row of sums as the first line of the dashboard."""
    return Totals(
        requests=row["requests"],
        users=row["users"],
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        total_tokens=row["total_tokens"],
        cost_usd=format_nano(row["cost_nanousd"]),
        errors=row["errors"],
    )


def sums(row: Row) -> dict[str, Any]:
    """The fields of Sums from a row of sums."""
    requests = row["requests"]
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
    }


def sums_view(row: Row) -> Sums:
    """A row of sums as the API shows it."""
    return Sums(**sums(row))


def share(part: float, whole: float, places: int = 6) -> float | None:
    """The quotient for people; None when there is no whole."""
    return round(part / whole, places) if whole else None


def _half_up(amount: int, count: int) -> int:
    return (2 * amount + count) // (2 * count)
