"""The map of OpenAI's paths: which route template a request has, and how its answer is metered."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One route of the API. `template` is what records and metrics carry."""

    template: str
    meter: str = "none"
    """Which reader understands its answers; see meter.py."""
    bills: bool = True
    """False for reads and replays, whose usage was billed when the object was made."""
