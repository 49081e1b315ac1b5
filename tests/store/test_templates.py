"""Templates: what a statement is put together of, and that Postgres prepares whatever can be asked."""

from __future__ import annotations

from typing import get_args

import pytest

from proxy.store.folds import CUTS, PEOPLE_CUTS
from proxy.store.postgres import parts
from proxy.store.stats import DETAIL, Dimension, Sort
from proxy.store.templates import fill

FACTS = ("_folded_facts", "_hourly_facts", "_recorded_facts")
PEOPLE = ("_folded_people", "_people_of_parts", "_hourly_people", "_people_since", "_recorded_people")
SUMMED = (
    "user",
    "group",
    "key",
    "model",
    "endpoint",
    "operation",
    "provider",
    "status",
    "tags",
    "user_active",
)
WHOLE = {
    "cut": "full",
    "people_cut": "full",
    "details": ("_details",),
    "facts": FACTS,
    "people": ("_people",),
    "people_sources": PEOPLE,
    "summed": "_rated",
    "filters": tuple(f"_where_{name}" for name in SUMMED),
    "detail_filters": tuple(name for name in parts("stats") if name.startswith("_detail_")),
    "first": "model",
    "other": "day",
}
BY = {
    "first_shown": "text",
    "second_shown": "time",
    "counted": ("_counted",),
    "joined": ("_joined",),
    "users": "counted",
    "sort": "cost",
    "direction": "desc",
    "name_direction": "asc",
}
LABELS = [name.removeprefix("_label_") for name in parts("stats") if name.startswith("_label_")]


def test_parameters_are_numbered_in_the_order_in_which_they_come():
    statement = fill("stats", "_where_model", {})

    assert statement.text.strip() == "and r.model = any ($1::text[])"
    assert statement.parameters == ("model",)
    assert statement.arguments({"model": ["a"], "other": 1}) == (["a"],)
    with pytest.raises(KeyError, match="model"):
        statement.arguments({"other": 1})


def test_what_is_not_asked_for_is_not_in_the_text():
    bare = {**WHOLE, "facts": FACTS[:1], "details": (), "people": (), "filters": (), "summed": "_summed"}
    statement = fill("stats", "user_summaries", {**bare, "cut": "who", "first": "user", "other": "none"})

    for absent in (
        "usage_hourly",
        "usage_records",
        "usage_spans",
        "width_bucket",
        "any (",
        "union all",
        "--",
    ):
        assert absent not in statement.text
    assert "from usage_folds_who r" in statement.text
    assert set(statement.parameters) == {"known_grain", "grains", "starts", "ends", "start"}


def test_a_word_that_is_no_name_gets_into_no_statement():
    with pytest.raises(AssertionError, match="cut is no name"):
        fill("stats", "_folded_facts", {"cut": "full; drop table users", "filters": ()})
    with pytest.raises(AssertionError, match="sort is no name"):
        fill("stats", "by", {**WHOLE, **BY, "sort": "cost; drop table users"})
    with pytest.raises(KeyError, match="_sort_nothing"):
        fill("stats", "by", {**WHOLE, **BY, "sort": "nothing"})


def test_each_dimension_sort_and_filter_has_its_part():
    named = parts("stats")

    tags = {"first_tag", "other_tag", "none"}
    assert set(LABELS) == set(get_args(Dimension)) - {"tag"} | tags
    assert {f"_sort_{sort}" for sort in get_args(Sort)} <= named.keys()
    assert {f"_detail_{name}" for name in (DETAIL | set(SUMMED)) - {"active"}} <= named.keys()


def texts():
    """Every statement with all its parts, and each way to leave some out."""
    found = [fill("stats", "names", {})]
    for summed in ("_rated", "_summed"):
        for seen in (("_seen",), ()):
            words = {**WHOLE, "summed": summed, "seen": seen}
            found.append(fill("stats", "totals", words if seen else {**words, "people": ()}))
        found.append(fill("stats", "user_summaries", {**WHOLE, "summed": summed}))
        found += [
            fill("stats", "by", {**WHOLE, **BY, "summed": summed, "sort": sort}) for sort in get_args(Sort)
        ]
    for label in LABELS:
        shown = "time" if label in ("year", "month", "day", "hour") else "text"
        first = {"first": label, "first_shown": shown, "other": "none", "second_shown": "none"}
        found.append(fill("stats", "by", {**WHOLE, **BY, **first}))
        found.append(fill("stats", "by", {**WHOLE, **BY, "other": label, "second_shown": shown}))
    for users in ("one", "known", "none"):
        found.append(
            fill("stats", "by", {**WHOLE, **BY, "people": (), "counted": (), "joined": (), "users": users})
        )
    for each in FACTS:
        found.append(fill("stats", "totals", {**WHOLE, "facts": (each,), "seen": ("_seen",)}))
    for each in PEOPLE:
        found.append(fill("stats", "users_seen", {**WHOLE, "people_sources": (each,)}))
    found += [fill("stats", "totals", {**WHOLE, "cut": cut.name, "seen": ()}) for cut in CUTS]
    found += [fill("stats", "users_seen", {**WHOLE, "people_cut": cut.name}) for cut in PEOPLE_CUTS]
    for name, common in (
        ("latencies", ("group", "provider", "model", "endpoint")),
        (
            "outcomes",
            (
                "group",
                "provider",
                "model",
                "endpoint",
                "status",
                "streamed",
                "outcome",
                "finish_reason",
                "service_tier",
            ),
        ),
    ):
        filters = tuple(f"_where_{each}" for each in common if name == "outcomes" or each != "group")
        sources = (f"_folded_{name}", f"_hourly_{name}", f"_recorded_{name}")
        for chosen in (sources, *((each,) for each in sources)):
            found.append(fill("stats", name, {**WHOLE, "filters": filters, name: chosen}))
    return found


async def test_postgres_prepares_whatever_can_be_asked(pool):
    statements = {statement.text: statement for statement in texts()}
    assert len(statements) > 60

    async with pool.acquire() as connection:
        for statement in statements.values():
            try:
                prepared = await connection.prepare(statement.text)
            except Exception as error:
                raise AssertionError(f"{error}\n{statement.text}") from error
            assert len(prepared.get_parameters()) == len(statement.parameters)
