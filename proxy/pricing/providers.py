"""Providers: which price list an upstream goes by.

The id is the catalogue's ("openai", "openrouter", "google" …). OpenAI's regional endpoints have ids of their own,
"openai-eu" and so on, so that a record alone tells what it was priced with.
"""

from __future__ import annotations

import re

from proxy.core.price import DECISIONS_ENDPOINT, OPENAI, price_list_of
from proxy.pricing.supplement import REGIONS

__all__ = ["DECISIONS_ENDPOINT", "provider_of"]

_OPENAI_HOST = "api.openai.com"
# Hosts of providers that speak OpenAI's protocol, with the catalogue's ids for them.
_HOSTS = (
    (re.compile(r"(api\.)?openrouter\.ai"), "openrouter"),
    (re.compile(r"(.*\.)?googleapis\.com"), "google"),
    (
        re.compile(r"(.*\.)?(openai\.azure\.com|services\.ai\.azure\.com|cognitiveservices\.azure\.com)"),
        "azure",
    ),
    (re.compile(r"api\.anthropic\.com"), "anthropic"),
    (re.compile(r"api\.groq\.com"), "groq"),
    (re.compile(r"api\.mistral\.ai"), "mistral"),
    (re.compile(r"api\.deepseek\.com"), "deepseek"),
    (re.compile(r"api\.x\.ai"), "x-ai"),
    (re.compile(r"api\.together\.(xyz|ai)"), "together"),
    (re.compile(r"api\.fireworks\.ai"), "fireworks"),
    (re.compile(r"api\.cerebras\.ai"), "cerebras"),
    (re.compile(r"api\.perplexity\.ai"), "perplexity"),
    (re.compile(r"api\.moonshot\.(cn|ai)"), "moonshotai"),
    (re.compile(r"api\.novita\.ai"), "novita"),
    (re.compile(r"bedrock-runtime\.[a-z0-9-]+\.amazonaws\.com"), "aws"),
)


def provider_of(host: str, *, default: str = OPENAI, endpoint: str = "") -> str:
    """The provider at a host name; `default` where nobody knows it. `endpoint` is the route's template: see price_list_of."""
    host = host.lower().rstrip(".")
    region, _, rest = host.partition(".")
    if host == _OPENAI_HOST:
        found = OPENAI
    elif rest == _OPENAI_HOST and region in REGIONS:
        found = f"{OPENAI}-{region}"
    else:
        found = next((provider for pattern, provider in _HOSTS if pattern.fullmatch(host)), default)
    return price_list_of(found, endpoint)
