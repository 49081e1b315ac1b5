"""The ledger of quotas in Postgres: that it does what the model ledger does, its look back, and what it tells people."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import asyncpg
import pytest

from proxy.core.quota import Charge, Quota, QuotaStatus, WindowKey, window_at
from proxy.core.record import UsageRecord
from proxy.core.shares import Ask, Return, Share
from proxy.core.spoolformat import encode_record
from proxy.core.usage import Usage
from proxy.store import postgres, quotas_live, records
from tests.core.quota_ledger import Ledger

TTL_S = 3600.0
TINY_TTL_S = 0.001
"""For taking back: leases count from the start of Postgres at the earliest, which in tests was just now."""
QUOTA = Quota("q", "user", "u", "tokens", "month", 1000)
NOW = datetime.now(UTC).timestamp()


def share_of(key: WindowKey, limit: int, *, opened: bool = True, quota: Quota = QUOTA) -> Share:
    share = Share(key, replace(quota, limit=limit), NOW + 1e6)
    share.opened = opened
    return share


async def rows(pool: asyncpg.Pool) -> tuple[dict, dict]:
    windows = {
        (row["quota_id"], row["scope_id"], int(row["window_start"].timestamp())): (
            row["settled"],
            row["held"],
        )
        for row in await pool.fetch("select * from quota_windows")
    }
    shares = {
        (row["quota_id"], row["scope_id"], int(row["window_start"].timestamp()), row["lease_id"]): (
            row["granted"],
            row["returned"],
            row["settled"],
        )
        for row in await pool.fetch("select * from quota_shares")
    }
    return windows, shares


@pytest.mark.parametrize("seed", range(4))
async def test_postgres_does_what_the_model_ledger_does(pool, seed):
    chance = random.Random(seed)
    model, keys = Ledger(), [("plan:p:a", "u", 0), ("plan:p:b", "u", 0), ("plan:p:b", "v", 60)]
    async with pool.acquire() as connection:
        leases = {
            model.take_lease(TTL_S): (await quotas_live.take_lease(connection, "w", TTL_S)).id
            for _ in range(3)
        }
        real = dict(leases)
        for _ in range(150):
            mine = chance.choice(list(leases))
            step = chance.choice(
                ["grant"] * 4 + ["give_back"] * 2 + ["settle"] * 3 + ["look", "expire", "reap", "renew"]
            )
            if step == "grant":
                asked = chance.sample(keys, chance.randint(1, 3))
                limits = [chance.choice([50, 100, 400]) for _ in asked]
                demands = [chance.randint(0, 40) for _ in asked]
                leasts = [chance.randint(0, demand) for demand in demands]
                expected = model.grant(mine, zip(asked, limits, leasts, demands, strict=True))
                asks = [
                    Ask(share_of(key, limit), least, demand)
                    for key, limit, least, demand in zip(asked, limits, leasts, demands, strict=True)
                ]
                given = await quotas_live.grant(connection, leases[mine], TINY_TTL_S, asks)
                assert (given is None) == (expected is None)
                for got, modelled in zip(given or [], expected or [], strict=True):
                    assert replace(got, share_id=0) == replace(modelled, share_id=0)
                    assert (got.share_id == 0) == (modelled.share_id == 0)
            elif step == "give_back":
                held = [(place, row) for place, row in model.rows.items() if place[1] == mine]
                for (key, _), row in chance.sample(held, min(len(held), 2)):
                    total = row.returned + chance.randint(0, row.amount)
                    real_id = await _share_id(connection, key, leases[mine])
                    gone = model.give_back([(row.id, total)])
                    for _ in range(chance.choice([1, 2])):  # sent twice, taken once
                        returned = Return(share_of(key, 0), real_id, total)
                        really = await quotas_live.give_back(connection, leases[mine], [returned], [])
                    assert bool(gone) == (real_id in really)
            elif step == "settle":
                held = [(place, row) for place, row in model.rows.items() if place[1] == mine]
                if held:
                    (key, _), row = chance.choice(held)
                    part = chance.randint(0, row.amount)
                    charge = Charge(key[0], key[2], key[1], part + chance.choice([0, 0, 5]), row.id, part)
                    if charge.amount:
                        real_id = await _share_id(connection, key, leases[mine])
                        model.settle([charge])
                        await _settle(connection, charge._replace(share_id=real_id))
            elif step == "look":
                expected = model.look(mine, keys)
                given = await quotas_live.look(connection, leases[mine], keys)
                assert sorted(given, key=lambda g: g.key) == sorted(
                    [
                        replace(each, share_id=got.share_id)
                        for each in expected
                        for got in given
                        if got.key == each.key
                    ],
                    key=lambda g: g.key,
                )
            elif step == "expire":
                if mine in model.leases and chance.random() < 0.5:
                    model.leases[mine] = model.at - 1
                    await connection.execute(
                        "update quota_leases set expires_at = now() - interval '1 s' where id = $1",
                        leases[mine],
                    )
            elif step == "reap":
                model.reap()
                await quotas_live.reap(connection, TINY_TTL_S)
            else:
                renewed = await quotas_live.renew_lease(connection, leases[mine], TTL_S)
                assert (renewed is not None) == model.renew(mine, TTL_S)
                if renewed is None:
                    del leases[mine]
                    leases[model.take_lease(TTL_S)] = (
                        await quotas_live.take_lease(connection, "w", TTL_S)
                    ).id
                    real |= leases
            model.check()
            windows, shares = await rows(pool)
            assert windows == {key: (w.settled, w.held) for key, w in model.windows.items()}
            assert shares == {
                (*key, real[lease]): (row.granted, row.returned, row.settled)
                for (key, lease), row in model.rows.items()
            }


async def _share_id(connection: asyncpg.Connection, key: WindowKey, lease: int) -> int:
    seen = await quotas_live.look(connection, lease, [key])
    return seen[0].share_id


async def _settle(connection: asyncpg.Connection, *charges: Charge) -> None:
    entries = [[c.quota_id, c.window_start, c.scope_id, c.amount, c.share_id, c.held] for c in charges]
    await quotas_live.settle(connection, [entries], [uuid.uuid4()])


# -- use before the quota existed

MONTH = window_at(QUOTA, NOW)[0]


def record(number: int, *, at: float, charges: tuple[Charge, ...] = (), **more) -> UsageRecord:
    fields = {
        "id": str(uuid.UUID(int=number)),
        "started_at_us": int(at * 1e6),
        "key_id": "k",
        "user_id": "u",
        "provider": "openai",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "requested_model": "gpt-4o",
        "outcome": "success",
        "status": 200,
        "usage": Usage(input_tokens=60, output_tokens=40, total_tokens=100),
        "usage_source": "reported",
        "cost_nanousd": 1000,
    }
    return UsageRecord(**(fields | more), charges=charges)


async def store(pool: asyncpg.Pool, *stored: UsageRecord) -> None:
    await records.store(pool, [encode_record(each) for each in stored])


async def add_quota(pool: asyncpg.Pool, quota: Quota) -> Quota:
    await pool.execute(
        'insert into quotas (id, scope, scope_id, unit, "window", limit_amount) values ($1, $2, $3, $4, $5, $6)',
        quota.id,
        quota.scope,
        quota.scope_id,
        quota.unit,
        quota.window,
        quota.limit,
    )
    return quota


async def ask(pool: asyncpg.Pool, quota: Quota, subject: str, least: int = 1) -> tuple[int, int, int]:
    """(granted, settled, start) of a first ask in the current window."""
    start, _ = window_at(quota, NOW)
    async with pool.acquire() as connection:
        lease = await quotas_live.take_lease(connection, "w", TTL_S)
        wanted = Ask(
            share_of((quota.id, subject, start), quota.limit, opened=False, quota=quota), least, least
        )
        given = await quotas_live.grant(connection, lease.id, TTL_S, [wanted])
    assert given is not None
    return given[0].granted, given[0].settled, start


@pytest.mark.parametrize(
    ("quota", "subject", "used"),
    [
        (Quota("q1", "user", "u", "tokens", "month", 1000), "u", 300),
        (Quota("q2", "user", "u", "requests", "month", 1000), "u", 3),
        (Quota("q3", "user", "u", "cost", "month", 10**9), "u", 3000),
        (Quota("q4", "key", "k", "tokens", "month", 1000), "k", 400),
        (Quota("q5", "everyone", None, "tokens", "month", 1000), "", 500),
        (Quota("q6", "everyone", None, "requests", "month", 1000), "", 5),
        (Quota("q7", "user", "u", "tokens", "month", 1000, model="gpt-4*"), "u", 200),
        (Quota("q8", "user", "u", "tokens", "month", 1000, operation="rag"), "u", 100),
        (Quota("q9", "user", "u", "tokens", "month", 1000, tag=("grade", "9?")), "u", 100),
        (Quota("q10", "end_user", None, "tokens", "month", 1000), "pupil", 100),
        (Quota("q11", "group", "g", "cost", "month", 10**9), "g", 1000),
        (Quota("q12", "user", "u", "tokens", "total", 1000), "u", 0),
    ],
)
async def test_a_new_quota_counts_what_its_window_has_seen(pool, quota, subject, used):
    await store(
        pool,
        record(1, at=NOW, operation="rag"),
        record(2, at=NOW, tags={"grade": "9b"}, end_user="pupil"),
        record(3, at=MONTH + 1, requested_model="o3", group_id="g"),
        record(4, at=MONTH - 1),
        record(5, at=NOW, user_id="v"),
        record(6, at=NOW, user_id="v", key_id="l"),
        record(7, at=NOW, outcome="refused", usage=Usage(), cost_nanousd=0),
    )
    await add_quota(pool, quota)

    granted, settled, _ = await ask(pool, quota, subject)

    assert settled == used
    assert 0 < granted <= quota.limit - used


async def test_a_quota_older_than_its_window_does_not_look_back(pool):
    await store(pool, record(1, at=NOW))
    await add_quota(pool, QUOTA)
    await pool.execute("update quotas set created_at = now() - interval '90 days'")

    assert (await ask(pool, QUOTA, "u"))[1] == 0


async def test_a_user_put_on_a_plan_starts_with_what_they_have_used(pool):
    await store(pool, record(1, at=NOW))
    await pool.execute("insert into users (id, plan_id) values ('u', 'plan_free')")
    quota = replace(QUOTA, id="plan:plan_free:tokens")

    assert (await ask(pool, quota, "u"))[1] == 100


async def test_use_under_another_plan_counts_for_who_comes_back(pool):
    await pool.execute("insert into users (id, plan_id) values ('u', 'plan_free')")
    quota = replace(QUOTA, id="plan:plan_free:tokens")
    _, first, start = await ask(pool, quota, "u")
    await store(pool, record(1, at=NOW, charges=(Charge(quota.id, start, "u", 100),)))
    await pool.execute("update quota_windows set late_until = null")
    await pool.execute("update users set plan_id = 'plan_pro', updated_at = now()")
    await store(pool, record(2, at=NOW))
    await pool.execute("update users set plan_id = 'plan_free', updated_at = now()")

    (status,) = await quotas_live.statuses(pool, [(quota, "u")], now=NOW)

    assert (first, status.used) == (0, 200)
    assert (await ask(pool, quota, "u"))[1] == 200
    assert (await ask(pool, quota, "u"))[1] == 200


async def test_a_change_of_the_user_does_not_undo_a_reset(pool):
    await pool.execute("insert into users (id, plan_id) values ('u', 'plan_free')")
    quota = replace(QUOTA, id="plan:plan_free:tokens")
    await store(pool, record(1, at=NOW))
    await ask(pool, quota, "u")
    async with pool.acquire() as connection:
        await quotas_live.reset_window(connection, quota, "u", now=NOW)
    await pool.execute("update users set name = 'Ana', updated_at = now()")

    assert (await ask(pool, quota, "u"))[1] == 0


async def test_an_exchange_under_way_when_its_quota_was_made_is_charged_when_it_ends(pool):
    await store(pool, record(1, at=NOW))
    await add_quota(pool, QUOTA)
    _, before, start = await ask(pool, QUOTA, "u")

    await store(pool, record(2, at=NOW), record(3, at=NOW, user_id="v"))
    await store(pool, record(2, at=NOW), record(4, at=NOW, charges=(Charge("q", start, "u", 100),)))

    assert before == 100
    assert await pool.fetchval("select settled from quota_windows") == 300


@pytest.mark.parametrize("seed", range(3))
async def test_opening_a_window_while_records_are_stored_counts_each_of_them_once(pool, seed):
    chance = random.Random(seed)
    await add_quota(pool, replace(QUOTA, limit=10**6))
    start, _ = window_at(QUOTA, NOW)

    async def flush(number: int) -> None:
        await asyncio.sleep(chance.random() * 0.02)
        charged = (Charge("q", start, "u", 100),) if chance.random() < 0.5 else ()
        await store(pool, record(number, at=NOW, charges=charged))

    async def open_window() -> None:
        await asyncio.sleep(chance.random() * 0.02)
        await ask(pool, replace(QUOTA, limit=10**6), "u")

    await asyncio.gather(*[flush(number) for number in range(1, 21)], open_window(), open_window())
    await ask(pool, replace(QUOTA, limit=10**6), "u")

    assert await pool.fetchval("select settled from quota_windows where opened") == 2000


async def test_a_soft_limit_may_follow_the_average_of_the_28_days_before(pool):
    day = replace(QUOTA, window="day", soft=True, average_percent=150, limit=10)
    start, _ = window_at(day, NOW)
    await store(pool, *[record(n, at=start - 3600 * 24 * n + 60) for n in range(1, 29)])
    async with pool.acquire() as connection:
        lease = await quotas_live.take_lease(connection, "w", TTL_S)
        wanted = Ask(share_of(("q", "u", start), 10, opened=False, quota=day), 0, 0)
        given = await quotas_live.grant(connection, lease.id, TTL_S, [wanted])

    assert given is not None
    assert (given[0].limit, given[0].granted) == (150, 0)


# -- many at once


async def test_grants_and_settlements_at_once_never_pass_the_limit_or_block_each_other(database_url):
    pool = await postgres.open_pool(database_url, size_max=8)
    quotas = [replace(QUOTA, id=f"plan:p:{name}", limit=500) for name in "abcd"]
    start, _ = window_at(QUOTA, NOW)

    async def work(seed: int) -> int:
        chance, spent = random.Random(seed), 0
        async with pool.acquire() as connection:
            lease = (await quotas_live.take_lease(connection, "w", TTL_S)).id
            for _ in range(40):
                some = chance.sample(quotas, 2)
                asks = [Ask(share_of((quota.id, "u", start), quota.limit), 1, 9) for quota in some]
                given = await quotas_live.grant(connection, lease, TTL_S, asks)
                charges = [
                    Charge(each.key[0], start, "u", amount, each.share_id, amount)
                    for each in given or []
                    if (amount := each.granted - each.returned - each.share_settled)
                ]
                if charges:
                    await _settle(connection, *charges)
                    spent += sum(charge.amount for charge in charges)
        return spent

    spent = sum(await asyncio.gather(*[work(seed) for seed in range(8)]))
    windows, shares = await rows(pool)
    await pool.close()

    assert spent == 2000
    assert set(windows.values()) == {(500, 0)}
    assert shares == {}


async def test_a_removed_quota_takes_its_shares_along_and_is_not_made_again_by_late_charges(pool):
    await add_quota(pool, QUOTA)
    _, _, start = await ask(pool, QUOTA, "u", least=10)
    await pool.execute("delete from quota_windows")
    await pool.execute("delete from quotas")

    await store(pool, record(1, at=NOW, charges=(Charge("q", start, "u", 100, 1, 10),)))

    assert await rows(pool) == ({}, {})


async def test_windows_long_over_are_forgotten(pool):
    await add_quota(pool, QUOTA)
    await ask(pool, QUOTA, "u")
    await pool.execute("update quota_windows set keep_until = now() - interval '1 s'")

    async with pool.acquire() as connection:
        await quotas_live.reap(connection, TTL_S)

    assert await rows(pool) == ({}, {})


# -- for people


async def test_a_status_counts_what_was_used_before_even_if_nobody_asked_since(pool):
    await store(pool, record(1, at=NOW))
    await add_quota(pool, QUOTA)
    balance = replace(QUOTA, id="q2", window="total")

    found = await quotas_live.statuses(pool, [(QUOTA, "u"), (balance, "u")], now=NOW)

    start, ends = window_at(QUOTA, NOW)
    assert found == [
        QuotaStatus(QUOTA, "u", 1000, 100, 0, start, int(ends)),
        QuotaStatus(balance, "u", 1000, 0, 0, 0, None),
    ]
    assert found[0].remaining == 900


async def test_a_reset_begins_the_window_anew_and_says_what_was_used(pool):
    await store(pool, record(1, at=NOW))
    await add_quota(pool, QUOTA)
    await ask(pool, QUOTA, "u")

    async with pool.acquire() as connection:
        before = await quotas_live.reset_window(connection, QUOTA, "u", now=NOW)
    found = await quotas_live.statuses(pool, [(QUOTA, "u")], now=NOW)

    assert before == 100
    assert found[0].used == 0
    assert found[0].held > 0, "what is under way still counts"


async def test_the_plans_to_begin_with_are_as_announced(pool):
    plans = {row["name"]: row["quotas"] for row in await pool.fetch("select name, quotas from plans")}

    limits = {name: {each["unit"]: each["limit_amount"] for each in quotas} for name, quotas in plans.items()}
    assert limits == {
        "Free": {"tokens": 100_000, "cost": 500_000_000, "requests": 50},
        "Basic": {"tokens": 500_000, "cost": 2_500_000_000, "requests": 250},
        "Pro": {"tokens": 2_000_000, "cost": 10_000_000_000, "requests": 1_000},
        "Unlimited": {},
    }


@pytest.fixture
def matches(pool):
    async def match(pattern: str, name: str) -> bool:
        return await pool.fetchval("select $1::text ~ $2", name, quotas_live.posix_pattern(pattern))

    return match


@pytest.mark.parametrize(
    "pattern",
    ["gpt-4*", "*", "gpt-?o", "o[13]*", "o[!13]*", "a.b+c", "a[b", "ft:gpt-4o:(x)|y^$", "a\\b", "[a-c]x", ""],
)
async def test_patterns_mean_in_postgres_what_they_mean_here(matches, pattern):
    names = [
        "gpt-4o",
        "gpt-4",
        "o1",
        "o2-mini",
        "a.b+c",
        "aXb+c",
        "a[b",
        "ft:gpt-4o:(x)|y^$",
        "a\\b",
        "bx",
        "dx",
        "",
        "\n",
    ]
    for name in names:
        assert await matches(pattern, name) == fnmatchcase(name, pattern), name


def test_rules_say_what_is_counted():
    quota = replace(QUOTA, model="gpt-*", operation="rag", tag=("grade", "9*"))

    assert quotas_live.rule_of(quota, MONTH) == {
        "scope": "user",
        "unit": "tokens",
        "ends_at": window_at(quota, NOW)[1],
        "model": "^gpt\\-.*$",
        "operation": "^rag$",
        "tag_name": "grade",
        "tag": "^9.*$",
    }
    assert quotas_live.rule_of(replace(QUOTA, window="total"), 0) == {"scope": "user", "unit": "tokens"}
