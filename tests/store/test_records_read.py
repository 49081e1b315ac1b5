"""History and exports: every filter is served by an index, rare or common, and pages neither skip nor repeat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from proxy.core.period import Period
from proxy.store import records, records_read
from proxy.store.postgres import statements
from proxy.store.session import transaction
from proxy.store.stats import Filters, Question
from tests.admin import usage
from tests.admin.conftest import NOW, payload, record

WHOLE = Period(datetime(2026, 1, 1, tzinfo=UTC), NOW, ZoneInfo("UTC"))
LIMIT = 50
COUNT, RARE = 40_000, 5
# Two months of records, the newest NOW. One in eight thousand differs from all others in everything that can be asked for.
FILL = """
insert into usage_records (
    id, started_at, key_id, user_id, group_id, provider, endpoint, method, requested_model, operation, tags, end_user,
    streamed, status, outcome, finish_reason, service_tier, usage_source, duration_ms, voided_at
)
select
    gen_random_uuid(), $1::timestamptz - n * interval '2 minutes', 'key_' || who, 'user_' || who, 'group_' || group_name,
    word, '/v1/' || word, 'POST', word, word, jsonb_build_object('name', word || n % 100), word || n % 1000, not rare,
    case when rare then 500 else 200 end, case when rare then 'lost' else 'success' end, word, word,
    case when rare then 'estimated' else 'reported' end, 1, case when rare and $3 then now() end
from (
    select
        n, rare, case when rare then 'rare' else 'common' end as word,
        case when rare then 'rare' else (n % 50)::text end as who, case when rare then 'rare' else (n % 2)::text end as group_name
    from (select n, n % 8000 = 4017 as rare from generate_series(1, $2::integer) as n) numbered
) made
"""
RARELY = [
    ({"user": ["user_rare"]}, "user_id"),
    ({"key": ["key_rare"]}, "key_id"),
    ({"group": ["group_rare"]}, "group_id"),
    ({"end_user": ["rare17"]}, "end_user"),
    ({"failed": ["true"]}, "started_at_id_idx1"),
    ({"model": ["rare"]}, "facets"),
    ({"endpoint": ["/v1/rare"]}, "facets"),
    ({"operation": ["rare"]}, "facets"),
    ({"provider": ["rare"]}, "facets"),
    ({"status": ["500"]}, "facets"),
    ({"streamed": ["false"]}, "facets"),
    ({"service_tier": ["rare"]}, "facets"),
    ({"finish_reason": ["rare", "never"]}, "facets"),
    ({"usage_source": ["estimated"]}, "facets"),
    ({"outcome": ["lost"]}, "facets"),
]
COMMONLY = [
    {},
    {"failed": ["false"]},
    {"active": ["all"]},
    {"user_active": ["true"]},
    {"group": ["group_1"]},
    {"model": ["common"]},
    {"endpoint": ["/v1/common"]},
    {"operation": ["common"]},
    {"provider": ["common"]},
    {"status": ["200", "201"]},
    {"streamed": ["true"]},
    {"service_tier": ["common"]},
    {"finish_reason": ["common"]},
    {"usage_source": ["reported"]},
    {"outcome": ["success"]},
]


async def fill(pool, *, count=COUNT, newest=NOW - timedelta(minutes=1), voided=False):
    for month in (6, 7, 8):
        await pool.execute("select make_usage_partition($1)", datetime(2026, month, 1, tzinfo=UTC))
    await pool.execute(
        "insert into users (id, active) select 'user_' || n, true from generate_series(0, 49) as n"
        " union all select 'user_rare', false"
    )
    await pool.execute(FILL, newest, count, voided)
    await pool.execute("vacuum analyze usage_records")


def scans(node):
    """(kind, index, records read) of each place in a plan where records are read."""
    found = []
    if "usage_records" in node.get("Relation Name", node.get("Index Name", "")):
        read = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
        found.append((node["Node Type"], node.get("Index Name", ""), read))
    return found + [each for child in node.get("Plans", ()) for each in scans(child)]


async def plan_of(pool, name, filters, period=WHOLE):
    async with transaction(pool, statement_timeout_s=10) as connection:
        (plan,) = await connection.fetchval(
            "explain (analyze, format json) " + statements("records_read")[name],
            records_read.parameter(filters),
            period.start,
            period.end,
            LIMIT,
            None,
            None,
        )
    return scans(plan["Plan"])


async def plans_of_page(pool, name, filters):
    """What reading a page reads, as it is asked."""

    class Explaining:
        def __init__(self, connection):
            self.connection, self.read = connection, []

        async def fetch(self, text, *arguments):
            (plan,) = await self.connection.fetchval("explain (analyze, format json) " + text, *arguments)
            self.read += scans(plan["Plan"])
            return await self.connection.fetch(text, *arguments)

        async def fetchval(self, text, *arguments):
            return await self.connection.fetchval(text, *arguments)

    async with transaction(pool, statement_timeout_s=10) as connection:
        spy = Explaining(connection)
        rows = await getattr(records_read, name)(spy, Question(WHOLE, NOW, filters), limit=LIMIT)
    return rows, spy.read


async def asked(pool, filters, name="history", limit=LIMIT):
    async with transaction(pool, statement_timeout_s=10) as connection:
        return await getattr(records_read, name)(connection, Question(WHOLE, NOW, filters), limit=limit)


async def test_an_index_finds_what_is_rare(pool):
    await fill(pool)
    filters = [(Filters(where), index) for where, index in RARELY]
    filters += [(Filters(tags={"name": "rare17"}), "tags"), (Filters({"user_active": ["false"]}), "user_id")]
    for each, index in filters:
        for name in ("history", "export"):
            indexed = "facets" in index or "user_active" in each.where
            read = await plan_of(pool, f"{name}_wide" if indexed else name, each)
            assert not any(kind == "Seq Scan" and count for kind, _, count in read), (each, read)
            assert any(index in used for _, used, _ in read), (each, read)
            assert sum(count for kind, _, count in read if kind != "Bitmap Index Scan") <= 3 * RARE, (
                each,
                read,
            )
            assert len(await asked(pool, each, name)) == RARE, each


async def test_what_is_common_is_read_from_the_end_that_is_shown(pool):
    await fill(pool)
    for where in COMMONLY:
        for name in ("history", "export"):
            read = await plan_of(pool, name, Filters(where))
            assert not any(kind == "Seq Scan" and count for kind, _, count in read), (where, read)
            assert sum(count for *_, count in read) <= 4 * LIMIT, (where, read)
            assert len(await asked(pool, Filters(where), name)) == LIMIT, where


async def test_an_index_finds_what_was_voided(pool):
    await fill(pool, voided=True)

    read = await plan_of(pool, "history", Filters({"active": ["false"]}))

    assert all(index.endswith("started_at_id_idx") for _, index, count in read if count), read
    assert sum(count for *_, count in read) == RARE
    assert len(await asked(pool, Filters({"active": ["false"]}))) == RARE


async def test_what_was_common_once_is_found_behind_a_crowd_that_has_none_of_it(pool):
    """The planner takes a value for evenly spread; a crowd of ten thousand newer records must not be read through."""
    await fill(pool, count=10_000, newest=NOW - timedelta(days=30))
    crowd = FILL.replace("interval '2 minutes'", "interval '1 second'").replace("'common'", "'crowd'")
    await pool.execute(crowd, NOW - timedelta(minutes=1), 10_000, False)
    await pool.execute("vacuum analyze usage_records")

    rows = await asked(pool, Filters({"operation": ["common"]}))

    assert len(rows) == LIMIT
    assert rows[0]["started_at"] <= NOW - timedelta(days=30)


@pytest.mark.parametrize("where", [{}, {"outcome": ["success"]}, {"model": ["o4"], "streamed": ["true"]}])
async def test_pages_of_both_orders_are_whole_however_the_period_is_cut(pool, monkeypatch, where):
    monkeypatch.setattr(records_read, "READ_THROUGH", 3)
    lines = usage.generate([{"user_id": "user_1", "key_id": "key_1"}], count=300)
    await records.store(pool, list(map(payload, lines)))
    wanted = [
        line["id"]
        for line in sorted(lines, key=lambda line: (usage.at(line), line["id"]))
        if line["outcome"] in where.get("outcome", [line["outcome"]])
        and line["served_model"] in where.get("model", [line["served_model"]])
        and (not where.get("streamed") or line["streamed"])
    ]
    question = Question(WHOLE, NOW, Filters(where))
    for read, expected in ((records_read.export, wanted), (records_read.history, wanted[::-1])):
        after, seen = None, []
        while page := await read(pool, question, limit=3, after=after):
            seen += [str(row["id"]) for row in page]
            after = (page[-1]["started_at"], page[-1]["id"])
        assert seen == expected


async def test_pages_neither_skip_nor_repeat_records_of_one_moment(pool, monkeypatch):
    monkeypatch.setattr(records_read, "READ_THROUGH", 3)
    lines = [record(NOW - timedelta(seconds=number // 7 + 1)) for number in range(50)]
    await records.store(pool, list(map(payload, lines)))
    expected = [line["id"] for line in sorted(lines, key=lambda line: (usage.at(line), line["id"]))]
    question = Question(WHOLE, NOW, Filters({"outcome": ["success"]}))
    for read, wanted in ((records_read.export, expected), (records_read.history, expected[::-1])):
        after, seen = None, []
        while page := await read(pool, question, limit=2, after=after):
            seen += [str(row["id"]) for row in page]
            after = (page[-1]["started_at"], page[-1]["id"])
        assert seen == wanted


async def test_a_text_too_long_for_an_index_is_stored_and_found(pool):
    long = "x" * 5_000
    await records.store(pool, [payload(record(NOW - timedelta(hours=1), finish_reason=long))])

    (row,) = await asked(pool, Filters({"finish_reason": [long]}))

    assert row["finish_reason"] == long


@pytest.mark.parametrize("name", ["history", "export"])
@pytest.mark.parametrize("column", ["user", "key", "group", "end_user"])
async def test_who_was_frequent_once_is_found_by_an_index_behind_a_crowd_of_others(pool, column, name):
    await fill(pool, count=10_000, newest=NOW - timedelta(days=30))
    crowd = FILL
    for word, other in (
        ("'key_'", "'key_crowd_'"),
        ("'user_'", "'user_crowd_'"),
        ("'group_'", "'group_' || n % 40 + 9 || '_'"),
        ("'common'", "'crowd'"),
    ):
        crowd = crowd.replace(word, other)
    for newest in (NOW - timedelta(minutes=1), NOW - timedelta(days=44)):
        await pool.execute(
            crowd.replace("interval '2 minutes'", "interval '1 second'"), newest, 10_000, False
        )
    await pool.execute("vacuum analyze usage_records")
    values = {"user": ["user_1", "user_2"], "key": ["key_3"], "group": ["group_1"], "end_user": ["common5"]}[
        column
    ]

    rows, read = await plans_of_page(pool, name, Filters({column: values}))

    column_id = column if column == "end_user" else f"{column}_id"
    assert len(rows) == (10 if column == "end_user" else LIMIT)
    assert {row[column_id] for row in rows} == set(values)
    moments = [row["started_at"] for row in rows]
    assert moments == sorted(moments, reverse=name == "history")
    assert sum(count for *_, count in read) <= 3 * LIMIT * len(values), read
