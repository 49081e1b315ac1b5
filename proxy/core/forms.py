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

_DISPOSITION = re.compile(rb"\ncontent-disposition[ \t]*:([^\r\n]*)", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*([^=;"\s]{1,64})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))')
_FILENAME = frozenset({b"filename", b"filename*"})


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
        is_form = b"multipart/" in content_type.lower()
        said = _PARAMETER.findall(content_type) if is_form else ()
        named = [quoted or plain for name, quoted, plain in said if name.lower() == b"boundary"]
        boundary = named[0] if len(named) == 1 and len(named[0]) <= BOUNDARY_BYTES_MAX else b""
        self.usable = bool(boundary)
        self._delimiter = b"\r\n--" + boundary
        self._held = b"\r\n"
        self._state = "preamble"
        self._name: str | None = None
        self._parts = PARTS_MAX if is_form and not boundary else 0
        self.fields: dict[str, str] = {}
        """Text fields seen whole so far, at most FIELDS_MAX of at most VALUE_BYTES_MAX bytes. A name that came with two different values has
        the value "", since readers differ on which of them counts."""

    @property
    def overfull(self) -> bool:
        """There may be parts that were not read: too many, or written so that it is not known what they are."""
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
        found = _DISPOSITION.findall(b"\n" + data[position:end])
        parameters = _PARAMETER.findall(found[0]) if found else []
        said = [(name.lower(), quoted or plain) for name, quoted, plain in parameters]
        names = [value for name, value in said if name == b"name"]
        if len(found) > 1 or len(names) > 1:
            # Readers differ on which of them counts: from here on nothing is known of this form.
            self.fields.clear()
            self._parts, self._state, self._held = PARTS_MAX, "end", b""
            return None
        self._name = None
        self._state = "file"
        if names and not any(name in _FILENAME for name, _ in said):
            self._name = names[0].decode("utf-8", "replace")
            self._state = "field"
        return end + 4

    def _keep(self, name: str, value: bytes) -> None:
        text = value.decode("utf-8", "replace")
        if self.fields.get(name, text) != text:
            self.fields[name] = ""
        elif len(self.fields) < FIELDS_MAX:
            self.fields[name] = text
