"""What `under_load.py` measures: proxies with any settings, on one Postgres and one upstream, each started for its section."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from tests.benchmarks.cpu import cpu_s, resident_mib
from tests.benchmarks.load import Job
from tests.benchmarks.targets import OWN, QUOTAS, Target, serving
from tests.conftest import database_of
from tests.proxy_process import ProxyProcess, free_port
from tests.stoppable_postgres import StoppablePostgres

WATCH_S = 0.05
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class House:
    """Where everything is."""

    directory: Path
    postgres: StoppablePostgres
    upstream_url: str

    @contextlib.contextmanager
    def proxy(self, *, upstream_url: str | None = None, **settings: object) -> Iterator[Running]:
        """A proxy with a database of its own and one user with two monthly quotas."""
        name = f"under_load_{next(_numbers)}"
        execute(self.postgres.url, f"create database {name}")
        url = database_of(self.postgres.url, name)
        with ProxyProcess.running(
            upstream_url=upstream_url or self.upstream_url,
            database_url=url,
            directory=self.directory / name,
            **settings,
        ) as process:
            yield Running(process, process.person("bench", quotas=QUOTAS).key, url)

    @contextlib.contextmanager
    def again(self, database_url: str) -> Iterator[ProxyProcess]:
        """A further start on a database that is there."""
        name = f"under_load_{next(_numbers)}"
        with ProxyProcess.running(
            upstream_url=self.upstream_url, database_url=database_url, directory=self.directory / name
        ) as process:
            yield process


@dataclass(frozen=True, slots=True)
class Running:
    """One of them."""

    process: ProxyProcess
    key: str
    database_url: str

    def job(self, path: str, body: bytes) -> Job:
        """That it can be loaded with."""
        return Job(self.process.url + path, body, self.key)

    @property
    def pid(self) -> int:
        """The root of its processes."""
        return self.process.process.pid

    def cpu_s(self) -> float:
        """CPU of all its processes so far, once all records are stored."""
        Target(OWN, self.process.url, self.pid, self.key, database_url=self.database_url).settle()
        return cpu_s(self.pid)

    def resident_mib(self) -> float:
        """Memory of all its processes."""
        return resident_mib(self.pid)

    @contextlib.contextmanager
    def watched(self) -> Iterator[list[float]]:
        """Memory every 50 ms, in MiB, for as long as the block runs."""
        sizes, ended = [self.resident_mib()], threading.Event()

        def watch() -> None:
            while not ended.wait(WATCH_S):
                sizes.append(self.resident_mib())

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield sizes
        finally:
            ended.set()
            thread.join()


@contextlib.contextmanager
def stage(*files: Path) -> Iterator[str]:
    """The upstream, over TLS with a certificate and a key; its URL."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.stage", str(port), *map(str, files)]
    with serving(command, port):
        yield f"{'https://localhost' if files else 'http://127.0.0.1'}:{port}"


def execute(url: str, *statements: str) -> None:
    """One after the other."""

    async def run(connection: asyncpg.Connection) -> None:
        for statement in statements:
            await connection.execute(statement)

    asyncio.run(_connected(url, run))


def query(url: str, statement: str) -> Any:
    """The one value it gives."""
    return asyncio.run(_connected(url, lambda connection: connection.fetchval(statement)))


async def _connected(url: str, work: Callable[[asyncpg.Connection], Awaitable[Any]]) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await work(connection)
    finally:
        await connection.close()
