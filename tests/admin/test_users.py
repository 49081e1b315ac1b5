"""Users over the admin API: shapes, names of wrong fields, search, idempotency, and what the audit log keeps."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta

from tests.admin.conftest import NOW, record


async def test_nobody_needs_a_name(api):
    nobody = await api.post("/admin/users", {})
    known = await api.post("/admin/users", {"external_id": "42"})
    named = await api.post("/admin/users", {"name": "Ana", "email": "a@b.example"})

    unnamed = await api.ask("PATCH", f"/admin/users/{named['id']}", {"name": None, "email": None})

    assert [nobody[name] for name in ("name", "email", "external_id")] == [None, None, None]
    assert (await api.get("/admin/users/42"))["id"] == known["id"]
    assert (unnamed[0], unnamed[1]["name"], unnamed[1]["email"]) == (200, None, None)
    assert {user["id"] for user in (await api.get("/admin/users"))["data"]} == {
        nobody["id"],
        known["id"],
        named["id"],
    }
    assert (await api.get(f"/admin/users?search={nobody['id']}"))["total"] == 1


async def test_who_has_no_name_has_keys_and_usage_like_others(api, store):
    nobody = await api.post("/admin/users", {})
    key = await api.post(f"/admin/users/{nobody['id']}/keys", {})
    await store(record(NOW - timedelta(minutes=5), user_id=nobody["id"], key_id=key["id"]))

    me = await api.as_(key["key"]).get("/me")
    (row,) = (await api.get("/admin/stats/users"))["data"]
    (request,) = (await api.get("/admin/records"))["data"]

    assert (me["user"]["id"], me["user"]["name"]) == (nobody["id"], None)
    assert (row["key"], row["name"]) == (nobody["id"], None)
    assert (request["user_id"], request["user_name"]) == (nobody["id"], None)
    assert (await api.get(f"/admin/users/{nobody['id']}/usage"))["user"]["name"] is None


async def test_a_name_is_enough(api):
    status, user = await api.ask("POST", "/admin/users", {"name": "Ana"})

    assert status == 201
    assert user["id"].startswith("user_")
    assert {name: user[name] for name in ("name", "email", "group", "plan", "tags", "active")} == {
        "name": "Ana",
        "email": None,
        "group": None,
        "plan": None,
        "tags": {},
        "active": True,
    }
    assert user["created_at"].endswith("Z")
    assert await api.get(f"/admin/users/{user['id']}") == user


async def test_everything_can_be_given(api):
    group = await api.post("/admin/groups", {"name": "5A", "external_id": "s12-5a"})
    plan = await api.post("/admin/plans", {"name": "basic"})
    user = await api.post(
        "/admin/users",
        {
            "name": "Ana",
            "email": "ana@school.example",
            "external_id": "42",
            "group": "s12-5a",
            "plan": "basic",
            "tags": {"grade": "9"},
            "rules": {"allowed_models": ["gpt-5*"], "max_concurrent": 2, "max_request_cost_usd": "0.50"},
        },
    )

    assert (user["group"], user["group_name"]) == (group["id"], "5A")
    assert (user["plan"], user["plan_name"]) == (plan["id"], "basic")
    assert user["rules"]["max_request_cost_usd"] == "0.5"
    assert await api.pool.fetchval("select settings from users") == {
        "allowed_models": ["gpt-5*"],
        "max_concurrent": 2,
        "max_request_cost_nanousd": 500_000_000,
    }
    for named in ("42", "ANA@school.example"):
        assert (await api.get(f"/admin/users/{named}"))["id"] == user["id"]


async def test_what_is_wrong_is_named(api):
    await api.post("/admin/users", {"name": "a", "email": "a@b.example"})
    refused = api.refused

    assert await refused("POST", "/admin/users", {"name": ""}) == (400, "invalid_value", "name")
    assert await refused("POST", "/admin/users", {"name": 5}) == (400, "invalid_value", "name")
    assert await refused("POST", "/admin/users", {"name": "b", "emial": "x"}) == (
        400,
        "unknown_field",
        "emial",
    )
    assert await refused("POST", "/admin/users", {"name": "b", "email": "x"}) == (
        400,
        "invalid_value",
        "email",
    )
    assert await refused("POST", "/admin/users", {"name": "b", "group": "none"}) == (
        400,
        "not_found",
        "group",
    )
    assert await refused("POST", "/admin/users", {"name": "b", "email": "A@b.example"}) == (
        409,
        "already_exists",
        "email",
    )
    assert await refused("POST", "/admin/users", {"name": "b", "rules": {"max_concurrent": 0}}) == (
        400,
        "invalid_value",
        "rules.max_concurrent",
    )
    assert await refused("POST", "/admin/users", {"name": "b", "tags": {"x": "\x00"}}) == (
        400,
        "invalid_value",
        "x",
    )
    assert await refused("POST", "/admin/users", data=b"{") == (400, "invalid_json", None)
    assert await refused("GET", "/admin/users/nobody") == (404, "not_found", "user")
    assert await refused("GET", "/admin/users?colour=red") == (400, "unknown_parameter", "colour")
    assert await refused("GET", "/admin/users?limit=0") == (400, "invalid_value", "limit")
    assert await refused("GET", "/admin/users?limit=1&limit=2") == (400, "invalid_value", "limit")
    assert await api.pool.fetchval("select count(*) from users") == 1


async def test_a_body_that_is_too_large_is_refused(api):
    assert await api.refused("POST", "/admin/users", data=io.BytesIO(b" " * (4 * 2**20 + 1))) == (
        413,
        "body_too_large",
        None,
    )


async def test_a_change_keeps_what_it_does_not_name(api):
    user = await api.post("/admin/users", {"name": "Ana", "email": "a@b.example", "tags": {"x": "1"}})

    status, changed = await api.ask("PATCH", f"/admin/users/{user['id']}", {"email": None, "active": False})

    assert status == 200
    assert (changed["name"], changed["email"], changed["tags"]) == ("Ana", None, {"x": "1"})
    assert changed["active"] is False
    assert await api.refused("PATCH", f"/admin/users/{user['id']}", {"tags": None}) == (
        400,
        "invalid_value",
        "tags",
    )


async def test_rules_that_are_not_named_stay_and_null_ends_one(api):
    rules = {"allowed_models": ["gpt-5*"], "max_concurrent": 2, "max_request_cost_usd": "1"}
    user = await api.post("/admin/users", {"name": "Ana", "rules": rules})

    path = f"/admin/users/{user['id']}"
    await api.ask("PATCH", path, {"rules": {"max_concurrent": 3, "allowed_models": None}})

    kept = {name: value for name, value in (await api.get(path))["rules"].items() if value is not None}
    assert kept == {"max_concurrent": 3, "max_request_cost_usd": "1"}
    assert await api.pool.fetchval("select settings from users") == {
        "max_concurrent": 3,
        "max_request_cost_nanousd": 1_000_000_000,
    }


async def test_deactivating_is_what_delete_does(api):
    user = await api.post("/admin/users", {"name": "Ana"})

    status, gone = await api.ask("DELETE", f"/admin/users/{user['id']}")

    assert (status, gone["active"]) == (200, False)
    assert (await api.get("/admin/users?active=false"))["total"] == 1
    assert (await api.get("/admin/users?active=true"))["total"] == 0


async def test_a_list_is_searched_and_paged(api):
    for number in range(5):
        await api.post("/admin/users", {"name": f"user {number}", "tags": {"odd": str(number % 2)}})

    page = await api.get("/admin/users?search=USER&limit=2&page=3")
    assert [user["name"] for user in page["data"]] == ["user 4"]
    assert (page["page"], page["limit"], page["total"], page["total_pages"]) == (3, 2, 5, 3)
    assert (await api.get("/admin/users?tag.odd=1"))["total"] == 2
    assert (await api.get("/admin/users?search=nobody"))["data"] == []


async def test_a_creation_asked_for_twice_is_done_once(api):
    headers = {"idempotency-key": "order-17"}
    answers = await asyncio.gather(
        *(api.ask("POST", "/admin/users", {"name": "Ana"}, headers=headers) for _ in range(4))
    )

    assert sorted(status for status, _ in answers) == [200, 200, 200, 201]
    assert len({answer["id"] for _, answer in answers}) == 1
    assert await api.pool.fetchval("select count(*) from users") == 1
    assert await api.refused("POST", "/admin/users", {"name": "Bob"}, headers=headers) == (
        409,
        "idempotency_key_reused",
        "Idempotency-Key",
    )


async def test_a_creation_that_failed_can_be_asked_for_again_with_the_same_key(api):
    headers = {"idempotency-key": "order-18"}
    assert (await api.refused("POST", "/admin/users", {"name": "a", "group": "5A"}, headers=headers))[
        0
    ] == 400
    await api.post("/admin/groups", {"name": "5A"})

    status, _ = await api.ask("POST", "/admin/users", {"name": "a", "group": "5A"}, headers=headers)

    assert status == 201


async def test_every_change_and_every_read_of_personal_data_is_in_the_audit_log(api):
    user = await api.post("/admin/users", {"name": "Ana"})
    await api.ask("PATCH", f"/admin/users/{user['id']}", {"name": "Eva"})
    await api.get("/admin/users?search=eva")
    await api.refused("POST", "/admin/users", {"name": ""})

    log = (await api.get("/admin/audit"))["data"]

    assert [(entry["action"], entry["subject"]) for entry in log] == [
        ("users.read", "all"),
        ("user.change", user["id"]),
        ("user.create", user["id"]),
    ]
    assert log[0]["after"] == {"search": "eva"}
    assert (log[1]["before"], log[1]["after"]) == ({"name": "Ana"}, {"name": "Eva"})
    assert {entry["actor"].partition(":")[0] for entry in log} == {"admin_key"}
    assert log[0]["address"] == "127.0.0.1"
    assert (await api.get("/admin/audit?action=user."))["total"] == 2
    assert (await api.get(f"/admin/audit?subject={user['id']}&limit=1"))["total_pages"] == 2


async def test_the_audit_log_cannot_be_changed(api):
    import asyncpg
    import pytest

    await api.post("/admin/users", {"name": "Ana"})
    for statement in ("update audit_log set actor = 'x'", "delete from audit_log", "truncate audit_log"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await api.pool.execute(statement)


async def test_a_list_that_did_not_change_is_not_sent_again(api):
    await api.post("/admin/users", {"name": "Ana"})
    async with api.client.get("/admin/users", headers={"authorization": f"Bearer {api.key}"}) as first:
        tag = first.headers["etag"]
    async with api.client.get(
        "/admin/users", headers={"authorization": f"Bearer {api.key}", "if-none-match": tag}
    ) as second:
        assert (second.status, await second.read()) == (304, b"")
