"""The section "backlog" of `under_load.py`: how many records one Postgres takes, and what each costs it.

While Postgres stands still, requests are answered and their records wait in the spool. Then it goes on, nothing else is asked of the
machine, and what is measured is how soon the last of them is stored: more requests a second than that can't be kept up
by this Postgres for long.
"""

from __future__ import annotations

import time

from tests.benchmarks.cpu import cpu_s
from tests.benchmarks.house import House, Running, query
from tests.benchmarks.load import saturate
from tests.benchmarks.measure import CHAT, body
from tests.benchmarks.run import table

CONNECTIONS = 32
WARM_S = 2.0
AWAY_S = 5.0
"""Shorter than any of the proxy's patience with a database that does not answer, so that nothing but records waits."""
LOOK_EVERY_S = 0.25
DEADLINE_S = 120.0
WORKERS = (1, 2)


def backlog(house: House, away_s: float = AWAY_S) -> list[str]:
    """Records that waited, and how soon they were stored."""
    rows = [["workers", "records that waited", "stored/s", "Postgres' CPU per record, µs", "proxy's, µs"]]
    for workers in WORKERS:
        with house.proxy(workers=workers) as running:
            saturate(running.job(CHAT, body()), connections=CONNECTIONS, seconds=WARM_S)
            running.cpu_s()  # once all records are stored
            before = _records(running)
            house.postgres.pause()
            try:
                loaded = saturate(running.job(CHAT, body()), connections=CONNECTIONS, seconds=away_s)
                own, postgres, began = cpu_s(running.pid), cpu_s(house.postgres.pid), time.monotonic()
            finally:
                house.postgres.resume()
            assert loaded.errors == 0
            took = _until_stored(running, before + loaded.requests) - began
            spent = (cpu_s(house.postgres.pid) - postgres, cpu_s(running.pid) - own)
            each = (f"{seconds / loaded.requests * 1e6:.0f}" for seconds in spent)
            rows.append([str(workers), f"{loaded.requests:,}", f"{loaded.requests / took:,.0f}", *each])
    return [table(rows), "Two monthly quotas are settled with each record, the same two for all of them."]


def _until_stored(running: Running, count: int) -> float:
    """When there were so many. Raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE_S
    while _records(running) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{_records(running)} of {count} records are stored")
        time.sleep(LOOK_EVERY_S)
    return time.monotonic()


def _records(running: Running) -> int:
    return int(query(running.database_url, "select count(*) from usage_records"))
