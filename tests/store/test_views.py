"""The views for analysts: right against the records, and all that their role can see."""

from __future__ import annotations

from decimal import Decimal

import asyncpg
import pytest

from proxy.store import people, records
from tests.admin import usage
from tests.admin.conftest import payload

VIEWS = ("user_usage_summary", "monthly_usage_summary", "endpoint_usage_summary", "daily_usage_summary")


@pytest.fixture
async def lines(pool):
    group = await people.create_group(pool, name="5A")
    user = await people.create_user(pool, name="Ana", email="ana@school.example", group_id=group["id"])
    crowd = [
        {"user_id": user["id"], "key_id": "k", "group_id": group["id"]},
        {"user_id": "user_gone", "key_id": "g"},
    ]
    generated = usage.generate(crowd, count=200)
    await records.store(pool, list(map(payload, generated)))
    return generated


async def rows_of(pool, view, *keys):
    return {tuple(row[key] for key in keys): row for row in await pool.fetch(f"select * from {view}")}


def assert_sums(row, sums):
    for name in ("requests", "errors", "input_tokens", "output_tokens", "total_tokens"):
        assert row[name] == sums[name]
    assert row["cost_usd"] == Decimal(sums["cost_nanousd"]) / 10**9


async def test_each_view_sums_its_dimension(pool, lines):
    for view, keys, key in (
        ("user_usage_summary", ("user_id",), lambda line: (line["user_id"],)),
        ("endpoint_usage_summary", ("endpoint", "model"), lambda line: (line["endpoint"], usage.model(line))),
        ("daily_usage_summary", ("day",), lambda line: (usage.at(line).date(),)),
        (
            "monthly_usage_summary",
            ("month", "user_id", "group_id", "provider", "model", "operation"),
            lambda line: (
                usage.at(line).date().replace(day=1),
                line["user_id"],
                line.get("group_id") or "",
                line["provider"],
                usage.model(line),
                line["operation"] or "",
            ),
        ),
    ):
        rows, expected = await rows_of(pool, view, *keys), usage.grouped(lines, key)
        assert rows.keys() == expected.keys(), view
        for value, sums in expected.items():
            assert_sums(rows[value], sums)


async def test_users_are_named(pool, lines):
    rows = await rows_of(pool, "user_usage_summary", "user_name", "user_email", "group_name")

    assert rows.keys() == {("Ana", "ana@school.example", "5A"), (None, None, None)}


async def test_the_readers_role_sees_the_views_and_nothing_else(pool, lines):
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("set local role openai_proxy_reader")
        for view in VIEWS:
            assert await connection.fetchval(f"select count(*) from {view}") > 0
        for table in ("users", "keys", "usage_records", "usage_hourly", "admin_keys", "audit_log"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.fetch(f"select * from {table}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with connection.transaction():
                await connection.execute("create table mine (id int)")
