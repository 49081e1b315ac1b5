"""Counting: what /metrics and the log say of an exchange that is over."""

from __future__ import annotations

import logging

from proxy.core.record import UsageRecord
from proxy.gateway.exchange import Exchange
from proxy.metrics import Metrics

_CLASSES = ("none", *(f"{hundreds}xx" for hundreds in range(1, 10)))
"""Of statuses, by their hundreds; 0: there was none."""


def count_exchange(metrics: Metrics, exchange: Exchange, record: UsageRecord, now: float) -> None:
    """Count one record. Hot path. `now`: monotonic seconds."""
    usage = record.usage
    model = record.served_model or record.requested_model or ""
    endpoint = record.endpoint
    status = record.status
    if record.part is None:
        metrics.requests.inc((endpoint, model, _CLASSES[status // 100 % 10], record.outcome))
    if exchange.refusal is not None and record.outcome == "refused":
        metrics.refusals.inc((exchange.refusal.reason or exchange.refusal.code,))
        return
    if usage.total_tokens:
        metrics.tokens.inc(("input", model), usage.input_tokens)
        metrics.tokens.inc(("output", model), usage.output_tokens)
        if usage.cached_input_tokens:
            metrics.tokens.inc(("cached_input", model), usage.cached_input_tokens)
        if usage.reasoning_tokens:
            metrics.tokens.inc(("reasoning", model), usage.reasoning_tokens)
    if record.cost_nanousd is None:
        metrics.unknown_price.inc((model,))
    elif record.cost_nanousd:
        metrics.cost.inc((model,), record.cost_nanousd)
    if exchange.forwarded and record.parent_id is None:
        metrics.overhead_seconds.observe((), exchange.forwarded - exchange.request.started)
        metrics.upstream_seconds.observe((endpoint, model), now - exchange.forwarded)
        if exchange.ttfb:
            metrics.ttfb_seconds.observe((endpoint, model), exchange.ttfb - exchange.forwarded)
    if record.outcome.startswith("upstream_") and record.part is None:
        metrics.upstream_failures.inc((record.outcome,))


def log_exchange(log: logging.Logger, record: UsageRecord) -> None:
    """One line at debug: who, what, how it ended. Never what was said."""
    if not log.isEnabledFor(logging.DEBUG):
        return
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
