"""Voiding a record: audited, out of every sum, and found again by those who ask for it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

from proxy.store import audit
from tests.admin.conftest import NOW, record

EARLIER = NOW - timedelta(hours=1)


async def test_a_voided_record_leaves_the_sums_and_stays_in_the_history_of_who_asks_for_it(api, pool, store):
    kept, voided = record(EARLIER, streamed=True), record(EARLIER, streamed=True)
    await store(kept, voided)
    answer = await api.post(f"/admin/records/{voided['id']}/void", {"reason": "test run"})

    assert answer["voided_reason"] == "test run"
    assert answer["voided_at"] is not None
    for path in ("/admin/stats/overview?days=1", "/admin/stats/overview?days=1&streamed=true"):
        assert (await api.get(path))["sums"]["requests"] == 1
        assert (await api.get(path + "&active=true"))["sums"]["requests"] == 1
        assert (await api.get(path + "&active=false"))["sums"]["total_tokens"] == voided["total_tokens"]
        assert (await api.get(path + "&active=all"))["sums"]["requests"] == 2
    assert (await api.get("/admin/stats"))["overall"]["requests"] == 1
    for active, expected in (
        ("true", {kept["id"]}),
        ("false", {voided["id"]}),
        ("all", {kept["id"], voided["id"]}),
    ):
        page = await api.get(f"/admin/records?active={active}")
        assert {row["id"] for row in page["data"]} == expected
        _, text = await api.ask("GET", f"/admin/export/records?days=1&active={active}")
        assert {row["id"] for row in csv.DictReader(io.StringIO(text))} == expected
        models = await api.get(f"/admin/stats/models?days=1&active={active}")
        assert sum(row["requests"] for row in models["data"]) == len(expected)
    entries, _ = await audit.list_audit(pool, action="record.void")
    assert [(entry["subject"], entry["after"]) for entry in entries] == [
        (voided["id"], {"reason": "test run"})
    ]


async def test_voiding_needs_a_reason_and_happens_once(api, store):
    line = record(EARLIER)
    await store(line)
    path = f"/admin/records/{line['id']}/void"
    assert await api.refused("POST", path, {"reason": " "}) == (400, "invalid_value", "reason")
    assert await api.refused("POST", path, {}) == (400, "invalid_value", "reason")
    await api.post(path, {"reason": "test run"})
    assert (await api.refused("POST", path, {"reason": "again"}))[:2] == (409, "already_voided")
    assert (await api.refused("POST", "/admin/records/nothing/void", {"reason": "x"}))[0] == 404
    assert (await api.refused("GET", "/admin/records?active=perhaps"))[0] == 400
