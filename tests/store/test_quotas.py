"""Quotas and plans as rows: a rule that stays keeps its id, and with it what was used of it."""

from __future__ import annotations

import pytest

from proxy.store import conflicts, people, plans, quotas
from proxy.store.quotas import Rule


async def test_a_changed_limit_keeps_the_quotas_id_and_what_was_used(pool):
    user = await people.create_user(pool, name="a")
    tokens, cost = Rule("tokens", "month", 1000), Rule("cost", "month", 5_000_000_000)
    before = await quotas.put_quotas(pool, "user", user["id"], [tokens, cost])
    await pool.execute(
        "insert into quota_windows (quota_id, scope_id, window_start, settled) values ($1, $2, now(), 7)",
        before[0]["id"],
        user["id"],
    )

    after = await quotas.put_quotas(
        pool, "user", user["id"], [Rule("tokens", "month", 2000), Rule("requests", "day", 10)]
    )

    assert after[0]["id"] == before[0]["id"]
    assert [row["limit_amount"] for row in after] == [2000, 10]
    assert await pool.fetchval("select settled from quota_windows") == 7
    left = await quotas.subject_quotas(pool, "user", user["id"])
    assert [row["unit"] for row in left] == ["tokens", "requests"]


async def test_a_removed_quota_takes_its_windows_along(pool):
    row = await quotas.create_quota(pool, "everyone", None, Rule("requests", "minute", 1))
    await pool.execute(
        "insert into quota_windows (quota_id, scope_id, window_start) values ($1, '', now())", row["id"]
    )

    await quotas.remove_quota(pool, row["id"])

    assert await pool.fetchval("select count(*) from quota_windows") == 0
    with pytest.raises(conflicts.MissingError, match="there is no quota"):
        await quotas.fetch_quota(pool, row["id"])


async def test_a_groups_quotas_are_its_own_and_those_of_its_users_and_their_keys(pool):
    group = await people.create_group(pool, name="5A")
    user = await people.create_user(pool, name="a", group_id=group["id"])
    other = await people.create_user(pool, name="b")
    key, _ = await people.create_key(pool, user_id=user["id"])
    rule = Rule("requests", "day", 1)
    for scope, scope_id in (
        ("group", group["id"]),
        ("user", user["id"]),
        ("key", key["id"]),
        ("user", other["id"]),
        ("everyone", None),
    ):
        await quotas.create_quota(pool, scope, scope_id, rule)

    rows, total = await quotas.list_quotas(pool, group_id=group["id"])

    assert total == 3
    assert [row["scope_id"] for row in rows] == [group["id"], user["id"], key["id"]]
    assert (await quotas.list_quotas(pool))[1] == 5


async def test_a_plans_quotas_keep_their_ids_when_a_limit_changes(pool):
    plan = await plans.create_plan(pool, name="basic", rules=[Rule("tokens", "month", 10)])
    changed = await plans.change_plan(
        pool, plan["id"], rules=[Rule("cost", "total", 5), Rule("tokens", "month", 20)]
    )

    assert [rule for _, rule in plans.rules_of(changed["quotas"])] == [
        Rule("cost", "total", 5),
        Rule("tokens", "month", 20),
    ]
    assert changed["quotas"][1]["id"] == plan["quotas"][0]["id"]
    assert changed["quotas"][0]["id"].startswith("quota_")


async def test_a_plan_that_somebody_is_on_cannot_be_removed(pool):
    plan = await plans.create_plan(pool, name="basic")
    await people.create_user(pool, name="a", plan_id=plan["id"])

    with pytest.raises(conflicts.TakenError, match="still on this plan"):
        await plans.remove_plan(pool, plan["id"])
    assert (await plans.find_plan(pool, "basic"))["users"] == 1
    with pytest.raises(conflicts.TakenError, match="another plan has this name"):
        await plans.create_plan(pool, name="basic")
