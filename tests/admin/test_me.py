"""What a user sees with its proxy key: its own, and nothing of others."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from proxy.admin import me
from proxy.core.ids import uuid7
from proxy.store import people, records
from tests.admin.conftest import NOW, payload, record


@pytest.fixture
async def ana(pool):
    user = await people.create_user(pool, name="Ana", email="ana@school.example")
    row, key = await people.create_key(pool, user_id=user["id"], name="laptop")
    return {"user_id": user["id"], "key_id": row["id"]}, key


@pytest.fixture
async def eva(pool):
    user = await people.create_user(pool, name="Eva")
    row, key = await people.create_key(pool, user_id=user["id"])
    return {"user_id": user["id"], "key_id": row["id"]}, key


async def test_me_tells_who_i_am_what_binds_me_and_what_i_used(api, store, ana, eva):
    mine, key = ana
    await api.ask(
        "PUT", f"/admin/users/{mine['user_id']}/quotas", [{"unit": "cost", "window": "month", "limit": "5"}]
    )
    await store(
        record(NOW, **mine, cost_nanousd=250_000_000),
        record(NOW - timedelta(days=3), **mine, cost_nanousd=1),
        record(NOW - timedelta(days=40), **mine),
        record(NOW, **eva[0], cost_nanousd=7_000_000_000),
    )

    me = await api.as_(key).get("/me")

    assert (me["user"]["name"], me["key"]["name"]) == ("Ana", "laptop")
    assert (me["month"]["requests"], me["month"]["cost_usd"]) == (2, "0.250000001")
    assert (me["today"]["requests"], me["today"]["total_tokens"]) == (1, 120)
    assert [(quota["unit"], quota["limit"], quota["remaining"]) for quota in me["quotas"]] == [
        ("cost", "5", "4.749999999")
    ]


async def test_a_call_is_found_by_its_id_and_by_its_owner_only(api, store, ana, eva):
    line = record(NOW, **ana[0], cached_input_tokens=40, operation="rag_answer", tags={"session": "s1"})
    await store(line)

    found = await api.as_(ana[1]).get(f"/me/requests/{line['id']}")

    assert (found["id"], found["cached_input_tokens"], found["cost_usd"]) == (line["id"], 40, "0.001")
    assert (found["operation"], found["tags"]) == ("rag_answer", {"session": "s1"})
    assert (await api.as_(eva[1]).refused("GET", f"/me/requests/{line['id']}"))[:2] == (404, "not_found")
    assert (await api.as_(ana[1]).refused("GET", "/me/requests/nonsense"))[0] == 404


async def test_a_service_key_sees_the_calls_it_made_for_others(api, store, pool, ana, eva):
    service, key = await people.create_key(pool, user_id=eva[0]["user_id"], service=True)
    line = record(NOW, user_id=ana[0]["user_id"], key_id=service["id"])
    await store(line)

    assert (await api.as_(key).get(f"/me/requests/{line['id']}"))["user_id"] == ana[0]["user_id"]


async def test_a_call_that_is_asked_for_at_once_is_waited_for(api, pool, ana, monkeypatch):
    monkeypatch.setattr(me, "WAITS_S", (0.05,) * 600)  # storing may take its time
    made = uuid7(int(NOW.timestamp() * 1e6), 12345)

    async def store_later() -> None:
        await asyncio.sleep(0.05)
        await records.store(pool, [payload(record(NOW, **ana[0]) | {"id": made})])

    found, _ = await asyncio.gather(api.as_(ana[1]).get(f"/me/requests/{made}"), store_later())

    assert found["id"] == made


async def test_own_history_and_sums_are_own(api, store, ana, eva):
    await store(
        *(
            record(NOW - timedelta(hours=hour, minutes=1), **ana[0], served_model=f"m{hour % 2}")
            for hour in range(5)
        ),
        *(record(NOW, **eva[0]) for _ in range(3)),
    )
    me = api.as_(ana[1])

    page = await me.get("/me/requests?limit=3")
    rest = await me.get(f"/me/requests?limit=3&cursor={page['next_cursor']}")
    usage = await me.get("/me/usage?days=1")
    by_model = await me.get("/me/usage/by?group_by=model&sort=requests")

    assert (len(page["data"]), len(rest["data"]), rest["next_cursor"]) == (3, 2, None)
    assert {row["user_id"] for row in page["data"] + rest["data"]} == {ana[0]["user_id"]}
    assert usage["sums"]["requests"] == 5
    assert usage["period"]["start"] == "2026-08-15T00:00:00Z"
    assert [(row["key"], row["requests"]) for row in by_model["data"]] == [("m0", 3), ("m1", 2)]


async def test_nothing_can_be_asked_about_others(api, ana, eva):
    me = api.as_(ana[1])

    for path in (
        f"/me/usage?user={eva[0]['user_id']}",
        "/me/usage/by?group_by=model&user=nobody",
        "/me/requests?group=x",
    ):
        assert (await me.refused("GET", path))[:2] == (400, "unknown_parameter")


async def test_a_key_of_a_deactivated_user_is_401(api, pool, ana):
    await people.change_user(pool, ana[0]["user_id"], {"active": False})

    assert (await api.as_(ana[1]).refused("GET", "/me"))[0] == 401
