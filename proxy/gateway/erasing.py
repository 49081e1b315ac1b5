"""Erasing: takes users who were erased in Postgres out of this server's own files.

Those are the daily logs and the records that were set aside. The spool needs nothing: what is stored leaves it within a
minute by itself (recorder.REST_S), and the key snapshot is replaced when the keys go. How far the list of erasures was read
is remembered in `<data_dir>/erasures`, so a server that was down catches up, and one with a new data dir starts from the
beginning. Dying half-way repeats some of it, which changes nothing; so does another look at erasures of the last hour, for
lines that were on their way.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
from pathlib import Path

from proxy.gateway.jsonl import DailyLog, without_user
from proxy.store import erasures
from proxy.store.postgres import Pool

log = logging.getLogger(__name__)
REACHED = "erasures"
REJECTED = "rejected.jsonl"


async def erase_from_files(pool: Pool, data_dir: Path) -> int:
    """Do all erasures that this data dir hasn't seen; returns how many lines went. One worker does it for all on the host."""
    descriptor = os.open(data_dir / REACHED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    lines = 0
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        done = reached = int(os.pread(descriptor, 32, 0) or b"0")
        while todo := await erasures.after(pool, reached):
            for number, user_id, fresh in todo:
                gone = await asyncio.to_thread(_erase, data_dir, user_id)
                if gone:
                    log.info(
                        "an erased user was taken out of the files", extra={"erasure": number, "lines": gone}
                    )
                lines += gone
                reached = number
                done = done if fresh else number
            os.pwrite(descriptor, b"%020d\n" % done, 0)
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return lines


def _erase(data_dir: Path, user_id: str) -> int:
    paths = [path for _, path in DailyLog(data_dir).files()]
    if (data_dir / REJECTED).exists():
        paths.append(data_dir / REJECTED)
    return sum(without_user(path, user_id) for path in paths)
