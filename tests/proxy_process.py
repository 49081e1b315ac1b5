"""The proxy, started the way a user starts it: `python -m proxy serve` with settings in the environment, as a process.

Guarantees: it listens on a free port of 127.0.0.1, is ready when `running` yields, has a data directory of its own and is
gone afterwards, stopped by SIGTERM; a start that fails or an exit that isn't clean raises AssertionError with its output.
Keys it hands out work in every worker. Probes it sends for that carry the operation PROBE and are left out of `records`.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.processes import process_tree, status_bytes
from tests.signals import DEADLINE_S

ROOT = Path(__file__).parents[1]
ADMIN_KEY = "sk-admin-of-the-tests-0123456789abcdef"
UPSTREAM_KEY = "sk-the-accounts-own-key"
PROBE = "test-kit-probe"
START_TRIES = 3
POLL_S = 0.02
_UNCLEAN = re.compile(
    r"Traceback|\bERROR\b|\bCRITICAL\b|Task was destroyed|never retrieved|never awaited|Warning"
)


def wait_until(ready: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Poll. For conditions of another process, which can't tell us; everything else uses a Signal."""
    end = time.monotonic() + deadline_s
    while not ready():
        assert time.monotonic() < end, f"{what} did not come within {deadline_s:.0f} s"
        time.sleep(POLL_S)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@contextlib.contextmanager
def refusing_port() -> Iterator[int]:
    """A port at which connections are refused for the length of the block: it is held, and nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@dataclasses.dataclass(frozen=True, slots=True)
class Reply:
    """What the control plane answered; `body` is parsed JSON, or text."""

    status: int
    headers: Mapping[str, str]
    body: Any


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """A user and a working key of theirs."""

    user_id: str
    key_id: str
    key: str


class ProxyProcess:
    """A running proxy. Made by `running`."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        port: int,
        directory: Path,
        database_url: str,
        workers: int,
        trust: ssl.SSLContext | None,
    ) -> None:
        self.port = port
        self.database_url = database_url
        self.workers = workers
        self.process = process
        self._directory = directory
        self._trust = trust

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        *,
        upstream_url: str,
        database_url: str,
        directory: Path,
        workers: int = 1,
        clean: bool = True,
        trust: ssl.SSLContext | None = None,
        root: Path = ROOT,
        **settings: object,
    ) -> Iterator[Self]:
        """Start, wait for /readyz, and stop at the end of the block.

        `settings` are names of settings in lower case. `clean=False`: the test expects errors in the log. `trust`: the
        listener speaks TLS, and this verifies it. `root`: the tree whose proxy it is.
        """
        environment = cls._environment(upstream_url, database_url, directory, workers, settings, root)
        proxy = cls._start(environment, directory, database_url, workers, trust)
        try:
            yield proxy
        except BaseException:
            print(proxy.log()[-8000:])
            proxy.kill()
            raise
        proxy.stop(clean=clean)

    @staticmethod
    def _environment(
        upstream_url: str,
        database_url: str,
        directory: Path,
        workers: int,
        settings: Mapping[str, object],
        root: Path = ROOT,
    ) -> dict[str, str]:
        directory.mkdir(parents=True, exist_ok=True)
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("PROXY_", "OPENAI_"))
        }
        for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY"):
            kept.pop(name, None)
            kept.pop(name.lower(), None)
        given = {
            "upstream_url": upstream_url,
            "database_url": database_url,
            "data_dir": directory / "data",
            "workers": workers,
            "admin_key": ADMIN_KEY,
            "drain_s": 5,
            "tokenizer": "none",  # it would look for its vocabularies on the internet
            **settings,
        }
        named = {f"PROXY_{name.upper()}": str(value) for name, value in given.items()}
        # Resources left open show as warnings in the output, which `stop` then refuses.
        own = {
            "OPENAI_API_KEY": UPSTREAM_KEY,
            "PYTHONWARNINGS": "default::ResourceWarning",
            "PYTHONPATH": str(root),
        }
        return kept | named | own

    @classmethod
    def _start(
        cls,
        environment: dict[str, str],
        directory: Path,
        database_url: str,
        workers: int,
        trust: ssl.SSLContext | None,
    ) -> Self:
        for attempt in range(1, START_TRIES + 1):
            port = free_port()
            with (directory / "output").open("wb") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", "proxy", "serve"],
                    env=environment | {"PROXY_PORT": str(port)},
                    cwd=directory,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
            proxy = cls(process, port, directory, database_url, workers, trust)
            try:
                wait_until(proxy._is_ready, "/readyz")
            except AssertionError as error:
                lost_port = process.poll() == 2 and "in use" in proxy.log()
                if not lost_port or attempt == START_TRIES:
                    proxy.kill()
                    raise AssertionError(f"{error}; the proxy said:\n{proxy.log()[-8000:]}") from None
            else:
                return proxy
        raise AssertionError("no port")

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"the proxy ended with {self.process.returncode}"
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.request("GET", "/readyz").status == 200
        return False

    # control

    @property
    def url(self) -> str:
        """Without a path."""
        return f"https://localhost:{self.port}" if self._trust else f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str
    ) -> Reply:
        """One request on a connection of its own."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            sent["content-type"] = "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_S)
        if self._trust is not None:
            connection = http.client.HTTPSConnection(
                "localhost", self.port, timeout=DEADLINE_S, context=self._trust
            )
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            raw = answer.read()
            names = {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()
        is_json = names.get("content-type", "").startswith("application/json")
        return Reply(
            answer.status, names, json.loads(raw) if is_json and raw else raw.decode("utf-8", "replace")
        )

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """A call of the admin API that must succeed; its JSON."""
        reply = self.request(method, path, body, ADMIN_KEY)
        assert reply.status < 300, f"{method} {path}: {reply.status} {reply.body}"
        return reply.body

    def person(
        self, name: str = "Ana", *, quotas: list[dict[str, str]] | None = None, **key_fields: Any
    ) -> Person:
        """A new user, their quotas and a key that every worker accepts. What that took is sent upstream and recorded."""
        user = self.admin("POST", "/admin/users", {"name": name})
        if quotas is not None:
            self.admin("PUT", f"/admin/users/{user['id']}/quotas", quotas)
        return self.key_of(user["id"], **key_fields)

    def people(self, count: int) -> list[Person]:
        """Several users for the time of one: a worker that knows the last key knows those made before it."""
        made = []
        for number in range(count):
            user = self.admin("POST", "/admin/users", {"name": f"Person {number}"})
            key = self.admin("POST", f"/admin/users/{user['id']}/keys", {"name": "laptop"})
            made.append(Person(user["id"], key["id"], key["key"]))
        self.person("the last one")
        return made

    def key_of(self, user_id: str, **key_fields: Any) -> Person:
        """A further key of a user, accepted by every worker."""
        made = self.admin("POST", f"/admin/users/{user_id}/keys", {"name": "laptop", **key_fields})
        probes = self.wait_for_key(made["key"])
        stored = "select count(*) from usage_records where key_id = $1"
        wait_until(lambda: self.query(stored, made["id"])[0]["count"] == probes, "the records of the probes")
        return Person(user_id, made["id"], made["key"])

    def wait_for_key(self, key: str, *, accepted: bool = True) -> int:
        """Until every worker accepts the key, or refuses it; how many requests passed meanwhile.

        Each new connection may meet another worker, so several must agree.
        """
        needed = 1 if self.workers == 1 else 8 * self.workers
        in_a_row = passed = 0

        def settled() -> bool:
            nonlocal in_a_row, passed
            status = self.request("GET", "/v1/models", key=key, x_usage_operation=PROBE).status
            passed += status != 401
            in_a_row = in_a_row + 1 if (status != 401) is accepted else 0
            return in_a_row >= needed

        wait_until(settled, "a key that is " + ("accepted" if accepted else "refused"))
        return passed

    # what it wrote

    def query(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        """`rows` for code that doesn't await, whether or not a loop runs in this thread."""
        with ThreadPoolExecutor(1) as other:
            return other.submit(lambda: asyncio.run(self.rows(sql, *arguments))).result()

    async def rows(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        """Rows of the proxy's database."""
        connection = await asyncpg.connect(self.database_url)
        try:
            return [dict(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()

    async def records(self, count: int, *, user_id: str | None = None) -> list[dict[str, Any]]:
        """The usage records once there are `count`, oldest first. AssertionError when there are more."""
        end = time.monotonic() + DEADLINE_S
        while True:
            found = await self.rows(
                "select * from usage_records where operation is distinct from $1"
                " and ($2::text is null or user_id = $2) order by started_at, id",
                PROBE,
                user_id,
            )
            assert len(found) <= count, f"{len(found)} records where {count} are due"
            if len(found) == count:
                return found
            assert time.monotonic() < end, f"{len(found)} records where {count} are due"
            await asyncio.sleep(POLL_S)

    def log(self) -> str:
        """All it has written to its output."""
        return (self._directory / "output").read_text(errors="replace")

    # the process

    def tree(self) -> list[int]:
        """Ids of the process and all its descendants."""
        return process_tree(self.process.pid)

    def forget_peak(self) -> None:
        """Let `peak_bytes` count from now."""
        for pid in self.tree():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """The highest resident memory since `forget_peak`, summed over the processes."""
        return sum(status_bytes(pid, "VmHWM") for pid in self.tree())

    def resident_bytes(self) -> int:
        """Resident memory now, summed over the processes."""
        return sum(status_bytes(pid, "VmRSS") for pid in self.tree())

    def stop(self, *, clean: bool = True) -> None:
        """SIGTERM; it must end by itself with code 0, leave no process behind and, when `clean`, no complaint."""
        tree = self.tree()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end the proxy:\n{self.log()[-8000:]}") from None
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in tree), "the end of the workers")
        assert self.process.returncode == 0, f"exit code {self.process.returncode}:\n{self.log()[-8000:]}"
        if clean:
            complaints = _UNCLEAN.findall(self.log())
            assert not complaints, f"the proxy's log has {complaints[0]}:\n{self.log()[-8000:]}"

    def kill(self) -> None:
        """SIGKILL to the process and its workers, as a crash would end them."""
        for pid in reversed(self.tree()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)
