"""What the proxy does under load: `python -m tests.benchmarks.under_load [SECTION …]`. README.md here says what each figure means.

Sections: streams, latency, bodies, scale, backlog, keys, tls, overload; all of these without arguments, about ten minutes; and hour, which
is measured when it is named (`hour --minutes 60`). Prints Markdown; `--update FILE` puts it between that file's markers, where
sections that were not measured stay as they are. Every load is bounded in number and in time, and all of it, upstream,
load and Postgres, shares the machine with the proxy.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import resource
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.backlog import backlog
from tests.benchmarks.cpu import machine, resident_mib
from tests.benchmarks.hour import hour
from tests.benchmarks.house import House, execute, stage
from tests.benchmarks.load import Job, Latencies, saturate
from tests.benchmarks.measure import ASKED, CHAT, body
from tests.benchmarks.overload import overload
from tests.benchmarks.run import table, updated
from tests.benchmarks.sections import merged
from tests.benchmarks.targets import Target, aiohttp_forwarder
from tests.benchmarks.timed import Streamed, flood, stream, transfer
from tests.certificates import Authority
from tests.stoppable_postgres import StoppablePostgres

MARKERS = "<!-- under load -->", "<!-- /under load -->"
MIB = 2**20
SECONDS = 8.0
CONNECTIONS = 32
METERED = body(stream=True, stream_options=ASKED)
SPLICED = body(stream=True)
HEAD = "Milliseconds unless it says otherwise."
Rows = list[list[str]]


def quantiles(found: Latencies, *shares: float) -> str:
    """In milliseconds, parted by slashes."""
    return " / ".join(f"{found.quantile(share):.2f}" for share in shares)


def capacity(job: Job) -> float:
    """Requests per second that are answered, everything on this machine."""
    saturate(job, connections=CONNECTIONS, seconds=2)
    return saturate(job, connections=CONNECTIONS, seconds=5).requests / 5


# Sections


def streams(house: House) -> list[str]:
    """Whether anything is held back, and what an open stream takes."""
    rows: Rows = [["streams × chunks/s", "", "first byte p50 / p99", "held p50 / p99", "gap p50 / p99"]]
    sizes: list[float] = []
    with house.proxy() as running:
        stream(running.job(f"{CHAT}?chunks=10&gap_ms=5", METERED), 200)  # warm
        base = running.resident_mib()
        for number, gap_ms, chunks in ((1, 5, 400), (100, 5, 400), (2_000, 200, 30)):
            query = f"{CHAT}?chunks={chunks}&gap_ms={gap_ms}"
            kinds: tuple[tuple[str, Job], ...] = (
                ("direct", Job(house.upstream_url + query, METERED, "k")),
                ("proxy", running.job(query, METERED)),
                ("proxy, spliced", running.job(query, SPLICED)),
            )
            for name, job in kinds:
                watch = (
                    (lambda: sizes.append(running.resident_mib()))
                    if number == 2_000 and name == "proxy"
                    else None
                )
                found: Streamed = stream(job, number, watch or (lambda: None))
                assert found.first.errors == 0
                told = (quantiles(each, 0.5, 0.99) for each in (found.first, found.held, found.gaps))
                rows.append([f"{number:,} × {1000 / gap_ms:.0f}", name, *told])
    each = (sizes[0] - base) * 1024 / 2_000
    return [table(rows), f"Memory of an open stream, 2,000 of them at once: {each:.0f} KiB in the proxy."]


def latency(house: House) -> list[str]:
    """What the way through the proxy adds, at three levels of load."""
    rows: Rows = [["load", "requests/s", "direct p50 / p99 / p99.9", "proxy p50 / p99 / p99.9"]]
    shares = (0.5, 0.99, 0.999)
    with house.proxy() as running:
        most = capacity(running.job(CHAT, body()))
        for share in (0.1, 0.5, 0.8):
            told = []
            for job in (Job(house.upstream_url + CHAT, body(), "k"), running.job(CHAT, body())):
                found = flood(job, per_second=most * share, seconds=SECONDS, connections=256)
                assert not found.refused.values
                told.append(quantiles(found.answered, *shares))
            rows.append([f"{share:.0%}", f"{most * share:,.0f}", *told])
    behind = Target("direct", house.upstream_url, None)
    with aiohttp_forwarder(behind) as other:
        job = Job(other.url + CHAT, body(), "k")
        per_second = capacity(job) * 0.8
        found = flood(job, per_second=per_second, seconds=SECONDS, connections=256)
    rows.append([f"80% of {other.name}", f"{per_second:,.0f}", "", quantiles(found.answered, *shares)])
    told = f"Capacity was {most:,.0f} requests/s: one worker, upstream and load beside it."
    return [table(rows), told]


BODIES = (
    ("chat with 20 MB of images", CHAT, 20_000_000, 0, "application/json"),
    ("upload of 512 MB", "/v1/files", 512_000_000, 0, "multipart/form-data; boundary=x"),
    ("download of 200 MB", "/v1/files/file-1/content?bytes=200000000", 0, 200_000_000, "application/json"),
    ("embeddings of 8 MB", "/v1/embeddings?bytes=8000000", 600, 8_000_000, "application/json"),
)
OTHERS_PER_S = 100.0
BESIDE_S = 5.0


def bodies(house: House) -> list[str]:
    """Large bodies, and what they do to everybody else."""
    rows: Rows = [
        ["", "direct, MB/s", "proxy, MB/s", "CPU, ms/MB", "memory, MiB", "other requests p50 / p99"]
    ]
    with house.proxy() as running, ProcessPoolExecutor(1) as pool:
        other = running.job(CHAT, body())
        quiet = flood(other, per_second=OTHERS_PER_S, seconds=SECONDS, connections=32)
        rows.append(["nothing else", "", "", "", "", quantiles(quiet.answered, 0.5, 0.99)])
        for name, path, send, receive, kind in BODIES:
            size = (send + receive) / 1e6
            times = max(1, round(60 / size))
            direct = pool.submit(_transfers, house.upstream_url + path, "k", send, kind, 1).result()
            before = running.cpu_s()
            with running.watched() as sizes:
                under_way = pool.submit(
                    _transfers, running.process.url + path, running.key, send, kind, times
                )
                took = under_way.result()
            spent = running.cpu_s() - before
            under_way = pool.submit(_transferring, running.process.url + path, running.key, send, kind)
            beside = flood(other, per_second=OTHERS_PER_S, seconds=BESIDE_S, connections=32)
            under_way.result()
            rows.append(
                [name, f"{size / direct:,.0f}", f"{size * times / took:,.0f}", f"{spent * 1e3 / size / times:.2f}",
                 f"+{max(sizes) - sizes[0]:.0f}", quantiles(beside.answered, 0.5, 0.99)]
            )  # fmt: skip
    return [table(rows)]


def _transfers(url: str, key: str, send: int, kind: str, times: int) -> float:
    """Seconds that so many of them took, one after the other."""
    return sum(transfer(url, key, send=send, kind=kind)[1] for _ in range(times))


def _transferring(url: str, key: str, send: int, kind: str) -> None:
    """One after the other for as long as others are measured, and a little before and after."""
    ends = time.monotonic() + BESIDE_S + 1
    while time.monotonic() < ends:
        transfer(url, key, send=send, kind=kind)


def scale(house: House) -> list[str]:
    """Workers, connections that rest, exchanges under way."""
    rows: Rows = [["workers", "requests/s", "CPU per request, µs", "memory, MiB"]]
    for workers in (1, 2, 4):
        with house.proxy(workers=workers) as running:
            saturate(running.job(CHAT, body()), connections=CONNECTIONS, seconds=2)
            before = running.cpu_s()
            loaded = saturate(running.job(CHAT, body()), connections=4 * CONNECTIONS, seconds=SECONDS)
            assert loaded.errors == 0
            spent = (running.cpu_s() - before) / loaded.requests * 1e6
            rate = loaded.requests / loaded.seconds
            rows.append([str(workers), f"{rate:,.0f}", f"{spent:.0f}", f"{running.resident_mib():.0f}"])
    lines = [table(rows)]
    with house.proxy() as running:
        stream(running.job(f"{CHAT}?chunks=10&gap_ms=5", METERED), 200)
        base = running.resident_mib()
        idle = 10_000
        with contextlib.ExitStack() as stack:
            for _ in range(idle):
                stack.enter_context(socket.create_connection(("127.0.0.1", running.process.port)))
            time.sleep(1)
            each = (running.resident_mib() - base) * 1024 / idle
            beside = flood(running.job(CHAT, body()), per_second=100, seconds=2, connections=32)
            assert len(beside.answered.values) > 100
        lines.append(
            f"10,000 idle connections take {each:.1f} KiB each; a request beside them p50 / p99 {quantiles(beside.answered, 0.5, 0.99)} ms."
        )
        found = stream(running.job(f"{CHAT}?chunks=2&gap_ms=12000", METERED), 5_000)
        assert (len(found.first.values), found.first.errors) == (5_000, 0)
        lines.append(
            f"5,000 exchanges in flight at once: all answered, first byte p99 {found.first.quantile(0.99):.1f} ms."
        )
    return lines


def keys(house: House) -> list[str]:
    """What issued keys take: memory and the start."""
    rows: Rows = [["keys", "start until ready, s", "memory, MiB", "per key, bytes"]]
    base = 0.0
    for number in (10, 10_000, 100_000, 1_000_000):
        with house.proxy() as running:
            pass  # its schema is there
        people = max(1, number // 10)
        execute(
            running.database_url,
            f"insert into users (id, name) select 'u' || n, 'User ' || n from generate_series(1, {people}) n",
            "insert into keys (id, user_id, name, digest, masked) select 'k' || n, 'u' || 1 + n % "
            f"{people}, 'key', sha256(n::text::bytea), 'sk-proxy-aa…zz' from generate_series(1, {number}) n",
        )
        began = time.monotonic()
        with house.again(running.database_url) as process:
            took = time.monotonic() - began
            size = resident_mib(process.process.pid)
        base = base or size
        each = f"{(size - base) * MIB / number:.0f}" if number > 10 else ""
        rows.append([f"{number:,}", f"{took:.1f}", f"{size:.0f}", each])
    return [table(rows)]


def tls(house: House) -> list[str]:
    """An upstream over TLS: what encryption costs, and that handshakes are not repeated."""
    rows: Rows = [["upstream", "CPU per request, µs", "CPU per chunk, µs", "requests", "handshakes"]]
    authority = Authority(house.directory)
    for name, files in (("plain", ()), ("TLS", authority.files("localhost"))):
        trust = {"upstream_ca_file": authority.ca_file} if files else {}
        with stage(*files) as url, house.proxy(upstream_url=url, **trust) as running:
            saturate(running.job(CHAT, body()), connections=CONNECTIONS, seconds=2)
            before = running.cpu_s()
            loaded = saturate(running.job(CHAT, body()), connections=CONNECTIONS, seconds=SECONDS)
            request = (running.cpu_s() - before) / loaded.requests * 1e6
            opened = connections(url, authority)
            before = running.cpu_s()
            chunks = saturate(
                running.job(f"{CHAT}?chunks=100&gap_ms=5", METERED), connections=100, seconds=SECONDS
            )
            chunk = (running.cpu_s() - before) / chunks.requests / 100 * 1e6
            rows.append([name, f"{request:.0f}", f"{chunk:.1f}", f"{loaded.requests:,}", str(opened)])
    return [table(rows)]


def connections(url: str, authority: Authority) -> int:
    """How many the upstream has accepted, this one left out."""
    parts = urlsplit(url)
    asked = (
        http.client.HTTPSConnection("localhost", parts.port, context=authority.client())
        if parts.scheme == "https"
        else http.client.HTTPConnection("127.0.0.1", parts.port)
    )
    with contextlib.closing(asked):
        asked.request("GET", "/connections")
        return int(asked.getresponse().read()) - 1


SECTIONS: dict[str, tuple[str, Callable[[House], list[str]]]] = {
    "streams": ("Streams", streams),
    "latency": ("Latency", latency),
    "bodies": ("Large bodies", bodies),
    "scale": ("Scale", scale),
    "backlog": ("What one Postgres takes", backlog),
    "keys": ("Keys", keys),
    "tls": ("TLS to the upstream", tls),
    "overload": ("Overload", overload),
}
HOUR = "hour"
TITLES = [title for title, _ in SECTIONS.values()] + ["An hour"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"of {', '.join([*SECTIONS, HOUR])}; without any all but {HOUR}"
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=60, help=f"how long {HOUR} is (default 60)")
    parser.add_argument("--update", type=Path, help="put the report into this file")
    options = parser.parse_args(arguments)
    known = SECTIONS | {HOUR: (TITLES[-1], lambda house: hour(house, options.minutes))}
    for name in [name for name in os.environ if name.startswith(("PROXY_", "OPENAI_"))]:
        del os.environ[name]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = {}
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-bench-")))
        directory.chmod(0o755)  # Postgres runs as another user where the benchmark runs as root
        postgres = stack.enter_context(StoppablePostgres.running())
        house = House(directory, postgres, stack.enter_context(stage()))
        for name in options.sections or SECTIONS:
            title, measure = known[name]
            print(name, file=sys.stderr, flush=True)
            when = (
                f"{datetime.now(UTC):%Y-%m-%d}, {machine()}. Load average before: {os.getloadavg()[0]:.1f}."
            )
            found[title] = "\n\n".join([when, *measure(house)])
    print(merged("", found, TITLES))
    if options.update:
        document = options.update.read_text()
        old = document.partition(MARKERS[0])[2].partition(MARKERS[1])[0]
        text = f"{HEAD}\n\n{merged(old, found, TITLES)}"
        options.update.write_text(updated(document, text, MARKERS))


if __name__ == "__main__":
    main()
