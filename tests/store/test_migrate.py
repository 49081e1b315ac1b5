"""Migrations are applied once, in order, by one of many."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from proxy.store import migrate, postgres


async def test_a_second_run_finds_nothing_to_do(database_url):
    connection = await postgres.connect(database_url)

    applied = await migrate.migrate(connection)
    await connection.close()

    assert applied == []


async def test_of_many_starting_replicas_one_applies_and_the_others_wait(database_url, tmp_path):
    for file in migrate.migrations_dir().glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    number = len(list(tmp_path.iterdir())) + 1
    (tmp_path / f"{number:04}_slow.sql").write_text("select pg_sleep(0.3); create table slow (id int);")
    connections = [await postgres.connect(database_url) for _ in range(4)]

    applied = await asyncio.gather(*(migrate.migrate(connection, tmp_path) for connection in connections))
    for connection in connections:
        await connection.close()

    assert max(applied, key=len) == [f"{number:04}_slow"]
    assert sum(map(len, applied)) == 1


async def test_a_changed_file_is_refused(database_url, tmp_path):
    for file in migrate.migrations_dir().glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text() + "-- edited\n")
    connection = await postgres.connect(database_url)

    with pytest.raises(migrate.MigrationError, match="was changed after it was applied"):
        await migrate.migrate(connection, tmp_path)
    await connection.close()


async def test_a_failing_migration_leaves_nothing_behind(database_url, tmp_path):
    for file in migrate.migrations_dir().glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())
    number = len(list(tmp_path.iterdir())) + 1
    (tmp_path / f"{number:04}_bad.sql").write_text("create table half (id int); select 1/0;")
    connection = await postgres.connect(database_url)

    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate(connection, tmp_path)

    assert await connection.fetchval("select to_regclass('half')") is None
    await connection.close()


def test_gaps_in_the_numbering_are_refused(tmp_path):
    (tmp_path / "0002_late.sql").write_text("select 1")

    with pytest.raises(migrate.MigrationError, match="without gaps"):
        migrate.load(tmp_path)
