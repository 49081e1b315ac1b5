"""Daily sums: no answer depends on them, and nothing that changes an hour leaves a wrong day behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from proxy.core.period import Period
from proxy.store import daily, records, stats
from proxy.store.stats import Filters, Grouping, Question
from tests.admin import usage
from tests.admin.conftest import NOW, payload, record

CROWD = [
    {"user_id": f"user_{number}", "key_id": f"key_{number}", "group_id": f"group_{number % 2}"}
    for number in range(3)
]
OLD = NOW - timedelta(days=30)


@pytest.fixture
async def lines(pool):
    generated = usage.generate(CROWD, count=500)
    await records.store(pool, list(map(payload, generated)), ("grade",))
    return generated


def period(start, end, zone="UTC"):
    return Period(start, end, ZoneInfo(zone))


PERIODS = [
    period(datetime(2026, 5, 1, tzinfo=UTC), NOW),
    period(datetime(2026, 6, 3, 10, 20, 30, tzinfo=UTC), datetime(2026, 8, 1, 7, 59, tzinfo=UTC)),
    period(datetime(2026, 6, 3, 22, tzinfo=UTC), datetime(2026, 8, 1, 22, tzinfo=UTC), "Europe/Berlin"),
    period(datetime(2026, 7, 12, 1, tzinfo=UTC), datetime(2026, 7, 12, 23, tzinfo=UTC)),
]
FILTERS = [
    Filters(),
    Filters({"user": ["user_1"]}),
    Filters({"model": ["o4"], "status": ["200"]}),
    Filters(tags={"grade": "8"}),
    Filters({"streamed": ["true"]}),
]
GROUPINGS = [
    Grouping("user"),
    Grouping("model", "day", sort="name", limit=1000),
    Grouping("month", sort="name"),
    Grouping("hour", sort="name", limit=1000),
    Grouping("tag", tags=("grade", None)),
]


async def answers(pool):
    """What is told of every period with every filter."""
    found = []
    async with pool.acquire() as connection:
        for asked in PERIODS:
            for filters in FILTERS:
                question = Question(asked, NOW, filters, frozenset({"grade"}))
                found.append(dict(await stats.totals(connection, question)))
                found.append(dict(await stats.users_seen(connection, question)))
                for grouping in GROUPINGS:
                    rows, total = await stats.by(connection, question, grouping)
                    found.append(([dict(row) for row in rows], total))
                async with connection.transaction():
                    found.append(
                        [
                            [dict(row) for row in rows]
                            async for rows in stats.user_summaries(connection, question)
                        ]
                    )
    return found


async def days_made(pool):
    return {row["day"] for row in await pool.fetch("select day from usage_days")}


async def test_no_answer_depends_on_whether_they_were_made(pool, lines):
    hourly = await answers(pool)
    assert await daily.make_due(pool, NOW) > 90

    assert await answers(pool) == hourly
    await pool.execute("delete from usage_days where extract(day from day) in (5, 6, 20)")
    assert await answers(pool) == hourly


async def test_they_are_read(pool, lines):
    await daily.make_due(pool, NOW)
    await pool.execute(
        "update usage_daily set requests = requests + 1000 where day = $1",
        usage.at(lines[0]).replace(hour=0, minute=0, second=0, microsecond=0),
    )

    row = await stats.totals(pool, Question(PERIODS[0], NOW))

    assert row["requests"] > len(lines) + 999


async def test_the_last_days_have_none_and_days_without_usage_have(pool, lines):
    await daily.make_due(pool, NOW)

    made = await days_made(pool)
    assert max(made) == datetime(2026, 8, 11, tzinfo=UTC)
    assert datetime(2026, 7, 15, tzinfo=UTC) in made
    assert await daily.make_due(pool, NOW) == 0
    assert await daily.make_due(pool, NOW + timedelta(days=1)) == 1


async def test_a_late_record_drops_its_day_and_no_other(pool, lines):
    await daily.make_due(pool, NOW)
    before = await days_made(pool)

    await records.store(pool, [payload(record(OLD, **CROWD[0]))])

    day = OLD.replace(hour=0, minute=0)
    assert before - await days_made(pool) == {day}
    assert await pool.fetchval("select count(*) from usage_daily where day = $1", day) == 0
    row = await stats.totals(pool, Question(PERIODS[0], NOW))
    assert row["requests"] == len(lines) + 1
    assert await daily.make_due(pool, NOW) == 1
    assert (await stats.totals(pool, Question(PERIODS[0], NOW)))["requests"] == len(lines) + 1


async def test_a_voided_record_leaves_the_day_too(pool, lines):
    line = record(OLD, **CROWD[0])
    await records.store(pool, [payload(line)])
    await daily.make_due(pool, NOW)

    assert await records.void(pool, UUID(line["id"]), "test")

    assert (await stats.totals(pool, Question(PERIODS[0], NOW)))["requests"] == len(lines)


async def test_a_record_that_comes_while_its_day_is_made_is_not_lost(pool, lines):
    day = OLD.replace(hour=0, minute=0)
    for number in range(8):
        await pool.execute("delete from usage_days where day = $1", day)
        late = [payload(record(OLD + timedelta(seconds=number), **CROWD[0]))]

        await asyncio.gather(daily.make_due(pool, NOW), records.store(pool, late), daily.make_due(pool, NOW))

        row = await stats.totals(pool, Question(PERIODS[0], NOW))
        assert row["requests"] == len(lines) + number + 1


async def test_a_stretch_is_the_longest_of_whole_days(pool):
    days = [1, 2, 4, 5, 6, 9]
    await pool.executemany(
        "insert into usage_days (day) values ($1)", [(datetime(2026, 8, day, tzinfo=UTC),) for day in days]
    )

    async def stretch(start, end):
        first, last = await daily.stretch(
            pool, datetime(2026, 8, *start, tzinfo=UTC), datetime(2026, 8, *end, tzinfo=UTC)
        )
        return first.day, last.day, last - first

    assert await stretch((1,), (10,)) == (4, 7, timedelta(days=3))
    assert await stretch((4, 1), (6, 23)) == (5, 6, timedelta(days=1))
    assert await stretch((7,), (9, 5)) == (9, 9, timedelta(0))
    assert await stretch((5, 3), (5, 9)) == (5, 5, timedelta(0))
