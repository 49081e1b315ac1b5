"""Server-sent events, as far as metering needs them: where an event ends, and what its data is.

The grammar is the WHATWG HTML standard's (9.2.6): lines end in LF, CR or CRLF; an empty line ends an event; `data` lines
join with LF; lines that begin with a colon are comments. Bytes in, bytes out; nothing raises.
"""

from __future__ import annotations

import re

BOM = b"\xef\xbb\xbf"
# Two line ends in a row. CRLF is one line end, which is why the pairs are spelled out.
BLANK_LINE = re.compile(rb"\r\n(?:\r\n?|\n)|\n(?:\r\n?|\n)|\r\r\n?")
LINE_END = re.compile(rb"\r\n|\n|\r")


def parse(event: bytes) -> tuple[bytes, bytes | None]:
    """Name (b"" when it has none) and data (None when it has none) of one event; trailing line ends don't matter."""
    if event.startswith(b"data: ") and b"\r" not in event:
        line_end = event.find(b"\n")
        if line_end < 0 or not event[line_end:].strip(b"\n"):
            return b"", event[6 : line_end if line_end >= 0 else len(event)]
    name, data = b"", None
    event = event.removeprefix(BOM)
    for line in LINE_END.split(event):
        field, _, value = line.partition(b":")
        if value.startswith(b" "):
            value = value[1:]
        if field == b"data":
            data = value if data is None else data + b"\n" + value
        elif field == b"event":
            name = value
    return name, data


class Cutter:
    """Cuts a stream into events, however it arrives. What is held is less than one event; `held` tells how much."""

    __slots__ = ("_held", "_searched")

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = 0

    @property
    def held(self) -> int:
        """Bytes of an event whose end has not come."""
        return len(self._held)

    def cut(self, data: bytes) -> list[bytes]:
        """The events that are whole now, in order, each with its blank line."""
        if not self._held:
            if data.find(b"\r") < 0:  # not `in`: see references.hides_names
                if data.endswith(b"\n\n"):
                    if data.find(b"\n\n") == len(data) - 2:
                        return [data]
                    return [piece + b"\n\n" for piece in data[:-2].split(b"\n\n")]
            elif not data:
                return []
        return self._cut(data)

    def _cut(self, data: bytes) -> list[bytes]:
        held = self._held
        held += data
        events: list[bytes] = []
        start, position = 0, max(self._searched - 3, 0)
        while True:
            found = BLANK_LINE.search(held, position)
            if found is None:
                break
            events.append(bytes(held[start : found.end()]))
            start = position = found.end()
        del held[:start]
        self._searched = len(held)
        return events

    def take(self) -> bytes:
        """What is held, which is held no more."""
        data = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return data
