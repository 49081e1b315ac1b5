from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from proxy.core.quota import Charge
from proxy.core.record import UsageRecord
from proxy.core.spoolformat import RECORD_FIELDS, encode_open, encode_record, lost_record
from proxy.core.usage import Usage
from proxy.store import records
from tests.exchanges import START_US, exchange_id, make_open, make_record

HOUR = dt.datetime(2025, 10, 9, 8, tzinfo=dt.UTC)
MONTH = int(dt.datetime(2025, 10, 1, tzinfo=dt.UTC).timestamp())


def payloads(*made: UsageRecord) -> list[bytes]:
    return [encode_record(record) for record in made]


async def sums(pool: asyncpg.Pool) -> dict[str, Any]:
    return dict(
        await pool.fetchrow(
            "select count(*) as rows, sum(requests)::int as requests, sum(errors)::int as errors,"
            " sum(total_tokens)::int as tokens, sum(cost_nanousd)::int as cost, sum(unpriced)::int as unpriced,"
            " sum(cache_saved_nanousd)::int as saved from usage_hourly"
        )
    )


async def test_a_record_becomes_a_row_with_every_field(pool: asyncpg.Pool) -> None:
    full = make_record(
        1,
        parent_id=exchange_id(0),
        group_id="group_g",
        operation="rag",
        tags={"grade": "9"},
        end_user="42",
        streamed=True,
        error_type="t",
        error_code="c",
        error_message="m",
        service_tier="flex",
        usage=Usage(
            9,
            8,
            17,
            cached_input_tokens=7,
            cache_write_tokens=6,
            cache_write_12h_tokens=5,
            input_audio_tokens=4,
            cached_audio_tokens=3,
            input_image_tokens=2,
            cached_image_tokens=1,
            reasoning_tokens=5,
            output_audio_tokens=4,
            output_image_tokens=3,
            units=(("web_searches", 2),),
        ),
        price_id="p",
        object_id="resp_1",
        upstream_request_id="req_1",
        client_request_id="mine",
        bytes_in=3,
        bytes_out=4,
        part="container",
        cache_saved_nanousd=77,
        charges=(Charge("q", MONTH, "user_a", 17, 0, 0),),
    )
    assert await records.store(pool, payloads(full)) == 1
    row = dict(await pool.fetchrow("select * from usage_records"))
    assert row == {
        "id": UUID(exchange_id(1)),
        "parent_id": UUID(exchange_id(0)),
        "started_at": dt.datetime.fromtimestamp(START_US // 10**6, dt.UTC) + dt.timedelta(microseconds=1),
        "key_id": "key_a",
        "user_id": "user_a",
        "group_id": "group_g",
        "provider": "openai",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "requested_model": "gpt-5",
        "served_model": "gpt-5-2025-08-07",
        "operation": "rag",
        "tags": {"grade": "9"},
        "end_user": "42",
        "streamed": True,
        "status": 200,
        "outcome": "success",
        "error_type": "t",
        "error_code": "c",
        "error_message": "m",
        "finish_reason": "stop",
        "service_tier": "flex",
        "input_tokens": 9,
        "output_tokens": 8,
        "total_tokens": 17,
        "cached_input_tokens": 7,
        "cache_write_tokens": 6,
        "cache_write_12h_tokens": 5,
        "input_audio_tokens": 4,
        "cached_audio_tokens": 3,
        "input_image_tokens": 2,
        "cached_image_tokens": 1,
        "reasoning_tokens": 5,
        "output_audio_tokens": 4,
        "output_image_tokens": 3,
        "units": {"web_searches": 2},
        "usage_source": "reported",
        "cost_nanousd": 500,
        "price_id": "p",
        "object_id": "resp_1",
        "upstream_request_id": "req_1",
        "client_request_id": "mine",
        "ttfb_ms": 40,
        "duration_ms": 100,
        "bytes_in": 3,
        "bytes_out": 4,
        "voided_at": None,
        "voided_reason": None,
        "charges": [["q", MONTH, "user_a", 17, 0, 0]],
        "part": "container",
        "cache_saved_nanousd": 77,
    }


async def test_what_was_left_out_is_nothing_or_zero(pool: asyncpg.Pool) -> None:
    bare = UsageRecord(
        id=exchange_id(1),
        started_at_us=START_US,
        key_id="k",
        user_id="u",
        provider="openai",
        endpoint="/v1/models",
        method="GET",
        outcome="refused",
        cost_nanousd=None,
    )
    await records.store(pool, payloads(bare))
    row = await pool.fetchrow("select * from usage_records")
    assert (row["tags"], row["units"], row["streamed"], row["status"]) == ({}, {}, False, 0)
    assert (row["input_tokens"], row["duration_ms"], row["cost_nanousd"], row["ttfb_ms"]) == (
        0,
        0,
        None,
        None,
    )


async def test_a_batch_sent_again_counts_nothing_again(pool: asyncpg.Pool) -> None:
    batch = payloads(*(make_record(number) for number in range(10)))
    assert await records.store(pool, batch) == 10
    before = await sums(pool)
    assert await records.store(pool, batch) == 0
    assert await records.store(pool, batch[5:] + payloads(make_record(10))) == 1
    assert before == {
        "rows": 1, "requests": 10, "errors": 0, "tokens": 1000, "cost": 5000, "unpriced": 0, "saved": 0,
    }  # fmt: skip
    assert (await sums(pool))["requests"] == 11
    assert await pool.fetchval("select count(*) from usage_records") == 11


async def test_a_record_twice_in_one_batch_is_one(pool: asyncpg.Pool) -> None:
    assert await records.store(pool, payloads(make_record(1), make_record(1))) == 1
    assert (await sums(pool))["requests"] == 1


async def test_rollups_are_by_hour_and_dimension(pool: asyncpg.Pool) -> None:
    hour_us = 3_600_000_000
    await records.store(
        pool,
        payloads(
            make_record(1, tags={"grade": "9", "session": "x"}),
            make_record(2, tags={"grade": "9", "session": "y"}),
            make_record(3, tags={"grade": "8"}),
            make_record(4, started_at_us=START_US + hour_us),
            make_record(5, status=500, outcome="upstream_error", cost_nanousd=None),
            make_record(6, status=200, outcome="client_gone"),
        ),
        ["grade"],
    )
    rows = await pool.fetch(
        "select hour, status, tags, requests, errors, cost_nanousd, unpriced, ttfb_ms, ttfb_count from usage_hourly"
        " order by hour, status, tags"
    )
    assert [tuple(row) for row in rows] == [
        (HOUR, 200, {}, 1, 0, 500, 0, 40, 1),
        (HOUR, 200, {"grade": "8"}, 1, 0, 500, 0, 40, 1),
        (HOUR, 200, {"grade": "9"}, 2, 0, 1000, 0, 80, 2),
        (HOUR, 500, {}, 1, 1, 0, 1, 40, 1),
        (HOUR + dt.timedelta(hours=1), 200, {}, 1, 0, 500, 0, 40, 1),
    ]


async def test_latencies_fall_into_buckets_five_percent_wide_to_either_side(pool: asyncpg.Pool) -> None:
    await records.store(
        pool,
        payloads(make_record(1, duration_ms=100, ttfb_ms=None), make_record(2, duration_ms=0, ttfb_ms=1)),
    )
    rows = await pool.fetch("select measure, bucket, requests from usage_latency_hourly order by 1, 2")
    # 1.1^48 = 97.02 < 100 <= 106.7 = 1.1^49
    assert [tuple(row) for row in rows] == [("duration", 0, 1), ("duration", 49, 1), ("ttfb", 0, 1)]


async def test_a_lost_exchange_is_stored_only_where_nothing_else_is_known_of_it(pool: asyncpg.Pool) -> None:
    await records.store(pool, payloads(make_record(1)))
    lost = [lost_record(encode_open(make_open(number))) for number in (1, 2)]
    assert await records.store(pool, lost) == 1
    rows = await pool.fetch(
        "select outcome, usage_source, total_tokens, cost_nanousd from usage_records order by id"
    )
    assert [tuple(row) for row in rows] == [
        ("success", "reported", 100, 500),
        ("lost", "estimated", 1100, 7000),
    ]


async def test_a_record_that_starts_elsewhere_in_time_than_its_open_line_still_leaves_nothing_lost(
    pool: asyncpg.Pool,
) -> None:
    await records.store(pool, payloads(make_record(1, started_at_us=START_US + 40 * 86_400_000_000)))
    assert await records.store(pool, [lost_record(encode_open(make_open(1)))]) == 0


async def test_an_impossible_record_fails_the_batch_as_a_rejected_one(pool: asyncpg.Pool) -> None:
    with pytest.raises(records.REJECTED):
        await records.store(pool, payloads(make_record(1), make_record(2, id="no uuid")))
    with pytest.raises(records.REJECTED):
        await records.store(pool, payloads(make_record(3, cost_nanousd=-1)))
    assert await pool.fetchval("select count(*) from usage_records") == 0


async def test_the_longest_names_fit_into_every_index(pool: asyncpg.Pool) -> None:
    import random

    noise = random.Random(7)
    long = "".join(noise.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=1000))
    record = make_record(
        1, requested_model=long, served_model=None, operation=long, error_code=long, tags={"grade": long}
    )
    assert await records.store(pool, payloads(record), ["grade"]) == 1


async def quota(pool: asyncpg.Pool) -> None:
    await pool.execute(
        'insert into quotas (id, scope, scope_id, unit, "window", limit_amount, created_at)'
        " values ('q', 'user', 'user_a', 'tokens', 'month', 1000, to_timestamp(0))"
    )


async def test_charges_are_settled_once_with_the_row(pool: asyncpg.Pool) -> None:
    await quota(pool)
    charges = (Charge("q", MONTH, "user_a", 100),)
    batch = payloads(make_record(1, charges=charges), make_record(2, charges=charges), make_record(3))
    await records.store(pool, batch)
    await records.store(pool, batch)
    rows = await pool.fetch(
        "select quota_id, scope_id, extract(epoch from window_start)::int, settled from quota_windows"
    )
    assert [tuple(row) for row in rows] == [("q", "user_a", MONTH, 200)]


async def test_a_voided_record_leaves_every_sum_and_quota(pool: asyncpg.Pool) -> None:
    await quota(pool)
    charges = (Charge("q", MONTH, "user_a", 100),)
    await records.store(
        pool,
        payloads(
            *(make_record(n, charges=charges, tags={"grade": "9"}, cache_saved_nanousd=n) for n in (1, 2))
        ),
        ["grade"],
    )
    # the declared tags have changed meanwhile
    assert await records.void(pool, UUID(exchange_id(1)), "test run", ["session"])
    assert not await records.void(pool, UUID(exchange_id(1)), "again", ["session"])
    assert not await records.void(pool, UUID(exchange_id(9)), "unknown")
    assert await sums(pool) == {
        "rows": 1,
        "requests": 1,
        "errors": 0,
        "tokens": 100,
        "cost": 500,
        "unpriced": 0,
        "saved": 2,
    }
    assert await pool.fetchval("select settled from quota_windows") == 100
    assert await pool.fetchval("select sum(requests) from usage_latency_hourly where measure = 'ttfb'") == 1
    assert await pool.fetchval("select sum(requests) from usage_outcomes_hourly") == 1
    row = await pool.fetchrow(
        "select voided_at, voided_reason from usage_records where id = $1", UUID(exchange_id(1))
    )
    assert row["voided_at"] is not None
    assert row["voided_reason"] == "test run"


async def test_a_part_of_an_answer_is_in_every_sum_of_use_and_no_request(pool: asyncpg.Pool) -> None:
    await quota(pool)
    above, part = make_record(1), make_record(2, parent_id=exchange_id(1), part="svg", cache_saved_nanousd=14, served_model="svg-1", outcome="upstream_error")  # fmt: skip
    await records.store(pool, payloads(above, replace(part, charges=(Charge("q", MONTH, "user_a", 100),))))
    expected = {"requests": 1, "errors": 0, "tokens": 200, "cost": 1000, "unpriced": 0, "saved": 14}
    assert await sums(pool) == expected | {"rows": 2}
    assert await pool.fetchval("select sum(requests) from usage_outcomes_hourly") == 1
    assert (
        await pool.fetchval("select sum(requests) from usage_latency_hourly where measure = 'duration'") == 1
    )
    assert await records.void(pool, UUID(exchange_id(1)), "test run")
    assert await sums(pool) == dict.fromkeys(expected, 0) | {"rows": 2}
    assert await pool.fetchval("select settled from quota_windows") == 0
    for table in ("usage_outcomes_hourly", "usage_latency_hourly"):
        assert await pool.fetchval(f"select sum(requests) from {table}") == 0


async def test_a_voided_record_is_not_stored_again(pool: asyncpg.Pool) -> None:
    await records.store(pool, payloads(make_record(1)))
    await records.void(pool, UUID(exchange_id(1)), "test run")
    assert await records.store(pool, payloads(make_record(1))) == 0
    assert (await sums(pool))["requests"] == 0


async def test_workers_that_store_at_once_add_up(pool: asyncpg.Pool) -> None:
    await quota(pool)
    charges = (Charge("q", MONTH, "user_a", 1),)
    batches = [
        payloads(*(make_record(w * 1000 + n, charges=charges, user_id=f"user_{n % 7}") for n in range(50)))
        for w in range(8)
    ]
    await asyncio.gather(*(records.store(pool, batch) for batch in batches))
    assert (await sums(pool))["requests"] == 400
    assert await pool.fetchval("select settled from quota_windows") == 400


async def test_a_line_of_an_older_version_is_stored_and_of_a_newer_one_as_far_as_it_is_known(
    pool: asyncpg.Pool,
) -> None:
    values = orjson.loads(encode_record(make_record(1)))
    unsaid = [None] * (len(RECORD_FIELDS) - len(values))
    newer = orjson.dumps([exchange_id(2), *values[1:], *unsaid, "of the future"])
    assert await records.store(pool, [orjson.dumps(values[:30]), newer]) == 2
    rows = await pool.fetch("select duration_ms, total_tokens, units, charges from usage_records order by id")
    assert [tuple(row) for row in rows] == [(100, 0, {}, None), (100, 100, {}, None)]
