"""Costs: each token in one class, exact to the nano-dollar, rounded once, and unknown rather than zero."""

from __future__ import annotations

from fractions import Fraction
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.costs import COST_MAX_NANOUSD, ceiling_of, compile_price, cost_of, disjoint, exact_cost_of
from proxy.core.money import round_half_up
from proxy.core.rates import TOKEN_CLASSES, parse_rates
from proxy.core.usage import Usage

CHAT = parse_rates({"input_tokens": "0.15", "cached_input_tokens": "0.075", "output_tokens": "0.60"})
SPEECH = parse_rates(
    {
        "input_tokens": "4",
        "cached_input_tokens": "0.4",
        "output_tokens": "16",
        "input_audio_tokens": "32",
        "cached_audio_tokens": "0.5",
        "output_audio_tokens": "64",
        "input_image_tokens": "5",
        "cached_image_tokens": "0.6",
    }
)
LONG = parse_rates(
    {
        "input_tokens": {"0": "2", "272000": "4"},
        "cached_input_tokens": {"0": "0.1", "272000": "0.2"},
        "cache_write_tokens": {"0": "2.5", "272000": "5"},
        "cache_write_12h_tokens": {"0": "4", "272000": "8"},
        "output_tokens": {"0": "10", "272000": "15"},
    }
)


def test_cached_tokens_are_a_part_of_the_input_and_pay_their_own_rate():
    usage = Usage(input_tokens=1000, cached_input_tokens=400, output_tokens=200, reasoning_tokens=150)

    # 600 * 150 + 400 * 75 + 200 * 600 nano-dollars; reasoning has no rate of its own and is output
    assert cost_of(compile_price("p", CHAT), usage) == 90_000 + 30_000 + 120_000


def test_reasoning_pays_its_own_rate_where_there_is_one():
    card = {**CHAT, **parse_rates({"reasoning_tokens": "3"})}

    usage = Usage(output_tokens=200, reasoning_tokens=150)

    assert cost_of(compile_price("p", card), usage) == 50 * 600 + 150 * 3000


def test_audio_and_images_cached_and_not_each_pay_their_own_rate():
    usage = Usage(
        input_tokens=1000,
        cached_input_tokens=300,
        input_audio_tokens=500,
        cached_audio_tokens=200,
        input_image_tokens=100,
        cached_image_tokens=40,
        output_tokens=90,
        output_audio_tokens=70,
    )

    assert disjoint(usage)[:8] == (340, 60, 0, 0, 300, 200, 60, 40)
    assert cost_of(compile_price("p", SPEECH), usage) == (
        340 * 4_000 + 60 * 400 + 300 * 32_000 + 200 * 500 + 60 * 5_000 + 40 * 600 + 20 * 16_000 + 70 * 64_000
    )


def test_writing_to_the_cache_has_a_premium_and_twelve_hours_a_higher_one():
    usage = Usage(
        input_tokens=1000, cached_input_tokens=100, cache_write_tokens=600, cache_write_12h_tokens=200
    )

    assert cost_of(compile_price("p", LONG), usage) == 300 * 2_000 + 100 * 100 + 400 * 2_500 + 200 * 4_000


def test_above_the_threshold_the_whole_request_pays_the_long_rates():
    price = compile_price("p", LONG)

    at = cost_of(price, Usage(input_tokens=272_000, output_tokens=10))
    above = cost_of(price, Usage(input_tokens=272_001, output_tokens=10))

    assert at == 272_000 * 2_000 + 10 * 10_000
    assert above == 272_001 * 4_000 + 10 * 15_000


def test_a_sum_of_requests_is_long_only_when_they_are_long_on_average():
    price = compile_price("p", LONG)
    short = Usage(input_tokens=1_000_000, units=(("requests", 10),))
    long = Usage(input_tokens=1_000_000, units=(("requests", 3),))

    assert cost_of(price, short) == 1_000_000 * 2_000
    assert cost_of(price, long) == 1_000_000 * 4_000


def test_a_fee_for_each_request_is_counted_for_each():
    price = compile_price("p", {**CHAT, **parse_rates({"requests": "0.005"})})

    assert cost_of(price, Usage(input_tokens=10)) == 5_000_000 + 1_500
    assert cost_of(price, Usage(input_tokens=10, units=(("requests", 4),))) == 20_000_000 + 1_500


def test_tools_are_added_and_a_tool_without_a_price_makes_the_cost_unknown():
    price = compile_price("p", {**CHAT, **parse_rates({"web_searches": "0.01"})})

    assert cost_of(price, Usage(input_tokens=10, units=(("web_searches", 3),))) == 1_500 + 30_000_000
    assert cost_of(price, Usage(input_tokens=10, units=(("file_searches", 1), ("web_searches", 3)))) is None
    assert cost_of(price, Usage(input_tokens=10, units=(("file_searches", 0),))) == 1_500


def test_a_measure_reported_beside_the_one_that_is_priced_costs_nothing():
    assert cost_of(compile_price("p", CHAT), Usage(input_tokens=10, units=(("audio_ms", 5000),))) == 1_500


def test_usage_of_which_no_measure_is_priced_is_unknown_not_free():
    by_the_hour = compile_price("p", parse_rates({"audio_seconds": "0.0001"}))

    assert cost_of(by_the_hour, Usage(input_tokens=10, output_tokens=5)) is None
    assert cost_of(compile_price("p", CHAT), Usage(units=(("audio_ms", 5000),))) is None
    assert cost_of(by_the_hour, Usage()) == 0


def test_a_model_that_costs_nothing_is_free_however_it_is_measured():
    price = compile_price("p", parse_rates({"input_tokens": "0", "output_tokens": "0"}))

    assert cost_of(price, Usage(input_tokens=10, output_tokens=5)) == 0
    assert cost_of(price, Usage(units=(("images", 2),))) == 0


def test_fees_alone_are_no_price_of_a_model():
    price = compile_price("p", parse_rates({"containers_1g": "0.03"}), fees_only=True)

    assert cost_of(price, Usage(units=(("containers_1g", 2),))) == 60_000_000
    assert cost_of(price, Usage(input_tokens=1, units=(("containers_1g", 2),))) is None
    assert cost_of(price, Usage()) is None


def test_all_audio_is_counted_once_though_its_parts_are_reported_too():
    both = compile_price("p", parse_rates({"audio_seconds": "0.001", "input_audio_seconds": "0.002"}))

    assert cost_of(both, Usage(units=(("audio_ms", 3000), ("input_audio_ms", 1000)))) == 2 * 10**6 + 2 * 10**6
    assert cost_of(both, Usage(units=(("input_audio_ms", 1000),))) == 2 * 10**6
    assert cost_of(both, Usage(units=(("output_audio_ms", 1000),))) == 10**6


def test_audio_shorter_than_the_least_is_billed_as_the_least():
    price = compile_price("p", parse_rates({"audio_seconds": "0.001"}), audio_min_ms=10_000)

    assert cost_of(price, Usage(units=(("audio_ms", 1),))) == 10 * 10**6
    assert cost_of(price, Usage(units=(("input_audio_ms", 1),))) == 10 * 10**6
    assert cost_of(price, Usage(units=(("audio_ms", 11_000),))) == 11 * 10**6
    assert cost_of(price, Usage()) == 0


def test_a_half_is_rounded_up_once_for_all_classes_together():
    halves = compile_price("p", parse_rates({"input_tokens": "0.0005", "output_tokens": "0.0005"}))

    assert cost_of(halves, Usage(input_tokens=1)) == 1  # 0.5
    assert cost_of(halves, Usage(input_tokens=1, output_tokens=1)) == 1  # not 1 + 1


def test_cached_tokens_that_find_no_room_in_the_text_are_audio():
    usage = Usage(input_tokens=100, input_audio_tokens=90, cached_input_tokens=50)

    assert disjoint(usage)[:8] == (0, 10, 0, 0, 50, 40, 0, 0)


def test_where_only_broader_classes_are_priced_the_dearest_of_them_holds():
    card = parse_rates({"input_tokens": "1", "cached_input_tokens": "0.5", "input_audio_tokens": "9"})
    usage = Usage(input_tokens=10, input_audio_tokens=10, cached_input_tokens=10, cached_audio_tokens=10)

    assert cost_of(compile_price("p", card), usage) == 10 * 9_000


def test_the_ceiling_is_of_the_dearest_class_in_the_longest_context_reached():
    price = compile_price("p", LONG)

    assert ceiling_of(price, 1000, 100) == 1000 * 4_000 + 100 * 10_000
    assert ceiling_of(price, 300_000, 100) == 300_000 * 8_000 + 100 * 15_000
    assert ceiling_of(compile_price("p", SPEECH), 10, 10) == 10 * 32_000 + 10 * 64_000


def test_the_ceiling_counts_what_the_request_says_of_other_units():
    price = compile_price("p", parse_rates({"input_characters": "15"}))

    assert ceiling_of(price, 100, 0, (("input_characters", 200),)) == 200 * 15_000


def test_a_cost_that_nobody_could_owe_is_unknown_and_no_ceiling_is_higher():
    price = compile_price("p", parse_rates({"input_tokens": "1", "output_tokens": "1"}))

    assert cost_of(price, Usage(input_tokens=COST_MAX_NANOUSD // 1000)) == COST_MAX_NANOUSD // 1000 * 1000
    assert cost_of(price, Usage(input_tokens=COST_MAX_NANOUSD // 1000 + 1)) is None
    assert ceiling_of(price, 2**60, 2**60) == COST_MAX_NANOUSD


# -- for all usages

counts = st.integers(0, 2_000_000)
usages = st.builds(Usage, **dict.fromkeys(TOKEN_CLASSES, counts))
decimals = st.integers(0, 10**9).map(lambda digits: f"{digits / 10**6:.6f}")
cards = st.dictionaries(st.sampled_from(TOKEN_CLASSES), decimals).map(
    lambda rates: parse_rates({"input_tokens": "1.25", "output_tokens": "10.01"} | rates)
)
sensible = st.builds(
    lambda text, cached, written, output, reasoning: Usage(
        input_tokens=text + cached + written,
        cached_input_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output + reasoning,
        reasoning_tokens=reasoning,
    ),
    counts,
    counts,
    counts,
    counts,
    counts,
)


@given(usages)
def test_every_token_is_in_exactly_one_class(usage):
    classes = disjoint(usage)

    assert min(classes) >= 0
    assert sum(classes[:8]) == usage.input_tokens
    assert sum(classes[8:]) == usage.output_tokens


@given(cards, usages)
def test_a_cost_is_exact_and_rounded_once(card, usage):
    price = compile_price("p", card)
    exact = sum(
        (
            count * Fraction(rate, price.divisor)
            for count, rate in zip(disjoint(usage), price.rates, strict=True)
        ),
        start=Fraction(0),
    )

    assert exact_cost_of(price, usage) == exact
    assert cost_of(price, usage) == round_half_up(exact)


@given(cards, usages)
def test_a_cost_is_never_negative_and_never_above_its_ceiling(card, usage):
    price = compile_price("p", card)

    assert 0 <= cost_of(price, usage) <= ceiling_of(price, usage.input_tokens, usage.output_tokens)


@given(cards, sensible, sensible)
def test_costs_add_up_to_the_cost_of_the_sum_within_one_nano_dollar(card, one, other):
    price = compile_price("p", card)
    both = Usage(**{name: getattr(one, name) + getattr(other, name) for name in TOKEN_CLASSES})

    assert abs(cost_of(price, one) + cost_of(price, other) - cost_of(price, both)) <= 1
    assert exact_cost_of(price, one) + exact_cost_of(price, other) == exact_cost_of(price, both)


@given(cards, usages, st.integers(0, 100))
def test_the_order_of_rates_and_units_changes_nothing(card, usage, seed):
    names = list(card)
    Random(seed).shuffle(names)

    shuffled = compile_price("p", {name: card[name] for name in names})

    assert cost_of(shuffled, usage) == cost_of(compile_price("p", card), usage)
