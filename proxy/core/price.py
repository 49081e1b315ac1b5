"""PriceBook: every price that can be asked for, by provider, model, service tier and time.

Where prices come from is given to it as a function (`Source`, see proxy/pricing); it is asked once for each price and
span of time. A book never changes: a reload makes a new one, and whoever holds it swaps the two in one assignment.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy.core.costs import Price, ceiling_of, compile_price, cost_of, saved_by_cache
from proxy.core.usage import TOOL_PREFIX, Part, Usage

__all__ = ["Cost", "Price", "PriceBook", "Quote", "Source", "ceiling_of", "compile_price", "cost_of"]
OPENAI: Final = "openai"
DECISIONS_ENDPOINT: Final = "/v1/decisions"
DEFAULT_TIER: Final = "default"
QUOTES_MAX: Final = 4096
MODEL_CHARS_MAX: Final = 256
TIER_CHARS_MAX: Final = 64


@dataclass(init=False, slots=True)  # made for each request: see given.py
class Cost:
    """Of one record. `nanousd` None: the price is unknown; 0 without a `price_id`: there was nothing to count."""

    nanousd: int | None
    price_id: str | None
    cache_saved_nanousd: int
    """How much more it would have been had nothing come from the prompt cache."""

    def __init__(
        self, nanousd: int | None, price_id: str | None = None, cache_saved_nanousd: int = 0
    ) -> None:
        self.nanousd = nanousd
        self.price_id = price_id
        self.cache_saved_nanousd = cache_saved_nanousd


NO_COST: Final = Cost(0)
UNKNOWN_COST: Final = Cost(None)


@dataclass(frozen=True, slots=True)
class Quote:
    """What a source of prices says: the price, and when it holds, in Unix seconds (`starts` <= t < `ends`)."""

    price: Price | None
    """None: nobody knows this model, or not in this tier."""
    starts: float
    ends: float


def price_list_of(provider: str, endpoint: str) -> str:
    """The provider whose prices an exchange goes by: "openai", and for decisions "openai-decisions", whose output is free.

    `endpoint` is the route's template; a region stays: "openai-eu" is "openai-decisions-eu".
    """
    if endpoint != DECISIONS_ENDPOINT:
        return provider
    seller, dash, region = provider.partition("-")
    if seller != OPENAI or region.startswith("decisions"):
        return provider
    return f"{OPENAI}-decisions{dash}{region}"


Source: TypeAlias = Callable[[str, str, str, float], Quote]
"""(provider, model, tier, at) -> Quote. Never raises; may be slow, its answers are kept."""


class PriceBook:
    """Every price that can be asked for. Answers never change: a reload makes a new book.

    Quotes are compiled when first asked for and kept by provider, model and tier; names come from clients, so what is
    kept is bounded.
    """

    __slots__ = ("_quotes", "_source")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._quotes: dict[tuple[str, str, str], Quote] = {}

    def price(self, provider: str, model: str | None, tier: str | None, at: float) -> Price | None:
        """The price of a model in a service tier at a time. Model None: only tools' fees.

        A tool whose model nobody names (`tool:<kind>`) has the price that was set for it, else only its fees.
        """
        key = (provider, model or "", tier or DEFAULT_TIER)
        quote = self._quotes.get(key)
        if quote is None or not quote.starts <= at < quote.ends:
            if len(key[1]) > MODEL_CHARS_MAX or len(key[2]) > TIER_CHARS_MAX:
                return None
            quote = self._source(*key, at)
            if quote.price is None and key[1].startswith(TOOL_PREFIX):
                quote = self._source(provider, "", key[2], at)
            if len(self._quotes) >= QUOTES_MAX:
                del self._quotes[next(iter(self._quotes))]
            self._quotes[key] = quote
        return quote.price

    def cost(
        self, provider: str, model: str | None, tier: str | None, usage: Usage | None, at: float
    ) -> Cost:
        """What a usage cost at a time (Unix seconds), of the model and tier that served. HOT PATH."""
        if usage is None:
            return NO_COST
        price = self.price(provider, model, tier, at)
        if price is None:
            return UNKNOWN_COST
        nanousd = cost_of(price, usage)
        if nanousd is None:
            return UNKNOWN_COST
        saved = saved_by_cache(price, usage) if usage.cached_input_tokens else 0
        return Cost(nanousd, price.id, saved)

    def ceiling(
        self,
        provider: str,
        model: str | None,
        tier: str | None,
        input_tokens: int,
        output_tokens: int,
        at: float,
        units: tuple[tuple[str, int], ...] = (),
    ) -> int | None:
        """An upper bound in nano-dollars for a reservation (see ceiling_of); None: the price is unknown.

        The tier asked for may be served as the default one, so the dearer of both counts.
        """
        price = self.price(provider, model, tier, at)
        if price is None or price.fees_only:
            return None
        bound = ceiling_of(price, input_tokens, output_tokens, units)
        if tier is None or tier == DEFAULT_TIER:
            return bound
        price = self.price(provider, model, None, at)
        if price is None or price.fees_only:
            return None
        return max(bound, ceiling_of(price, input_tokens, output_tokens, units))

    def part_tier(self, provider: str, part: Part, tier: str | None, at: float) -> str | None:
        """The tier that a part goes by: the answer's own where the part's model is sold in it, else the default one."""
        return tier if self.price(provider, part.served_by, tier, at) is not None else None
