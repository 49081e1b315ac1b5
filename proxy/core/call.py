"""Call: what a request asks for, read from its head and, where it is JSON, its body."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.core.endpoints import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as the pass sees it. None is "not said"; a body that can't be read leaves the body fields at None."""

    method: str
    path: str
    """The path as it came, without the query."""
    query: str = ""
    endpoint: Endpoint
    model: str | None = None
    stream: bool = False
    """The request asks for a stream. The answer's content type, not this, decides how it is metered."""
    wants_usage: bool = False
    """The client set stream_options.include_usage itself."""
    output_ceiling_tokens: int | None = None
    """The request's own bound on output tokens, times the number of choices."""
    input_estimate_tokens: int = 0
    """An upper estimate of input tokens, from the body's size."""
    service_tier: str | None = None
    background: bool = False
    object_id: str | None = None
    """The id in the path, e.g. of GET /v1/responses/{response_id}."""
    operation: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    end_user: str | None = None
    on_behalf_of: str | None = None
    """X-Usage-User, before it was checked."""
    client_request_id: str | None = None
    body_bytes: int = 0
    hints: Mapping[str, str | int] = field(default_factory=dict)
    """Facts of the request that pricing needs and answers don't repeat: "quality", "size", "seconds", "input_characters"."""
