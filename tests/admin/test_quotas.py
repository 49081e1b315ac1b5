"""Quotas and plans over the admin API, in the shapes that are fixed."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.admin.conftest import NOW, record


async def test_a_users_list_is_put_as_a_whole(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    path = f"/admin/users/{user['id']}/quotas"

    status, put = await api.ask(
        "PUT",
        path,
        [
            {"unit": "cost", "window": "month", "limit": "5.000000001"},
            {"unit": "tokens", "window": "month", "limit": "200000"},
            {"unit": "requests", "window": "day", "limit": 10, "model": "gpt-5*", "soft": True},
        ],
    )

    assert status == 200
    assert [(quota["unit"], quota["limit"]) for quota in put["data"]] == [
        ("cost", "5.000000001"),
        ("tokens", "200000"),
        ("requests", "10"),
    ]
    assert await api.pool.fetchval("select limit_amount from quotas where unit = 'cost'") == 5_000_000_001
    _, less = await api.ask("PUT", path, [{"unit": "cost", "window": "month", "limit": "6"}])
    assert [(quota["id"], quota["limit"]) for quota in less["data"]] == [(put["data"][0]["id"], "6")]


async def test_what_is_used_and_remains_is_told(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    path = f"/admin/users/{user['id']}/quotas"
    _, put = await api.ask(
        "PUT", path, [{"unit": "cost", "window": "month", "limit": "5", "billing_day": 10}]
    )
    await api.pool.execute(
        "insert into quota_windows (quota_id, scope_id, window_start, settled) values ($1, $2, $3, $4)",
        put["data"][0]["id"],
        user["id"],
        datetime(2026, 8, 10, tzinfo=UTC),
        1_250_000_000,
    )

    (quota,) = (await api.get(path))["data"]

    assert (quota["limit"], quota["used"], quota["remaining"]) == ("5", "1.25", "3.75")
    assert (quota["window_start"], quota["resets_at"]) == ("2026-08-10T00:00:00Z", "2026-09-10T00:00:00Z")


async def test_all_that_binds_a_user_is_shown(api):
    plan = await api.post(
        "/admin/plans",
        {
            "name": "basic",
            "quotas": [
                {"unit": "cost", "window": "month", "limit": "5"},
                {"unit": "tokens", "window": "day", "limit": "100"},
            ],
        },
    )
    group = await api.post("/admin/groups", {"name": "5A", "plan": plan["id"]})
    user = await api.post("/admin/users", {"name": "Ana", "group": group["id"]})
    await api.ask(
        "PUT", f"/admin/users/{user['id']}/quotas", [{"unit": "cost", "window": "month", "limit": "7"}]
    )
    await api.ask(
        "PUT", f"/admin/groups/{group['id']}/quotas", [{"unit": "cost", "window": "month", "limit": "50"}]
    )
    await api.post(
        "/admin/quotas", {"scope": "everyone", "unit": "requests", "window": "minute", "limit": "1000"}
    )

    bound = (await api.get(f"/admin/users/{user['id']}/quotas"))["data"]

    assert sorted((quota["scope"], quota["unit"], quota["limit"]) for quota in bound) == [
        ("everyone", "requests", "1000"),
        ("group", "cost", "50"),
        ("user", "cost", "7"),
        ("user", "tokens", "100"),
    ]


async def test_wrong_quotas_are_refused_by_field(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    path = f"/admin/users/{user['id']}/quotas"

    async def refused(*quotas):
        status, _, param = await api.refused("PUT", path, list(quotas))
        return status, param

    good = {"unit": "tokens", "window": "month", "limit": "5"}
    assert await refused(good | {"limit": "-1"}) == (400, "[0]")
    assert await refused(good | {"limit": "1.5"}) == (400, "[0]")
    assert await refused(good | {"limit": str(2**63)}) == (400, "[0]")
    assert await refused(good, good | {"unit": "euros"}) == (400, "[1].unit")
    assert await refused(good | {"unit": "cost", "limit": "0.0000000001"}) == (400, "[0]")
    assert await refused(good, good | {"limit": "6"}) == (400, None)
    assert (await api.refused("PUT", path, {"quotas": []}))[0] == 400
    assert await api.pool.fetchval("select count(*) from quotas") == 0


async def test_a_single_quota_is_made_raised_and_removed(api):
    user = await api.post("/admin/users", {"name": "Ana", "external_id": "42"})
    quota = await api.post(
        "/admin/quotas", {"scope": "user", "scope_id": "42", "unit": "cost", "window": "total", "limit": "10"}
    )
    path = f"/admin/quotas/{quota['id']}"

    assert quota["scope_id"] == user["id"]
    assert await api.refused("PATCH", path, {"raised_limit": "20"}) == (400, "invalid_value", "raised_until")
    _, raised = await api.ask("PATCH", path, {"raised_limit": "20", "raised_until": "2100-01-01T00:00:00Z"})
    assert (raised["limit"], raised["raised_limit"]) == ("10", "20")
    _, lowered = await api.ask("PATCH", path, {"raised_limit": None, "limit": "8"})
    assert (lowered["limit"], lowered["raised_limit"]) == ("8", None)
    assert (await api.get("/admin/quotas?scope=user"))["total"] == 1
    assert (await api.ask("DELETE", path))[0] == 200
    assert (await api.refused("GET", path))[0] == 404


async def test_a_second_quota_that_says_the_same_is_refused(api):
    body = {"scope": "everyone", "unit": "cost", "window": "month", "limit": "10"}
    await api.post("/admin/quotas", body)

    assert (await api.refused("POST", "/admin/quotas", body | {"limit": "20"}))[0] == 400


async def test_a_plan_is_changed_and_removed_when_nobody_is_on_it(api):
    plan = await api.post(
        "/admin/plans", {"name": "basic", "quotas": [{"unit": "cost", "window": "month", "limit": "5"}]}
    )
    user = await api.post("/admin/users", {"name": "Ana", "plan": "basic"})

    _, changed = await api.ask(
        "PATCH", "/admin/plans/basic", {"quotas": [{"unit": "cost", "window": "month", "limit": "6"}]}
    )

    assert (changed["quotas"][0]["id"], changed["quotas"][0]["limit"]) == (plan["quotas"][0]["id"], "6")
    assert (changed["users"], changed["groups"]) == (1, 0)
    assert await api.refused("DELETE", "/admin/plans/basic") == (409, "already_exists", "plan")
    await api.ask("PATCH", f"/admin/users/{user['id']}", {"plan": None})
    assert (await api.ask("DELETE", "/admin/plans/basic"))[0] == 200


async def test_a_window_begins_anew_and_the_log_says_what_was_used(api, store):
    user = await api.post("/admin/users", {"name": "Ana"})
    path = f"/admin/users/{user['id']}/quotas"
    _, put = await api.ask("PUT", path, [{"unit": "tokens", "window": "month", "limit": "1000"}])
    await store(record(NOW, user_id=user["id"]))
    assert (await api.get(path))["data"][0]["used"] == "120"

    await api.post(f"/admin/quotas/{put['data'][0]['id']}/reset", {})

    assert (await api.get(path))["data"][0]["used"] == "0"
    entry = (await api.get("/admin/audit?action=quota.reset"))["data"][0]
    assert entry["before"] == {"used": 120}


async def test_a_balance_is_topped_up_by_what_is_added(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    quota = await api.post(
        "/admin/quotas",
        {"scope": "user", "scope_id": user["id"], "unit": "cost", "window": "total", "limit": "5.00"},
    )

    _, once = await api.ask("PATCH", f"/admin/quotas/{quota['id']}", {"add": "2.50"})
    _, twice = await api.ask("PATCH", f"/admin/quotas/{quota['id']}", {"add": "2.50"})
    status, _ = await api.ask("PATCH", f"/admin/quotas/{quota['id']}", {"add": "-1"})

    assert (once["limit"], twice["limit"], status) == ("7.5", "10", 400)
    changes = await api.pool.fetch("select after from audit_log where action = 'quota.change' order by id")
    assert [row["after"] for row in changes] == [
        {"limit_amount": 7_500_000_000},
        {"limit_amount": 10_000_000_000},
    ]


async def test_a_soft_limit_may_follow_the_users_average(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    path = f"/admin/users/{user['id']}/quotas"
    soft = {"unit": "tokens", "window": "day", "limit": "1000", "soft": True, "average_percent": 300}

    _, put = await api.ask("PUT", path, [soft])
    status, _ = await api.ask("PUT", path, [soft | {"soft": False}])
    _, hard = await api.ask("PATCH", f"/admin/quotas/{put['data'][0]['id']}", {"soft": False})

    assert put["data"][0]["average_percent"] == 300
    assert status == 400
    assert hard["average_percent"] is None
