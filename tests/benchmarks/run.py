"""The benchmark: `python -m tests.benchmarks.run`. README.md in this directory says what each figure means.

Prints a Markdown report: the machine, CPU per request and per streamed chunk, Postgres' share, and added latency.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import peers_run, targets
from tests.benchmarks.chart import drawn
from tests.benchmarks.cpu import machine, resident_mib
from tests.benchmarks.load import pace, saturate
from tests.benchmarks.measure import (
    ALL,
    BLIND,
    CHUNKS,
    GAP_MS,
    RELAYED,
    RELAYED_STREAM,
    REQUEST,
    SPLICED,
    STREAM,
    Cost,
    Effort,
    Workload,
    job,
    measure,
    say,
)
from tests.benchmarks.peers import PEERS, Peer, chosen
from tests.benchmarks.peers_install import UnavailableError
from tests.benchmarks.peers_report import Row, Skipped, panels, summary
from tests.benchmarks.peers_report import table as peers_table
from tests.benchmarks.targets import Target
from tests.compiled import COMPILED, SOURCES

WARM_UP_S = 2.0
BUSY = 0.5
MARKERS = ("<!-- benchmark -->", "<!-- /benchmark -->")
PEERS_MARKERS = ("<!-- peers -->", "<!-- /peers -->")
SUMMARY_MARKERS = ("<!-- peers: summary -->", "<!-- /peers: summary -->")
CHART = Path(__file__).parents[2] / "docs" / "images" / "benchmark.svg"
PACKAGES = ("aiohttp", "uvloop", "httptools", "asyncpg", "orjson")


def costs(found: Sequence[Target], effort: Effort) -> dict[tuple[str, str], Cost]:
    """The median of several rounds, targets taking turns, for each target and workload."""
    rounds: dict[tuple[str, str], list[Cost]] = {}
    for target in found:
        saturate(job(target), connections=8, seconds=WARM_UP_S, own=effort.own_load)
    for number in range(effort.rounds):
        for target in found:
            for load in ALL if target.postgres_pid else BLIND:
                say(f"round {number + 1}: {target.name}, {load.name}")
                rounds.setdefault((target.name, load.name), []).append(measure(target, load, effort))
    return {key: sorted(runs, key=lambda run: run.own_us)[len(runs) // 2] for key, runs in rounds.items()}


def latencies(found: Sequence[Target], effort: Effort) -> dict[str, tuple[float, float]]:
    """Median p50 and p99 in ms at a fixed rate, for each target."""
    rounds: dict[str, list[tuple[float, float]]] = {}
    for number in range(effort.rounds):
        for target in found:
            say(f"round {number + 1}: {target.name}, latency")
            run = pace(job(target), per_second=effort.rate, seconds=effort.seconds)
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
    effort: Effort,
) -> str:
    """The whole report, without its conditions."""
    own = next(target for target in found if target.name == targets.OWN)
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
    waits = [[f"latency at {effort.rate:.0f} requests/s, ms", "p50", "p99", "added p50", "added p99"]]
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
        table(rows),
        *([table(ratios)] if len(ratios) > 1 else []),
        table(waits),
        size,
    ]
    return "\n\n".join(parts) + "\n"


def conditions(effort: Effort, load_before: float) -> str:
    """Where, when and with what."""
    tools = [f"{name} {version(name)}" for name in PACKAGES]
    tools += [found for found in (_version(["nginx", "-v"]), _version(["wrk", "-v"])) if found]
    commit = _version(["git", "rev-parse", "--short", "HEAD"]) or "unknown"
    busy = ", so that every figure is too high" if load_before > BUSY else ""
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, commit {commit}, {machine()}, "
        f"Python {platform.python_version()}, {', '.join(tools)}. "
        f"Load average of the machine before: {load_before:.1f}{busy}. One worker each; {effort.connections} connections, "
        f"{effort.streams} streams of {CHUNKS} chunks {GAP_MS} ms apart; median of {effort.rounds} rounds of {effort.seconds:.0f} s."
    )


def updated(document: str, text: str, markers: tuple[str, str] = MARKERS) -> str:
    """The document with the text between its two markers."""
    before, begin, rest = document.partition(markers[0])
    _, end, after = rest.partition(markers[1])
    assert begin, f"no line {markers[0]}"
    assert end, f"no line {markers[1]}"
    return f"{before}{begin}\n{text}{end}{after}"


def _version(command: list[str]) -> str | None:
    """The first line of what a tool says of itself, cut to its name and number."""
    if shutil.which(command[0]) is None:
        return None
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    line = (ran.stdout + ran.stderr).split("\n")[0]
    found = re.match(r"(?:nginx version: )?([^\[(]+)", line)
    return found[1].strip().replace("/", " ") if found else None


# Beside others


DOES = {
    "nginx": "forwards: no key, quota, metering or record",
    "aiohttp server + ClientSession": "forwards: no key, quota, metering or record",
    targets.OWN: "key, two quotas reserved and settled, metering, price, durable record in Postgres",
    targets.INTERPRETED: "the same, from the same source without a compiler",
} | {peer.name: peer.does for peer in PEERS}


def row(
    target: Target, cost: dict[tuple[str, str], Cost], delay: dict[str, tuple[float, float]], effort: Effort
) -> Row:
    """A row of the comparison, for a target that was measured in turns with the others."""
    assert target.pid is not None
    request, chunk = (cost[target.name, load.name] for load in BLIND)
    p50, p99 = (value - direct for value, direct in zip(delay[target.name], delay["direct"], strict=True))
    return Row(
        target.name,
        request.own_us,
        chunk.own_us,
        (p50, p99),
        effort.rate,
        resident_mib(target.pid),
        DOES[target.name],
        request.postgres_us,
        request.errors + chunk.errors,
    )


@contextlib.contextmanager
def interpreted(behind: Target, directory: Path) -> Iterator[Target | None]:
    """The proxy without a compiler; None where there is no other."""
    if not COMPILED:
        yield None
        return
    directory.mkdir(mode=0o755)
    with targets.proxy(behind, directory, name=targets.INTERPRETED, root=SOURCES) as target:
        yield target


def beside(
    stack: contextlib.ExitStack, peers: Sequence[Peer], behind: Target, own: Target, directory: Path
) -> tuple[list[Target], list[Skipped]]:
    """Peers that run as long as nginx and the proxy do, and those that should have."""
    running, missing = [], []
    for peer in peers:
        try:
            running.append(stack.enter_context(peers_run.started(peer, behind, directory, own)))
        except UnavailableError as why:
            missing.append(peers_run.skipped(peer, str(why)))
    return running, missing


def notes(before: str) -> tuple[str, ...]:
    """What stands below the chart's title."""
    where, _, _ = before.partition(", Python")
    return (
        "Logarithmic scale. nginx, Envoy and aiohttp only forward; openai-proxy checks, meters, prices and records each call.",
        where + (". The machine was busy: all is too high." if "too high" in before else ""),
    )


def write(paths: Sequence[Path], sections: dict[tuple[str, str], str]) -> None:
    """Put each section into those files that have its markers."""
    for path in paths:
        text = path.read_text()
        for markers, section in sections.items():
            if markers[0] in text:
                text = updated(text, section, markers)
        path.write_text(text)


def run(options: argparse.Namespace) -> None:
    """Start everything, measure it, print and write what came out."""
    effort = Effort(
        options.seconds, options.rounds, options.connections, options.streams, options.rate, options.own_load
    )
    before = conditions(effort, os.getloadavg()[0])
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="proxy-bench-")))
        directory.chmod(0o755)  # Postgres runs as another user where the benchmark runs as root
        behind = stack.enter_context(targets.upstream(GAP_MS))
        nginx = stack.enter_context(targets.nginx(behind, directory))
        forwarder = stack.enter_context(targets.aiohttp_forwarder(behind))
        own = stack.enter_context(targets.proxy(behind, directory))
        plain = stack.enter_context(interpreted(behind, directory / "interpreted"))
        others, rows = beside(stack, [peer for peer in options.peers if peer.beside], behind, own, directory)
        found = [each for each in (behind, nginx, *others, forwarder, own, plain) if each is not None]
        loaded = [target for target in found if target.pid is not None]
        cost, delay = costs(loaded, effort), latencies(found, effort)
        sections = {MARKERS: f"{before}\n\n{report(found, cost, delay, effort)}"}
        print(sections[MARKERS])
        if not options.peers:
            write(options.update, sections)
            return
        rows += [row(target, cost, delay, effort) for target in loaded]
        alone = [peer for peer in options.peers if not peer.beside]
        rows += peers_run.compared(alone, behind, own, directory, effort)
    sections[PEERS_MARKERS] = f"{before}\n\n{peers_table(rows)}\n"
    sections[SUMMARY_MARKERS] = f"{summary(rows)}\n"
    print(sections[PEERS_MARKERS])
    write(options.update, sections)
    if options.update:
        CHART.write_text(drawn("CPU that a call costs", notes(before), panels(rows)))


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
    parser.add_argument(
        "--peers",
        type=chosen,
        nargs="?",
        const="all",
        default="none",
        help=f"other gateways too, installed under .bench/: all, none, or some of {', '.join(peer.key for peer in PEERS)}",
    )
    options = parser.parse_args(arguments)
    if os.getloadavg()[0] > BUSY:
        say(f"the machine is busy (load average {os.getloadavg()[0]:.1f}): every figure will be too high")
    for name in [name for name in os.environ if name.startswith(("PROXY_", "OPENAI_"))]:
        del os.environ[name]
    run(options)


if __name__ == "__main__":
    main()
