from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from proxy.cli.archive import import_app
from proxy.cli.export import export
from proxy.cli.failure import CommandError
from proxy.store import people, records
from tests.admin.conftest import payload, record
from tests.cli.typed import on_pool, typed
from tests.conftest import database_of


@pytest.fixture
def other_url(postgres_server, database_url):
    """An empty database beside the test's own."""
    name = database_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1] + "_other"

    async def run(statement):
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run(f"create database {name} template proxy_template"))
    yield database_of(postgres_server, name)
    asyncio.run(run(f"drop database {name} with (force)"))


@pytest.fixture
def ana(database_url, monkeypatch):
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)

    async def fill(pool):
        user = await people.create_user(pool, name="Ana", email="ana@x.example")
        await records.store(pool, [payload(record(user_id=user["id"]))])
        return user["id"]

    return on_pool(database_url, fill)


def test_everything_goes_out_and_comes_in_elsewhere(ana, other_url, tmp_path, monkeypatch):
    assert "usage_records" in typed(export, "--all", str(tmp_path / "out"))
    with pytest.raises(CommandError, match="not empty"):
        typed(export, "--all", str(tmp_path / "out"))
    with pytest.raises(CommandError, match="the database is not empty"):
        typed(import_app, str(tmp_path / "out"))
    monkeypatch.setenv("PROXY_DATABASE_URL", other_url)
    rows = {row["table"]: row["rows"] for row in typed(import_app, str(tmp_path / "out"), "--json")}
    assert (rows["users"], rows["usage_records"]) == (1, 1)
    assert on_pool(other_url, lambda pool: pool.fetchval("select user_id from usage_records")) == ana
    with pytest.raises(CommandError, match="is no export"):
        typed(import_app, str(tmp_path))


def test_all_about_one_user_goes_into_a_file(ana, tmp_path):
    typed(export, "--user", "ana@x.example", "--output", str(tmp_path / "ana.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "ana.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["user", "record", "audit"]
    assert {line.get("user_id", line.get("id")) for line in lines[:2]} == {ana}
    with pytest.raises(CommandError, match="one --user"):
        typed(export, "--user", "a", "--user", "b")
    with pytest.raises(CommandError, match="nothing beside it"):
        typed(export, "records", "--all", str(tmp_path / "x"))
