"""kill -9 of workers and of the whole server under load: one record for every exchange that reached the upstream, none twice."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.e2e.numbered import ask_numbered
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ProxyProcess, wait_until

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
CLIENTS = 6
REQUESTS_MAX = 20_000
DEADLINE_S = 60.0


class Load:
    """Clients that ask one request after the other until they are stopped, each request with its own number."""

    def __init__(self, port: int, key: str) -> None:
        self.answered: set[int] = set()
        self.sent: set[int] = set()
        self._port = port
        self._key = key
        self._numbers = iter(range(REQUESTS_MAX))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client) for _ in range(CLIENTS)]

    @contextlib.contextmanager
    def running(self) -> Iterator[Load]:
        """Clients at work for the length of the block."""
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(DEADLINE_S)

    def until(self, answered: int) -> None:
        """Return when so many requests were answered."""
        wait_until(lambda: len(self.answered) >= answered, f"{answered} answers", DEADLINE_S)

    def _client(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            with self._lock:
                number = next(self._numbers)
                self.sent.add(number)
            connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                status = ask_numbered(connection, self._key, number)
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                self._stop.wait(0.01)
            else:
                if status == 200:
                    self.answered.add(number)
        if connection is not None:
            connection.close()


def reached(upstream: FakeUpstream) -> set[int]:
    """Numbers of the requests that the upstream saw whole."""
    bodies = [
        bytes(request.body) for request in upstream.requests if request.target == b"/v1/chat/completions"
    ]
    found = set()
    for body in bodies:
        with contextlib.suppress(ValueError):
            found.add(int(json.loads(body)["messages"][0]["content"]))
    return found


def start(upstream: FakeUpstream, database_url: str, directory: Path, **settings: object) -> ProxyProcess:
    environment = ProxyProcess._environment(upstream.url, database_url, directory, 2, settings)
    return ProxyProcess._start(environment, directory, database_url, 2, None)


async def settled(pool: asyncpg.Pool, seen: set[int], load: Load) -> None:
    """Wait until nothing is missing, then check that nothing is wrong."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            rows = await pool.fetch(
                "select (tags ->> 'n')::int as n, outcome from usage_records where tags ? 'n'"
            )
            if seen <= {row["n"] for row in rows}:
                break
            await asyncio.sleep(0.1)
    counts = Counter(row["n"] for row in rows)
    assert [n for n, count in counts.items() if count > 1] == []
    outcomes = {row["n"]: row["outcome"] for row in rows}
    assert set(outcomes) <= load.sent
    for number in load.answered:
        # a record is written down when the answer's last bytes are passed on, or just before
        assert outcomes[number] in {"success", "lost"}
    assert sum(outcomes[number] == "lost" for number in load.answered) <= CLIENTS
    assert sum(outcome == "lost" for outcome in outcomes.values()) <= 2 * CLIENTS
    sums = await pool.fetchrow(
        "select (select sum(requests) from usage_hourly)::int as requests, (select count(*) from usage_records)::int as rows,"
        " (select sum(total_tokens) from usage_hourly)::int as tokens,"
        " (select sum(total_tokens) from usage_records)::int as row_tokens,"
        " (select sum(settled) from quota_windows)::int as settled,"
        " (select sum(input_tokens + output_tokens) from usage_records where charges is not null)::int as charged"
    )
    assert sums["requests"] == sums["rows"]
    assert sums["tokens"] == sums["row_tokens"]
    assert sums["settled"] == sums["charged"]


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_killed_workers_are_replaced_and_their_exchanges_recorded_once(
    pool: asyncpg.Pool, database_url: str, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with FakeUpstream.running() as upstream:
        proxy = start(upstream, database_url, tmp_path)
        try:
            person = proxy.person(quotas=[{"unit": "tokens", "window": "month", "limit": "100000000"}])
            load = Load(proxy.port, person.key)
            with load.running():
                for kill in range(1, 4):
                    await asyncio.to_thread(load.until, kill * chance.randrange(50, 150))
                    victim = chance.choice([pid for pid in proxy.tree() if pid != proxy.process.pid])
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
                await asyncio.to_thread(load.until, len(load.answered) + 50)
            await settled(pool, reached(upstream), load)
        finally:
            proxy.kill()


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(ROUNDS))
@pytest.mark.parametrize("spool", ["disk", "postgres"])
async def test_a_server_that_was_killed_whole_begins_where_it_was(
    pool: asyncpg.Pool, database_url: str, tmp_path: Path, spool: str, seed: int
) -> None:
    chance = random.Random(seed)
    with FakeUpstream.running() as upstream:
        proxy = start(upstream, database_url, tmp_path, spool=spool)
        try:
            person = proxy.person(quotas=[{"unit": "tokens", "window": "month", "limit": "100000000"}])
            load = Load(proxy.port, person.key)
            with load.running():
                await asyncio.to_thread(load.until, chance.randrange(50, 300))
                await asyncio.to_thread(proxy.kill)
            seen = reached(upstream)
            # with no disk, a worker is dead when it was silent for a minute
            await pool.execute("update spool_workers set seen_at = now() - interval '2 minutes'")
            proxy = start(upstream, database_url, tmp_path, spool=spool)
            if spool == "disk":
                await settled(pool, seen, load)
            else:
                await settled_without_disk(pool, seen)
        finally:
            proxy.kill()


async def settled_without_disk(pool: asyncpg.Pool, seen: set[int]) -> None:
    """Records of the last moments may have become estimates; nothing is missing or twice."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            rows = await pool.fetch("select (tags ->> 'n')::int as n from usage_records where tags ? 'n'")
            if seen <= {row["n"] for row in rows}:
                break
            await asyncio.sleep(0.1)
    counts = Counter(row["n"] for row in rows)
    assert [n for n, count in counts.items() if count > 1] == []
    assert await pool.fetchval("select sum(requests)::int from usage_hourly") == await pool.fetchval(
        "select count(*) from usage_records"
    )
