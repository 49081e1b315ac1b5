"""Everything out of one database and into another: table by table, the same."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.store import archive, audit, erasures, folds, partitions, people, plans, postgres, quotas, records
from proxy.store.archive import LEFT_OUT, TABLES, ArchiveError
from proxy.store.postgres import statements
from proxy.store.quotas import Rule
from tests.admin.conftest import NOW, payload, record
from tests.conftest import database_of


@pytest.fixture
async def other(postgres_server: str, database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A second database, at the newest schema and empty."""
    name = database_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1] + "_other"
    connection = await asyncpg.connect(postgres_server)
    await connection.execute(f"create database {name} template proxy_template")
    opened = await postgres.open_pool(database_of(postgres_server, name))
    yield opened
    await opened.close()
    await connection.execute(f"drop database {name} with (force)")
    await connection.close()


async def fill(pool: asyncpg.Pool) -> None:
    """Something in every table, with what CSV and JSON could break."""
    await partitions.make_ahead(pool, NOW, datetime(2025, 1, 1, tzinfo=UTC))
    plan = await plans.create_plan(pool, name='a "plan", with\nlines')
    group = await people.create_group(
        pool, name="", tags={"empty": "", "comma": "a,b;\\N"}, plan_id=plan["id"]
    )
    user = await people.create_user(pool, name="Zoë\t\\", email="z@x.example", group_id=group["id"])
    key, _ = await people.create_key(pool, user_id=user["id"])
    await people.create_admin_key(pool, name="boss", group_id=group["id"])
    quota = await quotas.create_quota(pool, "user", user["id"], Rule("tokens", "month", 10**15))
    charge = [[quota["id"], int(NOW.timestamp()), user["id"], 120, 0, 0]]
    who = {"user_id": user["id"], "key_id": key["id"], "group_id": group["id"], "tags": {"ü": '"'}}
    lines = [
        record(NOW, **who, charges=charge),
        record(NOW, user_id="gone", units={"seconds": 3}, cost_nanousd=None),
    ]
    await records.store(pool, list(map(payload, lines)), ("ü",))
    await records.void(pool, lines[1]["id"], 'because, "so"', ("ü",))
    await pool.execute("update quota_windows set held = 77")
    await pool.execute(
        "insert into objects (id, kind, user_id, key_id) values ('resp_1', 'response', 'u', 'k')"
    )
    await pool.execute("insert into billed_objects values ('resp_1', $1, now(), true)", lines[0]["id"])
    await pool.execute(
        "insert into prices (id, model, starts_at, rates) values ('p', 'm', now(), '{\"a\": \"1\"}')"
    )
    await pool.execute("insert into price_data values ('1', '\\x00ff'::bytea)")
    await erasures.add(pool, "user_before")
    await audit.write(pool, [audit.Entry("cli:ana", None, "user.create", "user_1", None, {"a": [None, ""]})])


async def content(pool: asyncpg.Pool) -> dict[str, list[Any]]:
    """Every row of every table that an archive has; what workers hold left out."""
    found = {}
    for name in TABLES:
        rows = [dict(row) for row in await pool.fetch(f"select * from {name}")]
        if name == "quota_windows":
            rows = [row | {"held": 0} for row in rows]
        found[name] = sorted(rows, key=str)
    return found


async def test_what_comes_back_is_what_was_there(
    pool: asyncpg.Pool, other: asyncpg.Pool, tmp_path: Path
) -> None:
    await fill(pool)
    before = await content(pool)
    assert [name for name, rows in before.items() if not rows] == []
    done: list[str] = []
    tables = await archive.write(
        pool, tmp_path / "out", version="1", on_table=lambda name, rows: done.append(name)
    )
    assert done == list(TABLES)
    assert {table.name: table.rows for table in tables} == {name: len(rows) for name, rows in before.items()}

    await archive.read(other, tmp_path / "out", on_table=lambda name, rows: None)
    assert await content(other) == before
    assert await partitions.all_of(other) != []
    assert await other.fetchval("select count(*) from usage_records_default") == 0
    # it goes on from there: new numbers, the same sums
    assert await erasures.add(other, "user_next") == await erasures.add(pool, "user_next")
    await audit.write(other, [audit.Entry("cli:ana", None, "user.create", "user_2")])
    await folds.make_due(other, datetime.now(UTC))
    assert await records.store(other, [payload(record(NOW))]) == 1


def test_what_stays_behind_is_named():
    assert not set(TABLES) & set(LEFT_OUT)


async def test_every_table_is_in_the_archive_or_named_as_left_out(pool: asyncpg.Pool) -> None:
    tables = {row["table_name"] for row in await pool.fetch(statements("archive")["tables"])}
    assert tables == {*TABLES, *LEFT_OUT}


async def test_a_database_that_is_used_takes_nothing(
    pool: asyncpg.Pool, other: asyncpg.Pool, tmp_path: Path
) -> None:
    await archive.write(pool, tmp_path, version="1", on_table=lambda name, rows: None)
    await people.create_user(other, name="first")
    with pytest.raises(ArchiveError, match="not empty"):
        await archive.read(other, tmp_path, on_table=lambda name, rows: None)
    with pytest.raises(ArchiveError, match="not empty"):
        await archive.write(pool, tmp_path, version="1", on_table=lambda name, rows: None)


async def test_a_damaged_or_unfinished_archive_changes_nothing(
    pool: asyncpg.Pool, other: asyncpg.Pool, tmp_path: Path
) -> None:
    await fill(pool)
    await archive.write(pool, tmp_path, version="1", on_table=lambda name, rows: None)
    good = (tmp_path / "users.csv.gz").read_bytes()
    (tmp_path / "users.csv.gz").write_bytes(gzip.compress(gzip.decompress(good) + b"\n"))
    with pytest.raises(ArchiveError, match="not what was written"):
        await archive.read(other, tmp_path, on_table=lambda name, rows: None)
    (tmp_path / "users.csv.gz").write_bytes(good)
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text.replace('"schema"', '"schema_of_tomorrow"'))
    with pytest.raises(ArchiveError, match="damaged"):
        await archive.read(other, tmp_path, on_table=lambda name, rows: None)
    (tmp_path / "manifest.json").unlink()
    with pytest.raises(ArchiveError, match="no export"):
        await archive.read(other, tmp_path, on_table=lambda name, rows: None)
    assert (await content(other))["users"] == []
