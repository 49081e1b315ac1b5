"""Local prices, what models cost now, and the configured upstreams."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from pydantic import Field, model_validator

from proxy.admin.route import Access, Ask, Reply, Route, bad_request
from proxy.admin.shapes import Input, PageQuery, PageView, Pattern, View, masked
from proxy.core.rates import LocalPrice, format_rates, parse_rates
from proxy.pricing.live import local_price
from proxy.store import prices
from proxy.store.rows import Row

MODELS_MAX = 1000
Rates = dict[str, str | dict[str, str]]
_RATES = {"input_tokens": "0.15", "cached_input_tokens": "0.075", "output_tokens": "0.60"}


class PriceInput(Input):
    """A price from its start on, until a later one of the same model and tier starts. Rates left out stay the list's."""

    model: str = Field(min_length=1, max_length=256, examples=["gpt-5.1"])
    rates: Rates = Field(
        examples=[_RATES],
        description="US dollars per million tokens or characters, or per unit; by steps of input tokens.",
    )
    provider: str = Field(default="openai", min_length=1, max_length=256)
    tier: str = Field(default="default", min_length=1, max_length=256)
    starts_at: str = Field(default="1970-01-01", max_length=40, examples=["2026-01-01"])

    @model_validator(mode="after")
    def _sound(self) -> PriceInput:
        self.price()
        return self

    def price(self) -> LocalPrice:
        """The price that was said. Raises MoneyError, which is a ValueError, in words."""
        return local_price("new", self.model_dump())


class PriceView(View):
    """A local price."""

    id: str
    provider: str
    model: str
    tier: str
    starts_at: datetime
    rates: Rates
    created_at: datetime


class PricePage(PageView):
    """A page of local prices."""

    data: list[PriceView]


class PriceQuery(PageQuery):
    """Which local prices."""

    provider: str | None = Field(default=None, max_length=256)
    model: Pattern | None = Field(default=None, description="A name, with `*` for any characters.")


class ModelsQuery(Input):
    """Which models."""

    provider: str = Field(default="openai", max_length=256)
    model: Pattern = Field(default="*", description="A shell pattern.")
    tier: str = Field(default="default", max_length=256)


class ModelPrice(View):
    """What a model costs now, and where that is from."""

    model: str
    price_id: str
    rates: Rates


class ModelPrices(View):
    """Models and their prices."""

    data: list[ModelPrice]


class UpstreamView(View):
    """A configured upstream; its key is never shown."""

    name: str
    url: str
    models: list[str]
    provider: str | None


class Upstreams(View):
    """The upstreams in the order in which a model is looked for."""

    data: list[UpstreamView]


def _view(row: Row) -> PriceView:
    return PriceView(
        id=row["id"],
        provider=row["provider"],
        model=row["model"],
        tier=row["tier"],
        starts_at=row["starts_at"],
        rates=format_rates(parse_rates(row["rates"])),
        created_at=row["created_at"],
    )


async def put_price(ask: Ask) -> Reply:
    """Set a price; one of the same provider, model, tier and start gets the new rates. Every worker hears of it at once."""
    before, row = await prices.put_price(ask.connection, ask.body.price())
    ask.audit("price.put", row["id"], None if before is None else masked(before), masked(row))
    return Reply(_view(row), status=201 if before is None else 200)


async def list_prices(ask: Ask) -> PricePage:
    """Local prices. What they don't say comes from the maintained list; see /admin/models."""
    query = ask.query
    rows = await prices.list_prices(
        ask.connection,
        provider=query.provider,
        model=query.model,
        limit=query.limit,
        offset=query.offset,
    )
    return PricePage.of(rows, query, _view)


async def show_price(ask: Ask) -> PriceView:
    """One local price."""
    return _view(await prices.fetch_price(ask.connection, ask.path["price"]))


async def remove_price(ask: Ask) -> PriceView:
    """Remove a local price; what went by it goes by the list again."""
    row = await prices.remove_price(ask.connection, ask.path["price"])
    ask.audit("price.remove", row["id"], masked(row))
    return _view(row)


async def list_models(ask: Ask) -> ModelPrices:
    """What models cost now: local prices over the maintained list."""
    query, source = ask.query, ask.context.prices
    if source is None:
        raise bad_request(None, "Prices are not at hand here: ask a server.")
    known = source.sheet.catalogue.providers.get(query.provider)
    named = {entry.id for entry in known.models} if known is not None else set()
    named |= {model for provider, model in source.sheet.local if provider == query.provider}
    found = []
    for model in sorted(model for model in named if fnmatchcase(model, query.model))[:MODELS_MAX]:
        priced = source.sheet.priced(query.provider, model, query.tier, ask.now.timestamp())
        if priced is not None:
            found.append(ModelPrice(model=model, price_id=priced.id, rates=format_rates(priced.card)))
    return ModelPrices(data=found)


async def list_upstreams(ask: Ask) -> Upstreams:
    """Where requests go: those of the configuration file, and last the one for every other model."""
    settings = ask.context.settings
    configured = [
        UpstreamView(name=each.name, url=each.url, models=list(each.models), provider=each.provider)
        for each in settings.upstreams
    ]
    last = "simulator" if settings.demo_mode else settings.upstream_url
    return Upstreams(data=[*configured, UpstreamView(name="default", url=last, models=["*"], provider=None)])


def _route(method: Any, path: str, handler: Any, summary: str, answer: Any, **more: Any) -> Route:
    access: Access = "read" if method == "GET" else "write"
    return Route(
        method=method, path=path, handler=handler, summary=summary, access=access, answer=answer, tag="prices", **more
    )  # fmt: skip


ROUTES = (
    _route(
        "POST",
        "/admin/prices",
        put_price,
        "Set a local price",
        PriceView,
        everywhere=True,
        body=PriceInput,
        status=201,
        creates=True,
        example={"model": "gpt-5.1", "starts_at": "2026-01-01", "rates": _RATES},
    ),
    _route("GET", "/admin/prices", list_prices, "List local prices", PricePage, query=PriceQuery),
    _route("GET", "/admin/prices/{price}", show_price, "Show a local price", PriceView),
    _route(
        "DELETE", "/admin/prices/{price}", remove_price, "Remove a local price", PriceView, everywhere=True
    ),
    _route("GET", "/admin/models", list_models, "What models cost now", ModelPrices, query=ModelsQuery),
    _route("GET", "/admin/upstreams", list_upstreams, "List upstreams", Upstreams, everywhere=True),
)
