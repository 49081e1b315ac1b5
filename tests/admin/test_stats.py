"""Statistics against sums computed here, over months, zones, days without usage and users that are gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from proxy.store import people
from tests.admin import usage
from tests.admin.conftest import NOW, record

MAY = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
async def crowd(pool):
    """Four users in two groups, one of them deactivated; and one that was never in the database."""
    groups = [await people.create_group(pool, name=name) for name in ("5A", "5B")]
    found = []
    for number in range(4):
        user = await people.create_user(
            pool,
            name=f"user {number}",
            email=f"u{number}@school.example",
            group_id=groups[number % 2]["id"],
            active=number != 3,
        )
        key, _ = await people.create_key(pool, user_id=user["id"], name=f"key {number}")
        found.append({"user_id": user["id"], "key_id": key["id"], "group_id": user["group_id"]})
    return [*found, {"user_id": "user_gone", "key_id": "key_gone"}]


@pytest.fixture
async def lines(store, crowd):
    generated = usage.generate(crowd)
    await store(*generated, rollup_tags=())
    return generated


async def test_stats_has_the_fixed_shape_and_zeros_when_there_is_nothing(api):
    zeros = {
        "requests": 0,
        "users": 0,
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "cost_usd": "0",
        "errors": 0,
    }
    assert await api.get("/admin/stats") == {"overall": zeros, "month": zeros, "today": zeros}


async def test_stats_sums_overall_this_month_and_today(api, lines, crowd, store):
    last = record(NOW - timedelta(minutes=5), **crowd[0])
    await store(last)
    lines = [*lines, last]

    answer = await api.get("/admin/stats")

    for part, start in (
        ("overall", MAY),
        ("month", datetime(2026, 8, 1, tzinfo=UTC)),
        ("today", NOW.replace(hour=0, minute=0)),
    ):
        expected = usage.between(lines, start, NOW)
        sums = usage.sums(expected)
        assert answer[part]["users"] == len({line["user_id"] for line in expected})
        assert usage.nanousd(answer[part]["cost_usd"]) == sums["cost_nanousd"]
        for name in ("requests", "errors", "input_tokens", "output_tokens", "total_tokens"):
            assert answer[part][name] == sums[name], (part, name)


@pytest.mark.parametrize("tz", ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Tokyo"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2026-06-01", "2026-07-31"),
        ("2026-06-03T10:20:30Z", "2026-06-09T22:10:00Z"),
        ("2026-07-11", "2026-07-12"),
    ],
)
async def test_any_period_in_any_zone_is_summed_to_the_record(api, lines, tz, start, end):
    from proxy.core.period import period

    asked = period(NOW, start=start, end=end, tz=tz)
    expected = usage.between(lines, asked.start, asked.end)

    answer = await api.get(f"/admin/stats/overview?start={start}&end={end}&tz={tz}")

    assert usage.shown(answer["sums"]) == usage.sums(expected)
    before = usage.between(lines, asked.start - (asked.end - asked.start), asked.start)
    assert usage.shown(answer["before"]) == usage.sums(before)
    seen, earlier = (
        {line["user_id"] for line in expected},
        {line["user_id"] for line in usage.between(lines, MAY, asked.start)},
    )
    assert answer["users"] == {
        "active": len(seen),
        "new": len(seen - earlier),
        "returning": len(seen & earlier),
    }
    by_day = await api.get(f"/admin/stats/days?start={start}&end={end}&tz={tz}&limit=1000")
    assert {row["key"]: usage.shown(row) for row in by_day["data"]} == usage.grouped(expected, usage.day(tz))


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("users", lambda line: line["user_id"]),
        ("groups", lambda line: line.get("group_id") or ""),
        ("keys", lambda line: line["key_id"]),
        ("models", usage.model),
        ("endpoints", lambda line: line["endpoint"]),
        ("operations", lambda line: line["operation"] or ""),
        ("providers", lambda line: line["provider"]),
        ("statuses", lambda line: str(line["status"])),
        ("years", lambda line: usage.at(line).strftime("%Y")),
        ("months", lambda line: usage.at(line).strftime("%Y-%m")),
        ("hours", lambda line: usage.at(line).strftime("%Y-%m-%dT%H:00")),
        ("tags/grade", lambda line: line["tags"]["grade"]),
    ],
)
async def test_each_dimension(api, lines, path, key):
    answer = await api.get(f"/admin/stats/{path}?start=2026-05-01&limit=1000")

    assert {row["key"]: usage.shown(row) for row in answer["data"]} == usage.grouped(lines, key)
    assert answer["total"] == len(answer["data"])


async def test_tags_that_are_summed_answer_like_those_that_are_counted(serve, pool, store, crowd):
    from tests.admin.conftest import Api

    generated = usage.generate(crowd, count=150)
    await store(*generated, rollup_tags=("grade",))
    _, key = await people.create_admin_key(pool, name="a")
    summing = Api(await serve(rollup_tags=("grade",)), key, pool)
    counting = Api(await serve(rollup_tags=()), key, pool)

    for path in (
        "/admin/stats/tags/grade?days=200&tag.grade=7",
        "/admin/stats/tags/grade?days=200",
        "/admin/stats/models?days=200&tag.grade=8",
    ):
        assert (await summing.get(path))["data"] == (await counting.get(path))["data"]


async def test_two_dimensions_at_once(api, lines):
    answer = await api.get(
        "/admin/stats/by?group_by=model,month&start=2026-05-01&limit=1000&sort=name&order=asc"
    )

    rows = answer["data"]
    assert {(row["key"], row["second_key"]): usage.shown(row) for row in rows} == usage.grouped(
        lines, lambda line: (usage.model(line), usage.at(line).strftime("%Y-%m"))
    )
    assert [(row["key"], row["second_key"]) for row in rows] == sorted(
        (row["key"], row["second_key"]) for row in rows
    )


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("user={user}", lambda line, crowd: line["user_id"] == crowd[0]["user_id"]),
        ("user=u1@school.example", lambda line, crowd: line["user_id"] == crowd[1]["user_id"]),
        ("user=user_gone", lambda line, crowd: line["user_id"] == "user_gone"),
        ("group=5A", lambda line, crowd: line.get("group_id") == crowd[0]["group_id"]),
        ("key={key}", lambda line, crowd: line["key_id"] == crowd[0]["key_id"]),
        ("model=o4,gpt-5.1-mini", lambda line, crowd: usage.model(line) in {"o4", "gpt-5.1-mini"}),
        ("model=o4&model=gpt-5.1", lambda line, crowd: usage.model(line) in {"o4", "gpt-5.1"}),
        ("endpoint=/v1/responses", lambda line, crowd: line["endpoint"] == "/v1/responses"),
        ("operation=rag_answer", lambda line, crowd: line["operation"] == "rag_answer"),
        ("provider=openai-eu", lambda line, crowd: line["provider"] == "openai-eu"),
        ("status=429,500", lambda line, crowd: line["status"] in {429, 500}),
        ("streamed=true", lambda line, crowd: line["streamed"]),
        ("streamed=false&model=o4", lambda line, crowd: not line["streamed"] and usage.model(line) == "o4"),
        ("service_tier=flex", lambda line, crowd: line["service_tier"] == "flex"),
        ("finish_reason=length", lambda line, crowd: line["finish_reason"] == "length"),
        ("usage_source=reported", lambda line, crowd: True),
        ("outcome=upstream_cut", lambda line, crowd: line["outcome"] == "upstream_cut"),
        ("end_user=2", lambda line, crowd: line["end_user"] == "2"),
        ("tag.session=3&tag.grade=8", lambda line, crowd: line["tags"] == {"session": "3", "grade": "8"}),
        ("user_active=true", lambda line, crowd: line["user_id"] in {one["user_id"] for one in crowd[:3]}),
        ("user_active=false", lambda line, crowd: line["user_id"] == crowd[3]["user_id"]),
    ],
)
async def test_each_filter(api, lines, crowd, query, holds):
    query = query.format(user=crowd[0]["user_id"], key=crowd[0]["key_id"])
    expected = [line for line in lines if holds(line, crowd)]
    assert len(expected) > 0

    overview = await api.get(f"/admin/stats/overview?start=2026-05-01&{query}")
    history = await api.get(f"/admin/records?start=2026-05-01&limit=1000&{query}")

    assert usage.shown(overview["sums"]) == usage.sums(expected)
    newest_first = sorted(expected, key=lambda line: (line["started_at_us"], line["id"]), reverse=True)
    assert [row["id"] for row in history["data"]] == [line["id"] for line in newest_first]


async def test_averages_and_rates(api, store, crowd):
    await store(
        record(
            NOW - timedelta(minutes=9),
            **crowd[0],
            cost_nanousd=3,
            duration_ms=100,
            ttfb_ms=None,
            input_tokens=30,
            cached_input_tokens=10,
        ),
        record(
            NOW - timedelta(minutes=8),
            **crowd[0],
            cost_nanousd=4,
            duration_ms=201,
            ttfb_ms=50,
            outcome="upstream_error",
            status=500,
        ),
    )

    answer = await api.get("/admin/stats/overview?days=1")

    assert answer["success_rate"] == 0.5
    sums = answer["sums"]
    assert (sums["error_rate"], sums["average_cost_usd"], sums["average_duration_ms"]) == (
        0.5,
        "0.000000004",
        150.5,
    )
    assert (sums["average_ttfb_ms"], sums["average_tokens"]) == (50, (30 + 20 + 120) / 2)
    assert sums["cache_hit_rate"] == round(10 / 130, 6)
    assert sums["first_request_at"] == "2026-08-15T13:11:00Z"


async def test_names_stand_beside_ids_and_gone_users_keep_theirs(api, lines, crowd):
    rows = (await api.get("/admin/stats/users?start=2026-05-01"))["data"]

    called = {row["key"]: (row["name"], row["email"]) for row in rows}
    assert called[crowd[0]["user_id"]] == ("user 0", "u0@school.example")
    assert called["user_gone"] == (None, None)
    assert {row["name"] for row in (await api.get("/admin/stats/groups?start=2026-05-01"))["data"]} == {
        "5A",
        "5B",
        None,
    }


async def test_rows_are_sorted_and_paged(api, lines):
    expected = usage.grouped(lines, lambda line: line["user_id"])
    for sort, field in (
        ("cost", "cost_nanousd"),
        ("requests", "requests"),
        ("tokens", "total_tokens"),
        ("errors", "errors"),
    ):
        rows = (await api.get(f"/admin/stats/users?start=2026-05-01&sort={sort}"))["data"]
        values = [expected[row["key"]][field] for row in rows]
        assert values == sorted(values, reverse=True), sort
        ascending = (await api.get(f"/admin/stats/users?start=2026-05-01&sort={sort}&order=asc"))["data"]
        values = [expected[row["key"]][field] for row in ascending]
        assert values == sorted(values), sort
    pages = [await api.get(f"/admin/stats/users?start=2026-05-01&limit=2&page={page}") for page in (1, 2, 3)]
    assert [len(page["data"]) for page in pages] == [2, 2, 1]
    assert (pages[0]["total"], pages[0]["total_pages"]) == (5, 3)
    assert len({row["key"] for page in pages for row in page["data"]}) == 5


async def test_top_users_and_who_spent_more_than_an_amount(api, lines):
    costs = sorted(
        (sums["cost_nanousd"], user)
        for user, sums in usage.grouped(lines, lambda line: line["user_id"]).items()
    )
    limit = costs[2][0]

    top = await api.get("/admin/stats/top/users?start=2026-05-01&limit=1")
    over = await api.get(f"/admin/stats/top/users?start=2026-05-01&over={limit / 10**9:.9f}")

    assert [row["key"] for row in top["data"]] == [costs[-1][1]]
    assert {row["key"] for row in over["data"]} == {user for cost, user in costs if cost >= limit}
    heaviest = await api.get("/admin/stats/top/operations?start=2026-05-01&by=tokens&limit=1")
    tokens = usage.grouped(lines, lambda line: line["operation"] or "")
    assert heaviest["data"][0]["key"] == max(tokens, key=lambda name: tokens[name]["total_tokens"])


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("days?start=yesterday", 400, "start"),
        ("days?days=0", 400, "days"),
        ("days?tz=Asia/Kolkata", 400, "tz"),
        ("days?start=2026-08-02&end=2026-08-01", 400, "end"),
        ("by?group_by=colour", 400, "group_by"),
        ("by", 400, "group_by"),
        ("by?group_by=model,day,user", 400, "group_by"),
        ("users?sort=beauty", 400, "sort"),
        ("users?user=nobody", 404, "user"),
        ("users?group=nobody", 404, "group"),
        ("users?at_least=x", 400, "at_least"),
        ("models?status=x", 400, "status[0]"),
    ],
)
async def test_questions_that_make_no_sense_are_refused_by_field(api, path, status, param):
    found = await api.refused("GET", f"/admin/stats/{path}")

    assert (found[0], found[2]) == (status, param)
