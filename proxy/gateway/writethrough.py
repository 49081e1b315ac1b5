"""The recorder for servers without a durable disk (`spool = "postgres"`): Postgres itself is the spool.

An exchange is forwarded only when its open line is committed there: `open`, then `await secured`. That costs each request
a commit (shared by all that wait at the same time), and without Postgres there are no requests: `secured` refuses with 503.
Records follow in batches; what a killed process had not sent becomes a record with outcome "lost", written by whoever finds
first that its worker was silent for SILENT_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.core.openline import OpenLine
from proxy.core.record import UsageRecord
from proxy.core.refusal import Refusal, unavailable
from proxy.core.spoolformat import encode_open, encode_record, lost_record
from proxy.gateway.flusher import BATCH_MAX, FAILED, Flusher
from proxy.gateway.jsonl import DailyLog
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import open_exchanges
from proxy.store.postgres import Pool
from proxy.store.transactions import bounded

log = logging.getLogger(__name__)
SEEN_EVERY_S = 10.0
SILENT_S = 60.0
"""A worker that was not heard of for so long is dead: six times as long as it may take to be heard."""
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
RETRY_AFTER_S = 5
SECURE_TIMEOUT_S = 5.0


class WriteThrough:
    """One per worker; the same to the pass as Recorder, but for `secured`."""

    write_through = True

    def __init__(self, pool: Pool, settings: Settings, metrics: Metrics) -> None:
        self._pool = pool
        self._metrics = metrics
        self._interval_s = settings.flush_interval_s
        self._flusher = Flusher(
            pool,
            metrics,
            rejected=settings.data_dir / "rejected.jsonl",
            daily=DailyLog(settings.data_dir) if settings.jsonl_log else None,
            rollup_tags=settings.rollup_tags,
            timeout_s=settings.database_timeout_s,
        )
        self._timeout_s = min(SECURE_TIMEOUT_S, settings.database_timeout_s)
        self._worker = f"{os.uname().nodename}-{os.getpid()}-{time.time_ns():x}"
        self._opening: dict[str, bytes] = {}
        self._securing: dict[str, asyncio.Future[None]] = {}
        self._records: list[tuple[str, bytes]] = []
        self._opened = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.unopened: dict[str, Refusal] = {}
        """Nothing is refused after `secured`."""
        self.recorded = 0
        """Records taken."""
        self.done = 0
        """Records that are stored or set aside."""

    # the pass

    def open(self, line: OpenLine) -> None:
        """Begin to note that an exchange is about to be forwarded; it must not be before `secured` returns."""
        self._opening[line.id] = encode_open(line)
        self._securing[line.id] = asyncio.get_running_loop().create_future()
        self._opened.set()

    async def secured(self, exchange_id: str) -> None:
        """Return when the exchange is noted. Raises Refusal 503 when that fails: then it was never opened."""
        future = self._securing.get(exchange_id)
        if future is None:
            return
        try:
            async with asyncio.timeout(self._timeout_s):
                await future
        except asyncio.CancelledError:
            self._take_back(exchange_id)
            raise
        except FAILED:
            self._take_back(exchange_id)
            raise unavailable(
                "usage_not_recordable",
                "The proxy can't record usage at the moment, so it takes no new requests. Try again later.",
                RETRY_AFTER_S,
                "spool_unwritable",
            ) from None
        finally:
            self._securing.pop(exchange_id, None)

    def _take_back(self, exchange_id: str) -> None:
        """It may have been committed all the same, so it is deleted with the next records."""
        self._opening.pop(exchange_id, None)
        self._records.append((exchange_id, b""))

    def record(self, record: UsageRecord, *parts: UsageRecord) -> None:
        """Take the record of an exchange that is over, with those of its answer's parts. Never raises: faults are logged
        and counted.
        """
        try:
            payloads = [(each.id, encode_record(each)) for each in (record, *parts)]
        except Exception:
            log.exception("a record could not be written down", extra={"id": record.id})
            self._metrics.recorder_dropped.inc(("fault",))
            return
        self.recorded += len(payloads)
        self._records += payloads

    def then(self, send: Callable[[], None]) -> None:
        """At once: nothing is written here but by Postgres, which `secured` waits for."""
        send()

    def commit(self) -> None:
        """Nothing is gathered."""

    # the background

    async def start(self) -> None:
        """Begin to write. Doesn't wait for Postgres."""
        assert not self._tasks, "a recorder starts once"
        for work in (self._open_forever(), self._flush_forever(), self._adopt_forever()):
            self._spawn(work)

    async def stop(self, drain_s: float = 10.0) -> bool:
        """Store what is there, for at most `drain_s`, and end. False: records are lost; their open lines are not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self.flushed()
                while self._records:  # exchanges to take back
                    self._hurry.set()
                    await asyncio.sleep(self._interval_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        with contextlib.suppress(*FAILED):
            async with asyncio.timeout(self._timeout_s):
                await open_exchanges.ended(self._pool, self._worker)
        return self.queue == 0

    async def flushed(self) -> None:
        """Return when every record taken so far is in Postgres (or set aside)."""
        if self.done >= self.recorded:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((self.recorded, waiter))
        self._hurry.set()
        await waiter

    def rest_soon(self) -> None:
        """Nothing lies on a disk here."""

    @property
    def queue(self) -> int:
        """Records that are not in Postgres yet."""
        return self.recorded - self.done

    @property
    def failing(self) -> bool:
        """The last flush failed; records wait in memory."""
        return self._flusher.failing

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name="write-through"))

    async def _open_forever(self) -> None:
        """Commit open lines as they come: those that come during one commit share the next."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SEEN_EVERY_S):
                    await self._opened.wait()
            self._opened.clear()
            batch, self._opening = self._opening, {}
            failure: BaseException | None = None
            try:
                await open_exchanges.insert(
                    self._pool, self._worker, list(batch.values()), timeout_s=self._timeout_s
                )
            except FAILED as error:
                log.warning(
                    "exchanges can't be opened", extra={"error": repr(error), "exchanges": len(batch)}
                )
                self._metrics.database_failures.inc(("open",))
                failure = error
            except Exception as error:
                log.exception("exchanges can't be opened")
                failure = TimeoutError(repr(error))
            for exchange_id in batch:
                future = self._securing.get(exchange_id)
                if future is not None and not future.done():
                    if failure is None:
                        future.set_result(None)
                    else:
                        future.set_exception(failure)

    async def _flush_forever(self) -> None:
        pause = RETRY_FIRST_S
        while True:
            batch, self._records = self._records[:BATCH_MAX], self._records[BATCH_MAX:]
            try:
                await self._flush(batch)
            except BaseException as error:
                self._records = batch + self._records
                if not isinstance(error, FAILED):
                    if not isinstance(error, Exception):
                        raise
                    log.exception("records can't be stored, tried again")
                else:
                    log.warning("records can't be stored, tried again", extra={"error": repr(error)})
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX_S)
                continue
            pause = RETRY_FIRST_S
            self._metrics.recorder_queue.set((), self.queue)
            if not self._records:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._interval_s):
                        await self._hurry.wait()
                self._hurry.clear()

    async def _flush(self, batch: list[tuple[str, bytes]]) -> None:
        if not batch:
            return
        payloads = [payload for _, payload in batch if payload]
        await self._flusher.store(payloads)
        async with bounded(self._pool, self._timeout_s) as connection:
            await open_exchanges.delete(connection, [exchange_id for exchange_id, _ in batch])
        self.done += len(payloads)
        for target, waiter in self._waiters:
            if self.done >= target and not waiter.done():
                waiter.set_result(None)
        self._waiters = [(target, waiter) for target, waiter in self._waiters if not waiter.done()]

    async def _adopt_forever(self) -> None:
        while True:
            try:
                while await self._adopt():
                    pass
                await open_exchanges.forget_workers(self._pool)
            except FAILED as error:
                log.info("exchanges of dead workers wait", extra={"error": repr(error)})
            except Exception:
                log.exception("exchanges of dead workers can't be adopted, tried again")
            await asyncio.sleep(SEEN_EVERY_S)

    async def _adopt(self) -> bool:
        """Record what dead workers left open. The rows stay locked until it is stored, so that one worker does it."""
        async with bounded(self._pool, 2 * SEEN_EVERY_S) as connection:
            found = await open_exchanges.abandoned(connection, SILENT_S, BATCH_MAX)
            if not found:
                return False
            await self._flusher.store([lost_record(line) for _, line in found], replayed=True)
            await open_exchanges.delete(connection, [exchange_id for exchange_id, _ in found])
        self._metrics.recorder_lost.inc((), len(found))
        log.warning("exchanges of a worker that died are recorded as lost", extra={"exchanges": len(found)})
        return True
