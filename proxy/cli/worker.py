"""ProxyWorker: one process under the supervisor. It runs one Application on uvloop until it is told to stop.

A heartbeat tells the supervisor every second that the event loop turns; the same beat shares the metrics. SIGTERM drains,
SIGQUIT stops at once; Ctrl-C, which a terminal sends to every process, is left to the supervisor. A worker whose supervisor
died drains and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import uvloop
from gunicorn.workers.base import Worker

from proxy.app import Application
from proxy.cli import startup
from proxy.metrics import Metrics
from proxy.store import migrate, postgres

if TYPE_CHECKING:
    from proxy.cli.supervisor import Plan

log = logging.getLogger(__name__)
HEARTBEAT_S = 1.0
SWITCH_S = 0.0005
"""How long a thread that computes (a price list, the snapshot of the keys, the tokenizer) may keep the interpreter while the loop
waits for it. Python's 5 ms were added to each of a loop's turns meanwhile; so they are 0.5.
"""
COLLECT_AFTER = (100_000, 5, 5)
"""After how many more objects than before Python looks for cycles among the youngest, and how many such looks later among older
ones. The pass leaves no cycles, so all it would see is what requests under way hold. At Python's 700 it looked 200 times a second, for 3 % of
the time with 256 connections and 18 % with 4,000, up to 4 and 60 ms in one go. At this, a thousand busy connections see none of it (docs/adr/0012).
"""
PREPARE_RETRY_S = 2.0
REBOOT_PAUSE_S = 1.0
EXIT_BOOT_FAILED = 3
"""gunicorn's WORKER_BOOT_ERROR: the supervisor ends the server."""
EXIT_LATER_BOOT_FAILED = 1
"""Other workers serve already: the supervisor tries again."""


def spare_the_collector() -> None:
    """What was built at the start stays, so later collections need not look at it; nor often at what is under way."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


class ProxyWorker(Worker):  # type: ignore[misc]
    """See the module. `slot` numbers the listening socket that is this worker's own."""

    slot = 0
    _writing: asyncio.Future[None] | None = None
    """The numbers on their way to the disk."""

    @property
    def _plan(self) -> Plan:
        plan: Plan = self.app.plan
        return plan

    def load_wsgi(self) -> None:
        """There is no WSGI application."""

    def init_signals(self) -> None:
        """SIGINT is the supervisor's; the rest is set up on the event loop, and until then ends the process."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGABRT, self.handle_abort)

    def handle_abort(self, _sig: int, _frame: Any) -> None:
        """The supervisor saw no heartbeat: say where the event loop hangs, and end."""
        log.critical("worker without heartbeat ends", stack_info=True)
        os._exit(1)

    def run(self) -> None:
        """Run until stopped; the exit code tells the supervisor whether the start failed."""
        self.booted = False
        sys.setswitchinterval(SWITCH_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(self._main())
        sys.exit(code)

    async def _main(self) -> int:
        plan, loop = self._plan, asyncio.get_running_loop()
        self._drain: asyncio.Future[float] = loop.create_future()
        for number, drain_s in ((signal.SIGTERM, plan.settings.drain_s), (signal.SIGQUIT, 0.0)):
            loop.add_signal_handler(number, self._stop, drain_s)
        metrics = Metrics(plan.metrics_dir, simulated=plan.simulated)
        app = Application(
            plan.settings,
            worker=f"{socket.gethostname()}-{os.getpid()}-{time.time_ns() // 1_000_000:x}",
            metrics=metrics,
            database_url=plan.database_url,
            upstream_url=plan.upstream_url,
            simulated=plan.simulated,
        )
        beating = loop.create_task(self._beat(metrics))
        preparing = None
        try:
            try:
                await app.start()
                for sock in self.sockets:
                    await app.serve(sock, plan.ssl_context)
            except Exception as error:  # noqa: BLE001  the edge: logged below
                return self._boot_failed(error)
            self._booted(metrics)
            if not plan.database_prepared:
                preparing = loop.create_task(self._prepare_database())
            drain_s = await self._drain
            await app.stop(drain_s)
        finally:
            for task in filter(None, (beating, preparing)):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            if self._writing is not None:
                await self._writing
            metrics.flush()
        return 0

    def _stop(self, drain_s: float) -> None:
        self.alive = False
        if not self._drain.done():
            self._drain.set_result(drain_s)

    def _booted(self, metrics: Metrics) -> None:
        self.booted = True
        self._plan.booted_once[0] = 1
        metrics.render()  # or the first scrape would wait for its imports, 45 ms, and everybody with it
        spare_the_collector()
        log.info("worker ready", extra={"slot": self.slot})

    def _boot_failed(self, error: Exception) -> int:
        log.critical("worker can't start: %s", error, exc_info=log.isEnabledFor(logging.DEBUG))
        if self._plan.booted_once[0]:
            time.sleep(REBOOT_PAUSE_S)
            return EXIT_LATER_BOOT_FAILED
        return EXIT_BOOT_FAILED

    async def _beat(self, metrics: Metrics) -> None:
        while True:
            self.notify()
            changed = metrics.changed()
            if changed is not None:  # not by the loop: a rename was seen to wait 5 ms for the disk
                self._writing = asyncio.ensure_future(asyncio.to_thread(metrics.write, changed))
                await asyncio.shield(self._writing)
            if os.getppid() != self.ppid:
                self._stop(self._plan.settings.drain_s)
            await asyncio.sleep(HEARTBEAT_S)

    async def _prepare_database(self) -> None:
        """The database was away at the start: bring its schema up to date as soon as it is there."""
        plan = self._plan
        while True:
            try:
                await startup.prepare(plan.database_url, plan.settings, embedded=False)
            except (*postgres.UNAVAILABLE, *postgres.RETRYABLE):
                pass
            except (postgres.PostgresError, migrate.MigrationError):
                log.exception("database can't be prepared")
            else:
                log.info("database prepared")
                return
            await asyncio.sleep(PREPARE_RETRY_S)
