"""A spool's segments: its files, what is read from them, and the lines that are to be written to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from proxy.core.spoolformat import RECORD, scan

READ_BYTES = 2**18
LONG_READ_BYTES = 2**20
"""What a line may take that was not found whole in so little."""
Gathered: TypeAlias = tuple[str, bytes, tuple[bytes, ...]]
"""An exchange's id, its line, and the payloads of its record and its parts; none: it is the open line."""


@dataclass(slots=True, eq=False)
class Segment:
    """One file; `size` bytes of it hold whole lines."""

    number: int
    path: Path
    size: int = 0
    records: int = 0
    opens: list[str] = field(default_factory=list)
    """Ids opened here, ended ones included."""
    waiting_bytes: int = 0
    """Size of the open lines here whose exchanges are still open."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Records read from the front of the spool and not acknowledged yet."""

    payloads: list[bytes]
    segment: int
    end: int
    """Everything before this offset of this segment is in this batch or an earlier one."""
    damaged: int
    more: bool
    """There was more to be read."""


def read_records(segment: Segment, offset: int, records_max: int) -> tuple[list[bytes], int, int]:
    """(records, where they end, damaged lines) of one segment from `offset`, as far as one read goes."""
    for most in (READ_BYTES, LONG_READ_BYTES):
        wanted = min(most, segment.size - offset)
        with segment.path.open("rb", buffering=0) as file:
            file.seek(offset)
            data = file.read(wanted)
        if len(data) < wanted:  # cut by somebody else: what is gone is gone
            return [], segment.size, 1
        found = scan(data, records_max)
        if found.end:
            break
    records = [payload for kind, payload in found.lines if kind == RECORD]
    return records, offset + (found.end or wanted), found.damaged
