"""Migrations are applied once, by one of many, while others go on writing, and go on where they were cut."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from proxy.store import migrate, partitions, postgres, records
from proxy.store.locks import Patience
from tests.admin.conftest import NOW, payload, record

MONTHS = [datetime(2026, month, 1, tzinfo=UTC) for month in (6, 7, 8)]
INDEX = """-- no transaction
-- A comment; with a semicolon.
create index if not exists usage_records_test on usage_records (bytes_out, started_at desc) where bytes_out > 5;
drop index if exists usage_records_nothing;
"""
PARTS = """
select child.relname::text, i.indisvalid, exists (select from pg_inherits where inhrelid = i.indexrelid) as attached
from pg_index i join pg_class child on child.oid = i.indexrelid
where child.relname like 'usage_records%test' or child.relname like 'usage_records%bytes_out_started_at_idx'
order by 1
"""
BRIEF = Patience(lock_timeout_s=0.2, pause_s=0.05, attempts=2_000)


@pytest.fixture
def directory(tmp_path):
    """All migrations, to which a test adds its own: `directory(name, text)` returns where they are."""
    for file in migrate.migrations_dir().glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text())

    def add(name, text):
        (tmp_path / f"0900_{name}.sql").write_text(text)
        return tmp_path

    return add


@contextlib.asynccontextmanager
async def connections(url, count):
    opened = [await postgres.connect(url) for _ in range(count)]
    try:
        yield opened
    finally:
        for connection in opened:
            await connection.close()


async def fill(pool):
    """Records in three months, the default partition among them."""
    for month in MONTHS[:2]:
        await pool.execute("select make_usage_partition($1)", month)
    lines = [record(NOW - timedelta(days=number / 2), bytes_out=number) for number in range(150)]
    await records.store(pool, list(map(payload, lines)))


async def until(holds):
    async with asyncio.timeout(60):
        while not await holds():
            await asyncio.sleep(0.02)


async def building(pool):
    """Whether an index is being built and waits for somebody."""
    return await pool.fetchval(
        "select exists (select from pg_stat_progress_create_index where lockers_total > 0)"
    )


async def whole(pool):
    """The index is valid, and so is its part on each partition, each attached."""
    rows = await pool.fetch(PARTS)
    count = await pool.fetchval("select count(*) from usage_partitions")
    assert [(valid, attached) for name, valid, attached in rows if name != "usage_records_test"] == [
        (True, True)
    ] * count
    assert ("usage_records_test", True, False) in map(tuple, rows)
    return True


async def test_a_second_run_finds_nothing_to_do(database_url):
    async with connections(database_url, 1) as (connection,):
        assert await migrate.migrate(connection) == []


async def test_of_many_starting_replicas_one_applies_and_the_others_wait(database_url, directory):
    added = directory("slow", "select pg_sleep(0.3); create table slow (id int);")
    async with connections(database_url, 4) as opened:
        applied = await asyncio.gather(*(migrate.migrate(each, added) for each in opened))

    assert sorted(applied) == [[], [], [], ["0900_slow"]]


async def test_a_changed_file_is_refused(database_url, tmp_path):
    for file in migrate.migrations_dir().glob("*.sql"):
        (tmp_path / file.name).write_text(file.read_text() + "-- edited\n")
    async with connections(database_url, 1) as (connection,):
        with pytest.raises(migrate.MigrationError, match="was changed after it was applied"):
            await migrate.migrate(connection, tmp_path)


async def test_a_database_that_is_newer_is_refused(database_url, directory):
    async with connections(database_url, 1) as (connection,):
        await migrate.migrate(connection, directory("newer", "select 1"))

        with pytest.raises(migrate.MigrationError, match="run a newer version"):
            await migrate.migrate(connection)


async def test_one_that_was_merged_late_is_applied_after_its_successors(database_url, directory):
    added = directory("successor", "create table successor (id int)")
    async with connections(database_url, 1) as (connection,):
        await migrate.migrate(connection, added)
        (added / "0899_late.sql").write_text("alter table successor add column late int")

        assert await migrate.migrate(connection, added) == ["0899_late"]


async def test_a_failing_migration_leaves_nothing_behind(database_url, directory):
    added = directory("bad", "create table half (id int); select 1/0;")
    async with connections(database_url, 1) as (connection,):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await migrate.migrate(connection, added)

        assert await connection.fetchval("select to_regclass('half')") is None
        assert await connection.fetchval("show lock_timeout") == "0"


def test_two_of_one_number_are_refused(tmp_path):
    for name in ("0002_late.sql", "0002_later.sql"):
        (tmp_path / name).write_text("select 1")

    with pytest.raises(migrate.MigrationError, match="the same number"):
        migrate.load(tmp_path)


def test_a_file_without_a_transaction_is_read_statement_by_statement():
    assert migrate.Migration(1, "index", INDEX).steps == [
        "create index if not exists usage_records_test on usage_records (bytes_out, started_at desc) where bytes_out > 5",
        "drop index if exists usage_records_nothing",
    ]
    assert migrate.Migration(1, "table", "create table a (id int);").steps is None


async def test_an_index_is_built_on_every_partition_and_on_those_to_come(pool, database_url, directory):
    await fill(pool)
    async with connections(database_url, 1) as (connection,):
        assert await migrate.migrate(connection, directory("index", INDEX)) == ["0900_index"]

    await whole(pool)
    await partitions.make_ahead(pool, NOW, NOW)
    await whole(pool)


async def test_an_index_on_a_table_without_partitions_is_built_concurrently(pool, database_url, directory):
    added = directory("index", "-- no transaction\ncreate index users_test on users (created_at);\n")
    async with connections(database_url, 1) as (connection,):
        await migrate.migrate(connection, added)

    assert await pool.fetchval("select indisvalid from pg_index where indexrelid = 'users_test'::regclass")


async def test_of_many_starting_replicas_one_builds_an_index(pool, database_url, directory):
    """Those that wait must hold no snapshot, for which the build would wait in its turn."""
    await fill(pool)
    added = directory("index", INDEX)
    async with connections(database_url, 4) as opened:
        async with asyncio.timeout(60):
            applied = await asyncio.gather(*(migrate.migrate(each, added) for each in opened))

    assert sorted(applied) == [[], [], [], ["0900_index"]]
    await whole(pool)


async def test_writers_go_on_while_an_index_waits_for_a_long_transaction(pool, database_url, directory):
    """No insert waits as long as a lock is waited for: else Postgres would refuse it."""
    await fill(pool)
    stored = 0

    async def write():
        nonlocal stored
        while True:
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("set local lock_timeout = '10s'")
                await connection.execute(
                    "insert into usage_records (id, started_at, key_id, user_id, provider, endpoint, method, streamed,"
                    " status, outcome, usage_source, duration_ms, bytes_out)"
                    " values (gen_random_uuid(), $1, '', '', '', '', '', false, 200, '', 'none', 1, 9)",
                    NOW - timedelta(days=stored % 70),
                )
                stored += 1

    async with connections(database_url, 2) as (connection, slow):
        long = slow.transaction()
        await long.start()
        await slow.execute("update usage_records set bytes_in = 1 where bytes_out = 7")
        writing = asyncio.ensure_future(write())
        migrating = asyncio.ensure_future(
            migrate.migrate(connection, directory("index", INDEX), patience=BRIEF)
        )
        seen = stored

        async def more():
            return stored > seen + 50

        await until(more)
        assert not migrating.done()
        await long.commit()
        assert await migrating == ["0900_index"]
        assert not writing.done(), writing
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await writing
    await whole(pool)


async def test_a_change_steps_back_from_a_lock_that_it_can_not_have(pool, database_url, directory):
    """A reader holds the table; a change that waited in line for it would hold up everybody behind."""
    added = directory("column", "alter table usage_records add column test int")
    async with connections(database_url, 3) as (connection, reader, writer):
        reading = reader.transaction()
        await reading.start()
        await reader.fetchval("select count(*) from usage_records")
        migrating = asyncio.ensure_future(migrate.migrate(connection, added, patience=BRIEF))
        await writer.execute("set lock_timeout = '10s'")
        for _ in range(30):
            await writer.execute("delete from usage_records where started_at < '2020-01-01'")
            await asyncio.sleep(0.02)
        assert not migrating.done()
        await reading.commit()
        assert await migrating == ["0900_column"]


async def test_patience_has_an_end(database_url, directory):
    added = directory("column", "alter table users add column test int")
    async with connections(database_url, 2) as (connection, reader):
        async with reader.transaction():
            await reader.fetchval("select count(*) from users")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await migrate.migrate(connection, added, patience=Patience(0.05, 0.01, 3))
        assert await migrate.migrate(connection, added) == ["0900_column"]


async def test_an_index_that_was_cut_is_built_anew(pool, database_url, directory):
    await fill(pool)
    added = directory("index", INDEX)
    async with connections(database_url, 2) as (cut, slow):
        async with slow.transaction(isolation="repeatable_read"):
            await slow.fetchval("select count(*) from usage_records")  # a snapshot that the build waits for
            migrating = asyncio.ensure_future(migrate.migrate(cut, added))
            await until(lambda: building(pool))
            await pool.execute("select pg_terminate_backend(pid) from pg_stat_progress_create_index")
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
                await migrating
    assert False in [valid for name, valid, _ in await pool.fetch(PARTS) if name != "usage_records_test"]

    async with connections(database_url, 1) as (connection,):
        assert await migrate.migrate(connection, added) == ["0900_index"]
    await whole(pool)


async def test_a_process_that_is_killed_leaves_the_rest_to_the_next(pool, database_url, directory):
    await fill(pool)
    added = directory("index", INDEX)
    program = (
        "import asyncio, pathlib, sys\n"
        "from proxy.store import migrate, postgres\n"
        "async def go():\n"
        "    await migrate.migrate(await postgres.connect(sys.argv[1]), pathlib.Path(sys.argv[2]))\n"
        "asyncio.run(go())\n"
    )
    async with connections(database_url, 1) as (slow,):
        async with slow.transaction(isolation="repeatable_read"):
            await slow.fetchval("select count(*) from usage_records")
            process = subprocess.Popen([sys.executable, "-c", program, database_url, added])
            await until(lambda: building(pool))
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL

    async with connections(database_url, 1) as (connection,):
        assert await migrate.migrate(connection, added) == ["0900_index"]
    await whole(pool)
