"""Idempotency keys: a claim lives and dies with its transaction, and is forgotten after a day."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from proxy.store import idempotency
from proxy.store.idempotency import Claim

CLAIM = Claim("admin_key:1", "order-17", "create_user", b"digest")


async def creation(pool, claim=CLAIM, answer="made", wait_s=0.0):
    async with pool.acquire() as connection, connection.transaction():
        if (first := await idempotency.claim(connection, claim)) is not None:
            return "again", first
        await asyncio.sleep(wait_s)
        await idempotency.finish(connection, claim, {"answer": answer})
        return "first", {"answer": answer}


async def test_the_second_hears_what_the_first_was_answered(pool):
    assert await creation(pool) == ("first", {"answer": "made"})
    assert await creation(pool) == ("again", {"answer": "made"})


async def test_of_two_at_once_one_waits_for_the_other(pool):
    found = await asyncio.gather(*(creation(pool, wait_s=0.05) for _ in range(3)))

    assert sorted(who for who, _ in found) == ["again", "again", "first"]


async def test_another_actor_may_use_the_same_key(pool):
    await creation(pool)

    assert (await creation(pool, replace(CLAIM, actor="admin_key:2")))[0] == "first"


@pytest.mark.parametrize("change", [{"route": "create_group"}, {"request": b"other"}])
async def test_the_same_key_for_another_request_is_a_mistake(pool, change):
    await creation(pool)

    with pytest.raises(idempotency.ReusedError):
        await creation(pool, replace(CLAIM, **change))


async def test_a_failed_creation_leaves_nothing_claimed(pool):
    with pytest.raises(ZeroDivisionError):
        async with pool.acquire() as connection, connection.transaction():
            await idempotency.claim(connection, CLAIM)
            raise ZeroDivisionError

    assert (await creation(pool))[0] == "first"


async def test_claims_are_forgotten_after_a_day(pool):
    await creation(pool)
    await pool.execute("update idempotency_keys set created_at = now() - interval '25 hours'")
    await creation(pool, replace(CLAIM, key="order-18"))

    assert await pool.fetchval("select array_agg(key) from idempotency_keys") == ["order-18"]
