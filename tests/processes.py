"""Processes as /proc shows them. Linux only."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path


def process_tree(root: int) -> list[int]:
    """A process and its descendants, parents first. Linux."""
    found = [root]
    for pid in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def status_bytes(pid: int, name: str) -> int:
    """A size from /proc/<pid>/status, such as VmRSS or VmHWM."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
