"""What was written to a spool and not read yet, held in memory: the flusher then reads the disk only after a jam or a restart.

To read a record back from its segment, and to check it, took a fifteenth of what a request costs.
"""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

HELD_BYTES_MAX = 2 * 2**20
"""Of lines. Beyond it nothing is held until the reader, who then reads the disk, has caught up."""
Write: TypeAlias = tuple[int, int, list[bytes]]
"""One write: the number of its segment, where it ends there, and the payloads of its records."""


class Unread:
    """All writes behind the reader, or none."""

    __slots__ = ("_bytes", "_writes", "whole")

    def __init__(self) -> None:
        self._writes: deque[tuple[Write, int]] = deque()
        self._bytes = 0
        self.whole = True
        """No record was written and not read that is not here."""

    def add(self, write: Write, size: int) -> None:
        """Hold a write of so many bytes."""
        if not self.whole:
            return
        self._writes.append((write, size))
        self._bytes += size
        if self._bytes > HELD_BYTES_MAX:
            self.give_up()

    def take(self, records_max: int) -> Write | None:
        """The next writes as one, with at most so many records, though never less than one write; None: there is none."""
        if not self._writes:
            return None
        (number, end, payloads), size = self._writes.popleft()
        self._bytes -= size
        while self._writes and len(payloads) + len(self._writes[0][0][2]) <= records_max:
            (number, end, more), size = self._writes.popleft()
            self._bytes -= size
            payloads += more
        return number, end, payloads

    def give_up(self) -> None:
        """Let go of everything: what was not read must be read from the disk."""
        self._writes.clear()
        self._bytes = 0
        self.whole = False

    def caught_up(self) -> None:
        """The reader has reached the end: what is written from now on is held again."""
        self.whole = True
