"""Limits of the relay: how long it waits for whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Times in seconds."""

    first_byte_s: float
    idle_s: float
    drain_s: float | None
    """How long an answer is still read after its client hung up; None: it is cancelled at once."""
