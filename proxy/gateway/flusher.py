"""The flusher: brings records to Postgres, all of a batch or none, and finds out which failures pass.

A deadlock or serialization failure is repeated at once. A record that Postgres will never take is set aside in
`<data_dir>/rejected.jsonl` (logged and counted), so that it can't hold up the others. Everything else is raised for the
caller to try again later: repeating is always safe.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from proxy.core.spoolformat import decode_record
from proxy.gateway.jsonl import DailyLog, append
from proxy.metrics import Metrics
from proxy.store import records
from proxy.store.postgres import RETRYABLE, TOO_SLOW, UNAVAILABLE, Pool, PostgresError
from proxy.store.records import REJECTED

log = logging.getLogger(__name__)
BATCH_MAX = 2_000
BATCH_MIN = 50
RETRIES_AT_ONCE = 5
# What the caller may try again later.
FAILED: tuple[type[BaseException], ...] = (*UNAVAILABLE, PostgresError)
REJECTED_MAX_BYTES = 64 * 2**20
PURPOSE = ("flush",)


class Flusher:
    """Stores batches of records. Used by the recorder for its own spool and by the adopter for left-over ones."""

    def __init__(
        self,
        pool: Pool,
        metrics: Metrics,
        *,
        rejected: Path,
        daily: DailyLog | None = None,
        rollup_tags: Sequence[str] = (),
        timeout_s: float = 30.0,
    ) -> None:
        """`rejected`: a file that takes what Postgres refuses; `daily`: the JSONL log, if there is to be one."""
        self._pool = pool
        self._rejected = rejected
        self._daily = daily
        self._metrics = metrics
        self._rollup_tags = tuple(rollup_tags)
        self._timeout_s = timeout_s
        self._batch_max = BATCH_MAX
        self.failing = False
        """The last attempt failed."""

    async def store(self, payloads: Sequence[bytes], *, replayed: bool = False) -> None:
        """Store records. Raises one of FAILED when they, or some of them, could not be stored now.

        `replayed`: they may have been stored before.
        """
        began = time.perf_counter()
        try:
            done = 0
            while done < len(payloads):
                batch = payloads[done : done + self._batch_max]
                stored: list[bytes] = []
                await self._store(batch, stored)
                done += len(batch)
                self._log_daily(stored, replayed=replayed)
        except FAILED as error:
            if isinstance(error, TOO_SLOW | TimeoutError):
                self._batch_max = max(BATCH_MIN, self._batch_max // 2)
            self._metrics.recorder_failures.inc()
            self._metrics.database_failures.inc(PURPOSE)
            self.failing = True
            raise
        self.failing = False
        self._batch_max = min(BATCH_MAX, self._batch_max * 2)
        self._metrics.recorder_flush_seconds.observe((), time.perf_counter() - began)

    async def _store(self, batch: Sequence[bytes], stored: list[bytes]) -> None:
        try:
            count = await self._store_once(batch, stored)
        except REJECTED as error:
            if len(batch) == 1:
                self._reject(batch[0], error)
                return
            half = len(batch) // 2
            await self._store(batch[:half], stored)
            await self._store(batch[half:], stored)
            return
        self._metrics.recorder_written.inc((), count)

    async def _store_once(self, batch: Sequence[bytes], stored: list[bytes]) -> int:
        for attempt in range(RETRIES_AT_ONCE + 1):
            began = time.perf_counter()
            self._metrics.database_round_trips.inc(PURPOSE)
            try:
                return await records.store(
                    self._pool, batch, self._rollup_tags, timeout_s=self._timeout_s, stored=stored
                )
            except RETRYABLE:
                if attempt == RETRIES_AT_ONCE:
                    raise
            finally:
                self._metrics.database_seconds.observe(PURPOSE, time.perf_counter() - began)
        raise AssertionError("unreachable")

    def _reject(self, payload: bytes, error: BaseException) -> None:
        """Set a record aside for a person to look at."""
        self._metrics.recorder_dropped.inc(("rejected",))
        log.error(
            "Postgres refuses a record, it is set aside",
            extra={"error": str(error), "file": str(self._rejected)},
        )
        try:
            append(self._rejected, orjson.dumps(decode_record(payload)) + b"\n", REJECTED_MAX_BYTES)
        except OSError as failure:
            log.error("the record could not be set aside", extra={"error": str(failure)})  # noqa: TRY400

    def _log_daily(self, batch: Sequence[bytes], *, replayed: bool) -> None:
        if self._daily is not None:
            self._daily.write(batch, replayed=replayed)
