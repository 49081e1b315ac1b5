"""Folds: they are sums of the records, and nothing that changes an hour leaves a wrong one behind."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from proxy.core.period import Period
from proxy.core.stretches import GRAINS, block, floor
from proxy.store import folds, records, stats
from proxy.store.stats import Grouping, Question
from proxy.store.stats_plan import Asked, plan
from tests.admin import usage
from tests.admin.conftest import NOW, payload, record
from tests.databases import filled_database
from tests.store.folded import CROWD, made, period, usage_of_months

OLD = NOW - timedelta(days=30)
EVER = period(datetime(2026, 3, 1, tzinfo=UTC), NOW)


@pytest.fixture(scope="module")
def folded_usage(postgres_server) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(a database with usage that is folded, what is in it). Each test has a copy: to fold it takes seconds."""

    async def fill(pool) -> list[dict[str, Any]]:
        lines = await usage_of_months(pool)
        assert await folds.make_due(pool, NOW) > 90
        return lines

    with filled_database(postgres_server, fill) as found:
        yield found


@pytest.fixture
def template(folded_usage):
    return folded_usage[0]


@pytest.fixture
def lines(folded_usage):
    return folded_usage[1]


async def test_each_cut_sums_to_the_records_in_each_block(pool, lines):
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
    await pool.execute(
        "update usage_folds set requests = requests + 1000 where grain = 'quarter' and cut = 'total'"
    )

    row = await stats.totals(pool, Question(EVER, NOW))

    assert row["requests"] == len(lines) + 1000


async def test_users_of_the_days_of_every_zone_are_those_of_the_records(pool, lines):
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
    days = await made(pool, "day")
    assert max(days) == datetime(2026, 8, 14, tzinfo=UTC)
    assert datetime(2026, 7, 15, tzinfo=UTC) in days
    assert max(await made(pool, "hour")) == datetime(2026, 8, 15, 9, tzinfo=UTC)
    assert await folds.make_due(pool, NOW) == 0
    assert await folds.make_due(pool, NOW + timedelta(days=1)) == 1
    assert min(await made(pool, "hour")) == datetime(2026, 8, 16, tzinfo=UTC)


async def test_a_late_record_unfolds_what_holds_it_and_no_more(pool, lines):
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
    row = await stats.totals(pool, Question(EVER, NOW))
    assert (row["requests"], row["users"]) == (len(lines) + 1, 3)
    assert await folds.make_due(pool, NOW) == 1
    assert {grain: await made(pool, grain) for grain in before} == before
    assert (await stats.totals(pool, Question(EVER, NOW)))["requests"] == len(lines) + 1


async def test_a_voided_record_leaves_the_folds_too(pool, lines):
    line = record(OLD, **CROWD[0])
    await records.store(pool, [payload(line)])
    await folds.make_due(pool, NOW)

    assert await records.void(pool, UUID(line["id"]), "test")

    assert (await stats.totals(pool, Question(EVER, NOW)))["requests"] == len(lines)


async def test_a_record_that_comes_while_its_day_is_folded_is_not_lost(pool, lines):
    day = OLD.replace(hour=0, minute=0)
    for number in range(8):
        await pool.execute("delete from usage_folded where at = $1", day)
        late = [payload(record(OLD + timedelta(seconds=number), **CROWD[0]))]

        await asyncio.gather(folds.make_due(pool, NOW), records.store(pool, late), folds.make_due(pool, NOW))

        row = await stats.totals(pool, Question(EVER, NOW))
        assert row["requests"] == len(lines) + number + 1


async def test_six_hours_are_kept_for_a_while(pool, lines):
    later = NOW + timedelta(days=3)
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
