"""Limits of the control plane: requests per credential, and failures per client address, so that guessing is slow.

Token buckets in this process's memory: with several workers each holds its own, so the limits are per worker. The number
of buckets is bounded; the one unused longest is forgotten first.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from proxy.core.refusal import Refusal

BUCKETS_MAX = 10_000
FAILURES_MAX = 10
"""Wrong credentials that an address may send at once …"""
FAILURE_REFILL_S = 6.0
"""… and the seconds after which it may send one more."""


class Buckets:
    """Token buckets by name: each holds `size` and gains one every `refill_s` seconds."""

    def __init__(self, size: float, refill_s: float, count_max: int = BUCKETS_MAX) -> None:
        self._size = size
        self._refill_s = refill_s
        self._count_max = count_max
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now: float) -> float:
        """Take one; returns 0, or the seconds to wait when there is none."""
        level = self._level(name, now)
        wait = 0.0 if level >= 1 else (1 - level) * self._refill_s
        self._buckets[name] = (level - (wait == 0), now)
        self._buckets.move_to_end(name)
        if len(self._buckets) > self._count_max:
            self._buckets.popitem(last=False)
        return wait

    def wait(self, name: str, now: float) -> float:
        """The seconds until there is one to take; takes none."""
        level = self._level(name, now)
        return 0.0 if level >= 1 else (1 - level) * self._refill_s

    def _level(self, name: str, now: float) -> float:
        level, at = self._buckets.get(name, (self._size, now))
        return min(self._size, level + max(0.0, now - at) / self._refill_s)


class Throttle:
    """What one worker remembers of who asked how often. Times are of any monotonic clock, in seconds."""

    def __init__(self, requests_per_minute: int) -> None:
        self._requests = Buckets(requests_per_minute, 60 / requests_per_minute)
        self._failures = Buckets(FAILURES_MAX, FAILURE_REFILL_S)
        self._known = OrderedDict[bytes, None]()

    def check_address(self, address: str, credential: bytes, now: float) -> None:
        """Refuses an address that failed too often, unless this credential was right before: 429."""
        if credential in self._known:
            return
        if wait := self._failures.wait(address, now):
            raise _too_many("Too many wrong credentials from this address.", wait, "auth_failures")

    def failed(self, address: str, now: float) -> None:
        """A credential from this address was wrong."""
        self._failures.take(address, now)

    def succeeded(self, credential: bytes, now: float) -> None:
        """A credential (its digest) was right; counts one request of it, or refuses it with 429."""
        self._known[credential] = None
        self._known.move_to_end(credential)
        if len(self._known) > BUCKETS_MAX:
            self._known.popitem(last=False)
        if wait := self._requests.take(credential.hex(), now):
            raise _too_many("Too many requests with this credential.", wait, "rate")


def _too_many(message: str, wait_s: float, reason: str) -> Refusal:
    seconds = max(1, math.ceil(wait_s))
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"{message} Try again in {seconds} s.",
        "rate_limit_error",
        headers=(("retry-after", str(seconds)),),
        reason=reason,
    )
