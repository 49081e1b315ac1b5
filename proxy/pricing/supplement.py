"""What the catalogue lacks: OpenAI's fees for tools and containers, and rates that genai-prices 0.2.3 does not list.

It only ever fills gaps: a rate of the catalogue or of the operator goes before it. Sources, read 2026-11-21:
P6  a mirror of OpenAI's pricing page (developers.openai.com/api/docs/pricing) of 2026-06-27
L   model_prices_and_context_window_backup.json of LiteLLM 1.109.1 (MIT), whose entries cite the same page
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from types import MappingProxyType

from proxy.core.rates import Rate, RateCard, parse_rates

OPENAI = "openai"
_Written = Mapping[str, str | Mapping[str, str]]

# For each call, of any model (P6). A container is a session of 20 minutes, by its memory limit.
_FEES: _Written = {
    "web_searches": "0.010",
    "web_search_previews": "0.010",
    "file_searches": "0.0025",
    "containers_1g": "0.03",
    "containers_4g": "0.12",
    "containers_16g": "0.48",
    "containers_64g": "1.92",
}


def _long(rate: str, longer: str) -> dict[str, str]:
    return {"0": rate, "272000": longer}


def _text(input_tokens: str, cached: str, output: str) -> dict[str, str]:
    return {"input_tokens": input_tokens, "cached_input_tokens": cached, "output_tokens": output}


# (model, tier) -> rates. In dollars per million tokens, per second, per call.
_MODELS: Mapping[tuple[str, str], _Written] = {
    # The ultrafast tier (L): six times the standard rates, long context as in the other tiers.
    ("gpt-6.1-sol", "ultrafast"): {
        "input_tokens": _long("12", "24"),
        "cached_input_tokens": _long("0.6", "1.2"),
        "cache_write_tokens": _long("15", "30"),
        "output_tokens": _long("60", "90"),
    },
    ("gpt-6-astra", "ultrafast"): {
        "input_tokens": _long("60", "120"),
        "cached_input_tokens": _long("6", "12"),
        "cache_write_tokens": _long("75", "150"),
        "output_tokens": _long("300", "450"),
    },
    ("gpt-6-astra-law", "default"): _text("10", "1", "50"),  # L
    # Names that move from model to model, and a preview; the catalogue knows what they stand for, not them (L).
    ("gpt-5.5-cyber-preview", "default"): _text("12.5", "1.25", "75"),
    **{
        (name, "default"): {
            "input_tokens": _long("4", "8"),
            "cached_input_tokens": _long("0.4", "0.8"),
            "cache_write_tokens": _long("5", "10"),
            "output_tokens": _long("20", "30"),
        }
        for name in ("daybreak-blue-latest", "gpt-daybreak-blue-latest")
    },
    **{
        (name, "default"): {
            "input_tokens": _long("12.5", "25"),
            "cached_input_tokens": _long("1.25", "2.5"),
            "cache_write_tokens": _long("15.625", "31.25"),
            "output_tokens": _long("75", "112.5"),
        }
        for name in ("daybreak-red-latest", "gpt-daybreak-red-latest")
    },
    # Audio of these two: the catalogue lists their text only (L).
    ("gpt-4o-audio-preview", "default"): {"input_audio_tokens": "40", "output_audio_tokens": "80"},
    ("gpt-4o-mini-audio-preview", "default"): {"input_audio_tokens": "10", "output_audio_tokens": "20"},
    # It searches for every answer, and doesn't reason: as web_search_preview on such models (P6, L).
    ("gpt-4o-search-preview", "default"): {"web_searches": "0.025"},
    # Fine-tuned models by what they were tuned from (L); the catalogue knows 3.5 and 4o, without cached input.
    ("ft:gpt-4.1", "default"): _text("3", "0.75", "12"),
    ("ft:gpt-4.1", "batch"): _text("1.5", "0.5", "6"),
    ("ft:gpt-4.1-mini", "default"): _text("0.8", "0.2", "3.2"),
    ("ft:gpt-4.1-mini", "batch"): _text("0.4", "0.1", "1.6"),
    ("ft:gpt-4.1-nano", "default"): _text("0.2", "0.05", "0.8"),
    ("ft:gpt-4.1-nano", "batch"): _text("0.1", "0.025", "0.4"),
    ("ft:o4-mini", "default"): _text("4", "1", "16"),
    ("ft:o4-mini", "batch"): _text("2", "0.5", "8"),
    ("ft:gpt-4o-2024-08-06", "batch"): _text("2.225", "0.9", "12.5"),
    ("ft:gpt-4o", "default"): {"cached_input_tokens": "1.875"},
    ("ft:gpt-4o-mini", "default"): {"cached_input_tokens": "0.15"},
    ("ft:gpt-4o-mini", "batch"): {"cached_input_tokens": "0.075"},
    ("ft:davinci-002", "default"): {"input_tokens": "12", "output_tokens": "12"},
    ("ft:davinci-002", "batch"): {"input_tokens": "6", "output_tokens": "6"},
    ("ft:babbage-002", "default"): {"input_tokens": "1.6", "output_tokens": "1.6"},
    # Embeddings in a batch cost half (L); the catalogue has no batch rates for them.
    ("text-embedding-3-small", "batch"): {"input_tokens": "0.01"},
    ("text-embedding-3-large", "batch"): {"input_tokens": "0.065"},
    ("text-embedding-ada-002", "batch"): {"input_tokens": "0.05"},
    # Video by the second (L): 720p, and the larger size of the pro model.
    ("sora-2", "default"): {"video_seconds": "0.10"},
    ("sora-2-pro", "default"): {
        "video_seconds": "0.30",
        "video_1024x1792_seconds": "0.50",
        "video_1792x1024_seconds": "0.50",
    },
}

# web_search_preview on models that don't reason: 25 dollars for 1,000 calls, their content free (P6, L).
_DO_NOT_REASON = re.compile(r"(?:ft:)?gpt-4(?:o|\.1)(?:-|$)")
_PREVIEWS: _Written = {"web_search_previews": "0.025"}

# Regional endpoints cost 10 % more for models released on 2026-03-05 or later (P6); these are they, by family.
REGIONAL_UPLIFT = Fraction(1, 10)
_UPLIFTED = re.compile(r"gpt-(5\.[4-9]|[6-9]|image-2|image-[3-9])([.-]|$)")
_RELEASED = "2026-03-05"
_SNAPSHOT = re.compile(r"-(20\d{2}-\d{2}-\d{2})$")
REGIONS = ("us", "eu", "ae", "au", "in", "jp")
"""Of OpenAI's regional hosts, `<region>.api.openai.com`, as its SDK of 2026-11 knows them."""


@cache
def fees(provider: str, *, reasons: bool = True) -> RateCard:
    """What a provider's tools cost with any model that reasons, or that does not."""
    return MappingProxyType(
        parse_rates({**_FEES, **({} if reasons else _PREVIEWS)}) if provider == OPENAI else {}
    )


def reasons(model: str) -> bool:
    """Whether a model is one of those that reason, as far as the tools' fees depend on it."""
    return _DO_NOT_REASON.match(model) is None


@cache
def _models() -> Mapping[tuple[str, str], RateCard]:
    return MappingProxyType({key: MappingProxyType(parse_rates(card)) for key, card in _MODELS.items()})


def rates(provider: str, model: str, tier: str) -> RateCard:
    """What is known here of a model in a tier; empty when nothing is."""
    return _models().get((model, tier), {}) if provider == OPENAI else {}


def kept_for_12_hours(provider: str, card: RateCard) -> RateCard:
    """Writing to OpenAI's prompt cache for 12 hours costs twice the input, in every tier and length (L)."""
    if provider != OPENAI or "cache_write_tokens" not in card or "input_tokens" not in card:
        return {}
    return {"cache_write_12h_tokens": card["input_tokens"].times(Fraction(2))}


def uplift(model: str) -> Fraction:
    """What a regional endpoint adds to a model's rates."""
    dated = _SNAPSHOT.search(model)
    recent = _UPLIFTED.match(model) is not None or (dated is not None and dated[1] >= _RELEASED)
    return REGIONAL_UPLIFT if recent else Fraction(0)


def uplifted(card: RateCard, factor: Fraction) -> RateCard:
    """The card with a surcharge on what the model itself does; tools' fees stay."""
    fixed = fees(OPENAI)
    return {name: rate if name in fixed else Rate.times(rate, 1 + factor) for name, rate in card.items()}
