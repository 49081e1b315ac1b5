"""Logarithmic histograms of latencies: mergeable by adding counts, any quantile right within 5 %.

Bucket i counts what took (1.1^(i-1), 1.1^i] ms; bucket 0 what took 1 ms or less. A bucket is shown as the value that is
equally far, relatively, from both its ends: 2 * 1.1^i / 2.1. The same rule is in the recorder's statement and in migration 0003.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

GROWTH = 1.1
ERROR_MAX = (GROWTH - 1) / (GROWTH + 1)
"""The relative error of a quantile: 4.8 %."""


def bucket_of(ms: float) -> int:
    """The bucket that counts this duration."""
    # Rounded, since 1.1**i itself must fall into bucket i and logarithms are a hair off.
    return max(0, math.ceil(round(math.log(max(ms, 1.0)) / math.log(GROWTH), 9)))


def value_of(bucket: int) -> float:
    """What a bucket's durations are shown as, in ms."""
    return 1.0 if bucket == 0 else 2 * GROWTH**bucket / (GROWTH + 1)


def quantile(counts: Mapping[int, int], share: float) -> float | None:
    """The duration in ms that `share` (0 to 1) of all were at or below; None of nothing."""
    total = sum(counts.values())
    if total <= 0:
        return None
    rank = max(1, math.ceil(share * total))
    seen = 0
    for bucket in sorted(counts):
        seen += counts[bucket]
        if seen >= rank:
            return value_of(bucket)
    raise AssertionError("a rank within the total is reached")
