"""OpenLine: what is written down of an exchange before it is forwarded, so that a crash can't make it free."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from proxy.core.quota import ChargeFields


class OpenLine(NamedTuple):
    """One admitted exchange, with the upper estimate that its quotas reserved. Its record has the same id and start.

    If the process dies before the record is written, this becomes a record with outcome "lost". The fields stand in the
    order in which they are spooled: more are only ever added at the end.
    """

    id: str
    """UUIDv7, canonical text."""
    started_at_us: int
    """Must equal the record's: id and start together are its identity."""
    key_id: str
    user_id: str
    group_id: str | None
    provider: str
    endpoint: str
    method: str
    requested_model: str | None
    operation: str | None
    tags: Mapping[str, str]
    end_user: str | None
    streamed: bool
    input_tokens: int
    """Upper estimate."""
    output_tokens: int
    """The ceiling that was reserved."""
    cost_nanousd: int | None
    """Of the estimated tokens; None: the price is unknown."""
    charges: tuple[ChargeFields, ...] | None
    """What was reserved, as it is settled if the exchange is lost; None: nothing."""
