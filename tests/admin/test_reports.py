"""Trends, models' performance, errors, one subject's page, and many questions at once."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, date, datetime, timedelta

import pytest

from proxy.store import people
from tests.admin import usage
from tests.admin.conftest import NOW, record


@pytest.fixture
async def crowd(pool):
    group = await people.create_group(pool, name="5A")
    found = []
    for number in range(3):
        user = await people.create_user(pool, name=f"user {number}", group_id=group["id"] if number else None)
        key, _ = await people.create_key(pool, user_id=user["id"])
        found.append({"user_id": user["id"], "key_id": key["id"], "group_id": user["group_id"]})
    return found


@pytest.fixture
async def lines(store, crowd):
    generated = usage.generate(crowd, count=300)
    await store(*generated)
    return generated


async def test_a_trend_has_every_day_and_zeros_where_there_was_nothing(api, lines):
    answer = await api.get("/admin/stats/trends?start=2026-07-01&end=2026-07-31")

    by_day = usage.grouped(
        usage.between(lines, datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 8, 1, tzinfo=UTC)),
        usage.day("UTC"),
    )
    days = [date(2026, 7, 1) + timedelta(days=number) for number in range(31)]
    expected = [by_day.get(day.isoformat(), usage.sums([])) for day in days]
    assert [day["day"] for day in answer["days"]] == [day.isoformat() for day in days]
    assert [day["requests"] for day in answer["days"]] == [sums["requests"] for sums in expected]
    assert [usage.nanousd(day["cost_usd"]) for day in answer["days"]] == [
        sums["cost_nanousd"] for sums in expected
    ]
    assert [answer["days"][number]["requests"] for number in range(9, 19)] == [0] * 10
    last_week = [sums["total_tokens"] for sums in expected[-7:]]
    assert answer["days"][-1]["average_tokens"] == round(sum(last_week) / 7, 2)


async def test_growth_and_forecast(api, store, crowd):
    # 10 requests a day for 14 days before today, 20 in each of the seven days before those.
    days = [NOW.replace(hour=12, minute=0) - timedelta(days=number) for number in range(1, 22)]
    await store(
        *(
            record(day, **crowd[0])
            for number, day in enumerate(days)
            for _ in range(10 if number < 14 else 20)
        )
    )

    answer = await api.get("/admin/stats/trends?start=2026-08-08&end=2026-08-14")

    assert answer["growth"] == {"requests": 0, "total_tokens": 0, "cost_usd": 0}
    older = await api.get("/admin/stats/trends?start=2026-08-01&end=2026-08-07")
    assert older["growth"]["requests"] == -0.5
    assert older["growth"]["total_tokens"] == -0.5
    # 14 days so far this month at 10 a day, and 17 - 13:20 h/24 h left at 10 a day.
    left = 17 - (13 * 60 + 20) / (24 * 60)
    assert older["forecast"]["month"] == "2026-08"
    assert older["forecast"]["requests"] == round(140 + 10 * left)


@pytest.mark.parametrize(
    "query",
    [
        "start=2026-05-01",
        "start=2026-05-01&operation=rag_answer",
        "start=2026-06-20T10:30:00Z&end=2026-08-01T09:10:00Z",
    ],
)
async def test_models_performance(api, lines, query):
    from proxy.core.period import period

    named = dict(part.split("=") for part in query.split("&"))
    asked = period(NOW, start=named["start"], end=named.get("end"))
    lines = usage.between(lines, asked.start, asked.end)
    lines = [line for line in lines if "operation" not in named or line["operation"] == named["operation"]]

    answer = await api.get(f"/admin/stats/performance?{query}")

    assert {row["model"] for row in answer["data"]} == {usage.model(line) for line in lines}
    for row in answer["data"]:
        mine = [line for line in lines if usage.model(line) == row["model"]]
        assert usage.shown(row["sums"]) == usage.sums(mine)
        assert row["finish_reasons"] == Counter(
            line["finish_reason"] for line in mine if line["finish_reason"]
        )
        assert row["service_tiers"] == Counter(line["service_tier"] for line in mine)
        assert row["success_rate"] == round(1 - sum(map(usage.failed, mine)) / len(mine), 6)
        took = sorted(line["duration_ms"] for line in mine if line["outcome"] != "refused")
        first = sorted(
            line["ttfb_ms"] for line in mine if line["outcome"] != "refused" and line["ttfb_ms"] is not None
        )
        for found, values in ((row["duration"], took), (row["ttfb"], first)):
            for share, name in ((0.5, "p50_ms"), (0.95, "p95_ms"), (0.99, "p99_ms")):
                exact = values[math.ceil(share * len(values)) - 1]
                assert abs(found[name] - exact) / exact <= 0.05, (row["model"], name)


async def test_errors_by_code_model_and_user(api, lines):
    answer = await api.get("/admin/stats/errors?start=2026-05-01")

    wrong = [line for line in lines if usage.failed(line)]
    assert (answer["requests"], answer["errors"]) == (len(lines), len(wrong))
    assert {
        (kind["status"], kind["outcome"], kind["error_code"]): kind["requests"] for kind in answer["by_code"]
    } == Counter((line["status"], line["outcome"], line["error_code"]) for line in wrong)
    assert {row["key"]: row["errors"] for row in answer["by_model"]} == Counter(map(usage.model, wrong))
    assert {row["key"]: row["errors"] for row in answer["by_user"]} == Counter(
        line["user_id"] for line in wrong
    )
    assert {row["name"] for row in answer["by_user"]} == {"user 0", "user 1", "user 2"}


async def test_a_users_page_has_everything_about_it(api, lines, crowd):
    mine = [line for line in lines if line["user_id"] == crowd[1]["user_id"]]
    page = await api.get(f"/admin/users/{crowd[1]['user_id']}/usage?start=2026-05-01")

    assert usage.shown(page["overall"]) == usage.shown(page["sums"]) == usage.sums(mine)
    assert {row["key"]: usage.shown(row) for row in page["models"]} == usage.grouped(mine, usage.model)
    assert {row["key"]: usage.shown(row) for row in page["operations"]} == usage.grouped(
        mine, lambda line: line["operation"] or ""
    )
    months = usage.grouped(mine, lambda line: usage.at(line).strftime("%Y-%m"))
    assert [row["key"] for row in page["months"]] == sorted(months)
    newest = sorted(mine, key=usage.at, reverse=True)[:50]
    assert [row["id"] for row in page["last_requests"]] == [line["id"] for line in newest]
    assert page["user"]["name"] == "user 1"
    assert page["overall"]["last_request_at"][:19] == usage.at(newest[0]).strftime("%Y-%m-%dT%H:%M:%S")


async def test_a_user_without_usage_is_zeros_and_an_unknown_one_404(api, pool):
    user = await people.create_user(pool, name="new")

    page = await api.get(f"/admin/users/{user['id']}/usage")

    assert (page["overall"]["requests"], page["overall"]["average_tokens"]) == (0, None)
    assert len(page["days"]) == 30
    assert (await api.refused("GET", "/admin/users/nobody/usage"))[0] == 404


async def test_a_groups_page_names_its_users_and_its_quotas(api, lines, crowd):
    await api.ask(
        "PUT",
        f"/admin/groups/{crowd[1]['group_id']}/quotas",
        [{"unit": "cost", "window": "total", "limit": "500"}],
    )
    page = await api.get("/admin/groups/5A/usage?start=2026-05-01")

    mine = [line for line in lines if line.get("group_id")]
    assert usage.shown(page["overall"]) == usage.sums(mine)
    assert {row["key"]: usage.shown(row) for row in page["users"]} == usage.grouped(
        mine, lambda line: line["user_id"]
    )
    assert [(quota["scope"], quota["limit"]) for quota in page["quotas"]] == [("group", "500")]


async def test_users_asked_for_by_name_are_all_there(api, lines, crowd, pool):
    idle = await people.create_user(pool, name="idle")

    rows = (await api.get(f"/admin/stats/users?start=2026-05-01&user={crowd[0]['user_id']},{idle['id']}"))[
        "data"
    ]

    assert [(row["key"], row["name"]) for row in rows] == [
        (crowd[0]["user_id"], "user 0"),
        (idle["id"], "idle"),
    ]
    assert rows[1]["requests"] == 0


async def test_bulk_answers_each_query_with_its_own_status(api, lines, crowd):
    answer = await api.post(
        "/admin/stats/bulk",
        {
            "queries": [
                {"name": "models", "path": "/admin/stats/models?days=90"},
                {"name": "user", "path": f"/admin/users/{crowd[0]['user_id']}/usage"},
                {"name": "nobody", "path": "/admin/users/nobody/usage"},
                {"name": "wrong", "path": "/admin/stats/days?tz=Mars"},
                {"name": "elsewhere", "path": "/admin/users"},
                {"name": "again", "path": "/admin/stats"},
            ]
        },
    )

    results = answer["results"]
    assert {name: result["status"] for name, result in results.items()} == {
        "models": 200,
        "user": 200,
        "nobody": 404,
        "wrong": 400,
        "elsewhere": 404,
        "again": 200,
    }
    assert results["models"]["body"] == await api.get("/admin/stats/models?days=90")
    assert results["wrong"]["body"]["error"]["param"] == "tz"
    many = [{"name": str(number), "path": "/admin/stats"} for number in range(51)]
    assert (await api.refused("POST", "/admin/stats/bulk", {"queries": many}))[0] == 400
    assert (await api.refused("POST", "/admin/stats/bulk", {"queries": many[:1] * 2}))[2] == "queries"
