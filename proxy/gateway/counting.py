"""Counting: what /metrics and the log say of an exchange that is over."""

from __future__ import annotations

import logging
from bisect import bisect_left
from typing import Final

from proxy.core.record import Outcome, UsageRecord
from proxy.gateway.exchange import Exchange
from proxy.metrics import LATENCY_S, OVERHEAD_S, Metrics

ALIKE_MAX = 1_000
# What is imported is looked up by name for each exchange, even where this is compiled.
_bisect: Final = bisect_left
_OVERHEAD_S: Final = OVERHEAD_S
_LATENCY_S: Final = LATENCY_S
_CLASSES: Final = ("none", *(f"{hundreds}xx" for hundreds in range(1, 10)))
"""Of statuses, by their hundreds; 0: there was none."""


class _Alike:
    """Exchanges that ended alike: what has been counted of them since the metrics were read last, and their buckets."""

    __slots__ = (
        "cached", "cost_nanousd", "input", "output", "reasoning", "requests", "total", "ttfb", "unpriced", "upstream",
    )  # fmt: skip

    def __init__(self) -> None:
        self.upstream: list[float] = []
        """A cell of `upstream_seconds`; empty: none was observed yet. Likewise `ttfb`."""
        self.ttfb: list[float] = []
        self.clear()

    def clear(self) -> None:
        """All has been told."""
        self.requests = self.total = self.input = self.output = self.cached = self.reasoning = 0
        self.cost_nanousd = self.unpriced = 0


class Counting:
    """Counts the exchanges of one worker. Those that ended alike are added up here, and told when the metrics are read: to look
    up nine series for each exchange took 23,000 instructions, this takes 10,000.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._overhead = metrics.overhead_seconds.cell(())
        self._alike: dict[tuple[str, str, int, Outcome], _Alike] = {}
        metrics.on_read.append(self._tell)

    def count(self, exchange: Exchange, record: UsageRecord, now: float) -> None:
        """Count one record. Hot path. `now`: monotonic seconds."""
        outcome = record.outcome
        key = (record.endpoint, record.served_model or record.requested_model or "", record.status, outcome)
        alike = self._alike.get(key)
        if alike is None:
            alike = self._begin(key)
        if record.part is None:
            alike.requests += 1
        if outcome == "refused" and exchange.refusal is not None:
            self._metrics.refusals.inc((exchange.refusal.reason or exchange.refusal.code,))
            return
        usage = record.usage
        if usage.total_tokens:
            alike.total += usage.total_tokens
            alike.input += usage.input_tokens
            alike.output += usage.output_tokens
            alike.cached += usage.cached_input_tokens
            alike.reasoning += usage.reasoning_tokens
        if record.cost_nanousd is None:
            alike.unpriced += 1
        else:
            alike.cost_nanousd += record.cost_nanousd
        forwarded = exchange.forwarded
        if forwarded and record.parent_id is None:
            if not alike.upstream:
                alike.upstream = self._metrics.upstream_seconds.cell(key[:2])
            overhead_s, upstream_s = forwarded - exchange.request.started, now - forwarded
            self._overhead[_bisect(_OVERHEAD_S, overhead_s)] += 1
            self._overhead[-1] += overhead_s
            alike.upstream[_bisect(_LATENCY_S, upstream_s)] += 1
            alike.upstream[-1] += upstream_s
            if exchange.ttfb:
                if not alike.ttfb:
                    alike.ttfb = self._metrics.ttfb_seconds.cell(key[:2])
                ttfb_s = exchange.ttfb - forwarded
                alike.ttfb[_bisect(_LATENCY_S, ttfb_s)] += 1
                alike.ttfb[-1] += ttfb_s
        if outcome != "success" and outcome.startswith("upstream_") and record.part is None:
            self._metrics.upstream_failures.inc((outcome,))

    def _begin(self, key: tuple[str, str, int, Outcome]) -> _Alike:
        if len(self._alike) >= ALIKE_MAX:  # models and endpoints come from clients
            self._tell()
            self._alike.clear()
        alike = self._alike[key] = _Alike()
        return alike

    def _tell(self) -> None:
        """Tell the metrics what has been counted since it was told last."""
        metrics = self._metrics
        for (endpoint, model, status, outcome), alike in self._alike.items():
            if alike.requests:
                metrics.requests.inc((endpoint, model, _CLASSES[status // 100 % 10], outcome), alike.requests)
            if alike.total:
                metrics.tokens.inc(("input", model), alike.input)
                metrics.tokens.inc(("output", model), alike.output)
            if alike.cached:
                metrics.tokens.inc(("cached_input", model), alike.cached)
            if alike.reasoning:
                metrics.tokens.inc(("reasoning", model), alike.reasoning)
            if alike.unpriced:
                metrics.unknown_price.inc((model,), alike.unpriced)
            if alike.cost_nanousd:
                metrics.cost.inc((model,), alike.cost_nanousd)
            alike.clear()


def log_exchange(log: logging.Logger, record: UsageRecord) -> None:
    """One line at debug: who, what, how it ended. Never what was said."""
    said = {
        "id": record.id,
        "user": record.user_id,
        "key": record.key_id,
        "endpoint": record.endpoint,
        "model": record.served_model or record.requested_model,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error_code,
        "tokens": record.usage.total_tokens,
        "source": record.usage_source,
        "cost_nanousd": record.cost_nanousd,
        "duration_ms": record.duration_ms,
    }
    log.debug("exchange", extra=said)
