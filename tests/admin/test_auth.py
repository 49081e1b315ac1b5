"""Who may: credentials, scopes, groups, and what slows guessing down."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from proxy.admin.throttle import Buckets, Throttle
from proxy.core.refusal import Refusal
from proxy.store import admin_keys, people
from tests.admin.conftest import Api
from tests.signals import DEADLINE_S


async def test_without_a_credential_it_is_401_and_says_what_to_send(api):
    async with api.client.get("/admin/users") as response:
        assert response.status == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        error = (await response.json())["error"]
    assert error["code"] == "invalid_api_key"
    assert "admin key" in error["message"]


@pytest.mark.parametrize("wrong", ["sk-admin-nonsense", "x", "", "sk-proxy-" + "a" * 46, "a.b.c"])
async def test_a_wrong_credential_is_401(api, wrong):
    assert (await api.as_(wrong).refused("GET", "/admin/stats"))[:2] == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "line",
    [b"Authorization: Bearer \xff\xfe", b"api-key: \xe9", b"Cookie: openai_proxy_session=\xff\xfe"],
)
async def test_a_credential_that_is_no_text_is_none(api, line):
    reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
    writer.write(b"GET /admin/stats HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + line + b"\r\n\r\n")
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_a_proxy_key_opens_nothing_under_admin_and_an_admin_key_nothing_under_me(api):
    user = await people.create_user(api.pool, name="Ana")
    _, key = await people.create_key(api.pool, user_id=user["id"])

    assert (await api.as_(key).refused("GET", "/admin/stats"))[:2] == (403, "permission_denied")
    assert (await api.as_(key).refused("POST", "/admin/users", {"name": "x"}))[0] == 403
    assert (await api.refused("GET", "/me"))[:2] == (403, "permission_denied")


async def test_a_key_with_scope_read_changes_nothing(api):
    _, key = await people.create_admin_key(api.pool, name="finance", scope="read")
    reader = api.as_(key)

    await reader.get("/admin/stats")
    assert (await reader.refused("POST", "/admin/users", {"name": "x"}))[:2] == (403, "permission_denied")


async def test_revoked_and_expired_admin_keys_are_401(api):
    row, revoked = await people.create_admin_key(api.pool, name="a")
    await admin_keys.revoke_admin_key(api.pool, row["id"])
    _, expired = await people.create_admin_key(
        api.pool, name="b", expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )

    for key in (revoked, expired):
        assert (await api.as_(key).refused("GET", "/admin/stats"))[0] == 401


async def test_an_administrator_of_a_group_sees_and_changes_that_group_only(api, pool):
    mine = await people.create_group(pool, name="mine")
    theirs = await people.create_group(pool, name="theirs")
    ana = await people.create_user(pool, name="Ana", group_id=mine["id"])
    eva = await people.create_user(pool, name="Eva", group_id=theirs["id"])
    eva_key, _ = await people.create_key(pool, user_id=eva["id"])
    _, key = await people.create_admin_key(pool, name="head of mine", group_id=mine["id"])
    head = api.as_(key)

    assert [user["id"] for user in (await head.get("/admin/users"))["data"]] == [ana["id"]]
    assert [group["id"] for group in (await head.get("/admin/groups"))["data"]] == [mine["id"]]
    made = await head.post("/admin/users", {"name": "new"})
    assert made["group"] == mine["id"]
    await head.post(f"/admin/users/{ana['id']}/keys", {})
    await head.ask(
        "PUT", f"/admin/users/{ana['id']}/quotas", [{"unit": "cost", "window": "month", "limit": "5"}]
    )
    for method, path, body in (
        ("GET", f"/admin/users/{eva['id']}", None),
        ("PATCH", f"/admin/users/{eva['id']}", {"name": "x"}),
        ("POST", f"/admin/users/{eva['id']}/keys", {}),
        ("PUT", f"/admin/users/{eva['id']}/quotas", []),
        ("GET", f"/admin/users?group={theirs['id']}", None),
        ("GET", f"/admin/groups/{theirs['id']}", None),
        ("GET", f"/admin/keys/{eva_key['id']}", None),
        ("DELETE", f"/admin/keys/{eva_key['id']}", None),
        ("GET", f"/admin/stats/days?user={eva['id']}", None),
    ):
        assert (await head.refused(method, path, body))[0] == 404, path
    for method, path, body in (
        ("POST", "/admin/groups", {"name": "x"}),
        ("POST", "/admin/plans", {"name": "x"}),
        ("POST", "/admin/admin_keys", {"name": "x"}),
        ("GET", "/admin/admin_keys", None),
        ("GET", "/admin/audit", None),
        ("PUT", f"/admin/groups/{mine['id']}/quotas", []),
        ("PATCH", f"/admin/groups/{mine['id']}", {"name": "x"}),
    ):
        assert (await head.refused(method, path, body))[0] == 403, path
    for body in ({"name": "x", "group": theirs["id"]}, {"group": None}):
        method, path = ("POST", "/admin/users") if "name" in body else ("PATCH", f"/admin/users/{ana['id']}")
        assert (await head.refused(method, path, body))[0] in (400, 404), body
    everyone = {"scope": "everyone", "unit": "cost", "window": "month", "limit": "5"}
    assert await head.refused("POST", "/admin/quotas", everyone) == (400, "invalid_value", "scope")
    assert (await head.refused("POST", f"/admin/users/{ana['id']}/keys", {"service": True}))[0] == 400


async def test_the_last_key_that_can_change_everything_cannot_be_revoked(api):
    (own,) = (await api.get("/admin/admin_keys"))["data"]
    assert (await api.refused("DELETE", f"/admin/admin_keys/{own['id']}"))[0] == 409
    await api.post("/admin/admin_keys", {"name": "second", "scope": "write"})

    assert (await api.ask("DELETE", f"/admin/admin_keys/{own['id']}"))[0] == 200
    assert (await api.refused("GET", "/admin/stats"))[0] == 401


async def test_many_wrong_credentials_from_one_address_are_stopped_but_a_known_one_still_opens(api):
    await api.get("/admin/stats")

    statuses = [(await api.as_(f"guess-{number}").ask("GET", "/admin/stats"))[0] for number in range(12)]

    assert statuses[:10] == [401] * 10
    assert 429 in statuses[10:]
    await api.get("/admin/stats")


async def test_forwarded_addresses_count_only_behind_a_trusted_proxy(serve, pool):
    _, key = await people.create_admin_key(pool, name="a")
    for trusted, expected in (((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.7")):
        api = Api(await serve(trusted_proxies=trusted), key, pool)
        await api.post("/admin/users", {"name": "x"}, headers={"x-forwarded-for": "10.9.9.9, 203.0.113.7"})
        assert (await api.get("/admin/audit?limit=1"))["data"][0]["address"] == expected


async def test_each_credential_has_its_own_rate(serve, pool):
    _, one = await people.create_admin_key(pool, name="one")
    _, two = await people.create_admin_key(pool, name="two")
    client = await serve(admin_requests_per_minute=3)

    statuses = [(await Api(client, one, pool).ask("GET", "/admin/stats"))[0] for _ in range(5)]

    assert statuses[:3] == [200, 200, 200]
    assert 429 in statuses[3:]
    await Api(client, two, pool).get("/admin/stats")


def test_a_bucket_refills_with_time_and_no_further_than_its_size():
    buckets = Buckets(size=2, refill_s=10)

    assert [buckets.take("a", 0.0) for _ in range(3)] == [0, 0, 10]
    assert buckets.take("a", 5.0) == 5
    assert buckets.take("a", 10.0) == 0
    assert [buckets.take("a", 1000.0) for _ in range(3)] == [0, 0, 10]
    assert buckets.take("b", 1000.0) == 0


def test_the_number_of_buckets_is_bounded():
    buckets = Buckets(size=1, refill_s=10, count_max=2)
    for name in ("a", "b", "c"):
        buckets.take(name, 0.0)

    assert buckets.take("c", 0.0) == 10
    assert buckets.take("a", 0.0) == 0


def test_a_blocked_address_may_try_again_after_a_while():
    throttle = Throttle(60)
    for _ in range(10):
        throttle.failed("203.0.113.7", 0.0)

    with pytest.raises(Refusal) as refused:
        throttle.check_address("203.0.113.7", b"x", 0.0)
    assert dict(refused.value.headers)["retry-after"] == "6"
    throttle.check_address("203.0.113.8", b"x", 0.0)
    throttle.check_address("203.0.113.7", b"x", 6.0)
