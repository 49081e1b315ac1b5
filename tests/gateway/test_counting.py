"""Exchanges that ended alike are counted together, and each of them once."""

from __future__ import annotations

from typing import Any

from proxy.core.refusal import Refusal
from proxy.core.usage import Usage
from proxy.gateway import counting
from proxy.gateway.counting import Counting
from proxy.gateway.exchange import Exchange
from proxy.metrics import Metrics
from tests.exchanges import make_exchange, make_record


def exchange(*, forwarded: float = 10.001, ttfb: float = 10.041, refusal: Refusal | None = None) -> Exchange:
    """One that was forwarded 1 ms after it began, and answered 40 ms later."""
    made = make_exchange(started=10.0)
    made.forwarded, made.ttfb, made.refusal = forwarded, ttfb, refusal
    return made


def values(metrics: Metrics) -> dict[str, dict[tuple[str, ...], Any]]:
    """What a reader sees, without the series that are nothing."""
    told = metrics.snapshot()["values"]
    return {name.removeprefix("openai_proxy_"): dict(rows) for name, rows in told.items() if rows}


def test_the_metrics_are_told_when_they_are_read_and_of_each_exchange_once() -> None:
    metrics = Metrics()
    counts = Counting(metrics)
    model = "gpt-5-2025-08-07"
    detailed = Usage(90, 10, 100, cached_input_tokens=64, reasoning_tokens=8)

    for number in range(3):
        counts.count(exchange(), make_record(number), 10.101)
    counts.count(exchange(), make_record(3, usage=detailed, cost_nanousd=None), 10.101)
    first, again = values(metrics), values(metrics)

    assert first["requests"] == {("/v1/chat/completions", model, "2xx", "success"): 4}
    assert first["tokens"] == {
        ("input", model): 360,
        ("output", model): 40,
        ("cached_input", model): 64,
        ("reasoning", model): 8,
    }
    assert first["cost_usd"] == {(model,): 1500}
    assert first["unknown_price"] == {(model,): 1}
    assert sum(first["overhead_seconds"][()][:-1]) == 4
    assert sum(first["upstream_seconds"]["/v1/chat/completions", model][:-1]) == 4
    assert sum(first["ttfb_seconds"]["/v1/chat/completions", model][:-1]) == 4
    assert again["requests"] == first["requests"]
    assert again["tokens"] == first["tokens"]


def test_what_ended_before_it_was_forwarded_has_no_time_upstream() -> None:
    metrics = Metrics()
    counts = Counting(metrics)

    unreachable = make_record(1, outcome="upstream_unreachable", status=502, usage=Usage(), cost_nanousd=0)
    counts.count(exchange(forwarded=0.0, ttfb=0.0), unreachable, 10.2)
    found = values(metrics)

    assert [*found["requests"].values()] == [1]
    assert found["upstream_failures"] == {("upstream_unreachable",): 1}
    assert "upstream_seconds" not in found
    assert "tokens" not in found


def test_a_refusal_counts_as_a_request_and_by_its_reason() -> None:
    metrics = Metrics()
    refusal = Refusal(429, "insufficient_quota", "spent", reason="quota_tokens_month")

    Counting(metrics).count(exchange(refusal=refusal), make_record(1, outcome="refused", status=429), 10.1)
    found = values(metrics)

    assert [key[2:] for key in found["requests"]] == [("4xx", "refused")]
    assert found["refusals"] == {("quota_tokens_month",): 1}
    assert "tokens" not in found


def test_names_that_clients_choose_take_no_more_memory_than_so_many(monkeypatch) -> None:
    monkeypatch.setattr(counting, "ALIKE_MAX", 10)
    metrics = Metrics()
    counts = Counting(metrics)

    for number in range(100):
        counts.count(exchange(), make_record(number, served_model=f"m{number}"), 10.1)

    assert len(counts._alike) <= 10
    assert sum(values(metrics)["requests"].values()) == 100
