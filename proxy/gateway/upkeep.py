"""Upkeep: what must happen now and then though nobody asks, done by whichever worker comes first.

Partitions are made months ahead, so a Postgres that is away for days, or a worker that fails here, costs nothing but a log
line. Retention drops whole months of records, and files of the daily log, once all in them is older than the settings say.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from proxy.gateway.erasing import erase_from_files
from proxy.gateway.jsonl import DailyLog
from proxy.settings import Settings
from proxy.store import erasures, folds, keys_live, objects, partitions
from proxy.store.postgres import UNAVAILABLE, Pool, PostgresError

log = logging.getLogger(__name__)
EVERY_S = 3600.0
RETRY_S = 60.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Upkeep:
    """One per worker; they don't get into each other's way."""

    def __init__(self, pool: Pool, settings: Settings, *, now: Callable[[], datetime] = _utc_now) -> None:
        self._pool = pool
        self._settings = settings
        self._now = now
        self._task: asyncio.Task[None] | None = None
        self._due = asyncio.Event()

    def hurry(self) -> None:
        """Something is to be done now, e.g. a user was erased."""
        self._due.set()

    def start(self) -> None:
        """Begin at once, in the background."""
        assert self._task is None, "upkeep starts once"
        self._task = asyncio.get_running_loop().create_task(self._forever(), name="upkeep")

    async def stop(self) -> None:
        """End; what was under way is rolled back."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def run_once(self) -> None:
        """Everything that is due. Raises what Postgres raises."""
        now = await partitions.not_ahead(self._pool, self._now())
        cutoff = now - timedelta(days=self._settings.retention_records_days)
        made = await partitions.make_ahead(self._pool, now, cutoff)
        if made:
            log.info("partitions made", extra={"months": [month.strftime("%Y-%m") for month in made]})
        for each in await partitions.expired(self._pool, cutoff):
            if await partitions.drop(self._pool, each.name, cutoff):
                log.info("records past their retention dropped", extra={"partition": each.name})
        await partitions.delete_strays(self._pool, cutoff)
        await keys_live.prune_changes(self._pool)
        await objects.prune(self._pool, cutoff)
        await erasures.finish(self._pool)
        await erasures.sweep(self._pool)
        # Behind erasing, which takes folds apart.
        await folds.make_due(self._pool, now)
        await erase_from_files(self._pool, self._settings.data_dir)
        pruned = DailyLog(self._settings.data_dir).prune(now.date(), self._settings.retention_jsonl_days)
        if pruned:
            log.info(
                "daily logs past their retention removed", extra={"files": [path.name for path in pruned]}
            )

    async def _forever(self) -> None:
        while True:
            pause = EVERY_S
            try:
                await self.run_once()
            except (*UNAVAILABLE, PostgresError) as error:
                log.info("upkeep is tried again later", extra={"error": repr(error)})
                pause = RETRY_S
            except Exception:
                log.exception("upkeep failed, tried again later")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._due.wait()
            self._due.clear()
