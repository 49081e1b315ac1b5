"""Exports read back as what was stored, bounded in number, and cut rather than ended when they fail."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import timedelta

import aiohttp
import pytest

from proxy.admin.stream import Slots
from proxy.core.refusal import Refusal
from proxy.store import people
from tests.admin import usage
from tests.admin.conftest import NOW, Api, record


@pytest.fixture
async def crowd(pool):
    group = await people.create_group(pool, name="5A")
    user = await people.create_user(
        pool, name='=cmd|" /C calc"!A0', email="ana@school.example", group_id=group["id"]
    )
    key, _ = await people.create_key(pool, user_id=user["id"])
    return [
        {"user_id": user["id"], "key_id": key["id"], "group_id": group["id"]},
        {"user_id": "user_gone", "key_id": "key_gone"},
    ]


async def read_csv(api, path):
    status, text = await api.ask("GET", path)
    assert status == 200, text
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_records_as_csv_have_the_default_columns_oldest_first(api, store, crowd):
    lines = usage.generate(crowd, count=1100)
    await store(*lines)

    rows = await read_csv(api, "/admin/export/records?start=2026-05-01")

    assert list(rows[0]) == [
        "id", "started_at", "user_id", "user_name", "user_email", "group", "key", "provider", "endpoint", "operation",
        "requested_model", "served_model", "status", "error_code", "finish_reason", "service_tier", "input_tokens",
        "cached_input_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "cost_usd", "usage_source",
        "duration_ms", "ttfb_ms", "request_id", "end_user",
    ]  # fmt: skip
    lines.sort(key=lambda line: (line["started_at_us"], line["id"]))
    assert [row["id"] for row in rows] == [line["id"] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        assert int(row["total_tokens"]) == line["total_tokens"]
        assert row["operation"] == (line["operation"] or "")
        assert (usage.nanousd(row["cost_usd"]) if row["cost_usd"] else None) == line["cost_nanousd"]
    named = {row["user_name"] for row in rows}
    assert named == {'\'=cmd|" /C calc"!A0', ""}


async def test_columns_can_be_chosen_tags_among_them(api, store, crowd):
    await store(record(NOW - timedelta(hours=1), **crowd[0], tags={"session": "s1", "class": "x,y"}))

    rows = await read_csv(
        api, "/admin/export/records?columns=id,tag.session,tag.class,tag.none&columns=outcome"
    )

    assert [list(row.values())[1:] for row in rows] == [["s1", "x,y", "", "success"]]
    assert await api.refused("GET", "/admin/export/records?columns=id,colour") == (
        400,
        "invalid_value",
        "columns",
    )


async def test_records_as_json_lines(api, store, crowd):
    line = record(NOW - timedelta(hours=1), **crowd[0], cost_nanousd=None)
    await store(line)

    _, text = await api.ask("GET", "/admin/export/records?format=jsonl")

    (row,) = map(json.loads, text.splitlines())
    assert (row["id"], row["cost_usd"], row["input_tokens"], row["started_at"]) == (
        line["id"],
        None,
        100,
        "2026-08-15T12:20:00Z",
    )


async def test_each_currency_has_a_column_at_the_days_own_rate(serve, pool, store, crowd):
    _, key = await people.create_admin_key(pool, name="a")
    client = await serve(currencies={"BRL": {"2026-08-01": "5", "2026-08-10": "6"}})
    days = [NOW - timedelta(days=20), NOW - timedelta(days=10), NOW - timedelta(days=1)]
    await store(*(record(day, **crowd[0], cost_nanousd=1_000_000_000) for day in days))

    rows = await read_csv(Api(client, key, pool), "/admin/export/records")

    assert [row["cost_brl"] for row in rows] == ["", "5", "6"]
    assert list(rows[0]).index("cost_brl") == list(rows[0]).index("cost_usd") + 1


async def test_the_summary_of_users(api, store, crowd):
    lines = usage.generate(crowd, count=50)
    await store(*lines)

    rows = await read_csv(api, "/admin/export/users?start=2026-05-01")

    expected = usage.grouped(lines, lambda line: line["user_id"])
    assert {row["user_id"]: int(row["requests"]) for row in rows} == {
        user: sums["requests"] for user, sums in expected.items()
    }
    assert {row["user_id"]: usage.nanousd(row["cost_usd"]) for row in rows} == {
        user: sums["cost_nanousd"] for user, sums in expected.items()
    }
    assert {row["group"] for row in rows} == {"5A", ""}


async def test_an_empty_export_is_its_first_line(api):
    assert (await api.ask("GET", "/admin/export/users"))[1].startswith("user_id,user_name")
    assert (await api.ask("GET", "/admin/export/users?format=jsonl"))[1] == ""


async def test_the_audit_log_is_exported_and_says_so(api):
    await api.post("/admin/users", {"name": "Ana"})

    rows = await read_csv(api, "/admin/export/audit")

    assert [row["action"] for row in rows] == ["audit.export", "user.create"]
    assert json.loads(rows[1]["after"])["name"] == "Ana"


def test_streams_are_bounded_in_number():
    slots = Slots(1, "exports")
    with slots.take():
        with pytest.raises(Refusal) as refused, slots.take():
            pass
        assert refused.value.status == 429
    with slots.take():
        pass


async def test_new_records_come_as_events(api, store, crowd):
    await store(record(NOW - timedelta(minutes=1), **crowd[0]))
    headers = {"authorization": f"Bearer {api.key}"}
    async with api.client.get(
        "/admin/records/live", headers=headers, timeout=aiohttp.ClientTimeout(total=20)
    ) as response:
        assert response.content_type == "text/event-stream"
        await response.content.readuntil(b"\n\n")
        line = record(NOW, **crowd[1], operation="rag_answer")
        await store(line)
        event = (await response.content.readuntil(b"\n\n")).decode()
    fields = dict(part.split(": ", 1) for part in event.strip().split("\n"))
    assert (fields["event"], fields["id"]) == ("record", line["id"])
    assert json.loads(fields["data"])["operation"] == "rag_answer"


async def test_a_server_that_stops_ends_its_live_views(serve, pool):
    _, key = await people.create_admin_key(pool, name="a")
    client = await serve()
    async with client.get("/admin/records/live", headers={"authorization": f"Bearer {key}"}) as response:
        await response.content.readuntil(b"\n\n")
        async with asyncio.timeout(10):
            await client.server.app.shutdown()
            assert await response.content.read() == b""
