"""A report of which a part was measured anew, and what is said of a request's cost."""

from __future__ import annotations

import pytest

from tests.benchmarks.hour import yardstick
from tests.benchmarks.overload import costs
from tests.benchmarks.sections import merged, sections_of

OLD = "Units.\n\n### Streams\n\nold streams\n\n### An hour\n\n| a |\n|---|\n| 1 |\n"
ORDER = ["Streams", "Overload", "An hour"]


def test_what_was_not_measured_stays():
    text = merged(OLD, {"Overload": "new overload\n"}, ORDER)
    assert (
        text
        == "### Streams\n\nold streams\n\n### Overload\n\nnew overload\n\n### An hour\n\n| a |\n|---|\n| 1 |\n\n"
    )
    again = merged(text, {"Streams": "new streams"}, ORDER)
    assert sections_of(again) == {
        "Streams": "new streams",
        "Overload": "new overload",
        "An hour": "| a |\n|---|\n| 1 |",
    }


def test_sections_that_are_no_more_go():
    assert merged("### Gone\n\nx\n", {}, ORDER) == ""


def test_what_answers_and_refusals_cost_follows_from_two_mixes():
    answered_us, refused_us = costs([(1000, 10, 0.2003), (900, 1000, 0.21)])
    assert (answered_us, refused_us) == (pytest.approx(200), pytest.approx(30))


def test_the_yardstick_takes_time():
    assert yardstick() > 0
