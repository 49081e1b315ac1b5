"""History: every filter is served by an index, and pages neither skip nor repeat."""

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


def plain(node, found=None):
    """(node type, index) of each scan of records in a plan."""
    found = [] if found is None else found
    if "usage_records" in str(node.get("Relation Name", "")) or "Index Name" in node:
        found.append((node["Node Type"], node.get("Index Name", "")))
    for child in node.get("Plans", ()):
        plain(child, found)
    return found


@pytest.fixture(scope="module")
def many():
    """Twenty thousand records, of which each filter finds few."""
    rare = {
        "user_id": "user_rare",
        "key_id": "key_rare",
        "group_id": "group_rare",
        "served_model": "model_rare",
        "endpoint": "/v1/rare",
        "operation": "rare",
        "end_user": "rare",
        "tags": {"name": "rare"},
        "status": 500,
        "outcome": "upstream_error",
    }
    lines = []
    for number in range(20_000):
        line = record(
            NOW - timedelta(minutes=number + 1), user_id=f"user_{number % 50}", group_id=f"group_{number % 5}"
        )
        lines.append(line | rare if number % 4000 == 17 else line)
    return [payload(line) for line in lines]


@pytest.fixture
async def filled(pool, many):
    for start in range(0, len(many), 2000):
        await records.store(pool, many[start : start + 2000])
    await pool.execute("analyze usage_records")
    return pool


FILTERS = [
    (Filters({"user": ["user_rare"]}), "user"),
    (Filters({"key": ["key_rare"]}), "key"),
    (Filters({"group": ["group_rare"]}), "group"),
    (Filters({"model": ["model_rare"]}), "left_started_at"),
    (Filters({"endpoint": ["/v1/rare"]}), "endpoint"),
    (Filters({"operation": ["rare"]}), "operation"),
    (Filters({"end_user": ["rare"]}), "end_user"),
    (Filters(tags={"name": "rare"}), "tags"),
    (Filters({"failed": ["true"]}), "started_at_status"),
]


async def test_an_index_serves_each_filter(filled):
    for filters, name in FILTERS:
        async with transaction(filled, statement_timeout_s=10) as connection:
            plan = await connection.fetchval(
                "explain (format json) " + statements("stats")["history"],
                filters.as_json(),
                WHOLE.start,
                WHOLE.end,
                50,
                None,
                None,
            )
            scans = plain(plan[0]["Plan"])
            assert any(name in index for _, index in scans), (name, scans)
            assert not any(kind == "Seq Scan" for kind, _ in scans), (name, scans)
            rows = await records_read.history(connection, Question(WHOLE, NOW, filters), limit=50)
            assert len(rows) == 5, name


async def test_the_newest_of_all_come_from_the_index_without_a_sort(filled):
    async with transaction(filled, statement_timeout_s=10) as connection:
        plan = await connection.fetchval(
            "explain (format json) " + statements("stats")["history"],
            {},
            WHOLE.start,
            WHOLE.end,
            50,
            None,
            None,
        )
    assert not any(kind == "Seq Scan" for kind, _ in plain(plan[0]["Plan"]))


async def test_pages_neither_skip_nor_repeat_records_of_one_moment(pool):
    lines = [record(NOW - timedelta(seconds=number // 7 + 1)) for number in range(50)]
    await records.store(pool, list(map(payload, lines)))
    question, after, seen = Question(WHOLE, NOW), None, []
    while page := await records_read.history(pool, question, limit=8, after=after):
        seen += [str(row["id"]) for row in page]
        after = (page[-1]["started_at"], page[-1]["id"])

    expected = sorted(lines, key=lambda line: (usage.at(line), line["id"]), reverse=True)
    assert seen == [line["id"] for line in expected]
