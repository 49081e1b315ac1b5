"""The price book: what is asked once, what is unknown, parts of other models, and reservations."""

from __future__ import annotations

from math import inf

import pytest

from proxy.core.costs import compile_price
from proxy.core.price import QUOTES_MAX, Cost, PriceBook, Quote, price_list_of
from proxy.core.rates import parse_rates
from proxy.core.usage import Part, Usage

CHANGE = 1_000_000.0


class Source:
    """A few prices; "chat" got dearer at CHANGE. Remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, provider, model, tier, at):
        self.asked.append((provider, model, tier))
        rates = {
            ("chat", "default"): {"input_tokens": "1" if at < CHANGE else "2", "output_tokens": "10"},
            ("chat", "priority"): {"input_tokens": "5", "output_tokens": "50"},
            ("image", "default"): {"input_tokens": "0.0005", "output_tokens": "40"},
            ("half", "default"): {"input_tokens": "0.0005"},
            ("tool:svg", "default"): {"input_tokens": "3"},
        }.get((model, tier))
        starts, ends = (-inf, CHANGE) if at < CHANGE else (CHANGE, inf)
        if model == "" and tier == "default":
            fees = parse_rates({"containers_1g": "0.03"})
            return Quote(compile_price("fees", fees, fees_only=True), -inf, inf)
        if rates is None:
            return Quote(None, -inf, inf)
        return Quote(compile_price(f"{model}/{tier}/{starts:.0f}", parse_rates(rates)), starts, ends)


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def book(source):
    return PriceBook(source)


def test_a_price_is_compiled_once_for_each_span_of_time(book, source):
    usage = Usage(input_tokens=1000)

    costs = [book.cost("openai", "chat", None, usage, at) for at in (1.0, 2.0, CHANGE - 0.5, CHANGE, 2e6)]

    assert [cost.nanousd for cost in costs] == [1_000_000, 1_000_000, 1_000_000, 2_000_000, 2_000_000]
    assert [cost.price_id for cost in costs[2:4]] == ["chat/default/-inf", "chat/default/1000000"]
    assert source.asked == [("openai", "chat", "default")] * 2


def test_the_tier_that_served_decides(book):
    usage = Usage(input_tokens=1000)

    assert book.cost("openai", "chat", "priority", usage, 1.0).nanousd == 5_000_000


@pytest.mark.parametrize("usage", [Usage(input_tokens=1), Usage()])
def test_an_unknown_model_costs_unknown_even_when_it_used_nothing(book, usage):
    assert book.cost("openai", "nobody", None, usage, 1.0) == Cost(None)
    assert book.cost("openai", None, None, usage, 1.0) == Cost(None)


def test_a_known_model_that_used_nothing_costs_nothing(book):
    assert book.cost("openai", "chat", None, Usage(), 1.0) == Cost(0, "chat/default/-inf")


def test_where_there_was_nothing_to_count_there_is_no_price(book):
    assert book.cost("openai", "nobody", None, None, 1.0) == Cost(0)


def test_fees_have_a_price_without_a_model(book):
    assert book.cost("openai", None, None, Usage(units=(("containers_1g", 1),)), 1.0) == Cost(
        30_000_000, "fees"
    )


def test_a_part_goes_by_its_callers_tier_where_its_model_is_sold_in_it(book):
    sold = Part("grader", "chat", Usage(input_tokens=1))
    not_sold = Part("image_gen", "image", Usage(output_tokens=10))

    assert book.part_tier("openai", sold, "priority", 1.0) == "priority"
    assert book.part_tier("openai", not_sold, "priority", 1.0) is None
    assert book.part_tier("openai", Part("svg", None, Usage()), "priority", 1.0) is None


def test_a_tool_whose_model_nobody_names_has_the_price_of_its_kind_else_its_fees(book):
    svg = Part("svg", None, Usage(input_tokens=1))
    container = Part("container", None, Usage(units=(("containers_1g", 1),)))
    image = Part("image_gen", None, Usage(input_tokens=1))

    assert [part.served_by for part in (svg, container)] == ["tool:svg", "tool:container"]
    assert book.cost("openai", svg.served_by, None, svg.usage, 1.0) == Cost(3_000, "tool:svg/default/-inf")
    assert book.cost("openai", container.served_by, None, container.usage, 1.0) == Cost(30_000_000, "fees")
    assert book.cost("openai", image.served_by, None, image.usage, 1.0) == Cost(None)
    assert book.ceiling("openai", image.served_by, None, 100, 10, 1.0) is None


def test_a_reservation_is_for_the_dearer_of_the_tier_asked_for_and_the_default(book):
    assert book.ceiling("openai", "chat", None, 100, 10, 1.0) == 100 * 1_000 + 10 * 10_000
    assert book.ceiling("openai", "chat", "priority", 100, 10, 1.0) == 100 * 5_000 + 10 * 50_000
    assert book.ceiling("openai", "nobody", None, 100, 10, 1.0) is None
    assert book.ceiling("openai", None, None, 100, 10, 1.0) is None


def test_what_is_kept_is_bounded_whatever_clients_call_their_models(book, source):
    for number in range(QUOTES_MAX + 10):
        book.price("openai", f"model-{number}", None, 1.0)
    source.asked.clear()

    assert book.price("openai", f"model-{QUOTES_MAX + 9}", None, 1.0) is None
    assert source.asked == []
    assert book.price("openai", "model-0", None, 1.0) is None
    assert source.asked == [("openai", "model-0", "default")]
    assert book.price("openai", "m" * 257, None, 1.0) is None
    assert book.price("openai", "chat", "t" * 65, 1.0) is None
    assert len(source.asked) == 1


def test_what_the_prompt_cache_saved_is_the_difference_of_two_rates_of_such_a_request():
    rates = parse_rates(
        {
            "input_tokens": {"0": "2", "9000": "4"},
            "cached_input_tokens": "0.5",
            "input_audio_tokens": "10",
            "cached_audio_tokens": "1",
            "output_tokens": "1",
        }
    )
    quotes = {
        "chat": compile_price("p", rates),
        "speech": compile_price("s", parse_rates({"audio_seconds": "1"})),
        "nobody": None,
    }
    book = PriceBook(lambda provider, model, tier, at: Quote(quotes[model], -inf, inf))

    def saved(model, **counts):
        return book.cost("openai", model, None, Usage(**counts), 1.0).cache_saved_nanousd

    assert saved("chat", input_tokens=1000, cached_input_tokens=600) == 600 * 1_500
    assert saved("chat", input_tokens=9001, cached_input_tokens=600) == 600 * 3_500
    assert saved("chat", input_tokens=1000) == 0
    audio = {"input_audio_tokens": 400, "cached_audio_tokens": 300}
    assert saved("chat", input_tokens=1000, cached_input_tokens=500, **audio) == 200 * 1_500 + 300 * 9_000
    many = (("requests", 2),)  # of 4,501 tokens each
    assert saved("chat", input_tokens=9002, cached_input_tokens=600, units=many) == 600 * 1_500
    assert saved("speech", cached_input_tokens=10, units=(("audio_ms", 5),)) == 0
    assert saved("nobody", input_tokens=10, cached_input_tokens=10) == 0


@pytest.mark.parametrize(
    ("provider", "endpoint", "listed"),
    [
        ("openai", "/v1/decisions", "openai-decisions"),
        ("openai-eu", "/v1/decisions", "openai-decisions-eu"),
        ("openai-decisions", "/v1/decisions", "openai-decisions"),
        ("openrouter", "/v1/decisions", "openrouter"),
        ("openai", "/v1/responses", "openai"),
    ],
)
def test_decisions_go_by_a_price_list_of_their_own(provider, endpoint, listed):
    assert price_list_of(provider, endpoint) == listed
