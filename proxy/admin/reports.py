"""Reports made of statistics: trends with a forecast, models' performance, and errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from fractions import Fraction
from typing import Any

from pydantic import Field

from proxy.admin.filters import UsageQuery, question
from proxy.admin.route import Ask, Route
from proxy.admin.shapes import Usd, View
from proxy.admin.stat_shapes import Amounts, Money, PeriodView, Sums, period_view, share, sums_view
from proxy.core.histogram import quantile
from proxy.core.money import format_nano
from proxy.core.period import Period, this_month
from proxy.core.record import NO_ERRORS
from proxy.core.trend import WINDOW_DAYS, filled, forecast, growth, moving_average
from proxy.store import stats
from proxy.store.rows import Row
from proxy.store.stats import Grouping, Question

ROWS_MAX = 1000
TOP = 10


class DayView(Amounts):
    """One day of a trend; days without usage are zeros. Averages are of up to seven days, this one the last."""

    day: date
    requests: int
    errors: int
    users: int
    total_tokens: int
    cost_usd: Usd
    average_requests: float
    average_tokens: float
    average_cost_usd: Usd


class GrowthView(View):
    """The relative change against the period before; null from nothing."""

    requests: float | None
    total_tokens: float | None
    cost_usd: float | None


class ForecastView(Amounts):
    """What this month will come to: so far, and its rest at the average of the last seven whole days.

    In another currency each day so far counts at its own rate, and the rest at the rates of those seven.
    """

    month: str
    requests: int
    total_tokens: int
    cost_usd: Usd


class TrendsView(View):
    """A daily series and where it leads."""

    period: PeriodView
    days: list[DayView]
    growth: GrowthView
    forecast: ForecastView


class Latency(View):
    """Quantiles in ms, right within 5 %; of what was refused there is none."""

    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class ModelView(View):
    """One model's performance."""

    model: str
    sums: Sums
    success_rate: float | None
    duration: Latency
    ttfb: Latency
    output_tokens_per_second: float | None = Field(
        description="Output tokens by the time that requests took."
    )
    finish_reasons: dict[str, int]
    service_tiers: dict[str, int]


class PerformanceView(View):
    """Models by cost."""

    period: PeriodView
    data: list[ModelView]


class ErrorKind(View):
    """Failed requests of one kind."""

    status: int
    outcome: str
    error_code: str | None
    requests: int


class ErrorsOf(View):
    """Failed requests of a model or a user, and their part of all of its requests."""

    key: str
    name: str | None = None
    errors: int
    error_rate: float | None


class ErrorsView(View):
    """What failed. A client that hung up is no error; a refusal of ours is."""

    period: PeriodView
    requests: int
    errors: int
    error_rate: float | None
    by_code: list[ErrorKind]
    by_model: list[ErrorsOf]
    by_user: list[ErrorsOf]


async def day_rows(ask: Ask, asked: Question, *, users: bool = True) -> dict[date, Row]:
    """Sums by day of the period's zone; days without usage have no row."""
    grouping = Grouping("day", sort="name", ascending=True, limit=len(asked.period.days()))
    rows, _ = await stats.by(ask.connection, asked, grouping, users=users)
    return {date.fromisoformat(row["first"]): row for row in rows}


async def show_trends(ask: Ask) -> TrendsView:
    """Requests, tokens and cost by day with zero days filled in, moving averages, growth and a forecast."""
    asked = await question(ask, ask.query)
    money = Money.of(ask)
    rows = await day_rows(ask, asked)
    after = await stats.totals(ask.connection, asked, users=False)
    before = await stats.totals(ask.connection, asked.over(asked.period.before), users=False)
    return TrendsView(
        period=period_view(asked.period),
        days=series(asked.period.days(), rows, money),
        growth=GrowthView(
            requests=growth(before["requests"], after["requests"]),
            total_tokens=growth(before["total_tokens"], after["total_tokens"]),
            cost_usd=growth(before["cost_nanousd"], after["cost_nanousd"]),
        ),
        forecast=await _forecast(ask, asked, money),
    )


def series(days: Sequence[date], rows: Mapping[date, Row], money: Money) -> list[DayView]:
    """One entry for each day."""

    def values(name: str) -> list[int]:
        return filled(days, {day: row[name] for day, row in rows.items()})

    columns = {name: values(name) for name in ("requests", "errors", "users", "total_tokens", "cost_nanousd")}
    averages = {name: moving_average(columns[name]) for name in ("requests", "total_tokens", "cost_nanousd")}
    costs = _by_currency(days, rows, money)
    average_costs = {
        code: [None if each is None else round(each) for each in _averages(values)]
        for code, values in costs.items()
    }
    return [
        DayView(
            day=day,
            requests=columns["requests"][index],
            errors=columns["errors"][index],
            users=columns["users"][index],
            total_tokens=columns["total_tokens"][index],
            cost_usd=format_nano(columns["cost_nanousd"][index]),
            average_requests=round(float(averages["requests"][index]), 2),
            average_tokens=round(float(averages["total_tokens"][index]), 2),
            average_cost_usd=format_nano(round(averages["cost_nanousd"][index])),
            **money.members("cost", {code: values[index] for code, values in costs.items()}),
            **money.members("average_cost", {code: values[index] for code, values in average_costs.items()}),
        )
        for index, day in enumerate(days)
    ]


def _by_currency(days: Sequence[date], rows: Mapping[date, Row], money: Money) -> dict[str, list[int | None]]:
    """Each day's cost in each currency; None where no rate holds."""
    costs = {day: money.costs(row) for day, row in rows.items()}
    return {
        code: [costs[day][code] if day in costs else 0 for day in days] for code in money.currencies.codes
    }


def _averages(values: Sequence[int | None]) -> list[Fraction | None]:
    """Moving averages; None where a value among them is."""
    averages = moving_average([value or 0 for value in values])
    return [
        None if None in values[max(0, index + 1 - WINDOW_DAYS) : index + 1] else average
        for index, average in enumerate(averages)
    ]


async def _forecast(ask: Ask, asked: Question, money: Money) -> ForecastView:
    zone = asked.period.zone
    month = await stats.totals(ask.connection, asked.over(this_month(ask.now, zone)), users=False)
    today = ask.now.astimezone(zone)
    midnight = today.replace(hour=0, minute=0, second=0, microsecond=0)
    week = Period(midnight - timedelta(days=WINDOW_DAYS), midnight, zone)
    rows = await day_rows(ask, asked.over(week), users=False)
    day_share = min(Fraction(1), Fraction((today - midnight) / timedelta(microseconds=1)) / 86_400_000_000)
    days = week.days()

    def whole(so_far: int, last: Sequence[int]) -> int:
        return forecast(so_far, last, today.date(), day_share)

    def of(name: str) -> int:
        return whole(month[name], filled(days, {day: row[name] for day, row in rows.items()}))

    so_far, last = money.costs(month), _by_currency(days, rows, money)
    costs: dict[str, int | None] = {}
    for code, amount in so_far.items():
        known = [each for each in last[code] if each is not None]
        costs[code] = None if amount is None or len(known) < len(days) else whole(amount, known)
    return ForecastView(
        month=f"{today:%Y-%m}",
        requests=of("requests"),
        total_tokens=of("total_tokens"),
        cost_usd=format_nano(of("cost_nanousd")),
        **money.members("cost", costs),
    )


async def show_performance(ask: Ask) -> PerformanceView:
    """Each model's success rate, latency quantiles, speed, cost and finish reasons."""
    asked = await question(ask, ask.query)
    money = Money.of(ask)
    rows, _ = await stats.by(ask.connection, asked, Grouping("model", limit=ROWS_MAX), users=False)
    histograms = await stats.latencies(ask.connection, asked)
    reasons: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    tiers: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in await stats.outcomes(ask.connection, asked):
        if row["finish_reason"]:
            reasons[row["model"]][row["finish_reason"]] += row["requests"]
        if row["service_tier"]:
            tiers[row["model"]][row["service_tier"]] += row["requests"]
    return PerformanceView(
        period=period_view(asked.period),
        data=[
            ModelView(
                model=row["first"],
                sums=sums_view(row, money),
                success_rate=share(row["requests"] - row["errors"], row["requests"]),
                duration=_latency(histograms.get((row["first"], "duration"), {})),
                ttfb=_latency(histograms.get((row["first"], "ttfb"), {})),
                output_tokens_per_second=share(row["output_tokens"] * 1000, row["duration_ms"], 2),
                finish_reasons=dict(reasons[row["first"]]),
                service_tiers=dict(tiers[row["first"]]),
            )
            for row in rows
        ],
    )


def _latency(counts: Mapping[int, int]) -> Latency:
    def at(part: float) -> float | None:
        found = quantile(counts, part)
        return None if found is None else round(found, 1)

    return Latency(p50_ms=at(0.5), p95_ms=at(0.95), p99_ms=at(0.99))


async def show_errors(ask: Ask) -> ErrorsView:
    """Failed requests by code, by model and by user."""
    asked = await question(ask, ask.query)
    totals = await stats.totals(ask.connection, asked, users=False)
    kinds: defaultdict[tuple[int, str, str], int] = defaultdict(int)
    for row in await stats.outcomes(ask.connection, asked):
        if row["outcome"] not in NO_ERRORS:
            kinds[row["status"], row["outcome"], row["error_code"]] += row["requests"]
    by_model, by_user = (
        Grouping(dimension, sort="errors", at_least=1, limit=TOP) for dimension in ("model", "user")
    )
    models, _ = await stats.by(ask.connection, asked, by_model, users=False)
    users, _ = await stats.by(ask.connection, asked, by_user, users=False)
    called = await stats.names(ask.connection, "user", [row["first"] for row in users])
    return ErrorsView(
        period=period_view(asked.period),
        requests=totals["requests"],
        errors=totals["errors"],
        error_rate=share(totals["errors"], totals["requests"]),
        by_code=[
            ErrorKind(status=status, outcome=outcome, error_code=code or None, requests=count)
            for (status, outcome, code), count in sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
        ],
        by_model=[_errors_of(row, None) for row in models],
        by_user=[_errors_of(row, called.get(row["first"])) for row in users],
    )


def _errors_of(row: Row, called: Row | None) -> ErrorsOf:
    return ErrorsOf(
        key=row["first"],
        name=called["name"] if called is not None else None,
        errors=row["errors"],
        error_rate=share(row["errors"], row["requests"]),
    )


def _get(path: str, handler: Any, summary: str, answer: Any, **more: Any) -> Route:
    return Route(
        method="GET", path=path, handler=handler, summary=summary, access="read", query=UsageQuery, answer=answer, tag="stats", **more
    )  # fmt: skip


ROUTES = (
    _get("/admin/stats/trends", show_trends, "Daily series, growth and forecast", TrendsView),
    _get("/admin/stats/performance", show_performance, "Models' performance", PerformanceView),
    _get("/admin/stats/errors", show_errors, "Failed requests", ErrorsView, reads_personal_data=True),
)
