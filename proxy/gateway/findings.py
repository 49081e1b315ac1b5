"""Findings: what the reading of an answer says of its exchange: what was used and how we know, and whether it failed."""

from __future__ import annotations

from typing import Final

from proxy.core.estimate import estimate_usage, texts_of
from proxy.core.record import Outcome, UsageSource
from proxy.core.refusal import Refusal
from proxy.core.usage import Reading, Usage
from proxy.gateway.exchange import Exchange
from proxy.gateway.tokenizer import Tokenizer

_JOBS: Final = frozenset({"batches", "containers", "evals", "fine_tuning", "media", "videos"})
"""Meters of endpoints whose request is no text that a model reads at once."""
BROKEN: Final[frozenset[Outcome]] = frozenset({"client_gone", "upstream_cut", "upstream_timeout"})
_NO_USAGE: Final = Usage()


def usage_of(
    exchange: Exchange, outcome: Outcome, reading: Reading, tokenizer: Tokenizer | None = None
) -> tuple[Usage, UsageSource]:
    """What was used, and how we know: reported where OpenAI said so, estimated where the answer ended without saying."""
    if reading.usage is not None:
        return reading.usage, "estimated" if reading.estimated else "reported"
    if reading.parts:
        return _NO_USAGE, "reported"
    call = exchange.call
    unsaid = outcome in {"success", "upstream_error"} and exchange.streamed and reading.delivered_bytes > 0
    if (
        (unsaid or _broke_off(exchange, outcome))
        and exchange.forwarded
        and exchange.status < 400
        and call.endpoint.bills
        and call.endpoint.meter not in _JOBS
        and not _is_followed(exchange, reading)
        and (call.input_text_bytes or call.input_media_tokens or reading.delivered_bytes)
    ):
        return _estimated(exchange, reading, tokenizer), "estimated"
    return _NO_USAGE, "none"


def is_untold(exchange: Exchange, outcome: Outcome, reading: Reading) -> bool:
    """Whether something was asked for that may have been done, of which nothing is known and nothing can be estimated: the
    client left before the answer to an upload, or to the making of a job.
    """
    return bool(
        _broke_off(exchange, outcome)
        and exchange.forwarded
        and exchange.status < 300
        and exchange.call.endpoint.bills
        and exchange.call.body_bytes
        and not _is_followed(exchange, reading)
    )


def _broke_off(exchange: Exchange, outcome: Outcome) -> bool:
    """The answer, or the waiting for it, came to an untimely end after the whole request was sent."""
    began = exchange.status > 0 or outcome == "client_gone"
    return outcome in BROKEN and began and exchange.request.complete


def _is_followed(exchange: Exchange, reading: Reading) -> bool:
    """Work in the background goes on, and is billed when it ends: its id is known."""
    return exchange.call.background and reading.object_id is not None


def _estimated(exchange: Exchange, reading: Reading, tokenizer: Tokenizer | None) -> Usage:
    call = exchange.call
    count = tokenizer.counter(reading.model or call.model) if tokenizer is not None else None
    if count is None:
        return estimate_usage(call, reading)
    text = texts_of(exchange.body) if exchange.body else None
    return estimate_usage(call, reading, count_tokens=count, input_text=text)


def has_failed(exchange: Exchange, reading: Reading) -> bool:
    """An answer that began with 200 tells of an error: an event in its stream, or of the work it was asked to do."""
    if reading.error_type is not None:
        return True
    said = reading.error_code is not None or reading.error_message is not None
    return said and exchange.call.endpoint.bills


def error_of(refusal: Refusal | None, reading: Reading) -> tuple[str | None, str | None, str | None]:
    """Type, code and message: our own refusal's, else what the upstream said."""
    if refusal is not None:
        return refusal.type, refusal.code, refusal.message
    return reading.error_type, reading.error_code, reading.error_message
