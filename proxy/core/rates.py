"""Rates: what one unit of each class of usage costs, exactly, before it is compiled to a Price.

A rate card maps the name of a class to its Rate. Names are those of Usage for tokens ("input_tokens",
"cached_input_tokens", …) and of `Usage.units` for everything else ("web_searches", "audio_ms", …); "requests" is a fee
for each request. A rate may change above a number of input tokens, and then holds for the whole request.

In local prices (config, database, admin API) a card is written as decimal strings of US dollars:

    {"input_tokens": "0.15", "cached_input_tokens": "0.075", "output_tokens": "0.60", "web_searches": "0.01"}
    {"input_tokens": {"0": "2.50", "272000": "5.00"}}         2.50, and 5.00 for requests of more than 272,000 tokens

`…_tokens` and `…_characters` are per million, `…_seconds` per second, all others for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

from proxy.core.money import MoneyError, format_rate, parse_decimal

INPUT_CLASSES = (
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "cache_write_12h_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "input_image_tokens",
    "cached_image_tokens",
)
OUTPUT_CLASSES = (
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)
TOKEN_CLASSES = INPUT_CLASSES + OUTPUT_CLASSES
RATES_MAX = 64
STEPS_MAX = 8
NAME_CHARS_MAX = 64
_PER_MILLION = ("_tokens", "_characters")


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars for one unit, and for one unit of a request with more than so many input tokens."""

    usd: Fraction
    above: tuple[tuple[int, Fraction], ...] = ()
    """(input tokens, US dollars for one unit), ascending; the last that is exceeded holds for the whole request."""

    def at(self, input_tokens: int) -> Fraction:
        """The rate of a request with so many input tokens."""
        usd = self.usd
        for tokens, higher in self.above:
            if input_tokens > tokens:
                usd = higher
        return usd

    def times(self, factor: Fraction) -> Rate:
        """The rate with a surcharge or discount."""
        return Rate(self.usd * factor, tuple((tokens, usd * factor) for tokens, usd in self.above))


RateCard: TypeAlias = Mapping[str, Rate]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPrice:
    """Rates set by the operator. They hold from `starts_at` on, until a later one of the same model and tier starts."""

    id: str
    provider: str
    model: str
    tier: str = "default"
    starts_at: float
    """Unix seconds."""
    rates: RateCard


@dataclass(frozen=True, slots=True)
class StoredPrices:
    """What the database holds of prices."""

    local: tuple[LocalPrice, ...] = ()
    version: str | None = None
    """Of the newest price data that was loaded; None: that of the installed library is used."""
    data: bytes | None = None
    """The data file, where its version is not the one that the reader has already."""


def parse_rates(written: Any) -> dict[str, Rate]:
    """A card as it is written in config, JSON and the database. Raises MoneyError naming the rate that is wrong."""
    if not isinstance(written, Mapping) or not written:
        raise MoneyError('rates are an object such as {"input_tokens": "0.15", "output_tokens": "0.60"}')
    if len(written) > RATES_MAX:
        raise MoneyError(f"more than {RATES_MAX} rates")
    card = {}
    for name, value in written.items():
        if not _is_name(name):
            raise MoneyError(f"{str(name)[:NAME_CHARS_MAX]!r} is no name of a rate, such as input_tokens")
        if name.endswith("_tokens") and name not in {*TOKEN_CLASSES, "trained_tokens"}:
            raise MoneyError(
                f"there is no class of tokens named {name!r}; there are {', '.join(TOKEN_CLASSES)}"
            )
        try:
            stored, rate = _stored(name, _parse_rate(value))
        except MoneyError as error:
            raise MoneyError(f"{name}: {error}") from None
        card[stored] = rate
    return card


def format_rates(card: RateCard) -> dict[str, str | dict[str, str]]:
    """The card as parse_rates reads it."""
    written: dict[str, str | dict[str, str]] = {}
    for stored, rate in card.items():
        name, per = _written(stored)
        if rate.above:
            steps = {str(tokens): format_rate(usd * per) for tokens, usd in rate.above}
            written[name] = {"0": format_rate(rate.usd * per)} | steps
        else:
            written[name] = format_rate(rate.usd * per)
    return written


def _is_name(name: Any) -> bool:
    return (
        isinstance(name, str)
        and 0 < len(name) <= NAME_CHARS_MAX
        and name.replace("_", "").isalnum()
        and name.isascii()
        and name.islower()
        and not name.endswith("_ms")  # durations are counted in ms and priced in seconds
    )


def _parse_rate(value: Any) -> Rate:
    if not isinstance(value, Mapping):
        return Rate(parse_decimal(value))
    steps = {}
    for tokens, usd in value.items():
        if not str(tokens).isdecimal() or len(str(tokens)) > 12:
            raise MoneyError(f"{str(tokens)[:12]!r} is not a number of input tokens")
        steps[int(tokens)] = parse_decimal(usd)
    if 0 not in steps or len(steps) > STEPS_MAX:
        raise MoneyError(f'steps must begin with "0" and be at most {STEPS_MAX}')
    base = steps.pop(0)
    return Rate(base, tuple(sorted(steps.items())))


def _stored(name: str, rate: Rate) -> tuple[str, Rate]:
    """From how people write it to one unit of how usage counts it."""
    if name.endswith(_PER_MILLION):
        return name, rate.times(Fraction(1, 1_000_000))
    if name.endswith("_seconds"):
        return f"{name.removesuffix('_seconds')}_ms", rate.times(Fraction(1, 1000))
    return name, rate


def _written(stored: str) -> tuple[str, int]:
    if stored.endswith(_PER_MILLION):
        return stored, 1_000_000
    if stored.endswith("_ms"):
        return f"{stored.removesuffix('_ms')}_seconds", 1000
    return stored, 1
