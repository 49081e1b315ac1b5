"""Signing in to the dashboard: what the cookie stands for, how it ends, and that no other site can use it."""

from __future__ import annotations

import time
from datetime import timedelta
from http.cookies import SimpleCookie

import jwt
import pytest
from aiohttp import CookieJar, DummyCookieJar
from aiohttp.test_utils import TestClient

from proxy.admin.session import COOKIE, HEADER
from proxy.core.key import PROXY_PREFIX
from proxy.store import admin_keys, issued_keys, people, sign_ins

SECRET = "a secret of at least thirty-two bytes"
OURS = {HEADER: "1"}


@pytest.fixture
async def browser(serve):
    """A client that keeps cookies as a browser does, also on an address that is a number."""
    first = await serve(admin_jwt_secret=SECRET, admin_requests_per_minute=100_000)
    client = TestClient(first.server, cookie_jar=CookieJar(unsafe=True))
    yield client
    await client.close()


async def sign_in(browser, credential):
    async with browser.post("/dashboard/session", json={"credential": credential}, headers=OURS) as answer:
        return answer.status, await answer.json(), answer.headers.getall("set-cookie", [])


async def status(browser, method, path, **more):
    async with browser.request(method, path, **more) as answer:
        return answer.status


async def admin_key(pool, **fields):
    return (await people.create_admin_key(pool, name="Ana's key", **fields))[1]


async def proxy_key(pool):
    user = await people.create_user(pool, name="Ana")
    row, text = await people.create_key(pool, user_id=user["id"])
    return user, row, text


async def test_an_admin_key_becomes_a_cookie_that_opens_the_admin_api(browser, pool):
    code, view, _ = await sign_in(browser, await admin_key(pool))

    assert (code, view["signed_in"], view["kind"], view["name"], view["scope"]) == (
        200, True, "admin_key", "Ana's key", "write",
    )  # fmt: skip
    assert await status(browser, "GET", "/admin/users") == 200
    assert await status(browser, "GET", "/me") == 403
    async with browser.get("/dashboard/session") as answer:
        assert (await answer.json())["name"] == "Ana's key"


async def test_the_cookie_is_out_of_reach_of_scripts_other_sites_and_the_upstream(browser, pool):
    _, _, cookies = await sign_in(browser, await admin_key(pool))

    assert len(cookies) == 3
    paths = set()
    for text in cookies:
        morsel = SimpleCookie(text)[COOKIE]
        assert morsel["httponly"] is True
        assert morsel["samesite"] == "Strict"
        assert morsel["max-age"] == "43200"
        assert not morsel["secure"]
        paths.add(morsel["path"])
    assert paths == {"/admin", "/me", "/dashboard"}


async def test_behind_tls_the_cookie_is_for_tls_only(browser, pool):
    key = await admin_key(pool)
    headers = OURS | {"x-forwarded-proto": "https"}
    async with browser.post("/dashboard/session", json={"credential": key}, headers=headers) as answer:
        assert all(text.endswith("; Secure") for text in answer.headers.getall("set-cookie"))


async def test_a_proxy_key_shows_its_users_own_usage_and_nothing_else(browser, pool):
    user, _, text = await proxy_key(pool)

    code, view, _ = await sign_in(browser, text)

    assert (code, view["kind"], view["id"], view["name"], view["scope"]) == (
        200,
        "user",
        user["id"],
        "Ana",
        None,
    )
    async with browser.get("/me") as answer:
        assert (await answer.json())["user"]["id"] == user["id"]
    assert await status(browser, "GET", "/admin/users") == 403


async def test_a_token_stands_for_its_claims_until_it_expires(browser, pool):
    group = await people.create_group(pool, name="School 12")
    ends = int(time.time()) + 600
    claims = {"sub": "bea", "name": "Bea", "role": "read", "group": group["id"], "exp": ends}

    code, view, _ = await sign_in(browser, jwt.encode(claims, SECRET, "HS256"))

    assert (code, view["kind"], view["name"], view["scope"], view["group_name"]) == (
        200, "jwt", "Bea", "read", "School 12",
    )  # fmt: skip
    assert await pool.fetchval("select extract(epoch from ends_at)::bigint from sign_ins") == ends
    assert await status(browser, "GET", "/admin/users") == 200
    assert await status(browser, "POST", "/admin/users", json={"name": "Cid"}, headers=OURS) == 403
    assert await status(browser, "GET", "/admin/audit") == 403, "confined to one group"


@pytest.mark.parametrize("exp", [10**30, str(int(time.time()) + 10**9)], ids=["number", "text"])
async def test_a_token_may_say_that_it_never_ends(browser, exp):
    code, view, _ = await sign_in(
        browser, jwt.encode({"sub": "bea", "role": "read", "exp": exp}, SECRET, "HS256")
    )

    assert (code, view["id"]) == (200, "bea")


@pytest.mark.parametrize("credential", ["sk-admin-nobody", "a.b.c", PROXY_PREFIX + "x" * 46, "ünknown"])
async def test_a_wrong_credential_gets_no_cookie(browser, credential):
    code, answer, cookies = await sign_in(browser, credential)

    assert (code, answer["error"]["code"], cookies) == (401, "invalid_api_key", [])


async def test_guessing_is_slowed_down(browser):
    codes = [(await sign_in(browser, f"sk-admin-guess-{number}"))[0] for number in range(11)]

    assert codes == [401] * 10 + [429]


async def test_a_change_without_our_header_is_refused_as_forged(browser, pool):
    await sign_in(browser, await admin_key(pool))

    async with browser.post("/admin/users", json={"name": "Mallory"}) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (403, "forged_request")
    assert await status(browser, "DELETE", "/dashboard/session") == 403
    assert await pool.fetchval("select count(*) from users") == 0
    assert await status(browser, "POST", "/admin/users", json={"name": "Ana"}, headers=OURS) == 201


async def test_signing_in_is_not_for_other_sites_either(browser, pool):
    key = await admin_key(pool)

    assert await status(browser, "POST", "/dashboard/session", json={"credential": key}) == 403


async def test_a_preflight_of_another_site_is_not_told_that_our_header_is_fine(serve):
    client = await serve(admin_cors_origins=("https://elsewhere.example",))
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    async with client.options("/admin/users", headers=asked) as answer:
        assert HEADER not in answer.headers["access-control-allow-headers"]
        assert "access-control-allow-credentials" not in answer.headers


async def test_signing_out_ends_the_cookie_everywhere(browser, pool):
    await sign_in(browser, await admin_key(pool))
    (cookie,) = {each.value for each in browser.session.cookie_jar}

    async with browser.delete("/dashboard/session", headers=OURS) as answer:
        assert (await answer.json())["signed_in"] is False
        assert all("Max-Age=0" in text for text in answer.headers.getall("set-cookie"))

    kept = TestClient(browser.server, cookie_jar=DummyCookieJar())
    assert await status(kept, "GET", "/admin/users", headers={"cookie": f"{COOKIE}={cookie}"}) == 401
    await kept.close()


async def test_a_session_ends_with_the_key_it_was_made_with(browser, pool):
    await people.create_admin_key(pool, name="another")
    row, text = await people.create_admin_key(pool, name="ended")
    await sign_in(browser, text)
    assert await status(browser, "GET", "/admin/users") == 200

    await admin_keys.revoke_admin_key(pool, row["id"])

    async with browser.get("/admin/users") as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (401, "signed_out")
    async with browser.get("/dashboard/session") as answer:
        assert (await answer.json())["signed_in"] is False


async def test_a_users_session_ends_when_the_user_is_deactivated_or_the_key_revoked(browser, pool):
    user, row, text = await proxy_key(pool)
    await sign_in(browser, text)
    await people.change_user(pool, user["id"], {"active": False})
    assert await status(browser, "GET", "/me") == 401
    await people.change_user(pool, user["id"], {"active": True})
    assert await status(browser, "GET", "/me") == 200

    await issued_keys.revoke_key(pool, row["id"])

    assert await status(browser, "GET", "/me") == 401


async def test_a_session_ends_when_it_is_idle_or_old(browser, pool):
    await sign_in(browser, await admin_key(pool))
    await pool.execute("update sign_ins set used_at = now() - $1::interval", timedelta(minutes=59))
    assert await status(browser, "GET", "/admin/users") == 200
    assert await pool.fetchval("select now() - used_at < interval '1 minute' from sign_ins"), "use keeps it"

    await pool.execute("update sign_ins set used_at = now() - $1::interval", sign_ins.IDLE)
    assert await status(browser, "GET", "/admin/users") == 401
    await pool.execute("update sign_ins set used_at = now(), ends_at = now()")
    assert await status(browser, "GET", "/admin/users") == 401


async def test_rows_that_are_over_go_when_somebody_signs_in(browser, pool):
    key = await admin_key(pool)
    await sign_in(browser, key)
    await pool.execute("update sign_ins set ends_at = now() - interval '1 second'")

    await sign_in(browser, key)

    assert await pool.fetchval("select count(*) from sign_ins") == 1


async def test_every_worker_knows_the_cookie(serve, browser, pool):
    await sign_in(browser, await admin_key(pool))
    (cookie,) = {each.value for each in browser.session.cookie_jar}

    another = await serve()

    async with another.get("/admin/users", headers={"cookie": f"{COOKIE}={cookie}"}) as answer:
        assert answer.status == 200


async def test_a_credential_that_is_sent_counts_more_than_the_cookie(browser, pool):
    await sign_in(browser, await admin_key(pool))
    reader = await admin_key(pool, scope="read")

    headers = {"authorization": f"Bearer {reader}"}

    assert await status(browser, "POST", "/admin/users", json={"name": "Ana"}, headers=headers) == 403


async def test_signing_in_and_out_is_in_the_audit_log(browser, pool):
    await sign_in(browser, await admin_key(pool))
    await status(browser, "DELETE", "/dashboard/session", headers=OURS)

    rows = await pool.fetch("select actor, action, address from audit_log order by id")

    assert [row["action"] for row in rows] == ["session.create", "session.end"]
    assert all(row["actor"].startswith("admin_key:admin_") for row in rows)
    assert {row["address"] for row in rows} == {"127.0.0.1"}


async def test_neither_cookie_nor_credential_is_stored(browser, pool):
    key = await admin_key(pool)
    await sign_in(browser, key)
    (cookie,) = {each.value for each in browser.session.cookie_jar}

    stored = str([dict(row) for row in await pool.fetch("select * from sign_ins")])

    assert cookie not in stored
    assert key not in stored
