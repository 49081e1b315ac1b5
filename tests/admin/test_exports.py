"""Exports read back as what was stored, bounded in number, and cut rather than ended when they fail."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import socket
from datetime import timedelta
from decimal import Decimal

import aiohttp
import pytest

from proxy.admin import export_forms, live, stream
from proxy.admin.export_tables import Column
from proxy.admin.stream import Slots
from proxy.core.refusal import Refusal
from proxy.store import people, postgres
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
        "/admin/records/live", headers=headers, timeout=aiohttp.ClientTimeout(total=60)
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
        async with asyncio.timeout(30):
            await client.server.app.shutdown()
            assert await response.content.read() == b""


def stored_file(pieces):
    """A Parquet file's table, and how many row groups it has."""
    from pyarrow import BufferReader, parquet

    file = parquet.ParquetFile(BufferReader(pieces))
    return file.read(), file.num_row_groups


async def read_bytes(api, path):
    async with api.client.get(path, headers={"authorization": f"Bearer {api.key}"}) as response:
        assert response.status == 200
        return response.headers["content-type"], await response.read()


async def test_records_as_parquet_have_types(api, store, crowd):
    line = record(NOW - timedelta(hours=1), **crowd[0], tags={"session": "s1"}, cost_nanousd=1_500_000_001)
    unpriced = record(NOW - timedelta(minutes=1), **crowd[1], cost_nanousd=None)
    await store(line, unpriced)

    kind, content = await read_bytes(
        api,
        "/admin/export/records?format=parquet&columns=id,started_at,cost_usd,total_tokens,streamed,tag.session",
    )

    table, _ = stored_file(content)
    assert kind == "application/vnd.apache.parquet"
    assert [str(field.type) for field in table.schema] == [
        "string", "timestamp[us, tz=UTC]", "decimal128(28, 9)", "int64", "bool", "string",
    ]  # fmt: skip
    assert table.to_pylist() == [
        {
            "id": line["id"],
            "started_at": NOW - timedelta(hours=1),
            "cost_usd": Decimal("1.500000001"),
            "total_tokens": 120,
            "streamed": False,
            "tag.session": "s1",
        },
        {
            "id": unpriced["id"],
            "started_at": NOW - timedelta(minutes=1),
            "cost_usd": None,
            "total_tokens": 120,
            "streamed": False,
            "tag.session": None,
        },
    ]


async def test_the_default_columns_of_every_export_fit_into_parquet(api, store, crowd):
    lines = usage.generate(crowd, count=700)
    await store(*lines)
    await api.post("/admin/users", {"name": "Zoe"})

    for what, count in (("records", 700), ("users", 2), ("audit", None)):
        period = "" if what == "audit" else "&start=2026-05-01"
        table, _ = stored_file((await read_bytes(api, f"/admin/export/{what}?format=parquet{period}"))[1])
        assert table.num_rows == count or what == "audit"
    assert {row["action"] for row in table.to_pylist()} >= {"records.export", "user.create", "audit.export"}
    assert any(row["after"] and json.loads(row["after"]).get("name") == "Zoe" for row in table.to_pylist())


def test_parquet_is_written_in_row_groups_as_rows_come(monkeypatch):
    monkeypatch.setattr(export_forms, "ROW_GROUP_ROWS", 100)
    made = export_forms.form("parquet", (Column("requests", "integer", lambda row: row["n"]),))
    pieces = [made.rows([{"n": start + number} for number in range(40)]) for start in range(0, 400, 40)]
    pieces.append(made.end())

    table, groups = stored_file(b"".join(pieces))
    assert table["requests"].to_pylist() == list(range(400))
    assert groups == 4
    assert sum(bool(piece) for piece in pieces) >= 4


async def test_parquet_without_its_library_names_the_extra(api, monkeypatch):
    monkeypatch.setattr(export_forms.importlib.util, "find_spec", lambda name: None)

    status, answer = await api.ask("GET", "/admin/export/records?format=parquet")

    assert (status, answer["error"]["code"], answer["error"]["param"]) == (400, "extra_missing", "format")
    assert "pip install 'openai-usage-proxy[parquet]'" in answer["error"]["message"]


async def test_records_as_one_array(api, store, crowd):
    assert (await api.ask("GET", "/admin/export/records?format=json"))[1] == []
    lines = usage.generate(crowd, count=600)
    await store(*lines)

    _, answer = await api.ask("GET", "/admin/export/records?format=json&start=2026-05-01&columns=id,status")

    lines.sort(key=lambda line: (line["started_at_us"], line["id"]))
    assert answer == [{"id": line["id"], "status": line["status"]} for line in lines]


@pytest.mark.parametrize(
    "query", ["failed=true", "failed=false", "finish_reason=length", "failed=true&service_tier=flex"]
)
async def test_filters_of_an_export_are_those_of_history(api, store, crowd, query):
    await store(*usage.generate(crowd, count=600))

    exported = await read_csv(api, f"/admin/export/records?start=2026-05-01&columns=id&{query}")

    history = await api.get(f"/admin/records?start=2026-05-01&limit=1000&{query}")
    assert exported
    assert [row["id"] for row in exported] == [row["id"] for row in history["data"]][::-1]


@pytest.mark.parametrize("wanted", [True, False])
async def test_what_failed_is_what_statistics_count_as_errors(api, store, crowd, wanted):
    """An answer that broke off after its 200 failed; who hung up before there was a status didn't."""
    lines = usage.generate(crowd, count=600)
    await store(*lines)

    found = await api.get(f"/admin/records?start=2026-05-01&limit=1000&failed={str(wanted).lower()}")

    meant = {line["id"] for line in lines if usage.failed(line) is wanted}
    assert {row["id"] for row in found["data"]} == meant
    assert {200, 0} <= {row["status"] for row in found["data"]}
    errors = (await api.get("/admin/stats/errors?start=2026-05-01"))["errors"]
    assert len(meant) == (errors if wanted else len(lines) - errors)


class SlowReader:
    """A client that asks for an export and reads nothing but the head of the answer."""

    def __init__(self, api: Api, path: str) -> None:
        self._socket = socket.create_connection((api.client.host, api.client.port), timeout=30)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {api.key}\r\n\r\n"
        self._socket.sendall(request.encode())

    def head(self) -> bytes:
        return self._socket.recv(100)

    def leave(self) -> None:
        self._socket.close()


async def fill(pool, count, characters=2_000):
    """Records large enough that no buffer between us and a reader holds them."""
    await pool.execute(
        "insert into usage_records (id, started_at, key_id, user_id, provider, endpoint, method, streamed, status, outcome,"
        " usage_source, duration_ms, error_message)"
        " select gen_random_uuid(), $1::timestamptz - n * interval '1 second', 'key_1', 'user_' || n, 'openai', '/v1/x', 'POST',"
        " false, 500, 'upstream_error', 'none', 1, repeat('x', $3) from generate_series(1, $2::integer) as n",
        NOW,
        count,
        characters,
    )


async def test_slow_readers_of_exports_hold_up_nobody(serve, pool, database_url):
    _, key = await people.create_admin_key(pool, name="a")
    await fill(pool, 20_000)
    own = await postgres.open_pool(database_url, size_min=0, size_max=1)
    exports = await postgres.open_pool(database_url, size_min=0, size_max=3)
    client = await serve(pool=own, exports=exports, admin_exports_max=3)
    api = Api(client, key, pool)
    path = "/admin/export/records?columns=id,error_message"
    readers = [await asyncio.to_thread(SlowReader, api, path) for _ in range(3)]
    for reader in readers:
        assert (await asyncio.to_thread(reader.head)).startswith(b"HTTP/1.1 200")

    for _ in range(5):
        await api.get("/admin/stats")
    assert await api.refused("GET", path) == (429, "rate_limit_exceeded", None)
    async with exports.acquire(timeout=30), exports.acquire(timeout=30), exports.acquire(timeout=30):
        pass  # readers who stop reading hold no connection either

    for reader in readers:
        reader.leave()
    async with asyncio.timeout(30):
        while (await api.ask("GET", "/admin/export/audit"))[0] == 429:
            await asyncio.sleep(0.1)
    await client.close()
    await own.close()
    await exports.close()


async def test_a_reader_who_takes_nothing_is_cut_in_the_end(serve, pool, monkeypatch):
    monkeypatch.setattr(stream, "READER_TIMEOUT_S", 0.3)
    _, key = await people.create_admin_key(pool, name="a")
    await fill(pool, 20_000)
    api = Api(await serve(admin_exports_max=1), key, pool)
    reader = await asyncio.to_thread(SlowReader, api, "/admin/export/records?columns=error_message")

    async with asyncio.timeout(60):
        while (await api.ask("GET", "/admin/export/audit"))[0] == 429:
            await asyncio.sleep(0.1)
    reader.leave()


async def test_the_place_of_a_live_view_is_free_when_its_reader_leaves(serve, pool, monkeypatch):
    monkeypatch.setattr(live, "OPEN_MAX", 1)
    _, key = await people.create_admin_key(pool, name="a")
    api = Api(await serve(), key, pool)
    reader = await asyncio.to_thread(SlowReader, api, "/admin/records/live")
    await asyncio.to_thread(reader.head)
    assert (await api.refused("GET", "/admin/records/live"))[0] == 429

    reader.leave()

    async with asyncio.timeout(live.SILENCE_S / 2):  # sooner than the next comment would find out
        while True:
            async with api.client.get(
                "/admin/records/live", headers={"authorization": f"Bearer {key}"}
            ) as answer:
                if answer.status == 200:
                    break
            await asyncio.sleep(0.05)
