"""Adoption: what a process that died left in its spool is stored by whoever finds it first, under its lock.

Records are stored as they are; an open line without a record becomes a record with outcome "lost", estimated from what
was reserved, unless Postgres knows a record of that id. The directory goes when all of it is stored; dying half-way
through means that somebody else begins again, which changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

from proxy.core.leftover import Leftover
from proxy.core.spoolformat import Scan, scan
from proxy.gateway.flusher import BATCH_MAX, Flusher
from proxy.gateway.spooldir import remove, segments, spools, sweep, take_lock
from proxy.metrics import Metrics

log = logging.getLogger(__name__)


async def adopt_leftovers(root: Path, flusher: Flusher, metrics: Metrics) -> int:
    """Store what every dead process left under `root`; returns how many spools were adopted. Raises flusher.FAILED, OSError."""
    adopted = 0
    sweep(root, time.time())
    for directory in spools(root):
        lock = take_lock(directory)
        if lock is None:
            continue
        try:
            await _adopt(directory, flusher, metrics)
            await asyncio.to_thread(remove, directory)
            adopted += 1
        finally:
            os.close(lock)
    return adopted


def leftover_bytes(root: Path) -> int:
    """Size of all spools that nobody holds."""
    total = 0
    for directory in spools(root):
        lock = take_lock(directory)
        if lock is not None:
            try:
                total += sum(path.stat().st_size for path in segments(directory))
            finally:
                os.close(lock)
    return total


async def _adopt(directory: Path, flusher: Flusher, metrics: Metrics) -> None:
    leftover = Leftover()
    count = damaged = 0
    for path in segments(directory):
        found = await asyncio.to_thread(_scan, path)
        damaged += found.damaged
        records = await asyncio.to_thread(leftover.records, found.lines)
        for start in range(0, len(records), BATCH_MAX):
            await flusher.store(records[start : start + BATCH_MAX], replayed=True)
        count += len(records)
    lost = leftover.lost()
    if lost:
        await flusher.store(lost, replayed=True)
        metrics.recorder_lost.inc((), len(lost))
    log.warning(
        "adopted the spool of a process that died",
        extra={"spool": directory.name, "records": count, "lost": len(lost), "damaged_lines": damaged},
    )


def _scan(path: Path) -> Scan:
    return scan(path.read_bytes())
