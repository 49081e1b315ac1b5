"""The price sheet: local prices over the catalogue over our supplement, rate by rate, as a source for the price book.

For a model in a service tier the first of these that has a rate decides, for each rate on its own:

    1. local prices of that tier        3. the supplement for that tier     5. the catalogue's standard rates
    2. the catalogue's rates of it      4. local prices of the default tier 6. the supplement, then tools' fees

A local price of an alias (`gpt-4o`) covers its dated snapshots too, as long as the catalogue does not price the snapshot
apart; a snapshot that nobody lists has its alias's price. A fine-tuned model has a price when it is listed as `ft:BASE`,
never its base model's. OpenAI's tiers without rates of their own (`scale`, an `ultrafast` nobody lists) have no price.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from math import inf

from proxy.core.money import format_rate
from proxy.core.price import DEFAULT_TIER, Quote, compile_price
from proxy.core.rates import INPUT_CLASSES, OUTPUT_CLASSES, LocalPrice, Rate, RateCard
from proxy.pricing import supplement
from proxy.pricing.catalogue import Catalogue, Listing
from proxy.pricing.names import FINE_TUNED, alias_of, canonical

OWN = "openai-proxy"
"""The version named by prices that the catalogue has no part in."""
_SYNONYMS = {"auto": DEFAULT_TIER, "standard": DEFAULT_TIER, "fast": "priority", "on_demand": DEFAULT_TIER}
# Tiers whose standard rates the catalogue vouches for where it does not set them apart.
_OPENAI_TIERS = frozenset({DEFAULT_TIER, "flex", "priority", "fast", "batch"})


@dataclass(frozen=True, slots=True)
class Priced:
    """A price before it is compiled, with what it was made of."""

    id: str
    card: RateCard
    starts: float
    ends: float
    audio_min_ms: int = 0
    fees_only: bool = False


@dataclass(frozen=True, slots=True)
class _Layer:
    card: RateCard
    source: str = ""
    """A local price's id."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """Every source of prices at one moment; `quote` is a Source for a PriceBook."""

    catalogue: Catalogue
    local: Mapping[tuple[str, str], Sequence[LocalPrice]] = field(default_factory=dict)
    """By provider and model, oldest first; see by_model."""
    uplift: Fraction | None = None
    """A surcharge on every model of OpenAI; None: OpenAI's own at its regional endpoints."""

    def quote(self, provider: str, model: str, tier: str, at: float) -> Quote:
        """The compiled price, and the span of time it holds for."""
        priced, starts, ends = self._priced(provider, model, tier, at)
        if priced is None:
            return Quote(None, starts, ends)
        price = compile_price(
            priced.id, priced.card, fees_only=priced.fees_only, audio_min_ms=priced.audio_min_ms
        )
        return Quote(price, starts, ends)

    def priced(self, provider: str, model: str, tier: str, at: float) -> Priced | None:
        """The rates of a model, for people to read."""
        return self._priced(provider, model, tier, at)[0]

    def _priced(self, provider: str, model: str, tier: str, at: float) -> tuple[Priced | None, float, float]:
        seller, region = split_region(provider)
        name = canonical(model)
        if not name:
            return self._fees(seller), -inf, inf
        tier = tier.strip().lower()
        listing, entry_names, gaps = self._listing(seller, name, tier, at)
        tier = _SYNONYMS.get(tier, tier)
        starts, ends = (listing.starts, listing.ends) if listing else (-inf, inf)
        since = listing.dated if listing else -inf
        layers: list[_Layer] = []
        for asked in dict.fromkeys((tier, DEFAULT_TIER)):
            for entry_name in entry_names:
                found, begun, next_starts = self._local(seller, entry_name, asked, at)
                starts, ends = max(starts, begun), min(ends, next_starts)
                since = max(since, begun)
                layers += found
            if listing is not None:
                layers += [_Layer(listing.tier)] if asked == tier else []
                layers += [_Layer(listing.standard)] if asked == DEFAULT_TIER else []
                layers += [_Layer(gaps)] if asked == DEFAULT_TIER else []
            layers += [_Layer(supplement.rates(seller, named, asked)) for named in entry_names]
            if asked == tier and not _is_known_tier(seller, tier, layers):
                return None, starts, ends
        card, sources = _merge(layers)
        if not card:
            return None, starts, ends
        fees = supplement.fees(seller, reasons=supplement.reasons(name))
        card = {**fees, **supplement.kept_for_12_hours(seller, card), **card}
        factor = self._uplift(seller, region, name)
        if factor:
            card = dict(supplement.uplifted(card, factor))
        version, entry = (self.catalogue.version, listing.entry) if listing else (OWN, name)
        number = f"{version}/{seller}/{entry}/{tier}"
        number = _id(number, since, listing.hour if listing else "", sources, factor)
        minimum = listing.audio_min_ms if listing else 0
        return Priced(number, card, starts, ends, minimum), starts, ends

    def _listing(
        self, seller: str, name: str, tier: str, at: float
    ) -> tuple[Listing | None, tuple[str, ...], RateCard]:
        """The catalogue's entry; under which names a local price may speak of the model, narrowest first; and what the
        alias has to say where the entry says nothing.
        """
        listing = self.catalogue.listing(seller, name, tier, at)
        alias = alias_of(name)
        if alias is None:
            return listing, (name,), {}
        if listing is None:
            return self.catalogue.listing(seller, alias, tier, at), (name, alias), {}
        if name.startswith(FINE_TUNED) or self.catalogue.find(seller, alias) is self.catalogue.find(
            seller, name
        ):
            return listing, (name, alias), {}
        general = self.catalogue.listing(seller, alias, tier, at)
        return listing, (name,), _gaps(listing.standard, general.standard if general else {})

    def _local(self, seller: str, model: str, tier: str, at: float) -> tuple[list[_Layer], float, float]:
        """The local price in force, when it began, and when the next of this model and tier begins."""
        prices = [
            price
            for price in self.local.get((seller, model), ())
            if _SYNONYMS.get(price.tier, price.tier) == tier
        ]
        begun = [price for price in prices if price.starts_at <= at]
        following = min((price.starts_at for price in prices if price.starts_at > at), default=inf)
        if not begun:
            return [], -inf, following
        return [_Layer(begun[-1].rates, begun[-1].id)], begun[-1].starts_at, following

    def _fees(self, seller: str) -> Priced | None:
        card = supplement.fees(seller)
        return Priced(f"{OWN}/{seller}/fees", card, -inf, inf, fees_only=True) if card else None

    def _uplift(self, seller: str, region: str | None, name: str) -> Fraction:
        if not seller.startswith(supplement.OPENAI):
            return Fraction(0)
        if self.uplift is not None:
            return self.uplift
        return supplement.uplift(name) if region else Fraction(0)


def _id(entry: str, since: float, hour: str, sources: Sequence[str], factor: Fraction) -> str:
    """E.g. genai-prices@0.2.3/openai/gpt-4o-mini/default/2026-10-14, then what it was changed by."""
    dated = "" if since == -inf else f"/{datetime.fromtimestamp(since, UTC).date()}"
    daily = f"/{hour}" if hour else ""
    changes = "".join(f"+local:{source}" for source in sources)
    surcharge = f"*{format_rate(1 + factor)}" if factor else ""
    return f"{entry}{dated}{daily}{changes}{surcharge}"


def split_region(provider: str) -> tuple[str, str | None]:
    """`openai-eu` is OpenAI at its endpoint in Europe: ("openai", "eu"). Other providers have no region."""
    seller, _, region = provider.rpartition("-")
    if region in supplement.REGIONS and seller in {supplement.OPENAI, f"{supplement.OPENAI}-decisions"}:
        return seller, region
    return provider, None


def by_model(prices: Iterable[LocalPrice]) -> dict[tuple[str, str], list[LocalPrice]]:
    """Local prices as a Sheet holds them. Of two with the same start the later given counts."""
    table: dict[tuple[str, str], list[LocalPrice]] = {}
    for price in sorted(prices, key=lambda price: price.starts_at):
        table.setdefault((price.provider, canonical(price.model)), []).append(price)
    return table


def _gaps(own: RateCard, alias: RateCard) -> RateCard:
    """Of an alias's rates those of which its snapshot's entry has neither the same nor a broader one.

    A snapshot without a rate for cached input sells it at its rate for input, not at its alias's rate for cached input.
    """
    covered = set(own)
    covered |= {name for name in INPUT_CLASSES if "input_tokens" in own}
    covered |= {name for name in OUTPUT_CLASSES if "output_tokens" in own}
    return {name: rate for name, rate in alias.items() if name not in covered}


def _is_known_tier(seller: str, tier: str, layers: Iterable[_Layer]) -> bool:
    """A tier that OpenAI is not known to sell at standard rates needs rates of its own."""
    if seller != supplement.OPENAI or tier in _OPENAI_TIERS:
        return True
    return any("input_tokens" in layer.card for layer in layers)


def _merge(layers: Iterable[_Layer]) -> tuple[dict[str, Rate], list[str]]:
    """Rate by rate, the first layer that has it; and the local prices that were used."""
    card: dict[str, Rate] = {}
    sources = []
    for layer in layers:
        fresh = {name: rate for name, rate in layer.card.items() if name not in card}
        card |= fresh
        if fresh and layer.source:
            sources.append(layer.source)
    return card, sources
