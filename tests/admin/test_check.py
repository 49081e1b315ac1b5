"""An application may ask whether a request would be let through, without making it."""

from __future__ import annotations

import pytest

from proxy.store import people
from tests.admin.conftest import NOW, record


@pytest.fixture
async def ana(pool):
    user = await people.create_user(pool, name="Ana", external_id="42")
    row, key = await people.create_key(pool, user_id=user["id"])
    return {"user_id": user["id"], "key_id": row["id"]}, key


async def test_without_limits_everything_is_allowed(api, store, ana):
    mine, key = ana
    await store(record(NOW, **mine, cost_nanousd=250_000_000))

    answer = await api.as_(key).get("/me/check")

    assert answer["can_make_request"] is True
    assert (answer["exceeded"], answer["reason"]) == ([], None)
    assert answer["usage"] == {"requests": 1, "tokens": 120, "cost_usd": "0.25"}


async def test_a_spent_quota_says_which_and_why(api, store, ana):
    mine, key = ana
    await store(record(NOW, **mine), record(NOW, **mine))
    await api.ask(
        "PUT",
        f"/admin/users/{mine['user_id']}/quotas",
        [{"unit": "tokens", "window": "month", "limit": "240"}],
    )

    answer = await api.as_(key).get("/me/check")
    by_admin = await api.get("/admin/users/42/check")

    assert answer["can_make_request"] is False
    assert answer["reason"] == "The user's quota of tokens this month is spent."
    assert answer["exceeded"] == [answer["limits"]["quotas"][0]["id"]]
    assert by_admin == answer


@pytest.mark.parametrize(
    ("asked", "exceeded"),
    [
        ("max_monthly_tokens=121", []),
        ("max_monthly_tokens=120", ["max_monthly_tokens"]),
        ("max_monthly_cost=0.2500001", []),
        ("max_monthly_cost=0.25", ["max_monthly_cost"]),
        ("max_monthly_requests=2", []),
        ("max_monthly_requests=1&max_monthly_cost=0", ["max_monthly_cost", "max_monthly_requests"]),
    ],
)
async def test_maxima_of_ones_own_are_compared_with_the_month(api, store, ana, asked, exceeded):
    mine, key = ana
    await store(record(NOW, **mine, cost_nanousd=250_000_000))

    answer = await api.as_(key).get(f"/me/check?{asked}")

    assert answer["exceeded"] == exceeded
    assert answer["can_make_request"] == (exceeded == [])


async def test_a_maximum_that_makes_no_sense_is_named(api, ana):
    status, _code, param = (await api.as_(ana[1]).refused("GET", "/me/check?max_monthly_tokens=-1"))[:3]

    assert (status, param) == (400, "max_monthly_tokens")
