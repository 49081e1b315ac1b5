"""UsageRecord: the one row per exchange, refusal or WebSocket response. Never holds any body text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

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
MESSAGE_CHARS_MAX = 500


@dataclass(slots=True)  # made for each request: see docs/adr/0004 and 0007
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
    usage: Usage = field(default_factory=Usage)
    tags: Mapping[str, str] = field(default_factory=dict)
    parent_id: str | None = None
    """The exchange this is a part of: a WebSocket's responses, an answer's second model."""
    group_id: str | None = None
    requested_model: str | None = None
    served_model: str | None = None
    operation: str | None = None
    end_user: str | None = None
    streamed: bool = False
    status: int = 0
    """The HTTP status the client got; 0 when it got none."""
    error_type: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    """At most MESSAGE_CHARS_MAX characters, credentials redacted."""
    finish_reason: str | None = None
    service_tier: str | None = None
    usage_source: UsageSource = "none"
    cost_nanousd: int | None = 0
    """None: the price is unknown; `reprice` fills it in later."""
    price_id: str | None = None
    """Names the price the cost was computed with."""
    object_id: str | None = None
    upstream_request_id: str | None = None
    client_request_id: str | None = None
    ttfb_ms: int | None = None
    duration_ms: int = 0
    bytes_in: int = 0
    """Request body bytes received from the client."""
    bytes_out: int = 0
    """Answer body bytes sent to the client."""
    part: str | None = None
    """What inside the parent's answer this is, where it is no request or response of its own: "container", "image_gen",
    "svg", "grader", "eval", "turn"."""
    charges: tuple[Charge, ...] = ()
    """What the recorder settles against quota windows, in the transaction that stores the record."""
    ownership: Ownership | None = None
    """What it says about objects, where it says anything."""
    cache_saved_nanousd: int = 0
    """How much more it would have cost had nothing come from the prompt cache; 0 where the price is unknown."""
