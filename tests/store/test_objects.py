"""Claims and owners where they are decided: in the transactions that store records, many at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import asyncpg

from proxy.core.claims import owner_of_row
from proxy.core.objects import Claim, Made, Ownership
from proxy.core.record import UsageRecord
from proxy.core.spoolformat import encode_record
from proxy.store import objects, records
from tests.exchanges import START_US, make_record

FOLLOW = {"path": "/v1/batches/batch_1", "headers": {}}


def read(number: int, object_id: str = "batch_1", **changes: Any) -> UsageRecord:
    return make_record(number, ownership=Ownership((Claim(object_id),)), **changes)


def made(number: int, object_id: str = "batch_1", **changes: Any) -> UsageRecord:
    return make_record(number, ownership=Ownership((Claim(object_id, made=True),)), **changes)


async def store(pool: asyncpg.Pool, *stored: UsageRecord) -> None:
    await records.store(pool, [encode_record(record) for record in stored])


async def tokens(pool: asyncpg.Pool) -> list[int]:
    rows = await pool.fetch("select total_tokens from usage_records order by started_at")
    return [row["total_tokens"] for row in rows]


async def test_of_many_reads_stored_at_once_by_many_workers_exactly_one_is_billed(pool: asyncpg.Pool) -> None:
    batches = [
        [read(number, f"batch_{name}") for number, name in enumerate((1, 2, 3), start=10 * worker)]
        for worker in range(20)
    ]
    await asyncio.gather(*(store(pool, *batch) for batch in batches))
    assert sum(await tokens(pool)) == 300
    sums = await pool.fetchrow(
        "select sum(total_tokens)::int, sum(cost_nanousd)::int, sum(requests)::int from usage_hourly"
    )
    assert tuple(sums) == (300, 1500, 60)
    billed = await pool.fetch(
        "select u.object_id from billed_objects b join usage_records u on u.id = b.record_id and u.total_tokens > 0"
    )
    assert len(billed) == 3


async def test_whoever_is_not_billed_has_saved_nothing_either(pool: asyncpg.Pool) -> None:
    await store(pool, read(1, cache_saved_nanousd=70), read(2, cache_saved_nanousd=70))

    rows = await pool.fetch("select total_tokens, cache_saved_nanousd from usage_records order by id")
    assert [tuple(row) for row in rows] == [(100, 70), (0, 0)]
    assert await pool.fetchval("select sum(cache_saved_nanousd)::int from usage_hourly") == 70


async def test_a_batch_that_is_stored_again_changes_nothing(pool: asyncpg.Pool) -> None:
    payloads = [encode_record(read(number)) for number in range(3)]
    for _ in range(3):
        await records.store(pool, payloads)
    assert await tokens(pool) == [100, 0, 0]


async def test_a_maker_is_billed_whatever_reads_come_after_and_before_only_for_another_object(
    pool: asyncpg.Pool,
) -> None:
    await store(pool, made(5), read(6), read(7))
    assert await tokens(pool) == [100, 0, 0]
    await store(pool, made(8))  # a server that numbers badly made another object of that id
    assert await tokens(pool) == [100, 0, 0, 100]
    await store(pool, read(20, "batch_2"))
    await store(pool, made(15, "batch_2"))  # its record was late
    assert sum(await tokens(pool)) == 300


async def test_the_daily_log_is_given_what_was_stored(pool: asyncpg.Pool) -> None:
    stored: list[bytes] = []
    await records.store(pool, [encode_record(read(1)), encode_record(read(2))], stored=stored)
    assert stored[0] != encode_record(read(1))  # without what it said about objects
    assert b"reported" in stored[0]
    assert b"reported" not in stored[1]


async def test_what_was_made_is_known_with_its_record_and_followed_until_it_is_claimed(
    pool: asyncpg.Pool,
) -> None:
    ownership = Ownership(made=(Made("batch_1", "batch", follow=FOLLOW),))
    making = make_record(
        1, usage_source="none", operation="grading", tags={"grade": "9"}, ownership=ownership
    )
    await store(pool, making)
    (row,) = await objects.fetch_owners(pool, ["batch_1", "batch_x"], timeout_s=5)
    owner = owner_of_row(row)
    assert (owner.user_id, owner.key_id, owner.kind) == ("user_a", "key_a", "batch")
    assert (owner.operation, owner.tags, row["billed"]) == ("grading", {"grade": "9"}, False)
    (due,) = await objects.fetch_due(pool, 10, 0.0, timeout_s=5)
    assert (due["id"], due["follow"]) == ("batch_1", FOLLOW)
    await objects.postpone(pool, "batch_1", 60.0, timeout_s=5)
    assert await objects.fetch_due(pool, 10, 0.0, timeout_s=5) == []
    assert await objects.count_followed(pool, timeout_s=5) == 1
    await store(pool, read(2))
    assert await objects.count_followed(pool, timeout_s=5) == 0
    (row,) = await objects.fetch_owners(pool, ["batch_1"], timeout_s=5)
    assert row["billed"]


async def test_an_id_belongs_to_its_last_maker_and_a_read_takes_it_from_nobody(pool: asyncpg.Pool) -> None:
    def says(number: int, user: str, *, again: bool) -> UsageRecord:
        ownership = Ownership(made=(Made("file-1", "file", again=again),))
        return make_record(number, user_id=user, ownership=ownership)

    async def owner() -> str:
        (row,) = await objects.fetch_owners(pool, ["file-1"], timeout_s=5)
        return str(row["user_id"])

    await store(pool, says(1, "user_a", again=False))
    await store(pool, says(2, "user_b", again=True))
    assert await owner() == "user_a"
    await store(pool, says(4, "user_c", again=False))
    await store(pool, says(3, "user_d", again=False))  # an older one, late
    assert await owner() == "user_c"


async def test_only_one_session_leads(database_url: str, pool: asyncpg.Pool) -> None:
    first, second = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    assert await objects.try_lead(first)
    assert not await objects.try_lead(second)
    await first.close()
    while not await objects.try_lead(second):  # the server notices in its own time
        await asyncio.sleep(0)
    await second.close()


async def test_what_openai_forgets_after_a_month_is_forgotten_and_files_are_not(pool: asyncpg.Pool) -> None:
    kinds = {"resp_1": "response", "file-1": "file", "batch_1": "batch"}
    made_ = tuple(
        Made(each, kind, follow=FOLLOW if kind == "batch" else None) for each, kind in kinds.items()
    )
    ownership = Ownership((Claim("resp_1", made=True),), made_)
    await store(pool, make_record(1, ownership=ownership))
    await objects.prune(pool, datetime.fromtimestamp(START_US / 1e6 - 1, UTC))
    assert await pool.fetchval("select count(*) from objects") == 3
    await objects.prune(pool, datetime.fromtimestamp(START_US / 1e6 + 60, UTC))
    assert {row["id"] for row in await pool.fetch("select id from objects")} == {"file-1", "batch_1"}
    assert await pool.fetchval("select count(*) from billed_objects") == 0


def part(number: int, above: int, claim: Claim, **changes: Any) -> UsageRecord:
    parent_id = make_record(above).id
    return make_record(number, parent_id=parent_id, part="svg", ownership=Ownership((claim,)), **changes)


async def test_a_part_is_billed_with_the_record_above_it(pool: asyncpg.Pool) -> None:
    with_it = Claim("batch_1", by_parent=True)
    await store(pool, part(2, 1, with_it), read(1))
    await store(pool, read(3), part(4, 3, with_it))
    assert await tokens(pool) == [100, 100, 0, 0]


async def test_a_part_with_an_object_of_its_own_is_billed_once_by_that(pool: asyncpg.Pool) -> None:
    own = Claim("cntr_1")
    await store(pool, made(1, "resp_1"), part(2, 1, own), made(3, "resp_2"), part(4, 3, own))
    assert await tokens(pool) == [100, 100, 100, 0]
