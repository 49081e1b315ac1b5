"""Everything about one user: each kind in its order, nothing of others, and no secret."""

from __future__ import annotations

from typing import Any

import asyncpg

from proxy.core.spoolformat import encode_record
from proxy.store import issued_keys, people, personal, records
from tests.exchanges import exchange_id, make_record


async def about(pool: asyncpg.Pool, user_id: str) -> list[dict[str, Any]]:
    async with pool.acquire() as connection, connection.transaction():
        return [line async for batch in personal.everything(connection, user_id) for line in batch]


async def test_a_user_a_key_and_records_come_in_this_order_without_digests(pool: asyncpg.Pool):
    ana = await people.create_user(pool, name="Ana", email="ana@school.example")
    ben = await people.create_user(pool, name="Ben")
    key, _ = await issued_keys.create_key(pool, user_id=ana["id"], name="laptop")
    await issued_keys.create_key(pool, user_id=ben["id"], name="phone")
    made = [
        make_record(1, user_id=ana["id"], key_id=key["id"]),
        make_record(2, user_id=ben["id"], key_id="key_b"),
        make_record(3, user_id=ana["id"], key_id=key["id"]),
    ]
    await records.store(pool, [encode_record(each) for each in made])

    lines = await about(pool, ana["id"])

    assert [line["kind"] for line in lines] == ["user", "key", "record", "record"]
    assert lines[0]["email"] == "ana@school.example"
    assert lines[1]["name"] == "laptop"
    assert [line["id"] for line in lines[2:]] == [exchange_id(1), exchange_id(3)]
    assert not any("digest" in line for line in lines)
    assert ben["id"] not in str(lines)


async def test_of_a_user_who_used_nothing_there_is_the_user(pool: asyncpg.Pool):
    ana = await people.create_user(pool, name="Ana")

    assert [line["kind"] for line in await about(pool, ana["id"])] == ["user"]


async def test_of_nobody_there_is_nothing(pool: asyncpg.Pool):
    assert await about(pool, "user_nobody") == []


async def test_more_records_than_a_batch_come_in_batches(pool: asyncpg.Pool):
    ana = await people.create_user(pool, name="Ana")
    count = personal.BATCH + 1
    made = [encode_record(make_record(number, user_id=ana["id"])) for number in range(1, count + 1)]
    await records.store(pool, made)

    async with pool.acquire() as connection, connection.transaction():
        sizes = [len(batch) async for batch in personal.everything(connection, ana["id"])]

    assert sizes == [1, personal.BATCH, 1]
