"""Costs: rates compiled to a Price of integers, and what a usage costs: multiply, add, divide once, round once.

`compile_price` turns a rate card into a Price; `cost_of` is the hot path. The arithmetic is that of `genai-prices`: each
token belongs to exactly one class and pays the rate of the narrowest class that has one. What can't be priced is None,
unknown, and never silently zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import lcm
from typing import Final, NamedTuple

from proxy.core.money import NANO
from proxy.core.rates import TOKEN_CLASSES, RateCard
from proxy.core.usage import Usage


class Classes(NamedTuple):
    """One number for each disjoint class of tokens: counts of a usage, or rates of a price."""

    text: int
    cached: int
    written: int
    written_12h: int
    audio: int
    cached_audio: int
    image: int
    cached_image: int
    output: int
    reasoning: int
    output_audio: int
    output_image: int


# The rate of each class of Classes: the first of these that the card has. Where one set has several, the dearest.
_NARROWEST: Final[tuple[tuple[tuple[str, ...], ...], ...]] = (
    (("input_tokens",),),
    (("cached_input_tokens",), ("input_tokens",)),
    (("cache_write_tokens",), ("input_tokens",)),
    (("cache_write_12h_tokens",), ("cache_write_tokens",), ("input_tokens",)),
    (("input_audio_tokens",), ("input_tokens",)),
    (("cached_audio_tokens",), ("cached_input_tokens", "input_audio_tokens"), ("input_tokens",)),
    (("input_image_tokens",), ("input_tokens",)),
    (("cached_image_tokens",), ("cached_input_tokens", "input_image_tokens"), ("input_tokens",)),
    (("output_tokens",),),
    (("reasoning_tokens",), ("output_tokens",)),
    (("output_audio_tokens",), ("output_tokens",)),
    (("output_image_tokens",), ("output_tokens",)),
)
_INPUT_CLASSES: Final = 8
COST_MAX_NANOUSD: Final = 2**53
"""Nine million dollars: no answer costs more. One that says so may have reported anything, and must not break the sums."""
# Ways to measure the same work, of which a price uses some: seconds may be reported beside tokens. All else is a fee.
_MEASURES: Final = ("_tokens", "_characters", "_ms", "_pixels", "_pages", "_messages")
_IMAGES: Final = "images"
_AUDIO: Final = ("audio_ms", "input_audio_ms", "output_audio_ms")
_REQUESTS: Final = "requests"


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Rates in nano-US-dollars for one unit, each multiplied by `divisor`, so that all are whole."""

    id: str
    divisor: int
    """Even, so that its half is whole too."""
    rates: Classes
    dearest: tuple[tuple[int, int, int], ...]
    """(input tokens, the dearest rates of input and of output that a request with more of them may pay), ascending from -1."""
    steps: tuple[tuple[int, Classes], ...] = ()
    """(input tokens, the rates of requests with more), ascending."""
    units: Mapping[str, int] = field(default_factory=dict)
    """What is not tokens, by the names of Usage.units."""
    request: int = 0
    """A fee for each request."""
    has_tokens: bool = True
    """Input tokens have a price, which may be zero, and so the others have too: a card without them prices no tokens."""
    fees_only: bool = False
    """The model is not known, only what its tools cost."""
    audio_min_ms: int = 0
    """Audio shorter than this is billed as this much."""


def compile_price(price_id: str, card: RateCard, *, fees_only: bool = False, audio_min_ms: int = 0) -> Price:
    """Compile a card. What it does not name has no price; what is free must say so with a rate of zero."""
    starts = sorted({tokens for rate in card.values() for tokens, _ in rate.above})
    table = [_classes(card, above + 1) for above in (-1, *starts)]
    units = {name: rate.usd * NANO for name, rate in card.items() if name not in TOKEN_CLASSES}
    request = units.pop(_REQUESTS, Fraction(0))
    for name in ("input_audio_ms", "output_audio_ms"):
        if "audio_ms" in units:
            units.setdefault(name, units["audio_ms"])
    everything = [request, *units.values(), *(rate for classes in table for rate in classes)]
    divisor = 2 * lcm(*(rate.denominator for rate in everything))
    whole = [Classes(*(int(rate * divisor) for rate in classes)) for classes in table]
    return Price(
        id=price_id,
        divisor=divisor,
        rates=whole[0],
        steps=tuple(zip(starts, whole[1:], strict=True)),
        dearest=tuple(_dearest((-1, *starts), whole)),
        units={name: int(rate * divisor) for name, rate in units.items()},
        request=int(request * divisor),
        has_tokens="input_tokens" in card,
        fees_only=fees_only,
        audio_min_ms=audio_min_ms,
    )


def _dearest(starts: Sequence[int], table: Sequence[Classes]) -> Iterator[tuple[int, int, int]]:
    into = outof = 0
    for above, rates in zip(starts, table, strict=True):
        into = max(into, *rates[:_INPUT_CLASSES])
        outof = max(outof, *rates[_INPUT_CLASSES:])
        yield above, into, outof


def _classes(card: RateCard, input_tokens: int) -> tuple[Fraction, ...]:
    """Nano-dollars for one token of each class, for requests of so many input tokens."""
    found = []
    for choices in _NARROWEST:
        present = next((names for names in choices if any(name in card for name in names)), ())
        rates = [card[name].at(input_tokens) for name in present if name in card]
        found.append(max(rates, default=Fraction(0)) * NANO)
    return tuple(found)


def disjoint(usage: Usage) -> Classes:
    """Every token in exactly one class. A part larger than its whole is cut to it: no count is negative, none is lost.

    Cached tokens that find no room among the text must be audio or image, though the report did not say so. What was
    written to the cache is text.
    """
    total = usage.input_tokens
    audio = min(usage.input_audio_tokens, total)
    image = min(usage.input_image_tokens, total - audio)
    text = total - audio - image
    cached = min(usage.cached_input_tokens, total)
    cached_audio = min(usage.cached_audio_tokens, audio, cached)
    cached_image = min(usage.cached_image_tokens, image, cached - cached_audio)
    rest = cached - cached_audio - cached_image
    cached_text = min(rest, text)
    more_audio = min(rest - cached_text, audio - cached_audio)
    cached_audio += more_audio
    cached_image += rest - cached_text - more_audio
    written = min(usage.cache_write_tokens, text - cached_text)
    written_12h = min(usage.cache_write_12h_tokens, written)
    output = usage.output_tokens
    output_audio = min(usage.output_audio_tokens, output)
    output_image = min(usage.output_image_tokens, output - output_audio)
    reasoning = min(usage.reasoning_tokens, output - output_audio - output_image)
    return Classes(
        text - cached_text - written,
        cached_text,
        written - written_12h,
        written_12h,
        audio - cached_audio,
        cached_audio,
        image - cached_image,
        cached_image,
        output - output_audio - output_image - reasoning,
        reasoning,
        output_audio,
        output_image,
    )


def cost_of(price: Price, usage: Usage) -> int | None:
    """Nano-dollars, rounded half up once. None: the price says nothing about what was used, or the cost is absurd."""
    total = _numerator(price, usage)
    if total is None:
        return None
    cost = (total + price.divisor // 2) // price.divisor
    return cost if cost <= COST_MAX_NANOUSD else None


def saved_by_cache(price: Price, usage: Usage) -> int:
    """Nano-dollars that the cached tokens would have cost more as fresh ones, rounded half up once; 0 without a price of tokens.

    For usage with cached tokens only: it is on the hot path.
    """
    if not price.has_tokens:
        return 0
    requests = max(dict(usage.units).get(_REQUESTS, 1), 1) if usage.units else 1
    rates = _step(price, -(-usage.input_tokens // requests)) if price.steps else price.rates
    if usage.input_audio_tokens or usage.input_image_tokens or usage.cached_input_tokens > usage.input_tokens:
        tokens = disjoint(usage)
        saved = (
            tokens.cached * (rates.text - rates.cached)
            + tokens.cached_audio * (rates.audio - rates.cached_audio)
            + tokens.cached_image * (rates.image - rates.cached_image)
        )
    else:
        saved = usage.cached_input_tokens * (rates.text - rates.cached)
    return (saved + price.divisor // 2) // price.divisor


def exact_cost_of(price: Price, usage: Usage) -> Fraction | None:
    """As cost_of, before rounding; for sums of several prices."""
    total = _numerator(price, usage)
    return None if total is None else Fraction(total, price.divisor)


def _numerator(price: Price, usage: Usage) -> int | None:
    rates = price.rates
    if usage.units or not price.has_tokens:
        return _with_units(price, usage)
    if price.steps and usage.input_tokens > price.steps[0][0]:
        rates = _step(price, usage.input_tokens)
    return price.request + _tokens(rates, usage)


def _tokens(rates: Classes, usage: Usage) -> int:
    cached = usage.cached_input_tokens
    if (
        usage.input_audio_tokens
        or usage.input_image_tokens
        or usage.output_audio_tokens
        or usage.output_image_tokens
        or usage.cache_write_tokens
        or cached > usage.input_tokens
        or usage.reasoning_tokens > usage.output_tokens
    ):
        return sum(count * rate for count, rate in zip(disjoint(usage), rates, strict=True) if count)
    # Plain text, nearly every call: the same sum without the classes that are empty.
    return (
        (usage.input_tokens - cached) * rates.text
        + cached * rates.cached
        + (usage.output_tokens - usage.reasoning_tokens) * rates.output
        + usage.reasoning_tokens * rates.reasoning
    )


def _step(price: Price, input_tokens: int) -> Classes:
    rates = price.rates
    for above, higher in price.steps:
        if input_tokens > above:
            rates = higher
    return rates


def _with_units(price: Price, usage: Usage) -> int | None:
    units = {name: count for name, count in usage.units if count}
    # A sum of many requests (a batch, an eval) says how many; each is as long as their mean.
    requests = max(units.pop(_REQUESTS, 1), 1)
    total = price.request * requests
    measured = priced = False
    if usage.input_tokens or usage.output_tokens:
        measured = True
        if price.has_tokens:
            priced = True
            total += _tokens(_step(price, -(-usage.input_tokens // requests)), usage)
    for name, count in _disjoint_audio(price, units):
        rate = price.units.get(name)
        measure = name.endswith(_MEASURES) or name.startswith(_IMAGES)
        measured = measured or measure
        if rate is not None:
            priced = True
            total += count * rate
        elif not measure:
            return None  # a fee that nobody knows
    if price.fees_only:
        return total if priced and not measured else None
    free = price.has_tokens and not any(price.rates)
    return total if priced or free or not measured else None


def _disjoint_audio(price: Price, units: dict[str, int]) -> Iterator[tuple[str, int]]:
    """The units, audio last and disjoint: of all its milliseconds some are known to be input, some output."""
    total, heard, spoken = (units.pop(name, 0) for name in _AUDIO)
    yield from units.items()
    if total or heard or spoken:
        heard = max(heard, price.audio_min_ms) if heard else 0
        total = max(total, heard + spoken, price.audio_min_ms)
        counts = (total - heard - spoken, heard, spoken)
        yield from ((name, count) for name, count in zip(_AUDIO, counts, strict=True) if count)


def ceiling_of(
    price: Price, input_tokens: int, output_tokens: int, units: tuple[tuple[str, int], ...] = ()
) -> int:
    """An upper bound of the cost of so much text, audio or images, rounded up: nothing cached, the dearest classes; at most
    COST_MAX_NANOUSD.

    `units` are what the request itself says of its other units. Units without a rate, and tools that the model may
    call, can't be bounded and are left out.
    """
    tokens = 0
    for above, into, outof in price.dearest:
        if input_tokens > above:
            tokens = input_tokens * into + output_tokens * outof
    total = price.request + tokens
    for name, count in units:
        total += count * price.units.get(name, 0)
    return min(-(-total // price.divisor), COST_MAX_NANOUSD)
