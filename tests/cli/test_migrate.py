"""`openai-proxy migrate`: on a database of one's own and on the embedded one."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg

from proxy.store import migrate
from tests.cli.serving import command


async def test_an_empty_database_gets_every_migration_once(data: Path, database_url: str, pool: asyncpg.Pool):
    await pool.execute("drop schema public cascade; create schema public")
    names = [f"{each.number:04}_{each.name}" for each in migrate.load()]
    first = command("migrate", data=data, database_url=database_url)
    assert first.stdout.splitlines() == [f"applied {name}" for name in names]
    second = command("migrate", data=data, database_url=database_url)
    assert second.stdout == "the database is up to date\n"
    assert not data.exists()


def test_the_embedded_database_is_started_for_it_and_stopped_again(data: Path):
    result = command("migrate", "--json", data=data)
    assert json.loads(result.stdout)["applied"][0] == "0001_schema"
    assert not (data / "postgres" / "postmaster.pid").exists()
    assert json.loads(command("migrate", "--json", data=data).stdout) == {"applied": []}


async def test_a_database_of_a_newer_version_is_one_line(data: Path, database_url: str, pool: asyncpg.Pool):
    await pool.execute("insert into schema_migrations (number, name, checksum) values (9999, 'later', '')")
    result = command("migrate", data=data, database_url=database_url)
    assert result.returncode == 2
    assert result.stderr.startswith("openai-proxy: database: the database has ")


def test_a_database_that_is_away_is_one_line(data: Path):
    result = command("migrate", data=data, database_url="postgresql://proxy:secret@127.0.0.1:1/proxy")
    assert result.returncode == 2
    assert result.stderr.startswith("openai-proxy: database 127.0.0.1:1/proxy: ")
    assert "secret" not in result.stderr
