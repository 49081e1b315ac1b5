"""Rate cards as people write them, and as they are kept."""

from __future__ import annotations

from fractions import Fraction

import pytest

from proxy.core.money import MoneyError
from proxy.core.rates import Rate, format_rates, parse_rates

WRITTEN = {
    "input_tokens": {"0": "2.5", "272000": "5"},
    "output_tokens": "15",
    "input_characters": "30",
    "audio_seconds": "0.0001",
    "web_searches": "0.01",
    "trained_tokens": "25",
    "requests": "0.005",
}


def test_tokens_and_characters_are_per_million_durations_per_second_and_the_rest_each():
    card = parse_rates(WRITTEN)

    assert card == {
        "input_tokens": Rate(Fraction("0.0000025"), ((272_000, Fraction("0.000005")),)),
        "output_tokens": Rate(Fraction("0.000015")),
        "input_characters": Rate(Fraction("0.00003")),
        "audio_ms": Rate(Fraction("0.0000001")),
        "web_searches": Rate(Fraction("0.01")),
        "trained_tokens": Rate(Fraction("0.000025")),
        "requests": Rate(Fraction("0.005")),
    }


def test_a_card_is_written_as_it_was_read():
    assert format_rates(parse_rates(WRITTEN)) == WRITTEN


def test_a_rate_with_steps_holds_for_the_whole_request_above_each():
    rate = parse_rates({"input_tokens": {"200000": "3", "0": "1", "100000": "2"}})["input_tokens"]

    at = [rate.at(tokens) * 1_000_000 for tokens in (0, 100_000, 100_001, 200_000, 200_001)]

    assert at == [1, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (None, "rates are an object"),
        ({}, "rates are an object"),
        ([["input_tokens", "1"]], "rates are an object"),
        ({"input_tokens": 0.15}, "input_tokens: 0.15 is not a decimal string"),
        ({"input_tokens": "-1"}, "input_tokens: '-1' is not a decimal number"),
        ({"prompt_tokens": "1"}, "there is no class of tokens named 'prompt_tokens'"),
        ({"audio_ms": "1"}, "'audio_ms' is no name of a rate"),
        ({"Web-Searches": "1"}, "is no name of a rate"),
        ({"x" * 65: "1"}, "is no name of a rate"),
        ({7: "1"}, "is no name of a rate"),
        ({"input_tokens": {"272000": "1"}}, 'steps must begin with "0"'),
        ({"input_tokens": {"0": "1", "many": "2"}}, "'many' is not a number of input tokens"),
        ({"input_tokens": {str(step): "1" for step in range(9)}}, "at most 8"),
        ({f"unit_{number}": "1" for number in range(65)}, "more than 64 rates"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(written, message):
    with pytest.raises(MoneyError, match=message):
        parse_rates(written)


def test_a_fee_may_have_any_name():
    assert parse_rates({"our_own_tool": "1.5"}) == {"our_own_tool": Rate(Fraction("1.5"))}
