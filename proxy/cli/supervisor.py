"""Supervisor: gunicorn's Arbiter, run in this process and made quiet, with our workers, sockets and helpers.

It replaces workers that die, drains them on SIGTERM, reloads settings on SIGHUP, and looks after the simulator and the embedded
Postgres. Each worker has a listening socket of its own on the common port (SO_REUSEPORT), which the supervisor keeps open:
connections spread evenly, and those that wait in a dead worker's queue are taken by its successor.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import socket
import ssl
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from proxy import metrics
from proxy.cli import startup
from proxy.cli.worker import ProxyWorker
from proxy.log import configure
from proxy.settings import Settings, SettingsError

log = logging.getLogger(__name__)
HEARTBEAT_TIMEOUT_S = 60
EXIT_FAILED = 1
FLUSH_ALLOWANCE_S = 10
"""Time after `drain_s` for writing the last records."""
FIXED = ("host", "port", "data_dir", "database_url", "upstream_url", "demo", "tls_cert_file", "tls_key_file")
"""Settings that a reload can't change."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What workers need to know; handed to them by fork."""

    settings: Settings
    read_settings: Callable[[], Settings]
    """Reads them again, for SIGHUP. Raises SettingsError."""
    database_url: str
    database_prepared: bool
    upstream_url: str
    simulated: bool
    metrics_dir: Path
    ssl_context: ssl.SSLContext | None
    after_fork: Callable[[], None]
    """Called in each new worker: gives up what only the supervisor may hold."""
    tick: Callable[[], None]
    """Called in the supervisor about once a second."""
    booted_once: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))
    """One byte of memory that all processes share: a worker came up."""


class QuietLogger:
    """gunicorn's logger interface over our log: its news at debug, its complaints as they are."""

    def __init__(self, cfg: object) -> None:
        self.cfg = cfg
        self.info = log.debug
        self.warning = log.warning
        self.error = log.error
        self.critical = log.critical
        self.exception = log.exception
        self.log = log.log

    def setup(self, cfg: object) -> None:
        """Our own settings decide how; gunicorn asks for its configuration here."""
        self.cfg = cfg

    def debug(self, *_: object, **__: object) -> None:
        """Its own debugging, such as its whole configuration at each start, helps nobody here."""

    def access(self, *_: object) -> None:
        """No access log: there are records."""

    def reopen_files(self) -> None:
        """We log to stderr."""

    def close_on_exec(self) -> None:
        """We log to stderr."""


class Server(BaseApplication):  # type: ignore[misc]
    """gunicorn's idea of an application: its configuration, made from our settings."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults; no file and no GUNICORN_CMD_ARGS is read."""
        shm = Path("/dev/shm")  # noqa: S108  a heartbeat must not wait for a disk
        given: dict[str, object] = {
            "workers": self.plan.settings.workers,
            "worker_class": ProxyWorker,
            "logger_class": QuietLogger,
            "timeout": HEARTBEAT_TIMEOUT_S,
            "graceful_timeout": int(self.plan.settings.drain_s) + FLUSH_ALLOWANCE_S,
            "control_socket_disable": True,
            "proc_name": "openai-proxy",
            "worker_tmp_dir": str(shm) if os.access(shm, os.W_OK) else None,
            "umask": 0o077,
            "pre_fork": _choose_slot,
            "post_fork": _give_up_the_supervisors,
            "child_exit": _keep_counters,
        }
        for name, value in given.items():
            self.cfg.set(name, value)

    def load(self) -> None:
        """There is no WSGI application to load."""

    def reload(self) -> None:
        """SIGHUP: read the settings again; wrong ones are reported and the old ones kept."""
        old = self.plan.settings
        try:
            new = self.plan.read_settings()
        except SettingsError as error:
            log.error("reload: %s; nothing changed", error)  # noqa: TRY400  a person's error, not ours
            new = old
        for name in FIXED:
            if getattr(new, name) != getattr(old, name):
                log.warning("reload: this setting needs a restart", extra={"setting": name})
        kept = {name: getattr(old, name) for name in FIXED}
        self.plan = replace(self.plan, settings=new.model_copy(update=kept))
        self.do_load_config()
        configure(new.log_level, new.log_format)
        log.info("settings reloaded")


class Supervisor(Arbiter):  # type: ignore[misc]
    """gunicorn's process manager with a socket for each worker."""

    def __init__(self, server: Server, sockets: list[socket.socket]) -> None:
        super().__init__(server)
        self.LISTENERS = sockets
        self._halting = False
        self._metrics = metrics.Metrics(server.plan.metrics_dir, simulated=server.plan.simulated)

    def setup(self, app: Server) -> None:
        """At the start and at a reload, before new workers take their sockets."""
        super().setup(app)
        self._match_sockets()

    def spawn_worker(self) -> int:
        """As gunicorn's, but a worker ends here and never unwinds the supervisor's own stack."""
        try:
            pid: int = super().spawn_worker()
        except SystemExit as end:
            if os.getpid() == self.pid:
                raise
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        return pid

    def manage_workers(self) -> None:
        """Once a second: as many workers as are set, and everything beside them alive."""
        super().manage_workers()
        self._metrics.workers.set((), len(self.WORKERS))
        self._metrics.flush()
        self.app.plan.tick()

    def reap_workers(self) -> None:
        """As gunicorn's. Only the first worker that can't start halts the server: gunicorn, halting, trips over a second."""
        try:
            super().reap_workers()
        except HaltServer:
            if not self._halting:
                self._halting = True
                raise

    def worker_ended(self, pid: int) -> None:
        """Keep its counters."""
        self._metrics.worker_exits.inc()
        try:
            metrics.fold_ended(self.app.plan.metrics_dir, pid)
        except OSError:
            log.exception("an ended worker's counters are lost", extra={"worker": pid})

    def slot(self) -> int:
        """The socket that the fewest workers serve."""
        taken = Counter(worker.slot for worker in self.WORKERS.values())
        return min(range(len(self.LISTENERS)), key=lambda slot: (taken[slot], slot))

    def _match_sockets(self) -> None:
        """After a reload that changed the number of workers. A socket nobody serves would swallow connections."""
        if not self.LISTENERS or len(self.LISTENERS) == self.num_workers:
            return
        family, address = self.LISTENERS[0].family, self.LISTENERS[0].getsockname()
        while len(self.LISTENERS) < self.num_workers:
            self.LISTENERS.append(startup.listening(family, address))
        for sock in self.LISTENERS[self.num_workers :]:
            sock.close()
        del self.LISTENERS[self.num_workers :]

    def _ignored(self) -> None:
        """The number of workers is a setting; upgrading the binary in place is a restart."""

    handle_ttin = handle_ttou = handle_usr1 = handle_usr2 = handle_winch = _ignored


def _choose_slot(supervisor: Supervisor, worker: ProxyWorker) -> None:
    worker.slot = supervisor.slot()


def _give_up_the_supervisors(supervisor: Supervisor, worker: ProxyWorker) -> None:
    """In the new worker. A socket of another slot left open here would keep a dead queue in the port's group."""
    for slot, sock in enumerate(supervisor.LISTENERS):
        if slot != worker.slot:
            sock.close()
    worker.sockets = [supervisor.LISTENERS[worker.slot]]
    supervisor.app.plan.after_fork()


def _keep_counters(supervisor: Supervisor, worker: Any) -> None:
    supervisor.worker_ended(worker.pid)


def run(plan: Plan, sockets: list[socket.socket]) -> int:
    """Serve until a signal ends it; returns the exit code."""
    try:
        Supervisor(Server(plan), sockets).run()
    except SystemExit as end:
        return EXIT_FAILED if end.code else 0
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # what follows is short and must not be torn
    return 0
