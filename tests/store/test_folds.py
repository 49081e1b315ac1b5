"""Folds: no answer depends on them, and nothing that changes an hour leaves a wrong sum behind."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from proxy.core.period import Period
from proxy.core.stretches import GRAINS, OVERLAPPING, block, floor, following, large_blocks
from proxy.store import erasures, folds, records, stats
from proxy.store.stats import Filters, Grouping, Question
from proxy.store.stats_plan import Asked, plan
from tests.admin import usage
from tests.admin.conftest import NOW, payload, record

CROWD = [
    {"user_id": f"user_{number}", "key_id": f"key_{number}", "group_id": f"group_{number % 2}"}
    for number in range(3)
]
OLD = NOW - timedelta(days=30)
FIRST = datetime(2026, 3, 30, 12, tzinfo=UTC)
"""From here on every day is folded: the second quarter is whole."""


@pytest.fixture
async def lines(pool):
    generated = [record(FIRST, **CROWD[2]), *usage.generate(CROWD, count=500)]
    await records.store(pool, list(map(payload, generated)), ("grade",))
    return generated


def period(start, end, zone="UTC"):
    return Period(start, end, ZoneInfo(zone))


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


async def made(pool, grain):
    rows = await pool.fetch("select at from usage_folded where grain = $1", grain)
    return {row["at"] for row in rows}


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


async def test_each_cut_sums_to_the_records_in_each_block(pool, lines):
    await folds.make_due(pool, NOW)
    names = ("input_tokens", "cost_nanousd", "cache_saved_nanousd", "errors")
    columns = ", ".join(f"sum({name})::bigint as {name}" for name in ("requests", *names))
    rows = await pool.fetch(f"select cut, grain, at, {columns} from usage_folds group by 1, 2, 3")

    told = Counter()
    ordered = sorted(lines, key=usage.at)
    for row in rows:
        held = block("day" if row["grain"] == folds.WINDOW else row["grain"], row["at"])
        first, last = (bisect_left(ordered, moment, key=usage.at) for moment in (held.start, held.end))
        expected = ordered[first:last]
        assert row["requests"] == len(expected)
        sums = usage.sums(expected)
        assert {name: row[name] for name in names} == {name: sums[name] for name in names}, row
        told[row["cut"], row["grain"]] += len(expected)
    for cut in folds.CUTS:
        grains = {*cut.grains} | ({folds.WINDOW} if cut.hours else set())
        assert {grain for of, grain in told if of == cut.name} == grains - {"year_head", "year_tail"}
    assert min(told.values()) > 100


async def test_they_are_read(pool, lines):
    await folds.make_due(pool, NOW)
    await pool.execute(
        "update usage_folds set requests = requests + 1000 where grain = 'quarter' and cut = 'total'"
    )

    row = await stats.totals(pool, Question(PERIODS[0], NOW))

    assert row["requests"] == len(lines) + 1000


async def test_users_of_the_days_of_every_zone_are_those_of_the_records(pool, lines):
    await folds.make_due(pool, NOW)
    # What is counted in folds by people would be seen.
    await pool.execute("update usage_folds set user_id = user_id || at where cut like 'who%' or cut = 'full'")
    for ahead in range(-12, 15):
        zone = ZoneInfo(f"Etc/GMT{-ahead:+d}")
        start, end = datetime(2026, 7, 1, tzinfo=zone), datetime(2026, 8, 13, tzinfo=zone)
        asked = Question(Period(start.astimezone(UTC), end.astimezone(UTC), zone), NOW)

        rows, _ = await stats.by(pool, asked, Grouping("day", "model", sort="name", limit=1000))

        users = {}
        for line in usage.between(lines, start, end):
            day = usage.at(line).astimezone(zone).date().isoformat()
            users.setdefault((day, usage.model(line)), set()).add(line["user_id"])
        assert sum(len(who) > 1 for who in users.values()) > 10
        assert {(row["first"], row["second"]): row["users"] for row in rows} == {
            of: len(who) for of, who in users.items()
        }


async def test_hours_are_folded_when_three_hours_old_and_days_without_usage_too(pool, lines):
    await folds.make_due(pool, NOW)

    days = await made(pool, "day")
    assert max(days) == datetime(2026, 8, 14, tzinfo=UTC)
    assert datetime(2026, 7, 15, tzinfo=UTC) in days
    assert max(await made(pool, "hour")) == datetime(2026, 8, 15, 9, tzinfo=UTC)
    assert await folds.make_due(pool, NOW) == 0
    assert await folds.make_due(pool, NOW + timedelta(days=1)) == 1
    assert min(await made(pool, "hour")) == datetime(2026, 8, 16, tzinfo=UTC)


async def test_a_late_record_unfolds_what_holds_it_and_no_more(pool, lines):
    await folds.make_due(pool, NOW)
    before = {grain: await made(pool, grain) for grain in (*GRAINS[1:-1], "window")}

    await records.store(pool, [payload(record(OLD, **CROWD[0]))])

    day = OLD.replace(hour=0, minute=0)
    assert before["day"] - await made(pool, "day") == {day}
    assert before["window"] - await made(pool, "window") == {day, day + timedelta(days=1)}
    assert before["six"] - await made(pool, "six") == {floor("six", OLD)}
    assert before["five"] - await made(pool, "five") == {floor("five", OLD)}
    assert before["month"] - await made(pool, "month") == {day.replace(day=1)}
    for grain, held in (("month_head", (20, 25)), ("month_tail", (6, 11, 16))):
        assert before[grain] - await made(pool, grain) == {day.replace(day=number) for number in held}
    hours = {hour for hour in await made(pool, "hour") if hour.date() == day.date()}
    assert hours == {day + timedelta(hours=number) for number in range(24)} - {OLD.replace(minute=0)}
    row = await stats.totals(pool, Question(PERIODS[0], NOW))
    assert (row["requests"], row["users"]) == (len(lines) + 1, 3)
    assert await folds.make_due(pool, NOW) == 1
    assert {grain: await made(pool, grain) for grain in before} == before
    assert (await stats.totals(pool, Question(PERIODS[0], NOW)))["requests"] == len(lines) + 1


async def test_a_voided_record_leaves_the_folds_too(pool, lines):
    line = record(OLD, **CROWD[0])
    await records.store(pool, [payload(line)])
    await folds.make_due(pool, NOW)

    assert await records.void(pool, UUID(line["id"]), "test")

    assert (await stats.totals(pool, Question(PERIODS[0], NOW)))["requests"] == len(lines)


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


async def test_a_record_that_comes_while_its_day_is_folded_is_not_lost(pool, lines):
    day = OLD.replace(hour=0, minute=0)
    for number in range(8):
        await pool.execute("delete from usage_folded where at = $1", day)
        late = [payload(record(OLD + timedelta(seconds=number), **CROWD[0]))]

        await asyncio.gather(folds.make_due(pool, NOW), records.store(pool, late), folds.make_due(pool, NOW))

        row = await stats.totals(pool, Question(PERIODS[0], NOW))
        assert row["requests"] == len(lines) + number + 1


async def test_six_hours_are_kept_for_a_while(pool, lines):
    later = NOW + timedelta(days=3)
    await folds.make_due(pool, NOW)
    first = min(await made(pool, "six"))

    await folds.make_due(pool, later)

    gone = floor("day", later) - folds.SIX_DAYS * timedelta(days=1)
    usual = [floor("day", later) - timedelta(days=number) for number in (90, 89)]
    assert first < gone
    kept = {at for at in await made(pool, "six") if floor("day", at) not in usual}
    assert min(kept) == gone
    rows = await pool.fetch("select distinct at from usage_folds where grain = 'six'")
    assert {row["at"] for row in rows} <= await made(pool, "six")
    assert await pool.fetchval("select min(at) from usage_folds where cut = 'who' and grain = 'day'") < first


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


async def test_the_head_of_this_month_reaches_to_the_last_day_that_is_folded(pool, lines):
    for days in range(4):
        await folds.make_due(pool, NOW + timedelta(days=days))

        heads = {at for at in await made(pool, "month_head") if at.month == NOW.month}
        last = floor("day", NOW) + timedelta(days=days - 1)
        assert heads == {NOW.replace(day=10, hour=0, minute=0), last.replace(hour=0)} | (
            {datetime(2026, 8, 15, tzinfo=UTC)} if days > 0 else set()
        )
        rows = await pool.fetch(
            "select distinct at from usage_folds where cut = 'who' and grain = 'month_head'"
        )
        assert {row["at"] for row in rows} <= await made(pool, "month_head")


async def test_usual_reports_by_people_read_a_tail_from_their_first_day_on(pool, lines):
    for passed in range(2):
        now = NOW + passed * timedelta(days=1)
        await folds.make_due(pool, now)
        for zone in ("UTC", "America/Sao_Paulo", "Asia/Tokyo"):
            for days in folds.USUAL_DAYS[:2]:
                today = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0)
                first = (today - timedelta(days=days - 1)).astimezone(UTC)
                question = Question(period(first, now, zone), now)
                asked = Asked(question.period, now, question.hours(), frozenset({"user"}))

                early = [each for each in (await plan(pool, asked)).pieces if each.end <= NOW.replace(day=1)]

                assert {each.grain for each in early} - {None, "six"} <= {"month_tail", "month"}
                hours = sum((each.end - each.start for each in early if each.grain is None), timedelta())
                assert hours < timedelta(hours=6)
    assert len({at.date() for at in await made(pool, "six")}) == folds.SIX_DAYS + 2 + 1
    for grain in ("month_head", "month_tail", "six"):
        rows = await pool.fetch("select distinct at from usage_folds where cut = 'who' and grain = $1", grain)
        assert {row["at"] for row in rows} <= await made(pool, grain)


async def test_a_record_of_this_hour_waits_for_no_lock_of_folds(pool):
    async with pool.acquire() as connection, connection.transaction():
        assert await connection.fetchval("select pg_try_advisory_xact_lock(folds_lock())")

        await records.store(pool, [payload(record(datetime.now(UTC)))], timeout_s=10)

        assert await pool.fetchval("select sum(requests) from usage_hourly") == 1
