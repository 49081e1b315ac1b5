"""`openai-proxy serve`: everything from the first setting to the last worker, and back down again in reverse.

The order is: settings, listening sockets, data directory and its lock, Postgres, schema and first people, simulator, workers.
What fails before the workers costs nothing and says one line. Whatever was started is stopped, in an ExitStack.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

import proxy
from proxy import log as logs
from proxy import metrics
from proxy.build import build
from proxy.cli import startup
from proxy.cli.datadir import SERVE, DataDir, Holder, busy
from proxy.cli.failure import CommandError
from proxy.cli.simulated import Simulator
from proxy.settings import Settings, SettingsError, load
from proxy.store.embedded import EmbeddedError, EmbeddedPostgres

if TYPE_CHECKING:
    from proxy.cli.supervisor import Plan

log = logging.getLogger(__name__)
LOCK_WAIT_S = 10.0
"""A command such as `openai-proxy users` may hold the data directory for a moment."""
SIMULATED_KEY = "sk-simulated"
EMBEDDED_CHECK_S = 5.0
CONNECTIONS_BESIDE_WORKERS = 20
CONNECTIONS_BESIDE_POOL = 2
"""Each worker's LISTEN connection, and one to spare."""


def serve(config: Path | None = None, **overrides: Any) -> int:
    """Run the server until a signal ends it; returns the exit code. Raises CommandError."""

    def read_settings() -> Settings:
        return _demo(load(config, **overrides))

    try:
        settings = read_settings()
    except SettingsError as error:
        raise CommandError(str(error)) from None
    logs.configure(settings.log_level, settings.log_format)
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _end_start)
    with contextlib.ExitStack() as stack:
        return _serve(stack, settings, read_settings)


def _serve(stack: contextlib.ExitStack, settings: Settings, read_settings: Callable[[], Settings]) -> int:
    context = startup.tls_context(settings)
    sockets = startup.listen(settings.host, settings.port, settings.workers)
    for sock in sockets:
        stack.callback(sock.close)
    url = startup.base_url(settings, sockets[0])
    data_dir = _data_dir(stack, settings, url)
    postgres = _embedded(stack, settings, data_dir)
    database_url = postgres.url() if postgres else settings.database_url.get_secret_value()
    first = startup.prepare_database(database_url, settings, embedded=postgres is not None)
    if first is None:
        log.error(
            "database can't be reached: starting without it",
            extra={"database": startup.described(database_url)},
        )
    simulator = Simulator() if settings.demo_mode else None
    if simulator is not None:
        stack.callback(simulator.stop)
        simulator.keep_running()
        log.warning("DEMO MODE: no OPENAI_API_KEY is set, so all answers are simulated")
    from proxy.cli import supervisor  # imports all of the proxy: a start that fails earlier says so at once

    metrics.prepare_directory(data_dir.path / "metrics")
    plan = supervisor.Plan(
        settings=settings,
        read_settings=read_settings,
        database_url=database_url,
        database_prepared=first is not None,
        upstream_url=simulator.url if simulator else settings.upstream_url,
        simulated=simulator is not None,
        metrics_dir=data_dir.path / "metrics",
        ssl_context=context,
        after_fork=lambda: _after_fork(data_dir, simulator),
        tick=_Tick(postgres, simulator),
    )
    _greet(first, url, plan)
    code = supervisor.run(plan, sockets)
    log.info("workers ended, stopping what is beside them")
    return code


def _demo(settings: Settings) -> Settings:
    """In demo mode the simulator wants a key, as OpenAI does."""
    if not settings.demo_mode:
        return settings
    return settings.model_copy(update={"demo": True, "openai_api_key": SecretStr(SIMULATED_KEY)})


def _data_dir(stack: contextlib.ExitStack, settings: Settings, url: str) -> DataDir:
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    if not data_dir.lock(SERVE, _lock_wait(data_dir)):
        raise CommandError(busy(data_dir))
    stack.callback(data_dir.unlock)
    data_dir.describe(Holder(os.getpid(), SERVE, url))
    return data_dir


def _lock_wait(data_dir: DataDir) -> float:
    """Another server is refused at once, a short command is waited for."""
    holder = data_dir.holder()
    return 0.0 if holder is None or holder.command == SERVE else LOCK_WAIT_S


def _embedded(stack: contextlib.ExitStack, settings: Settings, data_dir: DataDir) -> EmbeddedPostgres | None:
    if settings.database_url.get_secret_value():
        return None
    connections = CONNECTIONS_BESIDE_WORKERS + 2 * settings.workers * (  # a reload has two sets of workers
        settings.database_pool_max + CONNECTIONS_BESIDE_POOL
    )
    try:
        postgres = EmbeddedPostgres(data_dir.path, connections_max=max(100, connections))
        stack.callback(postgres.stop)
        postgres.start()
    except EmbeddedError as error:
        raise CommandError(str(error)) from None
    return postgres


class _Tick:
    """What the supervisor looks after beside its workers."""

    def __init__(self, postgres: EmbeddedPostgres | None, simulator: Simulator | None) -> None:
        self._postgres = postgres
        self._simulator = simulator
        self._next_check = 0.0

    def __call__(self) -> None:
        if self._simulator is not None:
            self._simulator.keep_running()
        if self._postgres is not None and time.monotonic() >= self._next_check:
            self._next_check = time.monotonic() + EMBEDDED_CHECK_S
            if not self._postgres.alive():
                log.error("embedded Postgres ended and is started again")
                try:
                    self._postgres.start()
                except EmbeddedError:
                    log.exception("embedded Postgres can't be started")


def _after_fork(data_dir: DataDir, simulator: Simulator | None) -> None:
    data_dir.unlock()
    if simulator is not None:
        simulator.forget()


def _greet(first: startup.FirstStart | None, url: str, plan: Plan) -> None:
    if first is not None and (first.admin_key or first.user_key):
        print(startup.greeting(first, url, simulated=plan.simulated), flush=True)
    log.info(
        "serving",
        extra={
            "url": url,
            "version": proxy.__version__,
            "build": build(),
            "workers": plan.settings.workers,
            "upstream": "simulated" if plan.simulated else plan.upstream_url,
            "database": startup.described(plan.database_url),
            "data": str(plan.metrics_dir.parent),
        },
    )


def _end_start(_sig: int, _frame: object) -> None:
    """SIGTERM before the supervisor took over: unwind what was started."""
    sys.exit(0)


def reload(settings: Settings) -> int:
    """Tell the server on this data directory to read its settings again; returns its process id."""
    server = DataDir(settings.data_dir).server()
    if server is None:
        raise CommandError(f"no server runs on {settings.data_dir}")
    os.kill(server.pid, signal.SIGHUP)
    return server.pid
