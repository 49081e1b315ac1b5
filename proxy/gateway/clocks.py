"""Time and chance, given to the pass so that tests own them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the pass asks instead of the system."""

    now: Callable[[], float]
    """Monotonic seconds, cheap."""
    now_us: Callable[[], int]
    """Microseconds since 1970."""
    new_id: Callable[[int], str]
    """A record id for an exchange that starts at the given time."""
