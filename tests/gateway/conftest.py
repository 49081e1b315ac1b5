"""A proxy between a raw client and the fake upstream, started once for all tests that look at bytes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import database_of
from tests.fake_upstream import FakeUpstream
from tests.gateway.between import Between
from tests.proxy_process import ProxyProcess


@pytest.fixture(scope="session")
def bytes_database_url(postgres_server: str) -> Iterator[str]:
    """One database for the session's proxy."""
    name = f"bytes_{os.getpid()}"

    async def run(statement: str) -> None:
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run(f"create database {name} template proxy_template"))
    yield database_of(postgres_server, name)
    asyncio.run(run(f"drop database {name} with (force)"))


@pytest.fixture(scope="session")
def shared_between(bytes_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    """The proxy, its upstream and a key. Timeouts are long: nothing here may depend on them."""
    directory: Path = tmp_path_factory.mktemp("bytes")
    with FakeUpstream.running(buffer_bytes=256 * 1024) as upstream:
        with ProxyProcess.running(
            upstream_url=upstream.url, database_url=bytes_database_url, directory=directory
        ) as proxy:
            yield Between(proxy, upstream, proxy.person("bytes").key)


@pytest.fixture
def between(shared_between: Between) -> Iterator[Between]:
    """The same, with nothing scripted and nothing remembered; what reached the upstream was valid HTTP/1.1."""
    shared_between.upstream.forget()
    yield shared_between
    violations = list(shared_between.upstream.violations)
    shared_between.upstream.drop_unfinished()
    assert violations == []
