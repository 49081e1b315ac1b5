"""Which sums answer what: the smallest cut, the largest blocks, and users counted where it is cheapest."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from proxy.core.period import Period, whole_hours
from proxy.core.stretches import large_blocks
from proxy.store.stats_plan import Asked, cut_of, plan, rate_changes

NOW = datetime(2026, 8, 15, 13, tzinfo=UTC)


def asked(start, end=NOW, zone="UTC", **more):
    period = Period(start, end, ZoneInfo(zone))
    return Asked(period, NOW, whole_hours(period, NOW), **more)


def early_hours(made):
    """(day, hour, how many) of the pieces that are read from the hourly sums, since they are few hours of a day."""
    return [
        (each.start.day, each.start.hour, (each.end - each.start) // timedelta(hours=1))
        for each in made.people_pieces
    ]


@pytest.fixture
async def folded(pool):
    """Everything from May to the day before yesterday is folded, and today's hours until 10."""
    marks = {
        "day": [datetime(2026, 5, 1, tzinfo=UTC) + timedelta(days=number) for number in range(106)],
        "hour": [datetime(2026, 8, 15, hour, tzinfo=UTC) for hour in range(10)],
    }
    for each in large_blocks(datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 8, 15, tzinfo=UTC)):
        marks.setdefault(each.grain, []).append(each.stands[0])
    for grain, moments in marks.items():
        await pool.executemany(
            "insert into usage_folded (grain, at) values ($1, $2)", [(grain, moment) for moment in moments]
        )


@pytest.mark.parametrize(
    ("dimensions", "cut"),
    [
        ((), "total"),
        (("model",), "model"),
        (("model", "operation"), "what"),
        (("user",), "who"),
        (("group", "key"), "who"),
        (("group", "model"), "who_model"),
        (("group", "operation"), "who_operation"),
        (("user", "model", "operation"), "full"),
        (("tags",), "tags"),
        (("tags", "model"), "full"),
    ],
)
def test_the_smallest_cut_that_tells_dimensions_apart_is_read(dimensions, cut):
    assert cut_of(frozenset(dimensions)).name == cut


async def test_a_sum_up_to_now_reads_large_blocks_and_counts_users_by_when_they_were_last_there(pool, folded):
    made = await plan(pool, asked(datetime(2026, 5, 20, tzinfo=UTC)))

    assert [(each.grain, each.start.day, each.end.day) for each in made.pieces] == [
        ("day", 20, 21),
        ("five", 21, 1),
        ("month", 1, 1),
        ("five", 1, 11),
        ("day", 11, 15),
        ("hour", 15, 15),
        (None, 15, 15),
    ]
    assert (made.cut.name, made.people_cut.name, made.people_spans) == ("total", "who", True)
    assert [(each.start.hour, each.end.hour) for each in made.people_pieces] == [(10, 13)]


async def test_sums_of_people_read_tails_and_heads(pool, folded):
    made = await plan(pool, asked(datetime(2026, 5, 20, tzinfo=UTC), grouped=frozenset({"user"})))

    assert [(each.grain, each.start.day, each.end.day) for each in made.pieces] == [
        ("day", 20, 21),
        ("month_tail", 21, 1),
        ("month", 1, 1),
        ("month_head", 1, 11),
        ("day", 11, 15),
        (None, 15, 15),
    ]
    values = made.values()
    stand = dict(zip(values["grains"], zip(values["starts"], values["ends"], strict=True), strict=False))
    assert [moment.isoformat() for moment in stand["month_head"]] == [
        "2026-08-10T00:00:00+00:00",
        "2026-08-10T01:00:00+00:00",
    ]


async def test_users_of_days_are_known_and_those_of_today_are_counted(pool, folded):
    made = await plan(pool, asked(datetime(2026, 8, 12, tzinfo=UTC), grouped=frozenset({"model", "day"})))

    assert (made.cut.name, made.known_grain, made.people_cut.name) == ("model", "day", "who_model")
    assert [(each.grain, each.start.day) for each in made.people_pieces] == [(None, 15)]


async def test_numbers_of_users_that_do_not_add_up_are_not_taken(pool, folded):
    two_models = asked(datetime(2026, 8, 12, tzinfo=UTC), grouped=frozenset({"day"}), filtered={"model": 2})
    one_model = asked(datetime(2026, 8, 12, tzinfo=UTC), grouped=frozenset({"day"}), filtered={"model": 1})

    assert (await plan(pool, two_models)).known_grain is None
    assert (await plan(pool, one_model)).known_grain == "day"


async def test_a_past_month_is_one_block_whose_users_are_known(pool, folded):
    made = await plan(pool, asked(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)))

    assert (made.known_grain, made.people_pieces, made.people_spans) == ("month", [], False)


async def test_days_of_another_zone_are_made_of_hours_and_their_users_of_parts_of_days(pool, folded):
    made = await plan(
        pool,
        asked(
            datetime(2026, 8, 10, 3, tzinfo=UTC),
            datetime(2026, 8, 12, 3, tzinfo=UTC),
            "America/Sao_Paulo",
            grouped=frozenset({"day"}),
        ),
    )

    assert [each.grain for each in made.pieces] == ["hour"]
    late = 0b111111111111111111111000
    assert [(part.start.day, part.end.day, part.hours, part.shift) for part in made.people_parts] == [
        (10, 12, late, 3)
    ]
    assert early_hours(made) == [(11, 0, 3), (12, 0, 3)]


async def test_users_of_days_of_another_zone_are_known_where_both_of_their_days_are_folded(pool, folded):
    days = [datetime(2026, 8, 1, tzinfo=UTC) + timedelta(days=number) for number in range(12)]
    await pool.executemany(
        "insert into usage_folded (grain, at) values ('window', $1)", [(day,) for day in days]
    )
    first, last = datetime(2026, 8, 10, 3, tzinfo=UTC), datetime(2026, 8, 14, 3, tzinfo=UTC)
    zone = "America/Sao_Paulo"

    made = await plan(pool, asked(first, last, zone, grouped=frozenset({"day", "model"})))
    two = await plan(pool, asked(first, last, zone, grouped=frozenset({"day"}), filtered={"model": 2}))

    assert (made.windows, made.known_grain) == ([first, first + timedelta(days=1)], "window")
    assert [(part.start.day, part.end.day, part.shift) for part in made.people_parts] == [(12, 14, 3)]
    assert early_hours(made) == [(13, 0, 3), (14, 0, 3)]
    assert (two.windows, two.known_grain) == (made.windows, None)
    assert [(part.start.day, part.end.day, part.shift) for part in two.people_parts] == [(10, 14, 3)]
    assert early_hours(two) == [(day, 0, 3) for day in (11, 12, 13, 14)]


async def test_users_of_a_day_with_23_or_25_hours_are_counted(pool):
    days = [datetime(2026, 10, 20, tzinfo=UTC) + timedelta(days=number) for number in range(10)]
    for grain in ("day", "window"):
        await pool.executemany(
            "insert into usage_folded (grain, at) values ($1, $2)", [(grain, day) for day in days]
        )
    start, end = datetime(2026, 10, 23, 22, tzinfo=UTC), datetime(2026, 10, 26, 23, tzinfo=UTC)
    now = datetime(2026, 10, 30, tzinfo=UTC)
    period = Period(start, end, ZoneInfo("Europe/Berlin"))

    made = await plan(pool, Asked(period, now, whole_hours(period, now), frozenset({"day"})))

    assert made.windows == [start, datetime(2026, 10, 25, 23, tzinfo=UTC)]
    assert [(part.start.day, part.hours.bit_count(), part.shift) for part in made.people_parts] == [
        (25, 23, 0)
    ]
    assert early_hours(made) == [(24, 22, 2)]


async def test_nothing_is_read_from_sums_where_only_records_tell(pool, folded):
    start = datetime(2026, 8, 1, tzinfo=UTC)
    made = await plan(pool, Asked(Period(start, NOW, ZoneInfo("UTC")), NOW, (NOW, NOW)))

    assert (made.pieces, made.people_pieces, made.people_spans, made.from_records) == ([], [], False, True)


async def test_rates_part_the_blocks(pool, folded):
    start = datetime(2026, 5, 1, tzinfo=UTC)
    splits = rate_changes([date(2026, 6, 16), date(2027, 1, 1)], asked(start).period)

    made = await plan(pool, asked(start, splits=splits))

    assert splits == (datetime(2026, 6, 16, tzinfo=UTC),)
    assert [(each.grain, each.start.month, each.start.day) for each in made.pieces][:5] == [
        ("month", 5, 1),
        ("five", 6, 1),
        ("month", 7, 1),
        ("five", 8, 1),
        ("day", 8, 11),
    ]
