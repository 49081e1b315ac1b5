"""CPU time and memory of a process and its descendants, from /proc. Linux only."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from tests.processes import process_tree

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def cpu_s(root: int) -> float:
    """User and system time of the tree so far, with that of children it has reaped."""
    ticks = 0
    for pid in process_tree(root):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime (proc(5) fields 14 to 17)
    return ticks / TICKS_PER_S


def resident_mib(root: int) -> float:
    """Resident memory of the tree, pages shared between processes counted in each."""
    pages = 0
    for pid in process_tree(root):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return pages * PAGE_BYTES / 2**20


def machine() -> str:
    """The processor, its cores, the memory and the kernel, in one line."""
    found = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    gib = round(int(memory[1]) / 2**20) if memory else 0
    name = found[1] if found else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {gib} GiB, Linux {platform.release()}"
