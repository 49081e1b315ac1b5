"""Everything at once, at random, by a seed: afterwards one record for each exchange, and every sum right.

An upstream that stalls, cuts, resets, refuses and talks nonsense; clients that hang up; a Postgres that is stopped, started and
paused; workers and the whole server killed under load. `CHAOS_ROUNDS=20 pytest -m chaos` runs twenty seeds.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.e2e import chaos
from tests.e2e.chaos import CLIENTS, Clients, Upstream
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ProxyProcess
from tests.stoppable_postgres import StoppablePostgres

ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
FIRST_SEED = int(os.environ.get("CHAOS_SEED", "1"))
WARM_UP = 150
QUOTAS = [
    {"unit": "tokens", "window": "month", "limit": "100000000000"},
    {"unit": "requests", "window": "day", "limit": "100000000"},
    {"unit": "cost", "window": "total", "limit": "1000000"},
]
SETTINGS = {
    "upstream_first_byte_timeout_s": 1,
    "upstream_idle_timeout_s": 1,
    "upstream_keepalive_s": 1,
    "quota_share_ttl_s": 2,
    "database_timeout_s": 5,
    "flush_interval_s": 0.05,
}


class Disorder:
    """What happens to the server and its database, one event after the other."""

    def __init__(
        self, upstream: FakeUpstream, postgres: StoppablePostgres, directory: Path, chance: random.Random
    ) -> None:
        self._postgres = postgres
        self._chance = chance
        self._environment = ProxyProcess._environment(upstream.url, postgres.url, directory, 2, SETTINGS)
        self._directory = directory
        self.kills = 0
        self.proxy = self._start()

    def _start(self) -> ProxyProcess:
        return ProxyProcess._start(self._environment, self._directory, self._postgres.url, 2, None)

    def run(self) -> None:
        """Each kind of event at least once, in any order."""
        events = [
            self.kill_worker,
            self.kill_worker,
            self.pause_postgres,
            self.restart_postgres,
            self.kill_server,
        ]
        self._chance.shuffle(events)
        for event in events:
            time.sleep(self._chance.uniform(0.1, 0.8))
            event()

    def kill_worker(self) -> None:
        victim = self._chance.choice([pid for pid in self.proxy.tree() if pid != self.proxy.process.pid])
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
            self.kills += 1

    def kill_server(self) -> None:
        self.proxy.kill()
        self.kills += 2
        self.proxy = self._start()

    def pause_postgres(self) -> None:
        self._postgres.pause()
        try:
            time.sleep(self._chance.uniform(0.1, 1.0))
        finally:
            self._postgres.resume()

    def restart_postgres(self) -> None:
        self._postgres.stop()
        time.sleep(self._chance.uniform(0.0, 0.8))
        self._postgres.start()


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + ROUNDS))
def test_whatever_happens_each_exchange_has_one_record_and_every_sum_is_right(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    with StoppablePostgres.running() as postgres, FakeUpstream.running(Upstream(seed)) as upstream:
        disorder = Disorder(upstream, postgres, tmp_path, chance)
        try:
            person = disorder.proxy.person(quotas=QUOTAS)
            clients = Clients(lambda: disorder.proxy.port, person.key, seed)
            with clients.at_work():
                clients.until(WARM_UP)
                resident, descriptors = chaos.resources(disorder.proxy)
                disorder.run()
                clients.until(clients.done + WARM_UP)
            proxy = disorder.proxy
            outcomes = chaos.all_recorded(proxy, chaos.reached(upstream))
            chaos.wait_for_no_shares(proxy)
            chaos.check_sums(proxy)
            assert set(outcomes) <= clients.sent
            # a record is written down when the answer's last bytes are passed on, or just before
            assert {outcomes[number] for number in clients.answered} <= {"success", "lost"}
            lost = sum(outcome == "lost" for outcome in outcomes.values())
            assert lost <= disorder.kills * 2 * CLIENTS
            assert sum(outcomes[number] == "lost" for number in clients.answered) <= disorder.kills * CLIENTS
            assert {"success", "upstream_cut", "upstream_timeout", "upstream_error", "client_gone"} <= set(
                outcomes.values()
            )
            after = chaos.resources(proxy)
            assert after[0] <= 1.5 * resident
            assert after[1] <= 1.2 * descriptors
            print(
                f"seed {seed}: {len(clients.sent)} requests, {len(outcomes)} records, {lost} lost,"
                f" {disorder.kills} processes killed"
            )
            disorder.proxy.stop(clean=False)
            (left,) = proxy.query(
                "select (select count(*) from quota_leases) as leases, (select count(*) from quota_shares) as shares,"
                " (select sum(held) from quota_windows) as held"
            )
            assert (left["leases"], left["shares"], left["held"]) == (0, 0, 0)
        finally:
            if disorder.proxy.process.poll() is None:
                disorder.proxy.kill()
