"""Every Prometheus instrument of the proxy, in one place, and their exposition over all worker processes.

Once a second a worker writes its numbers to `<data_dir>/metrics/<pid>.json`; whichever worker is asked for /metrics
sums all files. The supervisor folds the file of a worker that ended into `ended.json`, so that counters never fall
while the server runs; gauges end with their worker. A server that starts begins at zero.

User and key ids are never labels; what clients can choose is bounded (see instruments.py).
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

import proxy
from proxy.build import build
from proxy.instruments import Counter, Gauge, Histogram, merged

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
ENDED_REMEMBERED_MAX = 256
LATENCY_S: tuple[float, ...] = (
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    40.0,
    80.0,
    160.0,
    320.0,
)
OVERHEAD_S: tuple[float, ...] = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.5)
DATABASE_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)

_WORKER_FILE = re.compile(r"^\d+\.json$")


class Metrics:
    """All instruments of one process. With a directory they are shared with the other workers of the server."""

    def __init__(self, directory: Path | None = None, *, simulated: bool = False) -> None:
        self._directory = directory
        self._id = f"{os.getpid()}-{time.time_ns()}"
        self._written = b""
        self.on_read: list[Callable[[], None]] = []
        """Called before the numbers are read: who counts on his own tells now what he has counted."""
        self._declare_pass()
        self._declare_quotas()
        self._declare_recorder()
        self._declare_process()
        self.build_info.set((proxy.__version__, build()), 1)
        self.simulated.set((), int(simulated))

    def _declare_pass(self) -> None:
        self.requests = Counter(
            "requests", "Requests of known keys that ended.", ("endpoint", "model", "status_class", "outcome")
        )
        self.tokens = Counter("tokens", "Tokens by class; cached is a part of input.", ("class", "model"))
        self.cost = Counter("cost_usd", "Cost of recorded use in US dollars.", ("model",), scale=1e-9)
        self.unknown_price = Counter("unknown_price", "Records without a known price.", ("model",))
        self.refusals = Counter("refusals", "Requests of known keys refused by a rule.", ("reason",))
        self.auth_failures = Counter("auth_failures", "Requests without a valid key.", ("reason",))
        self.metering_faults = Counter("metering_faults", "Faults kept from the answer, by step.", ("step",))
        self.bytes = Counter("bytes", "Body bytes relayed.", ("direction",))
        self.exchanges_in_flight = Gauge("exchanges_in_flight", "Exchanges between admission and record.")
        self.streams_open = Gauge("streams_open", "Event streams and WebSockets being relayed.")
        self.client_connections = Gauge("client_connections", "Open connections of clients.")
        self.body_bytes_held = Gauge("body_bytes_held", "Request bodies held in memory.")
        self.upstream_seconds = Histogram(
            "upstream_seconds",
            "From first byte sent to the answer's end.",
            ("endpoint", "model"),
            bounds=LATENCY_S,
        )
        self.ttfb_seconds = Histogram(
            "ttfb_seconds",
            "From request sent to the answer's first byte.",
            ("endpoint", "model"),
            bounds=LATENCY_S,
        )
        self.overhead_seconds = Histogram(
            "overhead_seconds", "The proxy's own time before a request is forwarded.", bounds=OVERHEAD_S
        )
        self.upstream_connections = Gauge("upstream_connections", "Connections to the upstream.", ("state",))
        self.upstream_opened = Counter("upstream_connections_opened", "Connections opened.")
        self.upstream_reused = Counter("upstream_connections_reused", "Exchanges on a kept connection.")
        self.upstream_failures = Counter("upstream_failures", "Exchanges that failed upstream.", ("reason",))

    def _declare_quotas(self) -> None:
        self.quota_grants = Counter("quota_grants", "Shares of quotas granted by Postgres.", ("outcome",))
        self.quota_recalls = Counter("quota_recalls", "Idle shares called back.", ("side",))
        self.quota_overage = Counter("quota_overage", "Use beyond its reservation.", ("unit",))
        self.quota_soft_passed = Counter(
            "quota_soft_passed", "Windows in which a soft limit was passed.", ("unit",)
        )
        self.quota_suspended = Gauge("quota_suspended", "1: a quota is not enforced now.", merge="max")
        self.quota_unenforced = Counter("quota_unenforced", "Admitted without a quota's check: no database.")
        self.followed = Gauge("followed_objects", "Unfinished objects whose use is waited for.", merge="max")
        self.follow_polls = Counter("follow_polls", "Questions after unfinished objects.", ("result",))

    def _declare_recorder(self) -> None:
        self.recorder_queue = Gauge("recorder_queue_records", "Records spooled and not yet in Postgres.")
        self.recorder_bytes = Gauge("recorder_spool_bytes", "Size of the spool.")
        self.recorder_written = Counter("recorder_records", "Records stored in Postgres.")
        self.recorder_flush_seconds = Histogram(
            "recorder_flush_seconds", "Time of one flush.", bounds=DATABASE_S
        )
        self.recorder_failures = Counter("recorder_flush_failures", "Flushes that failed and are retried.")
        self.recorder_dropped = Counter("recorder_dropped", "Records given up, by reason.", ("reason",))
        self.recorder_lost = Counter("recorder_lost", "Exchanges whose process died; estimated.")
        self.database_round_trips = Counter("database_round_trips", "Round trips to Postgres.", ("purpose",))
        self.database_failures = Counter("database_failures", "Round trips that failed.", ("purpose",))
        self.database_seconds = Histogram(
            "database_seconds", "Time of round trips to Postgres.", ("purpose",), bounds=DATABASE_S
        )

    def _declare_process(self) -> None:
        self.admin_requests = Counter(
            "admin_requests", "Requests of the control plane.", ("route", "status_class")
        )
        self.ready = Gauge("ready", "1: every worker is ready.", merge="min")
        self.workers = Gauge("workers", "Worker processes of this server.")
        self.worker_exits = Counter("worker_exits", "Worker processes that ended.")
        self.cpu_seconds = Counter("cpu_seconds", "Processor time used.")
        self.resident_bytes = Gauge("resident_memory_bytes", "Resident memory.")
        self.build_info = Gauge(
            "build_info",
            "1, with the version, and whether the pass is compiled or interpreted, as labels.",
            ("version", "build"),
            merge="max",
        )
        self.simulated = Gauge("simulated", "1: answers come from the simulator.", merge="max")

    @property
    def instruments(self) -> dict[str, Counter | Gauge | Histogram]:
        """Every instrument by its exported name, without the suffix _total of counters."""
        return {
            each.name: each for each in vars(self).values() if isinstance(each, Counter | Gauge | Histogram)
        }

    def snapshot(self) -> dict[str, Any]:
        """This process's numbers: {"id", "values": {name: [[labels, value or cell], …]}}."""
        for tell in self.on_read:
            tell()
        return {"id": self._id, "values": {name: each.dump() for name, each in self.instruments.items()}}

    def flush(self) -> None:
        """Write the numbers for the other workers to see. Raises nothing: a full disk must not stop a worker."""
        self.write(self.changed())

    def changed(self) -> bytes | None:
        """What `write` is to write; None when nothing changed since, or nobody reads it."""
        self._look_at_process()
        if self._directory is None:
            return None
        snapshot = orjson.dumps(self.snapshot())
        return snapshot if snapshot != self._written else None

    def write(self, snapshot: bytes | None) -> None:
        """From any thread, one at a time: replacing a file may wait for the disk."""
        if self._directory is not None and snapshot is not None:
            with contextlib.suppress(OSError):
                _replace(self._directory / f"{os.getpid()}.json", snapshot)
                self._written = snapshot

    def _look_at_process(self) -> None:
        times = os.times()
        self.cpu_seconds.values[()] = round(times.user + times.system, 2)
        self.resident_bytes.set((), _resident_bytes())

    def render(self) -> bytes:
        """What GET /metrics answers, in the text format named by CONTENT_TYPE: the sum over all workers."""
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import generate_latest

        self._look_at_process()
        snapshots = [self.snapshot()]
        if self._directory is not None:
            snapshots += [each for each in _read_all(self._directory) if each["id"] != self._id]
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self.instruments, snapshots))
        return generate_latest(registry)


class _Collector:
    """Sums snapshots into prometheus_client's metric families."""

    def __init__(
        self, instruments: dict[str, Counter | Gauge | Histogram], snapshots: list[dict[str, Any]]
    ) -> None:
        self._instruments = instruments
        self._snapshots = snapshots

    def collect(self) -> Iterator[Any]:
        """One family for each instrument, for the registry."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, each in self._instruments.items():
            rows = merged(each, (snapshot["values"].get(name, ()) for snapshot in self._snapshots))
            if isinstance(each, Histogram):
                family: Any = HistogramMetricFamily(name, each.help, labels=each.labels)
                for labels, cell in rows.items():
                    total, buckets = 0.0, []
                    for bound, count in zip((*map(str, each.bounds), "+Inf"), cell, strict=False):
                        total += count
                        buckets.append((bound, total))
                    family.add_metric(labels, buckets, sum_value=cell[-1])
            else:
                kind = CounterMetricFamily if isinstance(each, Counter) else GaugeMetricFamily
                scale = each.scale if isinstance(each, Counter) else 1
                family = kind(name, each.help, labels=each.labels)
                for labels, value in rows.items():
                    family.add_metric(labels, value * scale)
            yield family


def fold_ended(directory: Path, pid: int) -> None:
    """Keep an ended worker's counters and drop its gauges. Only the supervisor calls this, so there is one writer.

    Readers look at worker files first and at `ended.json` second, and leave out workers it already holds, so that no
    moment shows a number twice or not at all.
    """
    path = directory / f"{pid}.json"
    ended = _read(directory / "ended.json") or {"id": "ended", "held": [], "values": {}}
    snapshot = _read(path)
    if snapshot is None:
        return
    for name, each in Metrics().instruments.items():
        if each.kind != "gauge":
            rows = (ended["values"].get(name, ()), snapshot["values"].get(name, ()))
            ended["values"][name] = list(merged(each, rows).items())
    ended["held"] = [*ended["held"], snapshot["id"]][-ENDED_REMEMBERED_MAX:]
    _replace(directory / "ended.json", orjson.dumps(ended))
    path.unlink(missing_ok=True)


def prepare_directory(directory: Path) -> None:
    """Make it, and remove what an earlier run of the server left. Before the first worker starts."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for path in directory.glob("*.json*"):
        path.unlink(missing_ok=True)


def _read_all(directory: Path) -> list[dict[str, Any]]:
    paths = sorted(path for path in directory.iterdir() if _WORKER_FILE.match(path.name))
    workers = [snapshot for path in paths if (snapshot := _read(path)) is not None]
    ended = _read(directory / "ended.json")
    if ended is None:
        return workers
    return [ended, *(each for each in workers if each["id"] not in ended["held"])]


def _read(path: Path) -> dict[str, Any] | None:
    """None: the file is gone or not ours, which both happen when a worker ends."""
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) and "id" in found and "values" in found else None


def _replace(path: Path, content: bytes) -> None:
    beside = path.with_suffix(".json.new")
    beside.write_bytes(content)
    beside.replace(path)


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except (OSError, IndexError):  # not Linux
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
