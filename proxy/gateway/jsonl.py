"""The daily log: `token_usage_YYYY-MM-DD.jsonl` in the data dir, one object per stored record. Never any body text.

Written after the record is in Postgres. A replay after a crash looks first whether a line is there already, so each
record has one line; only a full disk leaves lines out (logged). Several workers append to the same file.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from pathlib import Path

import orjson

from proxy.core.dailyline import daily_line
from proxy.gateway.spooldir import sync_directory

log = logging.getLogger(__name__)
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
                _append(path, b"".join(line for record_id, line in lines if record_id not in known))
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

    def erase_user(self, user_id: str) -> int:
        """Rewrite every file without the lines of one user; returns how many went."""

        def keep(line: bytes) -> bytes | None:
            return None if orjson.loads(line).get("user_id") == user_id else line

        return sum(rewrite_lines(path, keep) for _, path in self.files())


def rewrite_lines(path: Path, change: Callable[[bytes], bytes | None]) -> int:
    """Replace a file atomically by its lines as `change` leaves them (None: gone); returns how many differ. 0: untouched."""
    changed = 0
    kept: list[bytes] = []
    for line in path.read_bytes().splitlines(keepends=True):
        after = change(line)
        changed += after != line
        if after is not None:
            kept.append(after)
    if changed:
        fresh = path.with_name(path.name + ".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_directory(path.parent)
    return changed


def _append(path: Path, data: bytes) -> None:
    if not data:
        return
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _ids(path: Path) -> frozenset[str]:
    try:
        lines: Sequence[bytes] = path.read_bytes().splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(orjson.loads(line)["id"] for line in lines if line.endswith(b"}"))
