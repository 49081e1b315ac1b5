"""The maintained price list and what follows from prices: what a call would cost, newer lists, and costs computed anew.

The same as `openai-proxy prices quote | update` and `openai-proxy reprice`. Repricing shows the difference first: it changes
nothing unless told to `apply` it, and then the audit log says who did, and what came of it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import orjson
from pydantic import Field, model_validator

from proxy.admin.auth import database_away
from proxy.admin.route import Ask, Reply, Route, bad_request
from proxy.admin.shapes import Input, Usd, View
from proxy.core.currency import day_of
from proxy.core.money import format_nano
from proxy.core.rates import TOKEN_CLASSES
from proxy.core.usage import Usage
from proxy.pricing import datafile
from proxy.pricing.catalogue import Catalogue, CatalogueError
from proxy.pricing.live import PriceSource
from proxy.store import prices
from proxy.store import reprice as store
from proxy.store.reprice import Difference, Period, Report

COUNT_MAX = 10**15
NAMES_MAX = 32
_USAGE = {"input_tokens": 1000, "cached_input_tokens": 400, "output_tokens": 500, "web_searches": 1}


class QuoteInput(Input):
    """A call."""

    model: str = Field(min_length=1, max_length=256, examples=["gpt-5.1"])
    usage: dict[str, int] = Field(
        min_length=1,
        max_length=NAMES_MAX,
        examples=[_USAGE],
        description="Classes of tokens, as records name them, and other units, such as `web_searches` or `audio_ms`.",
    )
    provider: str = Field(default="openai", min_length=1, max_length=256)
    tier: str = Field(default="default", min_length=1, max_length=64)
    at: datetime | None = Field(default=None, description="When it is made; now when not given.")

    @model_validator(mode="after")
    def _sound(self) -> QuoteInput:
        for name, count in self.usage.items():
            if not 0 < len(name) <= 64 or not 0 <= count <= COUNT_MAX:
                raise ValueError(f"{name[:64]!r} is a whole number from 0 to {COUNT_MAX}")
        return self

    def counted(self) -> Usage:
        """The usage that was said."""
        tokens = {name: count for name, count in self.usage.items() if name in TOKEN_CLASSES}
        units = {name: count for name, count in self.usage.items() if name not in TOKEN_CLASSES}
        return Usage(**tokens, units=tuple(sorted(units.items())))


class QuoteView(View):
    """What a call would cost. Null: nobody knows."""

    price_id: str | None
    cost_usd: Usd | None
    currencies: dict[str, str | None]
    """The same in each configured currency, by the rate of that day."""


class PriceListView(View):
    """The price list that is used."""

    version: str
    bundled: bool = Field(description="It came with the installed library.")
    providers: int
    models: int


class PriceListInput(Input):
    """A newer price list, in the form that genai-prices publishes."""

    url: str | None = Field(
        default=None, max_length=2048, description="Where it is; the published one when neither is given."
    )
    data: list[dict[str, Any]] | None = Field(default=None, max_length=1000, description="The list itself.")
    check: bool = Field(default=False, description="Only look whether it could be used.")

    @model_validator(mode="after")
    def _sound(self) -> PriceListInput:
        if self.url is not None and "://" not in self.url:
            raise ValueError("url is an https URL")
        if self.url is not None and self.data is not None:
            raise ValueError("give url or data, not both")
        return self


class RepriceInput(Input):
    """Which records: those begun from `start` until `end`."""

    start: datetime
    end: datetime
    provider: str | None = Field(default=None, min_length=1, max_length=256)
    model: str | None = Field(
        default=None, min_length=1, max_length=256, description="Served, else requested; may hold `*`."
    )
    unpriced_only: bool = Field(default=False, description="Only records without a cost.")
    apply: bool = Field(default=False, description="Change them; without it only the difference is told.")

    @model_validator(mode="after")
    def _sound(self) -> RepriceInput:
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("start and end say their time zone")
        if self.start >= self.end:
            raise ValueError("the period ends before it begins")
        return self


class DifferenceView(View):
    """Sums before and after; what has no price counts as 0 in them."""

    records: int
    changed: int
    before_usd: Usd
    after_usd: Usd
    unpriced_before: int
    unpriced_after: int


class RepriceView(View):
    """What would change, or has been changed."""

    applied: bool
    total: DifferenceView
    models: dict[str, DifferenceView]


async def quote_price(ask: Ask) -> QuoteView:
    """What a call would cost."""
    asked: QuoteInput = ask.body
    at = (asked.at or ask.now).timestamp()
    cost = _source(ask).book.cost(asked.provider, asked.model, asked.tier, asked.counted(), at)
    currencies = ask.context.currencies
    amounts = {code: currencies.convert(cost.nanousd, code, day_of(at)) for code in currencies.codes}
    return QuoteView(
        price_id=cost.price_id,
        cost_usd=None if cost.nanousd is None else format_nano(cost.nanousd),
        currencies={
            code: None if amount is None else format_nano(amount) for code, amount in amounts.items()
        },
    )


async def show_price_list(ask: Ask) -> PriceListView:
    """The price list that this server uses now."""
    return _list_view(_source(ask).sheet.catalogue)


async def load_price_list(ask: Ask) -> PriceListView:
    """Load a newer price list; every worker uses it at once."""
    asked: PriceListInput = ask.body
    source = "request" if asked.data is not None else asked.url or datafile.PUBLISHED_URL
    try:
        data = await datafile.read(source) if asked.data is None else orjson.dumps(asked.data)
        version = datafile.version_of(data, ask.now.date())
        catalogue = Catalogue.parse(data, version)
    except CatalogueError as error:
        raise bad_request("data" if asked.data is not None else "url", str(error)) from None
    if not asked.check:
        await prices.put_data(ask.connection, version, data)
        ask.audit("prices.update", version, None, {"source": source, "bytes": len(data)})
    return _list_view(catalogue)


async def drop_price_list(ask: Ask) -> PriceListView:
    """Go back to the price list that came with the installed library."""
    before = await prices.drop_data(ask.connection)
    if before is not None:
        ask.audit("prices.update", "bundled", {"version": before})
    return _list_view(Catalogue.bundled())


async def reprice_usage(ask: Ask) -> Reply:
    """Compute the costs of a period anew by the prices that hold now; sums and quotas follow. May be repeated."""
    asked: RepriceInput = ask.body
    pool = ask.context.pool()
    if pool is None:
        raise database_away()
    book = _source(ask).book
    period = Period(asked.start, asked.end, asked.provider, asked.model, asked.unpriced_only)
    report = await store.preview(pool, book, period)
    applied = asked.apply and report.total.changed > 0
    if applied:
        tags = ask.context.settings.rollup_tags
        report = await store.apply(
            pool, book, period, actor=ask.actor_name, address=ask.address, rollup_tags=tags
        )
    return Reply(_report_view(report, applied=applied))


def _source(ask: Ask) -> PriceSource:
    if ask.context.prices is None:
        raise bad_request(None, "Prices are not at hand here: ask a server.")
    return ask.context.prices


def _list_view(catalogue: Catalogue) -> PriceListView:
    return PriceListView(
        version=catalogue.version,
        bundled=catalogue.version == Catalogue.bundled().version,
        providers=len(catalogue.providers),
        models=sum(len(each.models) for each in catalogue.providers.values()),
    )


def _report_view(report: Report, *, applied: bool) -> RepriceView:
    return RepriceView(
        applied=applied,
        total=_difference(report.total),
        models={model: _difference(each) for model, each in report.models.items()},
    )


def _difference(difference: Difference) -> DifferenceView:
    return DifferenceView(
        records=difference.records,
        changed=difference.changed,
        before_usd=format_nano(difference.before_nanousd),
        after_usd=format_nano(difference.after_nanousd),
        unpriced_before=difference.unpriced_before,
        unpriced_after=difference.unpriced_after,
    )


def _route(method: Any, path: str, handler: Any, summary: str, answer: Any, **more: Any) -> Route:
    given = {"access": "write", **more}
    return Route(
        method=method, path=path, handler=handler, summary=summary, answer=answer, tag="prices", **given
    )


ROUTES = (
    _route(
        "POST",
        "/admin/prices/quote",
        quote_price,
        "What a call would cost",
        QuoteView,
        access="read",
        body=QuoteInput,
        example={"model": "gpt-5.1", "usage": _USAGE},
    ),
    _route("GET", "/admin/price-list", show_price_list, "Show the price list", PriceListView, access="read"),
    _route(
        "PUT",
        "/admin/price-list",
        load_price_list,
        "Load a newer price list",
        PriceListView,
        everywhere=True,
        body=PriceListInput,
        example={"check": True},
    ),
    _route(
        "DELETE",
        "/admin/price-list",
        drop_price_list,
        "Go back to the installed price list",
        PriceListView,
        everywhere=True,
    ),
    _route(
        "POST",
        "/admin/reprice",
        reprice_usage,
        "Compute costs anew",
        RepriceView,
        everywhere=True,
        body=RepriceInput,
        transaction=False,
        example={"start": "2026-11-01T00:00:00Z", "end": "2026-12-01T00:00:00Z", "unpriced_only": True},
    ),
)
