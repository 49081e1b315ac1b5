"""Demo data: believable, the same for the same seed, summed as real usage is, and never in a database in use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.cli.demo_data import fill
from proxy.cli.demo_records import LATEST, Person, records
from proxy.cli.demo_world import ENDPOINTS, LEFT, PLANS, TEAMS
from proxy.cli.failure import CommandError
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store import demo

END = datetime(2026, 8, 15, 13, 20, tzinfo=UTC)
DAYS = 12
NAMES = [f"{first} {last}" for team in TEAMS for first, last, _ in team.people]


@pytest.fixture(scope="module")
def book():
    return PriceSource.from_settings(Settings()).book


def made(book, seed=1, days=DAYS):
    people = {name: Person(f"user_{name}", "group", name, ("key",), name not in LEFT) for name in NAMES}
    return list(records(people, book, seed=seed, days=days, end=END))


@pytest.fixture(scope="module")
def rows(book):
    """Of twelve days, by the first seed."""
    return made(book)


def test_the_same_seed_gives_the_same_records_and_another_gives_others(book, rows):
    assert made(book) == rows
    assert made(book, seed=2) != rows


def test_records_are_in_order_within_the_time_and_have_ids_of_their_own(rows):
    times = [row.started_at_us for row in rows]

    assert times == sorted(times)
    assert times[0] >= (END - timedelta(days=DAYS)).timestamp() * 1e6
    assert times[-1] <= (END - LATEST).timestamp() * 1e6
    assert len({row.id for row in rows}) == len(rows) > 8000


def test_usage_is_possible_usage(rows):
    for row in rows:
        usage = row.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert 0 <= usage.cached_input_tokens <= usage.input_tokens
        assert 0 <= usage.reasoning_tokens <= usage.output_tokens
        assert row.endpoint in ENDPOINTS.values()
        if row.outcome not in {"success", "client_gone"}:
            assert (usage.total_tokens, row.cost_nanousd, row.usage_source) == (0, 0, "none")
    assert {row.outcome for row in rows} >= {
        "success",
        "client_gone",
        "upstream_error",
        "refused",
        "upstream_timeout",
    }
    assert {row.endpoint for row in rows} == set(ENDPOINTS.values())
    failed = sum(row.outcome not in {"success", "client_gone"} for row in rows) / len(rows)
    assert 0.01 < failed < 0.08
    unpriced = {row.served_model for row in rows if row.cost_nanousd is None}
    assert unpriced == {"llama-4-scout-internal"}


def test_working_days_see_more_than_weekends_and_the_end_more_than_the_beginning(book):
    rows = made(book, days=84)
    by_day: dict[datetime, int] = {}
    for row in rows:
        day = datetime.fromtimestamp(row.started_at_us / 1e6, UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        by_day[day] = by_day.get(day, 0) + 1
    days = sorted(by_day)[:-1]
    weekends = [by_day[day] for day in days if day.weekday() >= 5]
    working = [by_day[day] for day in days if day.weekday() < 5]

    assert sum(working) / len(working) > 1.3 * sum(weekends) / len(weekends)
    first, last = (sum(by_day[day] for day in part) for part in (days[:28], days[-28:]))
    assert last > 1.25 * first


async def test_a_database_is_filled_with_people_records_and_their_sums(pool):
    users, stored = await fill(pool, Settings(), days=4, seed=1, end=END)

    assert users == len(NAMES) == await pool.fetchval("select count(*) from users")
    assert stored == await pool.fetchval("select count(*) from usage_records") > 2000
    summed = "select sum({}), sum(total_tokens), sum(cost_nanousd) from {}"
    assert await pool.fetchrow(summed.format("1", "usage_records")) == await pool.fetchrow(
        summed.format("requests", "usage_hourly")
    )
    assert await pool.fetchval("select sum(requests) from usage_outcomes_hourly") == stored
    assert set(PLANS) <= {row["name"] for row in await pool.fetch("select name from plans")}
    assert await pool.fetchval("select count(*) from users where not active") == len(LEFT)
    assert await pool.fetchval("select count(*) from keys where last_used_at is not null") > 20
    assert await pool.fetchval("select action from audit_log") == "demo_data.create"


async def test_a_database_with_usage_is_left_alone(pool):
    await fill(pool, Settings(), days=1, seed=1, end=END)
    assert not await demo.is_empty(pool)

    with pytest.raises(CommandError, match="an empty one"):
        await fill(pool, Settings(), days=1, seed=1, end=END)

    assert await pool.fetchval("select count(*) from users") == len(NAMES)
