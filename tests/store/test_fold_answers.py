"""No answer depends on whether folds were made; the database cuts time as reports do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.core.stretches import GRAINS, OVERLAPPING, block, floor, following, large_blocks
from proxy.store import erasures, folds, records, stats
from proxy.store.stats import Filters, Grouping, Question
from tests.admin.conftest import NOW, payload, record
from tests.store.folded import CROWD, made, period, usage_of_months


@pytest.fixture
async def lines(pool):
    return await usage_of_months(pool)


PERIODS = [
    period(datetime(2026, 3, 1, tzinfo=UTC), NOW),
    period(datetime(2026, 6, 3, 10, 20, 30, tzinfo=UTC), datetime(2026, 8, 1, 7, 59, tzinfo=UTC)),
    period(datetime(2026, 6, 3, 22, tzinfo=UTC), datetime(2026, 8, 1, 22, tzinfo=UTC), "Europe/Berlin"),
    period(datetime(2026, 7, 12, 1, tzinfo=UTC), datetime(2026, 7, 12, 23, tzinfo=UTC)),
    period(datetime(2026, 6, 20, 9, tzinfo=UTC), datetime(2026, 8, 2, 5, tzinfo=UTC), "America/Sao_Paulo"),
    period(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)),
    period(datetime(2026, 8, 12, tzinfo=UTC), NOW),
]
FILTERS = [
    Filters(),
    Filters({"user": ["user_1"]}),
    Filters({"model": ["o4"], "status": ["200"]}),
    Filters(tags={"grade": "8"}),
    Filters({"group": ["group_1"]}),
    Filters({"operation": ["summary"], "provider": ["openai", "openai-eu"]}),
    Filters({"streamed": ["true"]}),
]
GROUPINGS = [
    Grouping("user"),
    Grouping("model", "day", sort="name", limit=1000),
    Grouping("month", sort="name"),
    Grouping("hour", sort="name", limit=1000),
    Grouping("tag", tags=("grade", None)),
    Grouping("day", sort="name", limit=1000),
    Grouping("provider", sort="users"),
    Grouping("group", "month", sort="name"),
    Grouping("key", "operation"),
    Grouping("year", "status"),
]
RATES = tuple(datetime(2026, *day, tzinfo=UTC).date() for day in ((1, 1), (6, 15), (7, 1), (8, 14)))


async def answers(pool):
    """What is told of every period with a third of the filters, and of every filter with a third of the periods."""
    found = []
    async with pool.acquire() as connection:
        for period_number, asked in enumerate(PERIODS):
            for filter_number, filters in enumerate(FILTERS):
                if (period_number + 2 * filter_number) % 3:
                    continue
                rates = RATES if (period_number + filter_number) % 2 else ()
                question = Question(asked, NOW, filters, frozenset({"grade"}), rates)
                found.append(dict(await stats.totals(connection, question)))
                found.append(dict(await stats.users_seen(connection, question)))
                found.append(await stats.latencies(connection, question))
                found.append(sorted(map(tuple, await stats.outcomes(connection, question))))
                for grouping in GROUPINGS:
                    rows, total = await stats.by(connection, question, grouping)
                    found.append(([dict(row) | {"known_users": None} for row in rows], total))
                async with connection.transaction():
                    found.append(
                        [
                            [dict(row) for row in rows]
                            async for rows in stats.user_summaries(connection, question)
                        ]
                    )
    return found


async def test_no_answer_depends_on_whether_they_were_made(pool, lines):
    hourly = await answers(pool)
    assert await folds.make_due(pool, NOW) > 90
    assert {grain: len(await made(pool, grain)) for grain in GRAINS} == {
        "year_head": 0,
        "year_tail": 0,
        "quarter": 1,
        "month": 4,
        "month_head": 18,
        "month_tail": 16 + 4,
        "five": 26,
        "day": 138,
        "six": 4 * folds.SIX_DAYS + 1 + 2 * 4,
        "hour": 10,
    }

    assert await answers(pool) == hourly
    await pool.execute("delete from usage_folded where grain = 'month' or extract(day from at) in (5, 6, 20)")
    assert await answers(pool) == hourly
    assert await folds.make_due(pool, NOW) > 0
    assert await answers(pool) == hourly


async def test_an_erased_user_is_in_no_fold_and_no_answer_is_wrong(pool, lines):
    await folds.make_due(pool, NOW)
    for user_id in ("user_1", "user_2"):
        await erasures.add(pool, user_id)
    await erasures.finish(pool)

    for table in ("usage_folds", "usage_spans"):
        assert await pool.fetchval(f"select count(*) from {table} where user_id in ('user_1', 'user_2')") == 0
    unfolded = await answers(pool)
    assert await folds.make_due(pool, NOW) > 50
    assert await answers(pool) == unfolded
    await pool.execute("delete from usage_folded")
    await pool.execute("delete from usage_spans")
    assert await answers(pool) == unfolded


async def test_sums_of_people_over_years_are_read_from_heads_and_tails(pool):
    moments = [
        datetime(2025, 10, 30, 12, tzinfo=UTC) + timedelta(days=9 * number, hours=number)
        for number in range(32)
    ]
    used = [record(at, **CROWD[number % 3]) for number, at in enumerate(moments)]
    await records.store(pool, list(map(payload, used)))
    asked = [
        Question(period(datetime(2025, 10, 29, tzinfo=UTC), NOW), NOW),
        Question(period(datetime(2025, 11, 1, tzinfo=UTC), datetime(2026, 7, 30, 3, tzinfo=UTC)), NOW),
        Question(period(datetime(2025, 12, 31, 23, tzinfo=UTC), NOW, "Europe/Berlin"), NOW),
    ]

    async def told():
        groupings = [
            Grouping("user"),
            Grouping("user", "model"),
            Grouping("key", "year"),
            Grouping("group", "month"),
        ]
        return [
            [dict(row) | {"known_users": None} for row in (await stats.by(pool, question, each))[0]]
            for question in asked
            for each in groupings
        ]

    hourly = await told()
    await folds.make_due(pool, NOW)
    assert await made(pool, "year_tail") == {datetime(2025, 11, 1, tzinfo=UTC)}
    assert len(await made(pool, "year_head")) == 5
    assert await told() == hourly
    for grain, read in (
        ("year_tail", [*[True] * 3, False] * 2 + [False] * 4),
        ("year_head", [*[True] * 3, False] * 3),
    ):
        await pool.execute("update usage_folds set requests = requests + 1000 where grain = $1", grain)
        assert [any(row["requests"] > 1000 for row in rows) for rows in await told()] == read
        await pool.execute("update usage_folds set requests = requests - 1000 where grain = $1", grain)


async def test_the_database_cuts_time_as_reports_do(pool):
    moments = [
        datetime(2027, 12, 31, 23, 59, 59, tzinfo=UTC) + timedelta(hours=7 * number) for number in range(1300)
    ]
    for grain in (grain for grain in GRAINS if grain not in OVERLAPPING):
        rows = await pool.fetch(
            "select at, block_of($1, at) as start, block_end($1, block_of($1, at)) as end from unnest($2::timestamptz[]) as at",
            grain,
            moments,
        )
        assert [(row["start"], row["end"]) for row in rows] == [
            (floor(grain, moment), following(grain, floor(grain, moment))) for moment in moments
        ]


async def test_the_marks_of_an_hour_are_those_of_the_blocks_that_hold_it(pool):
    start, end = datetime(2027, 12, 1, tzinfo=UTC), datetime(2029, 2, 1, tzinfo=UTC)
    days = [start + timedelta(days=number) for number in range((end - start).days)]
    heads = [block("month_head", day) for day in days]
    possible = {*large_blocks(start, end), *(each for each in heads if each.end <= end)}
    for hour in (
        datetime(2028, 2, 29, 23, tzinfo=UTC),
        datetime(2028, 12, 31, 5, tzinfo=UTC),
        datetime(2028, 1, 1, tzinfo=UTC),
    ):
        rows = await pool.fetch("select grain, at from folds_holding($1)", [hour])

        marks = {(row["grain"], row["at"]) for row in rows}
        told = {each for each in possible if (each.grain, each.stands[0]) in marks}
        assert told == {each for each in possible if each.start <= hour < each.end}
        day = floor("day", hour)
        assert {("hour", hour), ("six", floor("six", hour)), ("day", day)} <= marks
        assert {at for grain, at in marks if grain == "window"} == {day, day + timedelta(days=1)}


async def test_a_record_of_this_hour_waits_for_no_lock_of_folds(pool):
    async with pool.acquire() as connection, connection.transaction():
        assert await connection.fetchval("select pg_try_advisory_xact_lock(folds_lock())")

        await records.store(pool, [payload(record(datetime.now(UTC)))], timeout_s=10)

        assert await pool.fetchval("select sum(requests) from usage_hourly") == 1
