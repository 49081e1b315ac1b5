"""The sheet: which source decides each rate, under which names, from which day on, and what it is called."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from proxy.core.price import PriceBook
from proxy.core.rates import LocalPrice, format_rates, parse_rates
from proxy.core.usage import Usage
from proxy.pricing.catalogue import Catalogue
from proxy.pricing.names import alias_of, canonical
from proxy.pricing.sheet import Sheet, _gaps, by_model

CATALOGUE = Catalogue.bundled()
NOW = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
MTOK = 1_000_000


def at(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def local(model, tier="default", since="1970-01-01", provider="openai", **rates):
    return LocalPrice(
        id=f"{model}-{tier}-{since}",
        provider=provider,
        model=model,
        tier=tier,
        starts_at=at(since),
        rates=parse_rates(rates),
    )


def sheet(*prices, uplift=None):
    return Sheet(CATALOGUE, by_model(prices), uplift)


def rates(model, tier="default", moment=NOW, provider="openai", given=None):
    priced = (given or sheet()).priced(provider, model, tier, moment)
    return None if priced is None else format_rates(priced.card)


def cost(usage, model, tier="default", moment=NOW, provider="openai", given=None):
    return PriceBook((given or sheet()).quote).cost(provider, model, tier, usage, moment).nanousd


# -- the catalogue, by every name


@pytest.mark.parametrize(
    ("model", "input_tokens"),
    [
        ("gpt-4o-mini", "0.15"),
        ("gpt-4o-mini-2024-07-18", "0.15"),  # listed by name
        ("GPT-4o-Mini", "0.15"),
        ("gpt-5-mini-2031-01-31", "0.25"),  # a snapshot that nobody lists yet has its alias's price
        ("gpt-5-mini-20310131", "0.25"),
        ("gpt-4o-2024-05-13", "5"),  # a snapshot that is priced apart
    ],
)
def test_a_model_is_found_by_its_name_or_its_snapshots_alias(model, input_tokens):
    assert rates(model)["input_tokens"] == input_tokens


@pytest.mark.parametrize(
    "model", ["gpt-99", "gpt-4o-mini-2024-13-41", "gpt-4o-2099", "my-own-model", "ft:gpt-99:a::b", "ft:"]
)
def test_an_unknown_model_has_no_price(model):
    assert rates(model) is None


def test_a_snapshot_priced_apart_does_not_take_over_its_aliases_discount():
    # gpt-4o sells cached input at 1.25; this snapshot's entry has no such rate, so its input rate holds
    usage = Usage(input_tokens=MTOK, cached_input_tokens=MTOK)

    assert cost(usage, "gpt-4o") == 1_250_000_000
    assert cost(usage, "gpt-4o-2024-05-13") == 5_000_000_000


def test_a_snapshot_priced_apart_takes_from_its_alias_only_what_it_says_nothing_about():
    own = parse_rates({"input_tokens": "5", "output_tokens": "15"})
    alias = parse_rates({"input_tokens": "2", "cached_input_tokens": "1", "web_searches": "0.01"})

    assert _gaps(own, alias) == parse_rates({"web_searches": "0.01"})
    assert _gaps({}, alias) == alias


@pytest.mark.parametrize(
    ("tier", "input_tokens"),
    [
        ("default", "2"),
        ("auto", "2"),
        ("flex", "1"),
        ("batch", "1"),
        ("priority", "4"),
        ("fast", "4"),
        ("ultrafast", "12"),
    ],
)
def test_each_service_tier_has_its_rates(tier, input_tokens):
    assert rates("gpt-6.1-sol", tier)["input_tokens"]["0"] == input_tokens


@pytest.mark.parametrize(
    ("model", "tier"), [("gpt-4o", "ultrafast"), ("gpt-4o", "scale"), ("gpt-4o", "tomorrow")]
)
def test_a_tier_of_openai_that_nobody_lists_has_no_price(model, tier):
    assert rates(model, tier) is None


def test_a_tier_of_another_provider_that_nobody_lists_is_its_standard_one():
    assert rates("llama-3.3-70b-versatile", "on_demand", provider="groq") == rates(
        "llama-3.3-70b-versatile", provider="groq"
    )


def test_a_price_holds_from_its_day_on():
    before, after = at("2026-07-29"), at("2026-07-30")

    assert rates("gpt-5.6-luna", moment=before)["input_tokens"] == {"0": "1", "272000": "2"}
    assert rates("gpt-5.6-luna", moment=after)["input_tokens"] == {"0": "0.2", "272000": "0.4"}


def test_a_cost_crosses_the_days_on_which_prices_change():
    book, usage = PriceBook(sheet().quote), Usage(input_tokens=1000)
    days = ("2026-07-29", "2026-07-30", "2026-11-21", "2026-07-29")

    assert [book.cost("openai", "gpt-5.6-luna", None, usage, at(day)).nanousd for day in days] == [
        1_000_000,
        200_000,
        200_000,
        1_000_000,
    ]


def test_keeping_the_cache_for_twelve_hours_costs_twice_the_input_in_every_tier():
    assert rates("gpt-6.1-terra")["cache_write_12h_tokens"] == {"0": "2", "272000": "4"}
    assert rates("gpt-6.1-terra", "batch")["cache_write_12h_tokens"] == {"0": "1", "272000": "2"}
    assert "cache_write_12h_tokens" not in rates("gpt-4o")


def test_every_priced_model_of_openai_has_the_tools_fees_and_others_have_not():
    fees = {
        "web_searches": "0.01",
        "file_searches": "0.0025",
        "containers_1g": "0.03",
        "containers_64g": "1.92",
    }

    assert fees.items() <= rates("gpt-5.5-cyber").items()
    assert "containers_1g" not in rates("gemini-2.5-pro", provider="google")


@pytest.mark.parametrize(
    ("model", "search", "preview"),
    [
        ("gpt-5.5", "0.01", "0.01"),
        ("gpt-4.1", "0.01", "0.025"),
        ("gpt-4.1-mini-2025-04-14", "0.01", "0.025"),
        ("gpt-4o", "0.01", "0.025"),
        ("ft:gpt-4o-2024-08-06:org::id", "0.01", "0.025"),
        ("gpt-4o-search-preview-2025-03-11", "0.025", "0.025"),
        ("gpt-5-search-api", "0.01", "0.01"),
    ],
)
def test_the_preview_of_web_search_costs_more_on_models_that_do_not_reason(model, search, preview):
    found = rates(model)

    assert (found["web_searches"], found["web_search_previews"]) == (search, preview)


@pytest.mark.parametrize("tier", ["default", "priority"])
def test_names_that_move_from_model_to_model_have_a_price(tier):
    usage = Usage(input_tokens=300_000, cached_input_tokens=4096, output_tokens=500)

    assert (
        cost(usage, "gpt-daybreak-blue-latest", tier) == (300_000 - 4096) * 8000 + 4096 * 800 + 500 * 30_000
    )
    assert cost(usage, "daybreak-red-latest", tier) == (300_000 - 4096) * 25_000 + 4096 * 2500 + 500 * 112_500


@pytest.mark.parametrize(
    ("model", "nanousd"),
    [
        ("text-embedding-3-small", 10_000),
        ("text-embedding-3-large", 65_000),
        ("text-embedding-ada-002", 50_000),
        ("ft:gpt-4o-2024-08-06:org::id", 2_225_000),
    ],
)
def test_what_the_catalogue_has_no_batch_rates_for_is_not_sold_at_the_standard_ones(model, nanousd):
    assert cost(Usage(input_tokens=1000), model, "batch") == nanousd


def test_decisions_have_free_output_and_their_own_list():
    usage = Usage(input_tokens=1000, cached_input_tokens=500, output_tokens=99)

    assert cost(usage, "gpt-6-luna", provider="openai-decisions") == 1000 * 100
    assert cost(usage, "gpt-6-luna") == 500 * 100 + 500 * 10 + 99 * 500


# -- fine-tuned models


@pytest.mark.parametrize(
    ("model", "input_tokens"),
    [
        ("ft:gpt-4o-mini-2024-07-18:org::id", "0.3"),
        ("ft:gpt-4o-mini-2024-07-18:org:name:id:ckpt-step-90", "0.3"),
        ("ft:gpt-4.1-2025-04-14:org::id", "3"),
        ("ft:gpt-3.5-turbo-0125:org::id", "3"),
    ],
)
def test_a_fine_tuned_model_has_the_price_of_its_kind(model, input_tokens):
    assert rates(model)["input_tokens"] == input_tokens


def test_a_fine_tuned_model_never_has_its_base_models_price():
    assert rates("gpt-5") is not None
    assert rates("ft:gpt-5:org::id") is None


def test_what_its_owner_called_it_does_not_make_a_model_free():
    assert rates("omni-moderation-latest")["input_tokens"] == "0"
    assert rates("ft:gpt-4.1-2025-04-14:org:moderation:id")["input_tokens"] == "3"
    assert rates("ft:gpt-5:org:moderation:id") is None


def test_a_local_price_can_be_set_for_all_models_tuned_from_one():
    given = sheet(local("ft:gpt-5", input_tokens="2.5", output_tokens="20"))

    assert rates("ft:gpt-5-2025-08-07:org:tutor:id", given=given)["output_tokens"] == "20"


# -- local prices


def test_a_local_price_overrides_rate_by_rate():
    found = rates("gpt-4o-mini", given=sheet(local("gpt-4o-mini", input_tokens="0.10")))

    assert (found["input_tokens"], found["cached_input_tokens"], found["output_tokens"]) == (
        "0.1",
        "0.075",
        "0.6",
    )


def test_a_local_price_of_an_alias_covers_its_snapshots_but_those_priced_apart():
    given = sheet(local("gpt-4o", input_tokens="1"), local("gpt-4o-2024-08-06", output_tokens="7"))

    assert rates("gpt-4o-2024-11-20", given=given)["input_tokens"] == "1"
    assert rates("gpt-4o-2024-05-13", given=given)["input_tokens"] == "5"
    snapshot = rates("gpt-4o-2024-08-06", given=given)
    assert (snapshot["input_tokens"], snapshot["output_tokens"]) == ("1", "7")


def test_a_local_price_holds_from_its_start_until_the_next():
    given = sheet(
        local("gpt-4o-mini", since="2026-03-01", input_tokens="3"),
        local("gpt-4o-mini", since="2026-02-01", input_tokens="2"),
    )
    book, usage = PriceBook(given.quote), Usage(input_tokens=1000)
    days = ("2026-01-31", "2026-02-01", "2026-02-28", "2026-03-01", "2026-11-21")

    costs = [book.cost("openai", "gpt-4o-mini", None, usage, at(day)) for day in days]

    assert [each.nanousd for each in costs] == [150_000, 2_000_000, 2_000_000, 3_000_000, 3_000_000]


def test_a_local_price_of_a_tier_leaves_the_others_and_one_of_the_default_tier_stands_behind_them():
    given = sheet(
        local("gpt-6.1-sol", "flex", input_tokens="0.5"),
        local("gpt-6.1-sol", input_tokens="1.5", web_searches="0.02"),
    )

    assert rates("gpt-6.1-sol", given=given)["input_tokens"] == "1.5"
    assert rates("gpt-6.1-sol", "flex", given=given)["input_tokens"] == "0.5"
    assert rates("gpt-6.1-sol", "batch", given=given)["input_tokens"] == {"0": "1", "272000": "2"}
    assert rates("gpt-6.1-sol", "batch", given=given)["web_searches"] == "0.02"


def test_fast_and_priority_are_one_tier():
    given = sheet(local("gpt-4o", "priority", input_tokens="9"))

    assert rates("gpt-4o", "fast", given=given)["input_tokens"] == "9"


def test_a_local_price_makes_a_model_or_a_tier_known():
    given = sheet(
        local("my-own-model", input_tokens="1", output_tokens="2"),
        local("gpt-4o", "scale", input_tokens="0", output_tokens="0"),
        local("qwen", provider="vllm", input_tokens="0"),
    )

    assert rates("my-own-model", given=given)["output_tokens"] == "2"
    assert cost(Usage(input_tokens=9, output_tokens=9), "gpt-4o", "scale", given=given) == 0
    assert cost(Usage(input_tokens=9), "qwen", provider="vllm", given=given) == 0
    assert cost(Usage(input_tokens=9), "other", provider="vllm", given=given) is None


def test_a_local_price_without_input_does_not_make_input_free():
    given = sheet(local("my-own-model", cached_input_tokens="1"))

    assert cost(Usage(input_tokens=9, cached_input_tokens=9), "my-own-model", given=given) is None


# -- regions


@pytest.mark.parametrize(
    ("model", "input_tokens"),
    [
        ("gpt-5.4-mini", "0.825"),
        ("gpt-5.4-mini-2026-03-17", "0.825"),
        ("gpt-image-2", "5.5"),
        ("gpt-4o", "2.5"),  # released before
        ("gpt-5.2", "1.75"),
    ],
)
def test_a_regional_endpoint_costs_ten_percent_more_for_models_of_2026_03_05_and_later(model, input_tokens):
    assert rates(model, provider="openai-eu")["input_tokens"] == input_tokens


def test_the_uplift_is_on_tokens_not_on_tools_and_in_the_prices_name():
    given = sheet().priced("openai-eu", "gpt-5.4-mini", "default", NOW)

    assert format_rates(given.card)["web_searches"] == "0.01"
    assert given.id == "genai-prices@0.2.3/openai/gpt-5.4-mini/default/2026-10-14*1.1"


def test_a_configured_uplift_is_on_every_model_of_openai_and_on_no_other():
    given = sheet(uplift=Fraction(1, 5))

    assert rates("gpt-4o", given=given)["input_tokens"] == "3"
    assert rates("gpt-5.4", provider="openai-eu", given=given)["input_tokens"] == {"0": "3", "272000": "6"}
    assert (
        rates("gpt-5.4", provider="openai-eu", given=sheet(uplift=Fraction(0)))["input_tokens"]["0"] == "2.5"
    )
    assert rates("gemini-2.5-pro", provider="google", given=given) == rates(
        "gemini-2.5-pro", provider="google"
    )


# -- names of prices


@pytest.mark.parametrize(
    ("model", "tier", "moment", "name"),
    [
        ("tts-1", "default", NOW, "genai-prices@0.2.3/openai/tts-1/default"),
        (
            "gpt-4o-mini-2024-07-18",
            "default",
            at("2026-10-13"),
            "genai-prices@0.2.3/openai/gpt-4o-mini/default/2026-10-12",
        ),
        ("gpt-4o-mini-2024-07-18", "batch", NOW, "genai-prices@0.2.3/openai/gpt-4o-mini/batch/2026-10-14"),
        ("gpt-6-astra-law", "default", NOW, "openai-proxy/openai/gpt-6-astra-law/default"),
    ],
)
def test_a_price_is_named_by_its_source_entry_tier_and_day(model, tier, moment, name):
    assert sheet().priced("openai", model, tier, moment).id == name


def test_a_price_names_the_local_prices_it_is_changed_by():
    given = sheet(local("tts-1", since="2026-11-01", input_characters="10"))

    assert given.priced("openai", "tts-1-1106", "default", NOW).id == (
        "genai-prices@0.2.3/openai/tts-1/default/2026-11-01+local:tts-1-default-2026-11-01"
    )


def test_a_price_that_depends_on_the_hour_names_it():
    price = sheet().priced("deepseek", "deepseek-chat", "default", at("2025-03-01T20:00"))

    assert price.id.startswith("genai-prices@0.2.3/deepseek/deepseek-chat/default/")
    assert price.id.endswith("/16:30")
    assert (price.starts, price.ends) == (at("2025-03-01T16:30"), at("2025-03-02T00:30"))


# -- names of models


@pytest.mark.parametrize(
    ("model", "alias"),
    [
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-5.2-20251211", "gpt-5.2"),
        ("gpt-3.5-turbo-0125", "gpt-3.5-turbo"),
        ("ft:gpt-4.1-2025-04-14", "ft:gpt-4.1"),
        ("gpt-4o", None),
        ("gpt-4-1999", None),
        ("-0125", None),
        ("gpt-4o-2024-11-20-preview", None),
    ],
)
def test_the_alias_of_a_snapshot_is_its_name_without_the_date(model, alias):
    assert alias_of(model) == alias


def test_a_fine_tuned_models_name_is_cut_to_what_it_was_tuned_from():
    assert canonical(" FT:gpt-4o-2024-08-06:Org:Name:id ") == "ft:gpt-4o-2024-08-06"
    assert canonical("GPT-4o") == "gpt-4o"
