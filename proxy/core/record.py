"""UsageRecord: the one row per exchange, refusal or WebSocket response. Never holds any body text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from proxy.core.given import set_given
from proxy.core.objects import Ownership
from proxy.core.quota import Charge
from proxy.core.usage import Usage

UsageSource = Literal["reported", "estimated", "none"]
Outcome = Literal[
    "success",  # an answer below 400 came to its end
    "upstream_error",  # the upstream answered 400 or more, or an error in its stream
    "upstream_unreachable",  # no connection: the client got 502
    "upstream_timeout",  # connected, no answer in time: the client got 504, or the stream was cut
    "upstream_cut",  # the answer broke off
    "client_gone",  # the client hung up first
    "refused",  # we refused: quota, limits, a rule; nothing was sent
    "lost",  # the process died in mid-exchange; written from its open line
]
NO_ERRORS: frozenset[str] = frozenset({"success", "client_gone"})
"""Outcomes that don't count as errors; statements of the store name them too."""
MESSAGE_CHARS_MAX = 500
_NO_TAGS: Mapping[str, str] = {}


@dataclass(init=False, slots=True)  # made for each request: see given.py
class UsageRecord:
    """One exchange as it is spooled, stored and reported. Times are whole microseconds since 1970 UTC, durations ms."""

    id: str
    """UUIDv7, canonical text; also the `x-proxy-request-id` of the answer."""
    started_at_us: int
    key_id: str
    user_id: str
    provider: str
    endpoint: str
    """The route's template, e.g. /v1/responses/{response_id}."""
    method: str
    outcome: Outcome
    usage: Usage
    tags: Mapping[str, str]
    parent_id: str | None
    """The exchange this is a part of: a WebSocket's responses, an answer's second model."""
    group_id: str | None
    requested_model: str | None
    served_model: str | None
    operation: str | None
    end_user: str | None
    streamed: bool
    status: int
    """The HTTP status the client got; 0 when it got none."""
    error_type: str | None
    error_code: str | None
    error_message: str | None
    """At most MESSAGE_CHARS_MAX characters, credentials redacted."""
    finish_reason: str | None
    service_tier: str | None
    usage_source: UsageSource
    cost_nanousd: int | None
    """None: the price is unknown; `reprice` fills it in later."""
    price_id: str | None
    """Names the price the cost was computed with."""
    object_id: str | None
    upstream_request_id: str | None
    client_request_id: str | None
    ttfb_ms: int | None
    duration_ms: int
    bytes_in: int
    """Request body bytes received from the client."""
    bytes_out: int
    """Answer body bytes sent to the client."""
    part: str | None
    """What inside the parent's answer this is, where it is no request or response of its own: "container", "image_gen",
    "svg", "grader", "eval", "turn"."""
    charges: tuple[Charge, ...]
    """What the recorder settles against quota windows, in the transaction that stores the record."""
    ownership: Ownership | None
    """What it says about objects, where it says anything."""
    cache_saved_nanousd: int
    """How much more it would have cost had nothing come from the prompt cache; 0 where the price is unknown."""

    def __init__(
        self,
        id: str,  # noqa: A002
        started_at_us: int,
        key_id: str,
        user_id: str,
        provider: str,
        endpoint: str,
        method: str,
        outcome: Outcome,
        usage: Usage | None = None,
        tags: Mapping[str, str] = _NO_TAGS,
        **given: Any,
    ) -> None:
        self.id = id
        self.started_at_us = started_at_us
        self.key_id = key_id
        self.user_id = user_id
        self.provider = provider
        self.endpoint = endpoint
        self.method = method
        self.outcome = outcome
        self.usage = Usage() if usage is None else usage
        self.tags = tags
        self.parent_id = self.group_id = self.requested_model = self.served_model = self.operation = None
        self.end_user = self.error_type = self.error_code = self.error_message = self.finish_reason = None
        self.service_tier = self.price_id = self.object_id = self.part = self.ownership = None
        self.upstream_request_id = self.client_request_id = self.ttfb_ms = None
        self.streamed = False
        self.usage_source = "none"
        self.status = self.duration_ms = self.bytes_in = self.bytes_out = self.cache_saved_nanousd = 0
        self.cost_nanousd = 0
        self.charges = ()
        if given:
            set_given(self, given)
