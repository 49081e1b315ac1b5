"""Which upstream serves a model, and what each is told."""

from __future__ import annotations

import pytest

from proxy.gateway import upstreams
from proxy.settings import Settings, SettingsError, UpstreamSettings


def build(**settings):
    made = Settings(openai_api_key="sk-real", **settings)
    return upstreams.build(made, made.upstream_url, clock=lambda: 0.0)


def test_without_further_upstreams_openai_serves_everything():
    built = build()

    assert built.choose("gpt-4o") is built.choose(None) is built.default
    assert (built.default.provider, built.default.host) == ("openai", "api.openai.com")
    assert built.default.policy.authorization == b"Bearer sk-real"


def test_the_first_pattern_that_matches_the_model_decides():
    built = build(
        upstreams=(
            UpstreamSettings(
                name="gemini",
                url="https://generativelanguage.googleapis.com/v1beta/openai",
                key="g",
                models=("gemini-*",),
            ),
            UpstreamSettings(name="local", url="http://127.0.0.1:9/x", models=("*-local", "gemini-9")),
        )
    )

    assert built.choose("gemini-9").name == "gemini"
    assert built.choose("llama-local").name == "local"
    assert built.choose("gpt-4o").name == "default"
    assert built.choose("gemini-9").provider == "google"
    assert built.choose("llama-local").provider == "local"
    assert built.choose("llama-local").policy.authorization is None


def test_an_egress_proxy_that_can_not_be_used_is_one_line():
    with pytest.raises(SettingsError, match="egress proxy"):
        build(upstream_proxy="socks5://x")
