"""PriceSource: configured prices, the database's over them, newer data, and what stays when the database is away."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest

from proxy.core.money import MoneyError
from proxy.core.rates import LocalPrice, StoredPrices, parse_rates
from proxy.core.usage import Usage
from proxy.pricing.live import PriceSource, local_price
from proxy.settings import Settings, SettingsError, UpstreamSettings
from tests.pricing.test_catalogue import data

NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
USAGE = Usage(input_tokens=1000)


class Stored:
    """What a database would say."""

    def __init__(self, answer):
        self.answer = answer
        self.known = []

    async def __call__(self, pool, known_version):
        assert pool == "pool"
        self.known.append(known_version)
        return self.answer


def stored_price(model, input_tokens, starts_at=0.0):
    rates = parse_rates({"input_tokens": input_tokens})
    return LocalPrice(
        id=f"db-{input_tokens}", provider="openai", model=model, starts_at=starts_at, rates=rates
    )


def cost(source, model="gpt-4o-mini", provider="openai"):
    return source.book.cost(provider, model, None, USAGE, NOW).nanousd


async def test_it_has_prices_before_it_ever_saw_a_database():
    settings = Settings(prices=({"model": "my-model", "rates": {"input_tokens": "7"}},))

    source = PriceSource.from_settings(settings)

    assert cost(source) == 150_000
    assert cost(source, "my-model") == 7_000_000
    assert not await source.reload("pool")


async def test_a_reload_brings_what_the_database_says_over_what_is_configured():
    settings = Settings(prices=({"model": "gpt-4o-mini", "rates": {"input_tokens": "7"}},))
    fetch = Stored(StoredPrices((stored_price("gpt-4o-mini", "8"),)))
    source = PriceSource.from_settings(settings, fetch)
    before = source.book

    assert await source.reload("pool")

    assert cost(source) == 8_000_000
    assert before.cost("openai", "gpt-4o-mini", None, USAGE, NOW).nanousd == 7_000_000
    assert fetch.known == ["genai-prices@0.2.3"]


async def test_a_reload_that_brings_nothing_new_keeps_what_is_compiled():
    source = PriceSource(fetch=Stored(StoredPrices((stored_price("gpt-4o-mini", "8"),))))
    await source.reload("pool")
    book = source.book

    assert await source.reload("pool")

    assert source.book is book


async def test_when_the_database_is_away_the_book_stays():
    fetch = Stored(StoredPrices((stored_price("gpt-4o-mini", "8"),)))
    source = PriceSource(fetch=fetch)
    await source.reload("pool")
    book, fetch.answer = source.book, None

    assert not await source.reload("pool")

    assert source.book is book


async def test_newer_data_is_used_until_it_is_dropped_and_read_once():
    newer = StoredPrices((), "genai-prices@2", json.dumps(data(input_mtok=3)).encode())
    fetch = Stored(newer)
    source = PriceSource(fetch=fetch)

    await source.reload("pool")
    assert (cost(source, "gpt-new"), cost(source)) == (3_000_000, None)

    fetch.answer = StoredPrices((), "genai-prices@2", None)
    await source.reload("pool")
    assert cost(source, "gpt-new") == 3_000_000

    fetch.answer = StoredPrices()
    await source.reload("pool")
    assert (cost(source, "gpt-new"), cost(source)) == (None, 150_000)
    assert fetch.known == ["genai-prices@0.2.3", "genai-prices@2", "genai-prices@2"]


async def test_data_that_this_version_can_not_read_leaves_the_installed_prices(caplog):
    source = PriceSource(fetch=Stored(StoredPrices((), "genai-prices@9", b"[]")))

    assert await source.reload("pool")

    assert cost(source) == 150_000
    assert "stored price data not used" in caplog.text


def test_an_upstream_goes_by_its_provider_else_by_its_host_else_by_its_name():
    upstreams = (
        UpstreamSettings(name="router", url="https://openrouter.ai/api/v1", models=("*/*",)),
        UpstreamSettings(name="home", url="http://10.0.0.7:8000", models=("qwen*",)),
        UpstreamSettings(name="paid", url="http://10.0.0.7:8000", models=("llama*",), provider="groq"),
    )
    source = PriceSource(upstreams=upstreams)

    assert source.provider_for("google/gemini-2.5-pro", "openrouter.ai") == "openrouter"
    assert source.provider_for("qwen3", "10.0.0.7") == "home"
    assert source.provider_for("llama-3.3-70b-versatile", "10.0.0.7") == "groq"
    assert source.provider_for("gpt-4o", "api.openai.com") == "openai"
    assert source.provider_for(None, "eu.api.openai.com") == "openai-eu"


@pytest.mark.parametrize(("uplift", "nanousd"), [("auto", 150_000), ("0", 150_000), ("0.1", 165_000)])
def test_the_uplift_is_configured(uplift, nanousd):
    assert cost(PriceSource.from_settings(Settings(price_uplift=uplift))) == nanousd


def test_a_setting_that_makes_no_sense_is_named():
    with pytest.raises(SettingsError, match="setting price_uplift: 'much' is not a decimal number"):
        PriceSource.from_settings(Settings(price_uplift="much"))
    with pytest.raises(SettingsError, match="setting prices, number 1: model is missing"):
        PriceSource.from_settings(Settings(prices=({"rates": {"input_tokens": "1"}},)))


@pytest.mark.parametrize(
    "written",
    ["2026-02-01", date(2026, 2, 1), datetime(2026, 2, 1), "2026-02-01T01:00+01:00", "2026-02-01T00:00:00Z"],
)
def test_a_price_begins_at_midnight_utc_unless_it_says_otherwise(written):
    price = local_price("p", {"model": " GPT-4o ", "rates": {"input_tokens": "1"}, "starts_at": written})

    assert price.starts_at == datetime(2026, 2, 1, tzinfo=UTC).timestamp()
    assert (price.provider, price.model, price.tier) == ("openai", "gpt-4o", "default")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": ""}, "model is missing"),
        ({"model": 4}, "model is missing or no text"),
        ({"tier": "x" * 257}, "tier is missing or no text"),
        ({"starts_at": "soon"}, "'soon' is not a day"),
        ({"starts_at": 2026}, "starts_at is a day"),
        ({"rates": {}}, "rates are an object"),
        ({"rate": {}}, "there is no 'rate' in a price"),
    ],
)
def test_a_local_price_that_makes_no_sense_is_refused_and_named(change, message):
    with pytest.raises(MoneyError, match=message):
        local_price("p", {"model": "m", "rates": {"input_tokens": "1"}} | change)
