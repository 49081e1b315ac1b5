"""Reprice: the difference is shown before it is made; records, sums and quotas say the same afterwards."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from math import inf

import pytest

from proxy.core.costs import compile_price
from proxy.core.price import PriceBook, Quote
from proxy.core.quota import Charge
from proxy.core.rates import parse_rates
from proxy.core.spoolformat import encode_record
from proxy.core.usage import Usage
from proxy.store import people, plans, quotas, records, reprice
from proxy.store.quotas import Rule
from proxy.store.reprice import Difference, Period
from tests.exchanges import START_US, make_record

DAY = datetime(2025, 10, 9, tzinfo=UTC)
MONTH = datetime(2025, 10, 1, tzinfo=UTC)
PERIOD = Period(DAY, DAY + timedelta(days=1))
OLD, NEW = 500, 90 * 1_000 + 10 * 2_000


def book(**models):
    """Each model's dollars per million input tokens; output costs twice that. Others are unknown."""

    def source(provider, model, tier, at):
        if model not in models:
            return Quote(None, -inf, inf)
        rates = {"input_tokens": models[model], "output_tokens": str(int(models[model]) * 2)}
        return Quote(compile_price(f"test/{model}/{tier}", parse_rates(rates)), -inf, inf)

    return PriceBook(source)


GPT5 = book(**{"gpt-5-2025-08-07": "1", "gpt-4o": "3"})


async def store(pool, *made, rollup_tags=()):
    await records.store(pool, [encode_record(record) for record in made], rollup_tags)


async def check_sums(pool):
    """The rollups say what the records say."""
    detail = await pool.fetchrow(
        "select coalesce(sum(cost_nanousd), 0)::bigint as cost, count(*) filter (where cost_nanousd is null) as unpriced,"
        " sum(cache_saved_nanousd)::bigint as saved from usage_records where voided_at is null"
    )
    rollup = await pool.fetchrow(
        "select sum(cost_nanousd)::bigint as cost, sum(unpriced)::bigint as unpriced,"
        " sum(cache_saved_nanousd)::bigint as saved from usage_hourly"
    )
    assert dict(detail) == dict(rollup)
    return detail["cost"], detail["unpriced"]


async def test_a_preview_tells_the_difference_and_changes_nothing(pool):
    await store(
        pool, make_record(1), make_record(2, cost_nanousd=None), make_record(3, served_model="nobody")
    )

    report = await reprice.preview(pool, GPT5, PERIOD)

    assert report.total == Difference(
        records=3,
        changed=3,
        before_nanousd=2 * OLD,
        after_nanousd=2 * NEW,
        unpriced_before=1,
        unpriced_after=1,
    )
    assert report.models["nobody"] == Difference(1, 1, OLD, 0, 0, 1)
    assert await pool.fetchval("select sum(cost_nanousd) from usage_records") == 2 * OLD


async def test_applied_it_changes_records_and_sums_alike_and_tells_the_audit_log(pool):
    await store(
        pool, make_record(1), make_record(2, cost_nanousd=None), make_record(3, served_model="nobody")
    )
    assert await check_sums(pool) == (2 * OLD, 1)

    report = await reprice.apply(pool, GPT5, PERIOD, actor="cli:me")

    assert (report.total.changed, report.without_sum) == (3, 0)
    assert await check_sums(pool) == (2 * NEW, 1)
    rows = await pool.fetch("select cost_nanousd, price_id from usage_records order by id")
    assert [tuple(row) for row in rows] == [
        (NEW, "test/gpt-5-2025-08-07/default"),
        (NEW, "test/gpt-5-2025-08-07/default"),
        (None, None),
    ]
    log = await pool.fetch("select actor, action, subject, before, after from audit_log order by id")
    assert [entry["action"] for entry in log] == ["usage.reprice.begin", "usage.reprice"]
    assert log[1]["actor"] == "cli:me"
    assert log[1]["subject"] == "2025-10-09T00:00:00+00:00/2025-10-10T00:00:00+00:00"
    assert log[1]["before"] == {"cost_nanousd": 2 * OLD, "unpriced": 1}
    assert log[1]["after"]["cost_nanousd"] == 2 * NEW


async def test_what_the_prompt_cache_saved_follows_though_the_cost_stays(pool):
    cached = Usage(input_tokens=90, output_tokens=10, total_tokens=100, cached_input_tokens=40)
    await store(
        pool, make_record(1, usage=cached, cost_nanousd=NEW, price_id="test/gpt-5-2025-08-07/default")
    )
    rates = {"input_tokens": "1", "cached_input_tokens": "1", "output_tokens": "2"}
    same = compile_price("test/gpt-5-2025-08-07/default", parse_rates(rates))
    halved = compile_price(
        "test/gpt-5-2025-08-07/default", parse_rates(rates | {"cached_input_tokens": "0.5"})
    )

    for price, saved in ((same, 0), (halved, 40 * 500), (same, 0)):
        at_price = PriceBook(lambda *_, price=price: Quote(price, -inf, inf))
        await reprice.apply(pool, at_price, PERIOD, actor="a")
        assert await check_sums(pool) == (NEW - saved, 0)
        assert await pool.fetchval("select cache_saved_nanousd from usage_records") == saved


async def test_done_twice_it_changes_nothing_more(pool):
    await store(pool, make_record(1), make_record(2))
    await reprice.apply(pool, GPT5, PERIOD, actor="a")

    again = await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert (again.total.records, again.total.changed) == (2, 0)
    assert await check_sums(pool) == (2 * NEW, 0)


async def test_it_goes_through_all_batches(pool, monkeypatch):
    monkeypatch.setattr(reprice, "BATCH", 3)
    # three of them begin in the same microsecond
    await store(pool, *(make_record(number, started_at_us=START_US + number // 3) for number in range(10)))
    seen = []

    report = await reprice.apply(pool, GPT5, PERIOD, actor="a", on_progress=seen.append)

    assert (report.total.records, report.total.changed) == (10, 10)
    assert seen == [3, 6, 9, 10]
    assert await check_sums(pool) == (10 * NEW, 0)
    assert (await reprice.preview(pool, GPT5, PERIOD)).total.changed == 0


async def test_only_what_was_asked_for_is_changed(pool):
    await store(
        pool,
        make_record(1),
        make_record(2, cost_nanousd=None),
        make_record(3, served_model="gpt-4o"),
        make_record(4, provider="openrouter"),
        make_record(5, started_at_us=START_US + 86_400_000_000),
    )

    async def changed(**filters):
        return (await reprice.preview(pool, GPT5, Period(PERIOD.start, PERIOD.end, **filters))).total.changed

    assert await changed() == 4
    assert await changed(unpriced_only=True) == 1
    assert await changed(model="gpt-4*") == 1
    assert await changed(model="gpt-4_") == 0
    assert await changed(provider="openrouter") == 1


async def test_left_alone_are_void_records_and_those_without_usage(pool):
    await store(
        pool,
        make_record(1),
        make_record(2, usage_source="none", usage=Usage(), cost_nanousd=0),
    )
    await pool.execute("update usage_records set voided_at = now() where id = $1", make_record(1).id)

    report = await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert report.total.records == 0
    rows = await pool.fetch("select cost_nanousd from usage_records order by id")
    assert [row["cost_nanousd"] for row in rows] == [OLD, 0]


async def test_sums_by_tag_are_found_though_the_declared_tags_have_changed(pool):
    await store(pool, make_record(1, tags={"grade": "9", "session": "a"}), rollup_tags=("grade",))
    await store(pool, make_record(2, tags={"grade": "8", "session": "b"}), rollup_tags=("grade",))

    await reprice.apply(pool, GPT5, PERIOD, actor="a", rollup_tags=())

    rows = await pool.fetch("select tags, cost_nanousd from usage_hourly order by tags")
    assert [(row["tags"], row["cost_nanousd"]) for row in rows] == [
        ({"grade": "8"}, NEW),
        ({"grade": "9"}, NEW),
    ]


async def test_records_with_different_tags_in_one_sum_are_all_added_to_it(pool):
    await store(pool, *(make_record(number, tags={"session": str(number)}) for number in range(5)))

    await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert await check_sums(pool) == (5 * NEW, 0)


@pytest.fixture
async def user(pool):
    return await people.create_user(pool, name="a")


async def window(pool, quota_id, scope_id, start=MONTH):
    return await pool.fetchval(
        "select settled from quota_windows where quota_id = $1 and scope_id = $2 and window_start = $3",
        quota_id,
        scope_id,
        start,
    )


async def test_what_a_record_settled_on_cost_follows_its_cost_and_the_rest_stays(pool, user):
    cost = await quotas.create_quota(pool, "user", user["id"], Rule("cost", "month", 10**12))
    tokens = await quotas.create_quota(pool, "user", user["id"], Rule("tokens", "month", 10**6))
    start = int(MONTH.timestamp())
    charges = (Charge(cost["id"], start, user["id"], OLD, 7, 3), Charge(tokens["id"], start, user["id"], 100))
    await store(pool, *(make_record(n, user_id=user["id"], charges=charges) for n in (1, 2)))
    assert await window(pool, cost["id"], user["id"]) == 2 * OLD

    await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert await window(pool, cost["id"], user["id"]) == 2 * NEW
    assert await window(pool, tokens["id"], user["id"]) == 200
    kept = await pool.fetchval("select charges from usage_records limit 1")
    assert sorted(kept) == sorted(
        [[cost["id"], start, user["id"], NEW, 7, 3], [tokens["id"], start, user["id"], 100, 0, 0]]
    )
    # and voiding takes back what was settled in the end
    await records.void(pool, make_record(1).id, "test")
    assert await window(pool, cost["id"], user["id"]) == NEW


async def test_a_cost_that_was_unknown_and_settled_a_reservation_settles_its_amount(pool, user):
    quota = await quotas.create_quota(pool, "user", user["id"], Rule("cost", "month", 10**12))
    charge = Charge(quota["id"], int(MONTH.timestamp()), user["id"], 777_777)
    await store(pool, make_record(1, user_id=user["id"], cost_nanousd=None, charges=(charge,)))

    await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert await window(pool, quota["id"], user["id"]) == NEW


async def test_a_cost_that_settled_nothing_is_added_where_the_rules_bind_it(pool, user):
    group = await people.create_group(pool, name="g")
    await people.change_user(pool, user["id"], {"group_id": group["id"]})
    plan = await plans.create_plan(pool, name="p", rules=[Rule("cost", "day", 10**12)])
    await people.change_user(pool, user["id"], {"plan_id": plan["id"]})
    everyone = await quotas.create_quota(pool, "everyone", None, Rule("cost", "month", 10**12))
    of_group = await quotas.create_quota(pool, "group", group["id"], Rule("cost", "month", 10**12))
    each = await quotas.create_quota(pool, "end_user", None, Rule("cost", "month", 10**12))
    one = await quotas.create_quota(pool, "end_user", "42", Rule("cost", "day", 10**12))
    other_model = await quotas.create_quota(pool, "everyone", None, Rule("cost", "month", 1, model="gpt-4*"))
    unused = await quotas.create_quota(pool, "user", user["id"], Rule("cost", "hour", 10**12))
    of_plan = f"plan:{plan['id']}:{plan['quotas'][0]['id']}"
    counted = [
        (everyone["id"], "", MONTH),
        (of_group["id"], group["id"], MONTH),
        (each["id"], "42", MONTH),
        (one["id"], "42", DAY),
        (of_plan, user["id"], DAY),
        (other_model["id"], "", MONTH),
    ]
    await pool.executemany(
        "insert into quota_windows (quota_id, scope_id, window_start, settled) values ($1, $2, $3, 5)",
        counted,
    )
    await store(
        pool, make_record(1, user_id=user["id"], group_id=group["id"], cost_nanousd=None, end_user="42")
    )

    await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert [await window(pool, *key) for key in counted] == [5 + NEW] * 5 + [5]
    assert await pool.fetchval("select count(*) from quota_windows where quota_id = $1", unused["id"]) == 0


async def test_a_record_of_somebody_who_is_gone_is_repriced_all_the_same(pool):
    await store(pool, make_record(1, user_id="user_gone", key_id="key_gone"))

    assert (await reprice.apply(pool, GPT5, PERIOD, actor="a")).total.changed == 1
    assert await check_sums(pool) == (NEW, 0)


async def test_it_and_the_recorder_do_not_lose_each_others_changes(pool):
    await store(pool, *(make_record(number) for number in range(50)))

    await asyncio.gather(
        reprice.apply(pool, GPT5, PERIOD, actor="a"),
        *(
            store(pool, *(make_record(100 + 10 * n + m, cost_nanousd=NEW) for m in range(10)))
            for n in range(10)
        ),
    )
    await reprice.apply(pool, GPT5, PERIOD, actor="a")

    assert await check_sums(pool) == (150 * NEW, 0)


def test_a_rows_usage_is_read_back_with_its_units():
    row = dict.fromkeys(reprice._COUNTS, 3) | {"units": {"web_searches": 2, "audio_ms": 1}}

    assert reprice.usage_of(row) == Usage(
        **dict.fromkeys(reprice._COUNTS, 3), units=(("audio_ms", 1), ("web_searches", 2))
    )
