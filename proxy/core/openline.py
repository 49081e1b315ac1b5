"""OpenLine: what is written down of an exchange before it is forwarded, so that a crash can't make it free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.core.quota import Charge


@dataclass(slots=True)  # made for each request: see docs/adr/0004 and 0007
class OpenLine:
    """One admitted exchange, with the upper estimate that its quotas reserved. Its record has the same id and start.

    If the process dies before the record is written, this becomes a record with outcome "lost".
    """

    id: str
    """UUIDv7, canonical text."""
    started_at_us: int
    """Must equal the record's: id and start together are its identity."""
    key_id: str
    user_id: str
    provider: str
    endpoint: str
    method: str
    tags: Mapping[str, str] = field(default_factory=dict)
    group_id: str | None = None
    model: str | None = None
    """As requested."""
    operation: str | None = None
    end_user: str | None = None
    streamed: bool = False
    input_tokens: int = 0
    """Upper estimate."""
    output_tokens: int = 0
    """The ceiling that was reserved."""
    cost_nanousd: int | None = 0
    """Of the estimated tokens; None: the price is unknown."""
    charges: tuple[Charge, ...] = ()
    """What was reserved, as it is settled if the exchange is lost."""
