"""The catalogue: the price data of the `genai-prices` library, read as rate cards.

It finds a model's entry as the library does and resolves its start dates, daily hours and variants by the same rules, so
that a compiled price gives the library's own answer (a test compares them over every entry). The data is the one that is
installed, or a newer one that `openai-proxy prices update` has loaded. Not carried over, because usage of OpenAI's shape
can't report it: rates of video, tool and citation tokens, and cache writes kept for 5 minutes or 1 hour.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from math import inf
from typing import TypeAlias

from genai_prices import __version__
from genai_prices import types as listed
from genai_prices.data_units import unit_data

from proxy.core.rates import Rate, RateCard

DATA_BYTES_MAX = 16 * 2**20
MODELS_MAX = 100_000
BATCH = "batch"
_TOKENS = {
    "input_mtok": "input_tokens",
    "cache_read_mtok": "cached_input_tokens",
    "cache_write_mtok": "cache_write_tokens",
    "input_audio_mtok": "input_audio_tokens",
    "cache_audio_read_mtok": "cached_audio_tokens",
    "input_image_mtok": "input_image_tokens",
    "cache_image_read_mtok": "cached_image_tokens",
    "output_mtok": "output_tokens",
    "output_reasoning_mtok": "reasoning_tokens",
    "output_audio_mtok": "output_audio_tokens",
    "output_image_mtok": "output_image_tokens",
}
_RENAMED = {"storage_searches": "file_searches"}
_FREE = Rate(Fraction(0))
# Groq bills audio shorter than ten seconds as ten; the library knows it by these names too (types.ModelInfo.calc_price).
_AUDIO_MIN_MS = {("groq", "whisper-large-v3"): 10_000, ("groq", "whisper-large-v3-turbo"): 10_000}


class CatalogueError(Exception):
    """The data is no price list of genai-prices; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What the catalogue says of a model in a service tier at a time."""

    entry: str
    """The id of the entry, which may stand for many names."""
    tier: RateCard
    """Rates of the tier asked for; none where the entry does not set it apart."""
    standard: RateCard
    starts: float
    """Unix seconds; -inf, or when these rates began."""
    ends: float
    dated: float = -inf
    """When the newest of the start dates that apply began."""
    hour: str = ""
    """ "16:30" where rates depend on the time of day, and since then today these are they."""
    audio_min_ms: int = 0


class Catalogue:
    """Read-only price data. Lookups walk through all entries (about 50 µs): the price book keeps what they found."""

    def __init__(self, providers: Sequence[listed.Provider], version: str) -> None:
        self.version = version
        self.providers: Mapping[str, listed.Provider] = {provider.id: provider for provider in providers}
        self._all = list(providers)

    @classmethod
    def bundled(cls) -> Catalogue:
        """The data that was installed with the library."""
        from genai_prices.data import providers

        return cls(providers, f"genai-prices@{__version__}")

    @classmethod
    def parse(cls, data: bytes, version: str) -> Catalogue:
        """A data file in the library's JSON form. Raises CatalogueError; nothing in it is executed."""
        if len(data) > DATA_BYTES_MAX:
            raise CatalogueError(f"larger than {DATA_BYTES_MAX // 2**20} MiB")
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise CatalogueError(f"not JSON: {error}") from None
        if not isinstance(raw, list) or not raw:
            raise CatalogueError("not a list of providers")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # of keys that only a newer library knows; _card leaves them out
                # The library offers this only behind its own download; it is what that calls (update_prices.py).
                providers = listed._providers_from_raw(raw)
        except (ValueError, TypeError, AssertionError, StopIteration, RecursionError) as error:
            raise CatalogueError(f"not a price list: {str(error).splitlines()[0]}") from None
        catalogue = cls(providers, version)
        catalogue._check()
        return catalogue

    def _check(self) -> None:
        models = sum(len(provider.models) for provider in self._all)
        if models > MODELS_MAX:
            raise CatalogueError(f"more than {MODELS_MAX} models")
        if "openai" not in self.providers:
            raise CatalogueError("there is no provider openai in it")
        for provider in self._all:
            for model in provider.models:
                try:
                    _check_rates(model)
                    self.find(provider.id, model.id)
                except (
                    ValueError,
                    TypeError,
                    ArithmeticError,
                    LookupError,
                    RecursionError,
                    re.error,
                ) as error:
                    raise CatalogueError(f"{provider.id}/{model.id}: {error}") from None

    def find(self, provider: str, model: str) -> listed.ModelInfo | None:
        """The entry that a model's name matches, at this provider or those whose models it sells."""
        known = self.providers.get(provider)
        return known.find_model(model, all_providers=self._all) if known is not None else None

    def listing(self, provider: str, model: str, tier: str, at: float) -> Listing | None:
        """The rates of a model in a tier ("default", "flex", "priority", "fast", "batch" …) at `at` (Unix seconds)."""
        entry = self.find(provider, model)
        if entry is None:
            return None
        moment = datetime.fromtimestamp(at, UTC)
        # Another provider's variants are not this one's: Azure's batch discount is not OpenAI's.
        own = any(entry is mine for mine in self.providers[provider].models)
        variants = (entry.price_variants or []) if own else []
        context = _context(tier)
        chosen: dict[str, Rate] = {}
        for variant in variants:
            meant = all(context.get(key) == value for key, value in variant.when.items())
            if meant and (variant.constraint is None or variant.constraint.active(moment)):
                chosen = _card(variant.prices) | chosen
        standard = _card(entry.get_prices(moment))
        if not standard and not chosen:
            standard = {"input_tokens": _FREE, "output_tokens": _FREE}  # an entry without rates costs nothing
        constraints = [variant.constraint for variant in variants]
        if isinstance(entry.prices, list):
            constraints += [conditional.constraint for conditional in entry.prices]
        dates = [mark for constraint in constraints for mark in _dates(constraint)]
        hours = [mark for constraint in constraints for mark in _hours(constraint, moment.date())]
        hour = max((mark for mark in hours if mark <= at), default=None)
        return Listing(
            entry=entry.id,
            tier=chosen,
            standard=standard,
            starts=max((mark for mark in dates + hours if mark <= at), default=-inf),
            ends=min((mark for mark in dates + hours if mark > at), default=inf),
            dated=max((mark for mark in dates if mark <= at), default=-inf),
            hour="" if hour is None else f"{datetime.fromtimestamp(hour, UTC):%H:%M}",
            audio_min_ms=_AUDIO_MIN_MS.get((provider, entry.id), 0),
        )


def _context(tier: str) -> dict[str, str]:
    """The library's price context of a service tier."""
    if tier == BATCH:
        return {"processing": BATCH}
    return {"service_tier": tier, "speed": tier}


def _card(prices: listed.ModelPrice) -> dict[str, Rate]:
    units = {unit["price_key"]: (name, unit) for name, unit in unit_data.items()}
    card = {}
    for key, value in vars(prices).items():
        if value is None or key not in units:
            continue
        name, unit = units[key]
        per = Fraction(unit["per"])
        if name.endswith("_tokens"):
            if key not in _TOKENS:
                continue
            name = _TOKENS[key]
        elif name.endswith("_seconds"):
            name, per = f"{name.removesuffix('_seconds')}_ms", per * 1000
        card[_RENAMED.get(name, name)] = _rate(value, per)
    return card


def _check_rates(model: listed.ModelInfo) -> None:
    conditional = model.prices if isinstance(model.prices, list) else [model]
    if not conditional:
        raise ValueError("no prices")
    for priced in (*conditional, *(model.price_variants or ())):
        assert isinstance(priced.prices, listed.ModelPrice)
        for name, rate in _card(priced.prices).items():
            if rate.usd < 0 or any(usd < 0 for _, usd in rate.above):
                raise ValueError(f"{name}: less than zero")


def _rate(value: Decimal | listed.TieredPrices, per: Fraction) -> Rate:
    if isinstance(value, listed.TieredPrices):
        above = tuple((tier.start, Fraction(tier.price) / per) for tier in value.tiers)
        return Rate(Fraction(value.base) / per, above)
    return Rate(Fraction(value) / per)


_Constraint: TypeAlias = listed.StartDateConstraint | listed.TimeOfDateConstraint | None


def _dates(constraint: _Constraint) -> Iterator[float]:
    """The midnight, in Unix seconds, at which a constraint begins to hold."""
    if isinstance(constraint, listed.StartDateConstraint):
        yield datetime.combine(constraint.start_date, time(), UTC).timestamp()


def _hours(constraint: _Constraint, day: date) -> Iterator[float]:
    """The moments near `day`, in Unix seconds, at which a daily constraint begins and ceases to hold."""
    if isinstance(constraint, listed.TimeOfDateConstraint):
        for at in (constraint.start_time, constraint.end_time):
            for days in (-2, -1, 0, 1, 2):
                moment = datetime.combine(day + timedelta(days), at)
                yield (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
