"""The recorder: what becomes of every exchange, kept from the moment it is admitted until its record is in Postgres.

    open -> forward -> record -> spool -> flush, in batches, back to back under load -> acknowledge

`open` and `record` note a line for this worker's spool and return; neither awaits. The lines of one turn of the event loop are
written together at its end, and what depends on them is sent `then` (turn.py). Exactly one row comes of each exchange,
whatever dies when: rows are inserted by id, repeated batches insert nothing, and what a dead worker leaves is adopted.
Bounded: at the spool's bound `open` refuses with 503, or the oldest records go, by setting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from proxy.core.openline import OpenLine
from proxy.core.record import UsageRecord
from proxy.core.refusal import Refusal, unavailable
from proxy.core.spoolformat import encode_open, encode_record
from proxy.gateway.adoption import adopt_leftovers, leftover_bytes
from proxy.gateway.flusher import BATCH_MAX, FAILED, Flusher
from proxy.gateway.jsonl import DailyLog
from proxy.gateway.segments import Batch
from proxy.gateway.spool import Spool
from proxy.gateway.turn import Soon, Turn, soon
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store.postgres import Pool

log = logging.getLogger(__name__)
ADOPT_EVERY_S = 10.0
RETRY_FIRST_S = 0.1
RETRY_MAX_S = 5.0
UNSPOOLED_MAX = 20_000
"""Records held in memory while the disk takes none."""
RETRY_AFTER_S = 5
REST_S = 30.0
"""Stored records leave the disk soon after this, so that nothing of a user who is erased stays there."""


class Recorder:
    """One per worker. `open` and `record` belong to the pass; the rest runs in the background."""

    write_through = False
    """An exchange may be forwarded when `open` returns; see WriteThrough."""

    def __init__(self, pool: Pool, settings: Settings, metrics: Metrics, *, soon: Soon = soon) -> None:
        """`soon`: see turn.py."""
        self._settings = settings
        self._metrics = metrics
        self._root = settings.data_dir / "spool"
        daily = DailyLog(settings.data_dir) if settings.jsonl_log else None
        self._flusher = Flusher(
            pool,
            metrics,
            rejected=settings.data_dir / "rejected.jsonl",
            daily=daily,
            rollup_tags=settings.rollup_tags,
            timeout_s=settings.database_timeout_s,
        )
        policy = settings.spool_fsync
        self._sync_s = int(policy.removesuffix("ms")) / 1000 if policy.endswith("ms") else None
        self._max_bytes = settings.spool_max_bytes // settings.workers
        self._spool = Spool(
            self._root,
            f"{time.time_ns():016x}-{os.getpid()}",
            max_bytes=self._max_bytes,
            sync_each=policy == "always",
            sync_later=self._sync_s is not None,
        )
        self._rotated_at = time.monotonic()
        self._leftover_bytes = 0
        self._unspooled: list[tuple[str, bytes]] = []
        self._disk_failing = False
        self.unopened: dict[str, Refusal] = {}
        """Exchanges, by their ids, that may not be forwarded although they were opened: the disk would not have the line. To be
        looked at when `then` calls back.
        """
        self._turn = Turn(self.commit, soon)
        self.then = self._turn.then
        """Call back when what was noted so far is written."""
        self._hurry = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._sync_thread = ThreadPoolExecutor(1, "spool-sync")
        self.recorded = 0
        """Records taken."""
        self.done = 0
        """Records that are stored, set aside or given up."""

    # the pass

    def open(self, line: OpenLine) -> None:
        """Note that an exchange is about to be forwarded. Raises Refusal 503 when there is no room; see `unopened` as well."""
        spool = self._spool
        if spool.bytes + spool.gathered_bytes + self._leftover_bytes >= self._max_bytes:
            self._make_room()
        spool.gather_open(line.id, encode_open(line))
        if not self._turn.waits:
            self._turn.begin()

    def commit(self) -> None:
        """Write what was noted. Never raises: what depends on it asks."""
        failed = self._spool.commit()
        if not failed:
            self._disk_failing = False
            return
        for (exchange_id, _, payloads), error in failed:
            self._disk_failed(error)
            if not payloads and self._settings.spool_full == "refuse":
                self.unopened[exchange_id] = self._refusal("spool_unwritable")
            for payload in reversed(payloads):  # the exchange's own last: with it its open line may go
                self._hold(exchange_id, payload)

    async def secured(self, exchange_id: str) -> None:
        """Return when the exchange is noted, which it is."""

    def record(self, record: UsageRecord, *parts: UsageRecord) -> None:
        """Take the record of an exchange that is over, with those of its answer's parts. Never raises: faults are logged
        and counted.
        """
        try:
            payloads = (
                (encode_record(record), *[encode_record(part) for part in parts])
                if parts
                else (encode_record(record),)
            )
        except Exception:
            log.exception("a record could not be written down", extra={"id": record.id})
            self._metrics.recorder_dropped.inc(("fault",))
            self.commit()
            self._spool.end_exchange(record.id)
            return
        self.recorded += len(payloads)
        if self.unopened:
            self.unopened.pop(record.id, None)
        self._spool.gather_record(record.id, payloads)
        if not self._turn.waits:
            self._turn.begin()

    def _make_room(self) -> None:
        if self._settings.spool_full == "refuse":
            raise self._refusal("spool_full")
        self.commit()
        dropped = self._spool.drop_oldest()
        self._settle_count(dropped)
        self._metrics.recorder_dropped.inc(("spool_full",), dropped)
        log.error("the spool is full, its oldest records are given up", extra={"records": dropped})

    def _refusal(self, reason: str) -> Refusal:
        return unavailable(
            "usage_not_recordable",
            "The proxy can't record usage at the moment, so it takes no new requests. Try again later.",
            RETRY_AFTER_S,
            reason,
        )

    def _disk_failed(self, error: OSError) -> None:
        if not self._disk_failing:
            self._disk_failing = True
            log.error("the spool can't be written", extra={"error": str(error), "directory": str(self._root)})

    def _hold(self, exchange_id: str, payload: bytes) -> None:
        """The disk takes nothing: keep the record in memory. Its open line stays, should the process die now."""
        if len(self._unspooled) >= UNSPOOLED_MAX:
            self._unspooled.pop(0)
            self._settle_count(1)
            self._metrics.recorder_dropped.inc(("disk_full",))
        self._unspooled.append((exchange_id, payload))

    # the background

    async def start(self) -> None:
        """Begin to flush, to sync and to look for spools of dead processes. Doesn't wait for Postgres."""
        assert not self._tasks, "a recorder starts once"
        self._spawn(self._flush_forever(), "flush")
        self._spawn(self._adopt_forever(), "adopt")
        if self._sync_s is not None:
            self._spawn(self._sync_forever(self._sync_s), "sync")

    async def stop(self, drain_s: float = 10.0) -> bool:
        """Flush what is there, for at most `drain_s`, and end. False: something is left in the spool for others to adopt."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                await self.flushed()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._sync_thread.shutdown()
        self.commit()
        return self._spool.close() and not self._unspooled

    async def flushed(self) -> None:
        """Return when every record taken so far is in Postgres (or set aside, or given up by the bound)."""
        if self.done >= self.recorded:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((self.recorded, waiter))
        self._hurry.set()
        await waiter

    def rest_soon(self) -> None:
        """Let what is stored leave the disk at the next chance, not in REST_S: a user was erased."""
        self._rotated_at = -math.inf
        self._hurry.set()

    @property
    def queue(self) -> int:
        """Records that are not in Postgres yet."""
        return self.recorded - self.done

    @property
    def failing(self) -> bool:
        """The last flush failed; records wait in the spool."""
        return self._flusher.failing

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=f"recorder {name}"))

    async def _flush_forever(self) -> None:
        pause = RETRY_FIRST_S
        batch: Batch | None = None
        while True:
            try:
                self.commit()
                await self._flush_unspooled()
                batch = batch or await self._read()
                await self._flush(batch)
            except Exception as error:
                expected = isinstance(error, FAILED)
                log.log(
                    logging.WARNING if expected else logging.ERROR,
                    "records can't be stored, tried again",
                    extra={"error": repr(error), "queue": self.queue},
                    exc_info=None if expected else error,
                )
                self._report()
                await asyncio.sleep(pause)
                pause = min(pause * 2, RETRY_MAX_S)
                continue
            more = batch.more
            pause, batch = RETRY_FIRST_S, None
            self._report()
            if not more and not (self._waiters and self._spool.unread):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.flush_interval_s):
                        await self._hurry.wait()
                self._hurry.clear()

    async def _read(self) -> Batch:
        """The next batch; where the disk is read, slice by slice, the loop free in between. Raises OSError when nothing could
        be read.
        """
        batch = self._spool.read(BATCH_MAX)
        while batch.more and len(batch.payloads) < BATCH_MAX and self._spool.reads_disk:
            await asyncio.sleep(0)
            try:
                more = self._spool.read(BATCH_MAX - len(batch.payloads))
            except OSError:
                break  # what was read is not read again; the next attempt will say what is wrong
            batch = replace(
                more, payloads=batch.payloads + more.payloads, damaged=batch.damaged + more.damaged
            )
        return batch

    async def _flush(self, batch: Batch) -> None:
        if batch.damaged:
            log.error("damaged lines in the spool", extra={"lines": batch.damaged})
        if batch.payloads:
            await self._flusher.store(batch.payloads)
            self._settle_count(len(batch.payloads))
        self._spool.acknowledge(batch)
        if self._spool.at_rest and time.monotonic() - self._rotated_at > REST_S:
            self._spool.rotate()
            self._rotated_at = time.monotonic()

    async def _flush_unspooled(self) -> None:
        while self._unspooled:
            held, self._unspooled = self._unspooled, []
            try:
                await self._flusher.store([payload for _, payload in held])
            except BaseException:
                self._unspooled = held + self._unspooled
                raise
            for exchange_id, _ in held:
                self._spool.end_exchange(exchange_id)
            self._settle_count(len(held))

    def _settle_count(self, count: int) -> None:
        self.done = min(self.recorded, self.done + count)
        for target, waiter in self._waiters:
            if self.done >= target and not waiter.done():
                waiter.set_result(None)
        self._waiters = [(target, waiter) for target, waiter in self._waiters if not waiter.done()]

    def _report(self) -> None:
        self._metrics.recorder_queue.set((), self.queue)
        self._metrics.recorder_bytes.set((), self._spool.bytes + self._leftover_bytes)

    async def _sync_forever(self, interval_s: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(interval_s)
            if self._spool.unsynced:
                try:
                    await loop.run_in_executor(self._sync_thread, self._spool.sync)
                except OSError as error:
                    self._disk_failed(error)

    async def _adopt_forever(self) -> None:
        while True:
            try:
                await adopt_leftovers(self._root, self._flusher, self._metrics)
                self._leftover_bytes = 0
            except FAILED as error:
                log.warning("a left-over spool waits", extra={"error": repr(error)})
                self._leftover_bytes = leftover_bytes(self._root) // self._settings.workers
            except Exception:
                log.exception("a left-over spool can't be adopted, tried again")
            await asyncio.sleep(ADOPT_EVERY_S)
