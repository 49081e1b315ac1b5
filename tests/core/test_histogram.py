"""Histograms of latencies: mergeable, and right within five percent."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.histogram import ERROR_MAX, bucket_of, quantile, value_of


def counted(values):
    counts = {}
    for value in values:
        counts[bucket_of(value)] = counts.get(bucket_of(value), 0) + 1
    return counts


def test_the_quantile_of_nothing_is_nothing():
    assert quantile({}, 0.5) is None


def test_known_quantiles():
    counts = counted(range(1, 1001))

    for share, exact in ((0.5, 500), (0.95, 950), (0.99, 990), (1, 1000)):
        found = quantile(counts, share)
        assert found is not None and abs(found - exact) / exact <= 0.05


@given(st.integers(min_value=1, max_value=10**9))
def test_a_value_is_shown_within_five_percent(ms):
    assert abs(value_of(bucket_of(ms)) - ms) / ms <= ERROR_MAX + 1e-9


@given(st.lists(st.integers(min_value=1, max_value=10**7), min_size=1, max_size=300), st.floats(0, 1))
def test_any_quantile_of_any_values_is_within_five_percent(values, share):
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]

    found = quantile(counted(values), share)

    assert found is not None and abs(found - exact) / exact <= 0.05


@given(st.lists(st.integers(1, 10**6)), st.lists(st.integers(1, 10**6)))
def test_merging_is_adding(some, others):
    merged = counted(some)
    for bucket, count in counted(others).items():
        merged[bucket] = merged.get(bucket, 0) + count

    assert merged == counted([*some, *others])
