"""Which price list an upstream's host goes by."""

from __future__ import annotations

import pytest

from proxy.pricing.providers import provider_of


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("API.OpenAI.com.", "openai"),
        ("eu.api.openai.com", "openai-eu"),
        ("us.api.openai.com", "openai-us"),
        ("mars.api.openai.com", "openai"),
        ("openrouter.ai", "openrouter"),
        ("generativelanguage.googleapis.com", "google"),
        ("my-resource.openai.azure.com", "azure"),
        ("api.groq.com", "groq"),
        ("127.0.0.1", "openai"),
        ("evil-openrouter.ai", "openai"),
        ("api.openai.com.evil.example", "openai"),
    ],
)
def test_a_host_has_a_provider(host, provider):
    assert provider_of(host) == provider


def test_an_unknown_host_is_what_its_upstream_is_called():
    assert provider_of("10.0.0.7", default="vllm") == "vllm"


def test_decisions_go_by_their_own_list():
    assert provider_of("api.openai.com", endpoint="/v1/decisions") == "openai-decisions"
    assert provider_of("eu.api.openai.com", endpoint="/v1/decisions") == "openai-decisions-eu"
    assert provider_of("127.0.0.1", endpoint="/v1/decisions") == "openai-decisions"
    assert provider_of("openrouter.ai", endpoint="/v1/decisions") == "openrouter"
