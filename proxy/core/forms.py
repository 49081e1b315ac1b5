"""multipart/form-data, as far as metering needs it: the short text fields, out of a body that may be huge and streamed.

Files pass unread. RFC 7578 and RFC 2046, 5.1.
"""

from __future__ import annotations

import re

FIELDS_MAX = 64
PARTS_MAX = 10_000
"""More than any server takes (ten times what Python's usual ones do); what is behind them is not read."""
VALUE_BYTES_MAX = 1_024
HEAD_BYTES_MAX = 8_192
BOUNDARY_BYTES_MAX = 200

_BOUNDARY = re.compile(rb'boundary=(?:"([^"]{1,200})"|([^\s;,"]{1,200}))', re.IGNORECASE)
_NAME = re.compile(rb'[;\s]name=(?:"((?:[^"\\]|\\.)*)"|([^\s;]+))', re.IGNORECASE)
_FILENAME = re.compile(rb"[;\s]filename\*?=", re.IGNORECASE)


def read_form(body: bytes, content_type: bytes) -> dict[str, str] | None:
    """The short text fields of a whole form; None when it has no boundary."""
    reader = FormReader(content_type)
    if not reader.usable:
        return None
    reader.feed(body)
    return reader.fields


class FormReader:
    """Watches a form as it is uploaded. Memory is bounded by the fields it keeps; never raises."""

    __slots__ = ("_delimiter", "_held", "_name", "_parts", "_state", "fields", "usable")

    def __init__(self, content_type: bytes) -> None:
        found = _BOUNDARY.search(content_type) if b"multipart/" in content_type.lower() else None
        self.usable = found is not None
        self._delimiter = b"\r\n--" + (found[1] or found[2]) if found else b""
        self._held = b"\r\n"
        self._state = "preamble"
        self._name: str | None = None
        self._parts = 0
        self.fields: dict[str, str] = {}
        """Text fields seen whole so far, at most FIELDS_MAX of at most VALUE_BYTES_MAX bytes; the first of a name stays."""

    @property
    def overfull(self) -> bool:
        """There are as many parts as are read; nobody knows of more."""
        return self._parts >= PARTS_MAX

    def feed(self, data: bytes) -> None:
        """Take the next piece of the body."""
        if not self.usable or self._state == "end":
            return
        data = self._held + data
        position = 0
        while True:
            moved = self._step(data, position)
            if moved is None:
                return
            position = moved

    def _step(self, data: bytes, position: int) -> int | None:
        """One state forward: the new position, or None when more bytes are needed."""
        if self._state == "head":
            return self._head(data, position)
        at = data.find(self._delimiter, position)
        if at < 0:
            keep = len(self._delimiter) - 1
            if self._state == "field":
                keep = max(keep, min(len(data) - position, VALUE_BYTES_MAX + len(self._delimiter)))
                if len(data) - position > VALUE_BYTES_MAX + len(self._delimiter):
                    self._state = "file"
                    keep = len(self._delimiter) - 1
            self._held = data[max(position, len(data) - keep) :]
            return None
        if self._state == "field" and self._name is not None and at - position <= VALUE_BYTES_MAX:
            self._keep(self._name, data[position:at])
        after = at + len(self._delimiter)
        if len(data) < after + 2:
            self._state = "preamble" if self._state == "preamble" else "file"
            self._held = data[at:]
            return None
        if data.startswith(b"--", after) or self.overfull:
            self._state, self._held = "end", b""
            return None
        self._parts += 1
        self._state = "head"
        return after

    def _head(self, data: bytes, position: int) -> int | None:
        end = data.find(b"\r\n\r\n", position)
        if end < 0:
            if len(data) - position > HEAD_BYTES_MAX:
                self._state = "file"
                return position
            self._held = data[position:]
            return None
        head = data[position:end]
        name = _NAME.search(head)
        self._name = None
        self._state = "file"
        if name is not None and not _FILENAME.search(head):
            self._name = (name[1] if name[1] is not None else name[2]).decode("utf-8", "replace")
            self._state = "field"
        return end + 4

    def _keep(self, name: str, value: bytes) -> None:
        if len(self.fields) < FIELDS_MAX and name not in self.fields:
            self.fields[name] = value.decode("utf-8", "replace")
