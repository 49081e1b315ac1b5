"""Adoption: what a process that died left in its spool is stored by whoever finds it first, under its lock.

Records are stored as they are; an open line without a record becomes a record with outcome "lost", estimated from what
was reserved, unless Postgres knows a record of that id. The directory goes when all of it is stored; dying half-way
through means that somebody else begins again, which changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from proxy.core.spoolformat import OPEN, RECORD, lost_record, payload_id, scan
from proxy.gateway.flusher import BATCH_MAX, Flusher
from proxy.gateway.spooldir import segments, spools, take_lock
from proxy.metrics import Metrics

log = logging.getLogger(__name__)


async def adopt_leftovers(root: Path, flusher: Flusher, metrics: Metrics) -> int:
    """Store what every dead process left under `root`; returns how many spools were adopted. Raises flusher.FAILED, OSError."""
    adopted = 0
    for directory in spools(root):
        lock = take_lock(directory)
        if lock is None:
            continue
        try:
            await _adopt(directory, flusher, metrics)
            await asyncio.to_thread(shutil.rmtree, directory)
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
    opened: dict[str, bytes] = {}
    records = damaged = 0
    for path in segments(directory):
        found = await asyncio.to_thread(_scan, path)
        damaged += found[1]
        for batch in _batches(found[0], opened):
            await flusher.store(batch, replayed=True)
            records += len(batch)
            await asyncio.sleep(0)
    lost = [lost_record(payload) for payload in opened.values()]
    if lost:
        await flusher.store(lost, replayed=True)
        metrics.recorder_lost.inc((), len(lost))
    log.warning(
        "adopted the spool of a process that died",
        extra={"spool": directory.name, "records": records, "lost": len(lost), "damaged_lines": damaged},
    )


def _scan(path: Path) -> tuple[list[tuple[bytes, bytes]], int]:
    found = scan(path.read_bytes())
    return found.lines, found.damaged


def _batches(lines: list[tuple[bytes, bytes]], opened: dict[str, bytes]) -> Iterator[list[bytes]]:
    """The records among the lines; `opened` is kept to those that still have none."""
    batch: list[bytes] = []
    for kind, payload in lines:
        if kind == OPEN:
            opened[payload_id(payload)] = payload
        elif kind == RECORD:
            opened.pop(payload_id(payload), None)
            batch.append(payload)
            if len(batch) >= BATCH_MAX:
                yield batch
                batch = []
    if batch:
        yield batch
