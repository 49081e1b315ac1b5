"""Peers measured: installed under `.bench/`, started, asked whether they answer rightly, loaded, stopped.

One that can't be installed, or does not answer rightly within `START_S`, is skipped with its reason. They run one after another, so that
none takes processor time from the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from tests.benchmarks import peers_install
from tests.benchmarks.cpu import resident_mib
from tests.benchmarks.load import PACED_CONNECTIONS, pace, saturate
from tests.benchmarks.measure import CHUNKS, REQUEST, STREAM, Cost, Effort, Workload, job, measure, say
from tests.benchmarks.peers import Peer
from tests.benchmarks.peers_install import UnavailableError
from tests.benchmarks.peers_launch import ASK_S, Launch, Setting
from tests.benchmarks.peers_report import Row, Skipped
from tests.benchmarks.targets import Target
from tests.benchmarks.upstream import completion
from tests.proxy_process import free_port

HOME = Path(__file__).parents[2] / ".bench"
START_S = 120.0
STOP_S = 10.0
POLL_S = 0.25
CONTENT = json.loads(completion().partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"]
TOKENS = [f" tok{number}" for number in range(CHUNKS)]


@contextlib.contextmanager
def started(peer: Peer, behind: Target, directory: Path, own: Target) -> Iterator[Target]:
    """The peer, running and checked; its database, where it wants one, is in the Postgres of `own`. Raises UnavailableError."""
    home, place = HOME / (peer.home or peer.key), directory / peer.key
    say(f"{peer.name}: installing it, where it is not there yet")
    peers_install.installed(home, peer.install)
    if peer.prepare is not None:
        peer.prepare(home)
    place.mkdir()
    database_url = asyncio.run(_database(own, peer.key)) if peer.database else None
    port = free_port()
    launch = peer.launch(Setting(home, place, port, behind.url, database_url))
    said = place / "said"
    with said.open("wb") as output:
        process = subprocess.Popen(
            launch.command,
            cwd=place,
            env=os.environ | dict(launch.environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    target = Target(
        peer.name,
        f"http://127.0.0.1:{port}",
        process.pid,
        launch.key,
        own.postgres_pid if peer.database else None,
        model=launch.model,
        headers=launch.headers,
    )
    try:
        yield _answering(target, launch, process, said)
    finally:
        _stopped(process)


def _answering(target: Target, launch: Launch, process: subprocess.Popen[bytes], said: Path) -> Target:
    """The target with its address and key, as soon as it answers rightly."""
    end, wrong, issued = time.monotonic() + START_S, "nothing", launch.issue is None
    while time.monotonic() < end:
        if process.poll() is not None:
            last = peers_install.reason(said.read_text(errors="replace"))
            raise UnavailableError(f"it ended with {process.returncode}: {last}")
        try:
            if launch.url_file is not None:
                target = replace(target, url=launch.url_file.read_text().removesuffix("/v1"))
            if not issued and launch.issue is not None:
                target, issued = replace(target, key=launch.issue(target.url)), True
            if not (problem := wrongness(target)):
                return target
            wrong = problem
        except (OSError, http.client.HTTPException) as failure:
            wrong = f"{type(failure).__name__}: {failure}"
        time.sleep(POLL_S)
    raise UnavailableError(f"no right answer within {START_S:.0f} s; the last: {peers_install.reason(wrong)}")


def _stopped(process: subprocess.Popen[bytes]) -> None:
    """It and what it started: a process group of its own."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def _database(own: Target, name: str) -> str:
    assert own.database_url is not None
    connection = await asyncpg.connect(own.database_url)
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return urlsplit(own.database_url)._replace(path=f"/{name}").geturl()


# Is what it answers what the upstream said?


def wrongness(target: Target) -> str:
    """What is wrong with an answer and a stream of this target; empty when nothing is."""
    return answer_wrong(*_asked(target, REQUEST)) or stream_wrong(*_asked(target, STREAM))


def _asked(target: Target, load: Workload) -> tuple[int, bytes]:
    asks = job(target, load)
    parts = urlsplit(asks.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=ASK_S)
    try:
        connection.request("POST", f"{parts.path}?{parts.query}", asks.body, asks.headers())
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answer_wrong(status: int, body: bytes) -> str:
    """What is wrong with an answer to a chat request."""
    try:
        whole = json.loads(body)
        content, tokens = whole["choices"][0]["message"]["content"], whole["usage"]["total_tokens"]
    except (ValueError, LookupError, TypeError):
        return f"{status} {body[:200].decode(errors='replace')}"
    return (
        ""
        if (status, content, tokens) == (200, CONTENT, 29)
        else f"{status}, another content, {tokens} tokens"
    )


def stream_wrong(status: int, body: bytes) -> str:
    """What is wrong with a stream: each piece of content must come as an event of its own, in order, and then the end."""
    lines = [line[5:].strip() for line in body.splitlines() if line.startswith(b"data:")]
    try:
        choices = [json.loads(line)["choices"] for line in lines if line != b"[DONE]"]
        content = [each[0]["delta"].get("content") for each in choices if each]
    except (ValueError, LookupError, TypeError, AttributeError):
        return f"stream: {status} {body[:200].decode(errors='replace')}"
    found = [each for each in content if each]
    if status != 200 or found != TOKENS or lines[-1:] != [b"[DONE]"]:
        return f"stream: {status}, {len(found)} pieces of content of {CHUNKS}, last line {lines[-1:]}"
    return ""


# Measuring


def measured(peer: Peer, target: Target, behind: Target, effort: Effort) -> Row:
    """Its figures. It is loaded by our own load where it takes less than the others: that one waits for the last answer, so
    that slow answers cut off at the end do not count against it.
    """
    assert target.pid is not None
    own = replace(
        effort,
        connections=peer.connections or effort.connections,
        streams=peer.streams or effort.streams,
        rate=peer.rate or effort.rate,
        own_load=effort.own_load or peer.streams is not None,
    )
    saturate(job(target), connections=own.connections, seconds=peer.warm_up_s, own=own.own_load)
    request, chunk = (_median(target, load, own) for load in (REQUEST, STREAM))
    say(f"{peer.name}, latency")
    direct, through = (
        pace(
            job(each),
            per_second=own.rate,
            seconds=2 * own.seconds,
            connections=peer.connections or PACED_CONNECTIONS,
        )
        for each in (behind, target)
    )
    return Row(
        peer.name,
        request.own_us,
        chunk.own_us,
        (through.quantile(0.5) - direct.quantile(0.5), through.quantile(0.99) - direct.quantile(0.99)),
        own.rate,
        resident_mib(target.pid),
        peer.does,
        request.postgres_us,
        request.errors + chunk.errors + through.errors,
    )


def _median(target: Target, load: Workload, effort: Effort) -> Cost:
    runs = []
    for number in range(effort.rounds):
        say(f"round {number + 1}: {target.name}, {load.name}")
        runs.append(measure(target, load, effort))
    return sorted(runs, key=lambda run: run.own_us)[len(runs) // 2]


def compared(
    peers: Sequence[Peer], behind: Target, own: Target, directory: Path, effort: Effort
) -> Iterator[Row | Skipped]:
    """A row for each peer, or why there is none."""
    for peer in peers:
        try:
            with started(peer, behind, directory, own) as target:
                yield measured(peer, target, behind, effort)
        except UnavailableError as why:
            yield skipped(peer, str(why))
        except (OSError, subprocess.SubprocessError) as failure:
            yield skipped(peer, f"{type(failure).__name__} under load")


def skipped(peer: Peer, why: str) -> Skipped:
    """Said at once, and kept for the report."""
    say(f"{peer.name} is skipped: {why}")
    return Skipped(peer.name, why)
