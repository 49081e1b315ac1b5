"""The catalogue gives the library's own answer: every model, class of usage, tier and start date that it knows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import genai_prices
import pytest
from genai_prices import types as listed
from genai_prices.data import providers

from proxy.core.costs import compile_price, exact_cost_of
from proxy.core.usage import Usage
from proxy.pricing.catalogue import DATA_BYTES_MAX, Catalogue, CatalogueError

CATALOGUE = Catalogue.bundled()
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
LONG = 300_000
USAGES = (
    Usage(),
    Usage(input_tokens=1_234, output_tokens=567),
    Usage(input_tokens=1_234, cached_input_tokens=1_000, output_tokens=567, reasoning_tokens=89),
    Usage(input_tokens=10_000, cached_input_tokens=2_000, cache_write_tokens=3_000, output_tokens=1),
    Usage(input_tokens=LONG, cached_input_tokens=2_000, cache_write_tokens=3_000, output_tokens=700),
    Usage(input_tokens=272_000, output_tokens=1),
    Usage(input_tokens=2_000, input_audio_tokens=1_500, output_tokens=900, output_audio_tokens=800),
    Usage(
        input_tokens=5_000,
        cached_input_tokens=1_000,
        input_audio_tokens=2_000,
        cached_audio_tokens=300,
        input_image_tokens=1_500,
        cached_image_tokens=400,
        output_tokens=3_000,
        output_audio_tokens=500,
        output_image_tokens=700,
    ),
    Usage(input_tokens=50, output_tokens=4_160, output_image_tokens=4_160),
    Usage(units=(("audio_ms", 7_200_000), ("input_audio_ms", 7_200_000))),
    Usage(units=(("audio_ms", 36_000), ("input_audio_ms", 0))),
    Usage(units=(("input_characters", 4_321),)),
    Usage(input_tokens=9, output_tokens=9, units=(("file_searches", 2), ("web_searches", 3))),
)
TIERS = ("default", "flex", "priority", "fast", "batch")


def test_every_price_is_the_librarys_own_answer() -> None:
    compared = unpriced = 0
    for provider in providers:
        for model in provider.models:
            name = name_of(provider, model)
            if name is None:
                continue  # another entry stands before it: no name leads here
            for tier in TIERS if model.price_variants else TIERS[:1]:
                for at in moments(model):
                    listing = CATALOGUE.listing(provider.id, name, tier, at)
                    assert listing is not None
                    assert listing.entry == model.id
                    price = compile_price(
                        "", {**listing.standard, **listing.tier}, audio_min_ms=listing.audio_min_ms
                    )
                    for usage in USAGES:
                        ours = exact_cost_of(price, usage)
                        theirs = librarys_cost(provider, model, tier, at, usage)
                        where = (provider.id, name, tier, at, usage)
                        if ours is None:
                            unpriced += 1
                            assert theirs == 0 or usage.units, where
                        else:
                            compared += 1
                            # Where it divides by 3,600 the library keeps 28 digits; all else it says exactly.
                            inexact = (
                                Fraction(1, 10**18) if usage.units and usage.units[0][0] == "audio_ms" else 0
                            )
                            assert abs(ours - Fraction(theirs) * 10**9) <= inexact, where
    assert compared > 40_000
    assert unpriced < compared


def test_every_model_of_openai_can_be_asked_for() -> None:
    openai = CATALOGUE.providers["openai"]

    assert [model.id for model in openai.models if name_of(openai, model) is None] == []


# -- data files


def data(**prices: Any) -> list[dict[str, Any]]:
    """A data file in the form that genai-prices publishes."""
    model = {
        "id": "gpt-new",
        "match": {"equals": "gpt-new"},
        "prices": prices
        or {"input_mtok": 1.5, "output_mtok": {"base": 6, "tiers": [{"start": 1000, "price": 9}]}},
    }
    return [
        {"id": "openai", "name": "OpenAI", "api_pattern": "https://api\\.openai\\.com", "models": [model]},
    ]


def test_a_data_file_is_read_and_its_version_named() -> None:
    catalogue = Catalogue.parse(json.dumps(data()).encode(), "genai-prices@tomorrow")

    listing = catalogue.listing("openai", "gpt-new", "default", NOW)

    assert catalogue.version == "genai-prices@tomorrow"
    assert listing is not None
    price = compile_price("", listing.standard)
    assert exact_cost_of(price, Usage(input_tokens=1000, output_tokens=10)) == 1_500_000 + 60_000
    assert exact_cost_of(price, Usage(input_tokens=1001, output_tokens=10)) == 1_501_500 + 90_000


def test_a_price_that_only_a_newer_library_knows_is_left_out() -> None:
    catalogue = Catalogue.parse(json.dumps(data(input_mtok=1, smell_mtok=2)).encode(), "v")

    listing = catalogue.listing("openai", "gpt-new", "default", NOW)

    assert listing is not None
    assert list(listing.standard) == ["input_tokens"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON"),
        (b"{}", "not a list of providers"),
        (b"[]", "not a list of providers"),
        (b"[1]", "not a price list"),
        (json.dumps([{"id": "openai"}]).encode(), "not a price list"),
        (json.dumps([data()[0] | {"id": "other"}]).encode(), "no provider openai"),
        (json.dumps(data(input_mtok="a lot")).encode(), "not a price list"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (DATA_BYTES_MAX + 1), "larger than 16 MiB"),
    ],
)
def test_what_is_no_price_list_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        Catalogue.parse(content, "v")


@pytest.mark.parametrize("rate", [-1, float("nan"), float("inf")])
def test_a_price_that_is_no_amount_is_refused(rate: float) -> None:
    with pytest.raises(CatalogueError):
        Catalogue.parse(json.dumps(data(input_mtok=rate)).encode(), "v")


# -- the library's side of the comparison


def librarys_cost(
    provider: listed.Provider, model: listed.ModelInfo, tier: str, at: float, usage: Usage
) -> Decimal:
    """The library's total in US dollars, before rounding."""
    units = dict(usage.units)
    context = {"processing": "batch"} if tier == "batch" else {"service_tier": tier, "speed": tier}
    reported: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cached_input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "cache_audio_read_tokens": usage.cached_audio_tokens,
        "input_image_tokens": usage.input_image_tokens,
        "cache_image_read_tokens": usage.cached_image_tokens,
        "output_reasoning_tokens": usage.reasoning_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "output_image_tokens": usage.output_image_tokens,
        "audio_seconds": Decimal(units.get("audio_ms", 0)) / 1000,
        "input_audio_seconds": Decimal(units.get("input_audio_ms", 0)) / 1000,
        "input_characters": units.get("input_characters", 0),
        "web_searches": units.get("web_searches", 0),
        "storage_searches": units.get("file_searches", 0),
    }
    answer = model.calc_price(
        genai_prices.Usage(**reported),
        provider,
        genai_request_timestamp=datetime.fromtimestamp(at, UTC),
        price_context=context,
    )
    return answer.total_price


def moments(model: listed.ModelInfo) -> list[float]:
    """Now, and a moment on each side of each date and hour at which a price of the model changes."""
    constraints = [variant.constraint for variant in model.price_variants or []]
    if isinstance(model.prices, list):
        constraints += [conditional.constraint for conditional in model.prices]
    found = {NOW}
    for constraint in constraints:
        if isinstance(constraint, listed.StartDateConstraint):
            start = datetime.combine(constraint.start_date, datetime.min.time(), UTC).timestamp()
            found |= {start - 1, start}
        elif isinstance(constraint, listed.TimeOfDateConstraint):
            for hour in (constraint.start_time, constraint.end_time):
                moment = datetime.combine(datetime(2026, 11, 21), hour)
                at = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
                found |= {at - 1, at}
    return sorted(found)


def name_of(provider: listed.Provider, model: listed.ModelInfo) -> str | None:
    """A model name that leads to this entry."""
    for name in (model.id, *names_in(model.match)):
        if provider.find_model(name) is model:
            return name
    return None


def names_in(clause: Any) -> list[str]:
    if isinstance(clause, listed.ClauseOr):
        return [name for inner in clause.or_ for name in names_in(inner)]
    if isinstance(clause, listed.ClauseAnd):
        return [name for inner in clause.and_ for name in names_in(inner)]
    return [str(value) for value in vars(clause).values()]
