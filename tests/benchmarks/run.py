"""The benchmark: `python -m tests.benchmarks.run`. README.md in this directory says what each figure means.

Prints a Markdown report: the machine, CPU per request and per streamed chunk, Postgres' share, and added latency.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import targets
from tests.benchmarks.cpu import cpu_s, machine, resident_mib
from tests.benchmarks.load import Job, pace, saturate
from tests.benchmarks.targets import Target

CHAT = "/v1/chat/completions"
UNKNOWN = "/v1/not/an/endpoint"
"""Forwarded and recorded as any path is, but no meter reads its answers."""
WARM_UP_S = 2.0
BUSY = 0.5
GAP_MS = 5
CHUNKS = 100
BEGIN, END = "<!-- benchmark -->", "<!-- /benchmark -->"
PACKAGES = ("aiohttp", "uvloop", "httptools", "asyncpg", "orjson")


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of request. `per` is what its CPU is divided by: parts in one request."""

    name: str
    path: str
    body: bytes
    per: int = 1
    streamed: bool = False


def body(**more: object) -> bytes:
    """A chat request of half a kilobyte."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "Say this is a test. " * 20},
    ]
    return json.dumps({"model": "gpt-4o-mini", "messages": messages, "temperature": 0.7, **more}).encode()


STREAM_QUERY = f"?chunks={CHUNKS}&gap_ms={GAP_MS}"
ASKED = {"include_usage": True}
REQUEST = Workload("request", CHAT, body())
RELAYED = Workload("request, not metered", UNKNOWN, body())
STREAM = Workload("chunk", CHAT + STREAM_QUERY, body(stream=True, stream_options=ASKED), CHUNKS, True)
SPLICED = Workload("chunk, spliced", CHAT + STREAM_QUERY, body(stream=True), CHUNKS, True)
RELAYED_STREAM = Workload("chunk, not metered", UNKNOWN + STREAM_QUERY, body(stream=True), CHUNKS, True)
BLIND = (REQUEST, STREAM)
"""What servers that only forward are measured with."""
ALL = (REQUEST, RELAYED, STREAM, SPLICED, RELAYED_STREAM)


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU of one run, in microseconds per part."""

    own_us: float
    postgres_us: float | None
    per_second: float
    errors: int


def measure(target: Target, load: Workload, options: argparse.Namespace) -> Cost:
    """Load the target, wait until it has recorded all of it, and divide the CPU it took."""
    assert target.pid is not None
    job = Job(target.url + load.path, load.body, target.key)
    connections = options.streams if load.streamed else options.connections
    target.settle()
    own, postgres = cpu_s(target.pid), cpu_s(target.postgres_pid) if target.postgres_pid else 0.0
    loaded = saturate(job, connections=connections, seconds=options.seconds, own=options.own_load)
    target.settle()
    parts = max(1, loaded.requests * load.per)
    own = (cpu_s(target.pid) - own) / parts * 1e6
    spent = (cpu_s(target.postgres_pid) - postgres) / parts * 1e6 if target.postgres_pid else None
    return Cost(own, spent, loaded.requests / loaded.seconds, loaded.errors)


def costs(found: Sequence[Target], options: argparse.Namespace) -> dict[tuple[str, str], Cost]:
    """The median of several rounds, targets taking turns, for each target and workload."""
    rounds: dict[tuple[str, str], list[Cost]] = {}
    for target in found:
        saturate(
            Job(target.url + CHAT, body(), target.key), connections=8, seconds=WARM_UP_S, own=options.own_load
        )
    for number in range(options.rounds):
        for target in found:
            for load in ALL if target.postgres_pid else BLIND:
                say(f"round {number + 1}: {target.name}, {load.name}")
                rounds.setdefault((target.name, load.name), []).append(measure(target, load, options))
    return {key: sorted(runs, key=lambda run: run.own_us)[len(runs) // 2] for key, runs in rounds.items()}


def latencies(found: Sequence[Target], options: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Median p50 and p99 in ms at a fixed rate, for each target."""
    rounds: dict[str, list[tuple[float, float]]] = {}
    for number in range(options.rounds):
        for target in found:
            say(f"round {number + 1}: {target.name}, latency")
            run = pace(
                Job(target.url + CHAT, body(), target.key), per_second=options.rate, seconds=options.seconds
            )
            assert run.errors == 0, f"{target.name}: {run.errors} errors"
            rounds.setdefault(target.name, []).append((run.quantile(0.5), run.quantile(0.99)))
    return {
        name: (statistics.median(run[0] for run in runs), statistics.median(run[1] for run in runs))
        for name, runs in rounds.items()
    }


# The report


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    return "\n".join(lines)


def report(
    found: Sequence[Target],
    cost: dict[tuple[str, str], Cost],
    delay: dict[str, tuple[float, float]],
    options: argparse.Namespace,
) -> str:
    """The whole report."""
    own = next(target for target in found if target.postgres_pid)
    assert own.pid is not None

    def figure(target: str, load: Workload) -> str:
        run = cost.get((target, load.name))
        return f"{run.own_us:.1f}" if run else ""

    rows = [["CPU, µs", "per request", "per chunk", "per chunk, spliced"]]
    rows += [
        [target.name, figure(target.name, REQUEST), figure(target.name, STREAM), figure(target.name, SPLICED)]
        for target in found
        if target.pid is not None
    ]
    rows.append([f"{own.name}, not metered", figure(own.name, RELAYED), figure(own.name, RELAYED_STREAM), ""])
    stored = cost[own.name, REQUEST.name].postgres_us or 0.0
    rows.append(["Postgres, for the proxy's records", f"{stored:.1f}", "", ""])
    ratios = [["times nginx", "per request", "per chunk"]]
    if ("nginx", REQUEST.name) in cost:
        pairs = [
            cost[own.name, load.name].own_us / cost["nginx", load.name].own_us for load in (REQUEST, STREAM)
        ]
        ratios.append([own.name, *(f"{ratio:.1f}" for ratio in pairs)])
    direct = delay["direct"]
    waits = [[f"latency at {options.rate:.0f} requests/s, ms", "p50", "p99", "added p50", "added p99"]]
    waits += [
        [name, f"{p50:.2f}", f"{p99:.2f}", f"{p50 - direct[0]:.2f}", f"{p99 - direct[1]:.2f}"]
        for name, (p50, p99) in delay.items()
    ]
    errors = sum(run.errors for run in cost.values())
    fastest = cost[own.name, REQUEST.name].per_second
    size = (
        f"One worker answered {fastest:,.0f} requests/s, upstream and load on the same machine; it held "
        f"{resident_mib(own.pid):.0f} MiB with its supervisor. Failed requests: {errors}."
    )
    parts = [
        conditions(options),
        table(rows),
        *([table(ratios)] if len(ratios) > 1 else []),
        table(waits),
        size,
    ]
    return "\n\n".join(parts) + "\n"


def conditions(options: argparse.Namespace) -> str:
    """Where, when and with what."""
    tools = [f"{name} {version(name)}" for name in PACKAGES]
    tools += [found for found in (_version(["nginx", "-v"]), _version(["wrk", "-v"])) if found]
    commit = _version(["git", "rev-parse", "--short", "HEAD"]) or "unknown"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {machine()}, "
        f"Python {platform.python_version()}, {', '.join(tools)}. "
        f"Load average of the machine before: {options.load_before:.1f}. One worker each; {options.connections} connections, {options.streams} streams of {CHUNKS} chunks "
        f"{GAP_MS} ms apart; median of {options.rounds} rounds of {options.seconds:.0f} s."
    )


def updated(document: str, text: str) -> str:
    """The document with the report between its two markers."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, f"no line {BEGIN}"
    assert end, f"no line {END}"
    return f"{before}{begin}\n{text}{end}{after}"


def _version(command: list[str]) -> str | None:
    """The first line of what a tool says of itself, cut to its name and number."""
    if shutil.which(command[0]) is None:
        return None
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    line = (ran.stdout + ran.stderr).split("\n")[0]
    found = re.match(r"(?:nginx version: )?([^\[(]+)", line)
    return found[1].strip().replace("/", " ") if found else None


def say(line: str) -> None:
    """Progress, apart from the report."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind; the median counts")
    parser.add_argument("--connections", type=int, default=32, help="requests at a time")
    parser.add_argument("--streams", type=int, default=100, help="streams at a time")
    parser.add_argument("--rate", type=float, default=300.0, help="requests per second for latency")
    parser.add_argument(
        "--own-load", action="store_true", help="load from Python even where wrk is installed"
    )
    parser.add_argument("--update", type=Path, nargs="*", default=[], help="put the report into these files")
    options = parser.parse_args(arguments)
    options.load_before = os.getloadavg()[0]
    if options.load_before > BUSY:
        say(f"the machine is busy (load average {options.load_before:.1f}): every figure will be too high")
    for name in [name for name in os.environ if name.startswith(("PROXY_", "OPENAI_"))]:
        del os.environ[name]
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-bench-")))
        directory.chmod(0o755)  # Postgres runs as another user where the benchmark runs as root
        behind = stack.enter_context(targets.upstream())
        found = [
            behind,
            stack.enter_context(targets.nginx(behind, directory)),
            stack.enter_context(targets.aiohttp_forwarder(behind)),
            stack.enter_context(targets.proxy(behind, directory)),
        ]
        there = [target for target in found if target is not None]
        cost = costs([target for target in there if target.pid is not None], options)
        text = report(there, cost, latencies(there, options), options)
    print(text)
    for path in options.update:
        path.write_text(updated(path.read_text(), text))


if __name__ == "__main__":
    main()
