"""The daily log: `token_usage_YYYY-MM-DD.jsonl` in the data dir, one object per stored record. Never any body text.

Written after the record is in Postgres. A replay after a crash looks first whether a line is there already, so each
record has one line; only a full disk leaves lines out (logged). Several workers append to the same file.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path

import orjson

from proxy.core.dailyline import daily_line
from proxy.gateway.spooldir import sync_directory

log = logging.getLogger(__name__)
LOCK = ".jsonl.lock"
_NAME = re.compile(r"^token_usage_(\d{4}-\d{2}-\d{2})\.jsonl$")


class DailyLog:
    """Appends to one file a day, by the day (UTC) on which an exchange began."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def write(self, payloads: Iterable[bytes], *, replayed: bool) -> None:
        """Add a line for each record; with `replayed` only where it has none yet. Raises nothing."""
        days: dict[str, list[tuple[str, bytes]]] = defaultdict(list)
        for payload in payloads:
            day, record_id, line = daily_line(payload)
            days[day].append((record_id, line))
        for day, lines in days.items():
            path = self._directory / f"token_usage_{day}.jsonl"
            try:
                known = _ids(path) if replayed else frozenset()
                append(path, b"".join(line for record_id, line in lines if record_id not in known))
            except OSError as error:
                log.warning("the daily log can't be written", extra={"path": str(path), "error": str(error)})

    def prune(self, today: date, keep_days: int) -> list[Path]:
        """Remove files of days before the last `keep_days`; returns them."""
        oldest = (today - timedelta(days=keep_days)).isoformat()
        gone = [path for day, path in self.files() if day < oldest]
        for path in gone:
            path.unlink(missing_ok=True)
        return gone

    def files(self) -> list[tuple[str, Path]]:
        """(day, path) of every file, the oldest first."""
        if not self._directory.is_dir():
            return []
        named = ((_NAME.match(path.name), path) for path in self._directory.iterdir())
        return sorted((match[1], path) for match, path in named if match is not None)


def without_user(path: Path, user_id: str) -> int:
    """Rewrite a file of JSON lines without those of one user, atomically; returns how many went. Writers wait meanwhile."""
    with _lock(path, fcntl.LOCK_EX):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if user_id.encode() not in line or not _is_of(line, user_id)]
        if len(kept) == len(lines):
            return 0
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_directory(path.parent)
    return len(lines) - len(kept)


def _is_of(line: bytes, user_id: str) -> bool:
    try:
        return bool(orjson.loads(line).get("user_id") == user_id)
    except orjson.JSONDecodeError:  # half a line, cut by a full disk, with this id in it
        return True


@contextmanager
def _lock(path: Path, kind: int) -> Iterator[None]:
    """One lock for all files of a directory: rewriting replaces a file under its writers, who come back by its name."""
    descriptor = os.open(path.with_name(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)


def append(path: Path, data: bytes, max_bytes: int | None = None) -> None:
    """Add whole lines in one write, so that several processes may; nothing where the file would exceed `max_bytes`."""
    if not data:
        return
    with _lock(path, fcntl.LOCK_SH):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if max_bytes is None or os.fstat(descriptor).st_size + len(data) <= max_bytes:
                os.write(descriptor, data)
        finally:
            os.close(descriptor)


def _ids(path: Path) -> frozenset[str]:
    try:
        lines: Sequence[bytes] = path.read_bytes().splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(orjson.loads(line)["id"] for line in lines if line.endswith(b"}"))
