from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core import tokens
from proxy.core.usage import COUNTS, Usage


@pytest.mark.parametrize(
    ("shape", "usage"),
    [
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input_tokens=8, total_tokens=8)),
        (
            {"prompt_tokens": 8, "completion_tokens": 2},
            Usage(input_tokens=8, output_tokens=2, total_tokens=10),
        ),
        (
            {
                "input_tokens": 5,
                "output_tokens": 6,
                "total_tokens": 11,
                "input_token_details": {"audio_tokens": 4},
            },
            Usage(input_tokens=5, output_tokens=6, total_tokens=11, input_audio_tokens=4),
        ),
        ({"type": "duration", "seconds": 1.2345}, Usage(units=(("audio_ms", 1235),))),
        ({"seconds": 2}, Usage(units=(("audio_ms", 2000),))),
        ({"prompt_tokens": "8", "total_tokens": -1}, Usage()),
        ({"input_tokens": True, "output_tokens": 1e300, "total_tokens": None}, Usage()),
        (
            {"input_tokens": 3.0, "input_tokens_details": 7, "output_tokens_details": []},
            Usage(input_tokens=3, total_tokens=3),
        ),
        ({"prompt_tokens": None, "input_tokens": 4}, Usage(input_tokens=4, total_tokens=4)),
    ],
)
def test_a_usage_object_is_read_whatever_its_shape(shape: dict[str, Any], usage: Usage) -> None:
    assert tokens.read(shape) == usage


@pytest.mark.parametrize(
    "value", [None, 7, "x", [], {}, {"tokens": 1}, {"prompt_tokens_details": {"cached_tokens": 1}}]
)
def test_what_is_no_usage_object_is_none(value: Any) -> None:
    assert tokens.read(value) is None
    assert not tokens.looks_like_usage(value)


@pytest.mark.parametrize(
    ("seconds", "ms"), [(0, 0), ("8", 8000), (0.0004, 0), (0.0005, 1), ("x", None), (None, None), (-1, None), (float("nan"), None), (float("inf"), None), (True, None), ([], None)]
)  # fmt: skip
def test_seconds_become_whole_milliseconds(seconds: Any, ms: int | None) -> None:
    assert tokens.milliseconds(seconds) == ms


AMOUNTS = st.integers(0, 10**9)
USAGES = st.builds(
    Usage, input_tokens=AMOUNTS, output_tokens=AMOUNTS, total_tokens=AMOUNTS, cached_input_tokens=AMOUNTS, reasoning_tokens=AMOUNTS,
    units=st.dictionaries(st.sampled_from("abc"), st.integers(1, 99)).map(lambda units: tuple(sorted(units.items()))),
)  # fmt: skip


@given(first=USAGES, second=USAGES)
def test_parts_add_up_to_totals(first: Usage, second: Usage) -> None:
    both = tokens.add(first, second)
    assert both == tokens.add(second, first)
    assert both.input_tokens == first.input_tokens + second.input_tokens
    assert both.reasoning_tokens == first.reasoning_tokens + second.reasoning_tokens
    assert sum(amount for _, amount in both.units) == sum(amount for _, amount in first.units + second.units)
    assert tokens.add(first, Usage()) == first


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "seconds", "cached_tokens",
     "prompt_tokens_details", "input_token_details", "output_tokens_details", "cached_tokens_details", "reasoning_tokens"]
)  # fmt: skip


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES)))
def test_no_usage_object_makes_reading_fail_and_no_count_is_negative(shape: dict[str, Any]) -> None:
    usage = tokens.read(shape)
    if usage is not None:
        assert all(getattr(usage, name) >= 0 for name in COUNTS)
        assert all(amount >= 0 for _, amount in usage.units)
