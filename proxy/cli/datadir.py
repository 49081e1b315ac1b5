"""The data directory and who may use it: one server, or one command that starts the embedded Postgres for itself.

The lock is flock() on `<data_dir>/lock`, so the kernel releases it when its holder dies, however it dies. The file's
content says who holds it, for messages and for `openai-proxy reload`; it means nothing without the lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from proxy.cli.failure import CommandError
from proxy.settings import Settings
from proxy.store import postgres
from proxy.store.embedded import EmbeddedError, EmbeddedPostgres
from proxy.store.migrate import MigrationError, migrate

SERVE = "serve"
COMMAND_WAIT_S = 15.0
POLL_S = 0.05
AS_IT_IS = frozenset({"migrate", "doctor"})
"""Commands that look at the schema themselves."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, as it wrote down itself."""

    pid: int
    command: str
    url: str | None = None


class DataDir:
    """The directory of PROXY_DATA_DIR, private to its owner."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self._lock: int | None = None

    def prepare(self) -> None:
        """Make it where it is missing. Raises CommandError when it can't be written."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"data directory {self.path}: {error.strerror}") from None
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise CommandError(f"data directory {self.path}: not writable by this user")

    def lock(self, command: str, wait_s: float = 0.0) -> bool:
        """Take the lock, waiting up to `wait_s` for its holder; False when it stays taken."""
        try:
            held = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CommandError(f"data directory {self.path}: {error.strerror}: {error.filename}") from None
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(held)
                    return False
                time.sleep(POLL_S)
        self._lock = held
        self.describe(Holder(os.getpid(), command))
        return True

    def describe(self, holder: Holder) -> None:
        """Say who holds the lock; only its holder may."""
        assert self._lock is not None
        content = orjson.dumps({"pid": holder.pid, "command": holder.command, "url": holder.url})
        os.pwrite(self._lock, content, 0)
        os.ftruncate(self._lock, len(content))

    def holder(self) -> Holder | None:
        """Who wrote the lock's file last; None when nobody did. It may be gone: only lock() knows."""
        try:
            return Holder(**orjson.loads((self.path / "lock").read_bytes()))
        except (OSError, orjson.JSONDecodeError, TypeError):
            return None

    def server(self) -> Holder | None:
        """The server that runs on this directory now, or None."""
        if not (self.path / "lock").exists():
            return None
        if self.lock("look"):
            self.unlock()
            return None
        found = self.holder()
        return found if found is not None and found.command == SERVE else None

    def unlock(self) -> None:
        """Give the lock back. A forked child calls this too, so that it can't outlive its parent's lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


@contextlib.contextmanager
def command_database(settings: Settings, command: str) -> Iterator[str]:
    """The database's URL for a command that a person types, whether or not a server runs.

    Without PROXY_DATABASE_URL it is the embedded Postgres: that of the running server, else one started for the time
    of the command, at the newest schema. Raises CommandError when there is none to be had.
    """
    if given := settings.database_url.get_secret_value():
        yield given
        return
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    try:
        embedded = EmbeddedPostgres(data_dir.path)
        deadline = time.monotonic() + COMMAND_WAIT_S
        while not data_dir.lock(command):
            found = data_dir.holder()
            if found is not None and found.command == SERVE and embedded.running():
                yield embedded.url()
                return
            if time.monotonic() > deadline:
                raise CommandError(busy(data_dir))
            time.sleep(POLL_S)
        try:
            url = embedded.start()
            if command not in AS_IT_IS:
                asyncio.run(_migrate(url))
            yield url
        finally:
            embedded.stop()
            data_dir.unlock()
    except EmbeddedError as error:
        raise CommandError(str(error)) from None
    except MigrationError as error:
        raise CommandError(f"database: {error}") from None


async def _migrate(url: str) -> None:
    connection = await postgres.connect(url)
    try:
        await migrate(connection)
    finally:
        await connection.close()


def busy(data_dir: DataDir) -> str:
    """The line for a person who finds the directory taken."""
    found = data_dir.holder()
    by = f" by process {found.pid} (openai-proxy {found.command})" if found else ""
    return f"data directory {data_dir.path} is in use{by}: stop it or set PROXY_DATA_DIR"
