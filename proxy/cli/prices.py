"""`openai-proxy prices`: what models cost, what a call would cost, local prices, and newer price data."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from math import inf
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from proxy.cli.database import audited, on_database
from proxy.cli.failure import CommandError
from proxy.core.currency import Currencies, day_of
from proxy.core.money import MoneyError, format_nano
from proxy.core.rates import TOKEN_CLASSES, LocalPrice, RateCard, format_rates
from proxy.core.usage import Usage
from proxy.pricing import datafile
from proxy.pricing.catalogue import Catalogue, CatalogueError
from proxy.pricing.live import PriceSource, local_price
from proxy.pricing.sheet import Priced
from proxy.settings import Settings, load
from proxy.store import prices

prices_app = typer.Typer(
    name="prices",
    help="Prices: show, set, quote and update them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
LIST_MAX = 10_000
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Provider = Annotated[str, typer.Option(help='Whose price list: "openai", "openai-eu", "openrouter" …')]
Tier = Annotated[str, typer.Option(help="Service tier: default, flex, priority, batch …")]
At = Annotated[str | None, typer.Option(help="The moment, e.g. 2026-08-01; now when not given.")]


@prices_app.command("list")
def list_prices(
    model: Annotated[str, typer.Argument(help="A pattern such as 'gpt-4o*'.")] = "*",
    provider: Provider = "openai",
    local: Annotated[bool, typer.Option("--local", help="Only prices set here.")] = False,
    as_json: AsJson = False,
) -> None:
    """List models and their rates now, in dollars per million tokens."""
    if local:
        rows = on_database("prices list", lambda pool, _: _local(pool, model))
        if as_json:
            _print_json(rows)
        else:
            _print_local(rows)
        return
    source = _source("prices list")
    now = time.time()
    known = source.sheet.catalogue.providers.get(provider)
    names = {entry.id for entry in known.models} if known is not None else set()
    names |= {name for seller, name in source.sheet.local if seller == provider}
    found = []
    for name in sorted(name for name in names if fnmatchcase(name, model))[:LIST_MAX]:
        priced = source.sheet.priced(provider, name, "default", now)
        if priced is not None:
            found.append((name, priced))
    if as_json:
        _print_json([{"model": name, "price_id": p.id, "rates": format_rates(p.card)} for name, p in found])
        return
    table = Table("model", "input", "cached", "output", "other", "price")
    for name, priced in found:
        shown = {key: _cell(value) for key, value in format_rates(priced.card).items()}
        columns = [shown.pop(key, "") for key in ("input_tokens", "cached_input_tokens", "output_tokens")]
        others = ", ".join(
            key for key in shown if key in TOKEN_CLASSES or key.endswith(("_seconds", "_characters"))
        )
        table.add_row(name, *columns, others, priced.id)
    Console().print(table)


@prices_app.command()
def show(
    model: Annotated[str, typer.Argument(help="A model, as requests or answers name it.")],
    provider: Provider = "openai",
    tier: Tier = "default",
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Show every rate of a model, and where it comes from."""
    priced = _priced(_source("prices show"), provider, model, tier, _moment(at))
    if as_json:
        _print_json(
            {
                "model": model,
                "provider": provider,
                "tier": tier,
                "price_id": priced.id,
                "from": _date(priced.starts),
                "until": _date(priced.ends),
                "rates": format_rates(priced.card),
            }
        )
        return
    table = Table("rate", "US dollars", title=priced.id)
    for name, value in format_rates(priced.card).items():
        table.add_row(f"{name} ({_per(name)})", _cell(value))
    Console().print(table)


@prices_app.command("set")
def set_price(
    model: Annotated[str, typer.Argument(help="The model; its dated snapshots follow it.")],
    rates: Annotated[
        list[str], typer.Argument(help="E.g. input_tokens=0.15 output_tokens=0.60 web_searches=0.01")
    ],
    provider: Provider = "openai",
    tier: Tier = "default",
    starts: Annotated[str, typer.Option("--from", help="The day it begins, e.g. 2026-01-01.")] = "1970-01-01",
    as_json: AsJson = False,
) -> None:
    """Set a local price; rates that are not given stay those of the price list."""
    try:
        price = local_price(
            "new",
            {
                "provider": provider,
                "model": model,
                "tier": tier,
                "starts_at": starts,
                "rates": dict(_pair(each) for each in rates),
            },
        )
    except MoneyError as error:
        raise CommandError(str(error)) from None
    row = on_database("prices set", lambda pool, _: _put(pool, price))
    if as_json:
        _print_json(row)
    else:
        typer.echo(f"{row['id']}: {row['model']} ({row['tier']}) from {row['starts_at']}")


@prices_app.command()
def remove(
    price_id: Annotated[str, typer.Argument(help="As `prices list --local` shows it.")],
    as_json: AsJson = False,
) -> None:
    """Remove a local price."""
    row = on_database("prices remove", lambda pool, _: _remove(pool, price_id))
    if as_json:
        _print_json(row)
    else:
        typer.echo(f"removed {row['id']}: {row['model']} ({row['tier']}) from {row['starts_at']}")


@prices_app.command()
def quote(
    model: Annotated[str, typer.Argument(help="A model, as requests or answers name it.")],
    usage: Annotated[
        list[str], typer.Argument(help="E.g. input_tokens=1000 output_tokens=500 web_searches=1")
    ],
    provider: Provider = "openai",
    tier: Tier = "default",
    at: At = None,
    as_json: AsJson = False,
) -> None:
    """Compute what a call would cost."""
    settings = load()
    source, moment = _source("prices quote"), _moment(at)
    cost = source.book.cost(provider, model, tier, _usage(usage), moment)
    amounts: dict[str, str | None] = {"USD": None if cost.nanousd is None else format_nano(cost.nanousd)}
    currencies = Currencies.parse(settings.currencies)
    for code in currencies.codes:
        amount = currencies.convert(cost.nanousd, code, day_of(moment))
        amounts[code] = None if amount is None else format_nano(amount)
    if as_json:
        _print_json({"model": model, "price_id": cost.price_id, "cost": amounts})
    elif cost.nanousd is None:
        raise CommandError(f"nobody knows what this costs: {provider} {model} in tier {tier}")
    else:
        typer.echo("  ".join(f"{amount or '?'} {code}" for code, amount in amounts.items()))
        typer.echo(cost.price_id)


@prices_app.command()
def update(
    source: Annotated[
        str, typer.Argument(help="A data file of genai-prices (JSON), or an https URL of one.")
    ] = datafile.PUBLISHED_URL,
    bundled: Annotated[bool, typer.Option("--bundled", help="Go back to the installed prices.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Load newer prices; every worker uses them at once."""
    if bundled:
        dropped = on_database("prices update", lambda pool, _: _drop_data(pool))
        told: dict[str, Any] = {"version": Catalogue.bundled().version, "before": dropped}
    else:
        try:
            data = asyncio.run(datafile.read(source))
            version = datafile.version_of(data, datetime.now(UTC).date())
            catalogue = Catalogue.parse(data, version)
        except CatalogueError as error:
            raise CommandError(str(error)) from None
        models = sum(len(each.models) for each in catalogue.providers.values())
        told = {
            "version": version,
            "providers": len(catalogue.providers),
            "models": models,
            "stored": not check,
        }
        if not check:
            on_database("prices update", lambda pool, _: _put_data(pool, version, data, source))
    if as_json:
        _print_json(told)
    else:
        typer.echo(", ".join(f"{name} {value}" for name, value in told.items()))


# -- the database


def _source(command: str) -> PriceSource:
    """The prices as the workers have them."""

    async def work(pool: Any, settings: Settings) -> PriceSource:
        source = PriceSource.from_settings(settings, prices.fetch_stored)
        await source.reload(pool)
        return source

    return on_database(command, work)


async def _local(pool: Any, model: str) -> list[dict[str, Any]]:
    rows, _ = await prices.list_prices(pool, model=model, limit=LIST_MAX)
    return [_view(row) for row in rows]


async def _put(pool: Any, price: LocalPrice) -> dict[str, Any]:
    async with audited(pool) as (connection, note):
        before, row = await prices.put_price(connection, price)
        await note("price.set", row["id"], before and _view(before), _view(row))
        return _view(row)


async def _remove(pool: Any, price_id: str) -> dict[str, Any]:
    async with audited(pool) as (connection, note):
        row = await prices.remove_price(connection, price_id)
        await note("price.remove", price_id, _view(row))
        return _view(row)


async def _put_data(pool: Any, version: str, data: bytes, source: str) -> None:
    async with audited(pool) as (connection, note):
        await prices.put_data(connection, version, data)
        await note("prices.update", version, None, {"source": source, "bytes": len(data)})


async def _drop_data(pool: Any) -> str | None:
    async with audited(pool) as (connection, note):
        version = await prices.drop_data(connection)
        if version is not None:
            await note("prices.update", "bundled", {"version": version})
        return version


# -- words and numbers


def _priced(source: PriceSource, provider: str, model: str, tier: str, at: float) -> Priced:
    priced = source.sheet.priced(provider, model, tier, at)
    if priced is None:
        raise CommandError(f"nobody knows the price of {model} at {provider} in tier {tier}")
    return priced


def _usage(words: list[str]) -> Usage:
    counts: dict[str, int] = {}
    units: dict[str, int] = {}
    for word in words:
        name, text = _pair(word)
        if not text.isdecimal() or len(text) > 15:
            raise CommandError(f"{word}: a count is a whole number")
        (counts if name in TOKEN_CLASSES else units)[name] = int(text)
    return Usage(**counts, units=tuple(sorted(units.items())))


def _pair(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise CommandError(f"{word}: write NAME=VALUE, such as input_tokens=0.15")
    return name, value


def _moment(text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is not a day such as 2026-01-01") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _view(row: Any) -> dict[str, Any]:
    names = ("id", "provider", "model", "tier", "rates")
    return {name: row[name] for name in names} | {"starts_at": row["starts_at"].isoformat()}


def _date(at: float) -> str | None:
    return None if at in {inf, -inf} else datetime.fromtimestamp(at, UTC).isoformat()


def _per(name: str) -> str:
    if name.endswith(("_tokens", "_characters")):
        return "per million"
    return "per second" if name.endswith("_seconds") else "each"


def _cell(value: str | dict[str, str]) -> str:
    if isinstance(value, str):
        return value
    return ", ".join(usd if above == "0" else f"{usd} above {int(above):,}" for above, usd in value.items())


def _print_local(rows: list[dict[str, Any]]) -> None:
    table = Table("id", "provider", "model", "tier", "from", "rates")
    for row in rows:
        written: RateCard | dict[str, Any] = row["rates"]
        rates = ", ".join(f"{name}={_cell(value)}" for name, value in written.items())  # type: ignore[arg-type]
        table.add_row(row["id"], row["provider"], row["model"], row["tier"], row["starts_at"][:10], rates)
    Console().print(table)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
