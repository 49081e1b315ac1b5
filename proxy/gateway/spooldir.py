"""Directories of spools: each belongs to the process that holds its lock, and to whoever takes the lock when that one died."""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

LOCK = "lock"
SEGMENT_SUFFIX = ".seg"
_NEW = ".new-"
_OLD = ".old-"
_NEW_MAX_AGE_S = 3600
"""A spool that was being made this long ago is of a process that died at it."""


def make_locked(root: Path, name: str) -> int:
    """Make `root/name` so that nobody ever sees it without its lock held; returns the lock's descriptor."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = root / f"{_NEW}{name}"
    fresh.mkdir(mode=0o700)
    descriptor = os.open(fresh / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    fresh.rename(root / name)
    sync_directory(root)
    return descriptor


def take_lock(directory: Path) -> int | None:
    """The lock's descriptor; None while its worker or another adopter lives. Closing the descriptor frees it."""
    try:
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if not (directory / LOCK).exists():  # its last owner has just removed it
        os.close(descriptor)
        return None
    return descriptor


def spools(root: Path) -> list[Path]:
    """Directories of spools, living or left over, in the order of their names."""
    try:
        return sorted(
            path for path in root.iterdir() if path.is_dir() and not path.name.startswith((_NEW, _OLD))
        )
    except FileNotFoundError:
        return []


def remove(directory: Path) -> None:
    """Remove a spool whose lock is held, as far as others can see at once: dying half-way leaves no half a spool."""
    gone = directory.with_name(f"{_OLD}{directory.name}")
    directory.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def sweep(root: Path, now: float) -> None:
    """Remove what processes left that died while they made or removed a spool. `now`: Unix seconds."""
    for path in root.glob(".*"):
        old_age = path.name.startswith(_NEW) and path.stat().st_mtime < now - _NEW_MAX_AGE_S
        if old_age or path.name.startswith(_OLD):
            shutil.rmtree(path, ignore_errors=True)


def segments(directory: Path) -> list[Path]:
    """A spool's segments in the order they were written."""
    return sorted(directory.glob(f"*{SEGMENT_SUFFIX}"))


def sync_directory(path: Path) -> None:
    """Make creations, renames and removals in a directory outlive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
