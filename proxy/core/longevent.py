"""One event of any size, read while it passes: `response.completed` lines and image lines of many megabytes.

Its lines are followed, its data goes through the sieve, and nothing but what the readers want is kept.
"""

from __future__ import annotations

from proxy.core import readers, sse
from proxy.core.sieve import Sieve

FIELD_BYTES_MAX = 256


class LongEvent:
    """One event of any size: its data goes through the sieve as it comes, its lines are followed, nothing is kept."""

    __slots__ = ("_edge", "_field", "_name", "_sieve")

    def __init__(self) -> None:
        self._sieve = Sieve(readers.KEEP)
        self._name = b""
        self._field: bytearray | None = bytearray()
        """The start of a line whose field is not known yet; None inside a data line."""
        self._edge = b""
        """Line ends at the end of what came: more of them may follow."""

    def feed(self, data: bytes) -> bytes | None:
        """The next bytes; returns what follows the event's blank line, or None while it has not come."""
        data = self._edge + data
        found = sse.BLANK_LINE.search(data)
        if found is not None:
            self._lines(data[: found.start()])
            return data[found.end() :]
        body = data.rstrip(b"\r\n")
        self._edge = data[len(body) :][-4:]
        self._lines(data[: len(data) - len(self._edge)])
        return None

    def end(self) -> tuple[bytes, object]:
        """Name and reduced data of the event; the data is None when it is no whole JSON value."""
        return self._name, self._sieve.result()

    def _lines(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            found = sse.LINE_END.search(data, position)
            stop = found.start() if found else len(data)
            self._line(data[position:stop])
            if found is None:
                return
            self._field = self._field_ended()
            position = found.end()

    def _line(self, piece: bytes) -> None:
        if self._field is None:
            self._sieve.feed(piece)
            return
        if len(self._field) < FIELD_BYTES_MAX:
            self._field += piece
        start = bytes(self._field)
        start = start.removeprefix(sse.BOM)
        if start.startswith(b"data:") and len(start) > 5:
            self._field = None
            self._sieve.feed(start[6:] if start[5] == 0x20 else start[5:])

    def _field_ended(self) -> bytearray:
        line = bytes(self._field) if self._field is not None else b""
        if line.startswith(b"event:"):
            self._name = line[6:].strip()
        return bytearray()
