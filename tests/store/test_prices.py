"""Local prices and price data as rows, as the price source reads them."""

from __future__ import annotations

import asyncio
import json
import logging

import asyncpg
import pytest

from proxy.core.rates import LocalPrice, StoredPrices, parse_rates
from proxy.core.usage import Usage
from proxy.pricing.live import PriceSource
from proxy.store import postgres, prices
from proxy.store.conflicts import MissingError
from tests.pricing.test_catalogue import NOW, data


def local(model="gpt-4o-mini", starts_at=0.0, tier="default", **rates):
    card = parse_rates(rates or {"input_tokens": "0.1"})
    return LocalPrice(id="new", provider="openai", model=model, tier=tier, starts_at=starts_at, rates=card)


async def test_a_price_is_read_as_it_was_put(pool):
    price = local(
        starts_at=1_767_225_600.0, input_tokens={"0": "0.1", "272000": "0.2"}, audio_seconds="0.0001"
    )

    before, row = await prices.put_price(pool, price)
    stored = await prices.fetch_stored(pool, "")

    assert before is None
    assert stored.local == (
        LocalPrice(
            id=row["id"],
            provider="openai",
            model="gpt-4o-mini",
            starts_at=1_767_225_600.0,
            rates=price.rates,
        ),
    )
    assert row["rates"] == {"input_tokens": {"0": "0.1", "272000": "0.2"}, "audio_seconds": "0.0001"}


async def test_a_price_with_the_same_start_gets_the_new_rates_and_keeps_its_id(pool):
    _, first = await prices.put_price(pool, local(input_tokens="0.1"))
    before, second = await prices.put_price(pool, local(input_tokens="0.2"))
    await prices.put_price(pool, local(starts_at=5.0, input_tokens="0.3"))

    assert before["rates"] == {"input_tokens": "0.1"}
    assert second["id"] == first["id"]
    rows, total = await prices.list_prices(pool)
    assert [row["rates"]["input_tokens"] for row in rows] == ["0.2", "0.3"]
    assert total == 2


async def test_prices_are_listed_by_provider_and_pattern(pool):
    for model in ("gpt-4o", "gpt-4o-mini", "gpt_4o"):
        await prices.put_price(pool, local(model))

    async def found(**where):
        return [row["model"] for row in (await prices.list_prices(pool, **where))[0]]

    assert await found(model="gpt-4o*") == ["gpt-4o", "gpt-4o-mini"]
    assert await found(model="gpt_4o") == ["gpt_4o"]
    assert await found(provider="google") == []
    assert await found(limit=1, offset=1) == ["gpt-4o-mini"]


async def test_a_removed_price_is_gone(pool):
    _, row = await prices.put_price(pool, local())

    assert (await prices.fetch_price(pool, row["id"]))["model"] == "gpt-4o-mini"
    await prices.remove_price(pool, row["id"])

    with pytest.raises(MissingError, match="there is no price"):
        await prices.remove_price(pool, row["id"])
    assert await prices.fetch_stored(pool, "") == StoredPrices()


async def test_a_row_that_makes_no_sense_is_left_out_and_logged(pool, caplog):
    await prices.put_price(pool, local())
    await pool.execute(
        "insert into prices (id, model, starts_at, rates) values ('price_bad', 'm', now(), '{\"input_tokens\": 1.5}')"
    )

    with caplog.at_level(logging.WARNING):
        stored = await prices.fetch_stored(pool, "")

    assert [price.model for price in stored.local] == ["gpt-4o-mini"]
    assert "local price not used" in caplog.text


async def test_price_data_is_stored_once_and_read_only_by_who_has_another(pool):
    await prices.put_data(pool, "genai-prices@1", b"[1]")
    await prices.put_data(pool, "genai-prices@2", b"[2]" * 100_000)

    assert await prices.fetch_stored(pool, "genai-prices@1") == StoredPrices(
        (), "genai-prices@2", b"[2]" * 100_000
    )
    assert await prices.fetch_stored(pool, "genai-prices@2") == StoredPrices((), "genai-prices@2", None)
    assert await pool.fetchval("select count(*) from price_data") == 1
    assert await prices.drop_data(pool) == "genai-prices@2"
    assert await prices.drop_data(pool) is None


async def test_damaged_data_is_not_used(pool, caplog):
    await pool.execute("insert into price_data (version, data) values ('v', '\\x0102')")

    assert await prices.fetch_stored(pool, "") == StoredPrices((), "v", None)
    assert "stored price data not used" in caplog.text


async def test_every_worker_hears_of_a_changed_price(pool, database_url):
    heard = asyncio.Queue()
    listener = await postgres.connect(database_url)
    await listener.add_listener("openai_proxy_changed", lambda *message: heard.put_nowait(message[-1]))

    await prices.put_price(pool, local())
    await prices.put_data(pool, "v", b"[]")

    async with asyncio.timeout(30):
        assert await heard.get() == "prices"
        assert await heard.get() == "prices"
    await listener.close()


async def test_the_price_source_follows_the_database(pool):
    source = PriceSource(fetch=prices.fetch_stored)
    usage = Usage(input_tokens=1000)

    async def cost(model):
        assert await source.reload(pool)
        return source.book.cost("openai", model, None, usage, NOW).nanousd

    assert await cost("gpt-4o-mini") == 150_000
    _, row = await prices.put_price(pool, local(input_tokens="0.1"))
    assert await cost("gpt-4o-mini") == 100_000
    await prices.put_data(pool, "genai-prices@2", json.dumps(data(input_mtok=3)).encode())
    assert await cost("gpt-new") == 3_000_000
    await prices.drop_data(pool)
    await prices.remove_price(pool, row["id"])
    assert await cost("gpt-4o-mini") == 150_000


async def test_a_database_that_is_away_is_no_answer(database_url):
    pool = await postgres.open_pool(database_url, timeout_s=5)
    await pool.close()

    with pytest.raises(asyncpg.InterfaceError):
        await pool.fetch("select 1")
    assert await prices.fetch_stored(pool, "") is None
