"""A sieve for JSON of any size: keeps the few members that metering reads, skips the rest, in bounded memory.

`feed` takes the text in any pieces; `result` is what `json.loads` would have made of it, without the members whose names
are not wanted. A wanted member is one whose name, and every name above it, is in the given set. Values of other members are
skipped at the speed of a regular expression, whatever their size, and strings inside strings mean nothing: only structure
counts. It is lenient where leniency can't change what is read: a byte order mark, bytes that are not UTF-8 and lone
surrogates pass, and so do numbers of any size; one that no float holds is None. Where the text is not JSON in structure,
the result is None.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from proxy.core.tokens import unescape

DEPTH_MAX = 64
"""Levels of wanted containers; deeper ones are skipped."""
ITEMS_MAX = 20_000
"""Kept elements of all arrays together; further ones are skipped."""
STRING_BYTES_MAX = 4_096
"""A wanted string longer than this is kept as ""; a name longer than this is an unwanted one."""
_SCALAR_BYTES_MAX = 8_192
"""Longer numbers are none: Python's own parser, the most lenient one known, stops at 4,300 digits."""
_MARK = b"\xef\xbb\xbf"

_SPACE = re.compile(rb"[ \t\r\n]*+")
# The groups are bounded because the engine remembers each turn of them.
_STRING_BODY = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+){0,256}', re.DOTALL)
_STRING_WINDOW: Final = 65_536
"""So far a string's end is looked for at once: to look further again and again for one with many escapes would take too long."""
_SCALAR = re.compile(rb"[-+.0-9A-Za-z]++")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
# What is long, a picture or the numbers of an embedding, is left to searches for single bytes, which take a tenth of the time.
_BRACKET = re.compile(rb'[^"{}\[\]]{0,128}+(?:"[^"\\]{0,256}+"[^"{}\[\]]{0,128}+){0,256}')
_FLAT_WINDOW: Final = 4_096
_OPEN, _CLOSE = b"{[", b"}]"
_STRUCTURE: Final = (b"]", b'"', b"[", b"}", b"{")
_VALUE, _NAME, _FIRST_NAME, _COLON, _AFTER, _FIRST_VALUE, _DONE, _BAD = range(8)
_SKIPPED = object()


def reduce(text: bytes, keep: frozenset[str]) -> Any | None:
    """What the sieve makes of a whole text; None when it is no JSON."""
    sieve = Sieve(keep)
    sieve.feed(text)
    return sieve.result()


class Sieve:
    """Incremental; its memory is bounded by the wanted members, whatever passes through."""

    __slots__ = (
        "_begun",
        "_collect",
        "_containers",
        "_held",
        "_items",
        "_keep",
        "_name",
        "_names",
        "_skip",
        "_state",
        "_string",
        "_value",
    )

    def __init__(self, keep: frozenset[str]) -> None:
        self._keep = keep
        self._state = _VALUE
        self._value: Any = None
        self._containers: list[dict[str, Any] | list[Any]] = []
        self._names: list[str] = []
        """The name each open container has in the one above it; "" in an array."""
        self._name: str | None = None
        """Name of the member whose value comes; None: not wanted."""
        self._skip = 0
        """Open brackets of a container that is being skipped."""
        self._string = False
        """Inside a string whose end has not come."""
        self._collect: bytearray | None = None
        """Raw content of the string, while it is wanted and short enough."""
        self._held = b""
        """A scalar or an escape that the last piece may have cut."""
        self._items = 0
        self._begun = False
        """What came is more than the beginning of a byte order mark."""

    @property
    def done(self) -> bool:
        """The top-level value is complete (or can never be)."""
        return self._state in {_DONE, _BAD}

    def result(self) -> Any | None:
        """The reduced value; None unless it came whole."""
        if self._held and self._state == _VALUE and not self._string and not self._containers:
            self._scalar(self._held)
            self._held = b""
        return self._value if self._state == _DONE else None

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if self._held:
            data, self._held = self._held + data, b""
        position, end = 0, len(data)
        if not self._begun:
            if end < len(_MARK) and _MARK.startswith(data):
                self._held = data
                return
            self._begun = True
            position = len(_MARK) if data.startswith(_MARK) else 0
        while position < end and self._state < _DONE:
            if self._string:
                position = self._string_on(data, position)
            elif self._skip:
                position = self._skip_on(data, position)
            else:
                position = self._step(data, position)

    def _skip_on(self, data: bytes, position: int) -> int:
        """Go on through a skipped container; whole strings and flat runs pass in one match."""
        found = _BRACKET.match(data, position)
        position = found.end() if found else position
        if position == len(data):
            return position
        byte = data[position]
        if byte == 0x22:
            self._string, self._collect = True, None
        elif byte in _OPEN:
            self._skip += 1
        elif byte in _CLOSE:
            self._skip -= 1
            if not self._skip:
                self._end_value(_SKIPPED)
        else:
            return _end_of_flat(data, position)
        return position + 1

    def _string_on(self, data: bytes, position: int) -> int:
        """Go on through a string to its closing quote or the end of the piece."""
        end = min(len(data), position + _STRING_WINDOW)
        stop = data.find(b'"', position, end)
        closed = stop >= 0
        if not closed:
            stop = end
        if data.find(b"\\", position, stop) >= 0:
            found = _STRING_BODY.match(data, position)
            stop = found.end() if found else position
            closed = stop < len(data)
        collect = self._collect
        if not closed:
            if collect is not None:
                self._gather(collect, data[position:stop])
            return stop
        if data[stop] == 0x5C:
            if stop + 1 == len(data):
                if collect is not None:
                    self._gather(collect, data[position:stop])
                self._held = b"\\"
                return stop + 1
            if collect is not None:
                self._gather(collect, data[position : stop + 2])
            return stop + 2
        if collect is not None:
            self._gather(collect, data[position:stop])
        self._string = False
        if self._skip:
            return stop + 1
        text = None if self._collect is None else unescape(bytes(self._collect))
        self._collect = None
        if self._state in {_NAME, _FIRST_NAME}:
            self._name = text if text is not None and text in self._keep else None
            self._state = _COLON
        else:
            self._end_value("" if text is None else text)
        return stop + 1

    def _gather(self, collect: bytearray, piece: bytes) -> None:
        if len(collect) + len(piece) > STRING_BYTES_MAX:
            self._collect = None
        else:
            collect += piece

    def _step(self, data: bytes, position: int) -> int:
        """One token outside of strings and skipped containers."""
        found = _SPACE.match(data, position)
        position = found.end() if found else position
        if position == len(data):
            return position
        byte, state = data[position], self._state
        if byte == 0x22:
            if state in {_VALUE, _FIRST_VALUE}:
                self._collect = bytearray() if self._wanted() else None
            elif state in {_NAME, _FIRST_NAME}:
                self._collect = bytearray()
            else:
                self._state = _BAD
                return position
            self._string = True
            return position + 1
        if state == _COLON:
            self._state = _VALUE if byte == 0x3A else _BAD
            return position + 1
        if byte == 0x2C:
            self._state = self._next_in_container() if state == _AFTER else _BAD
            return position + 1
        if byte in _CLOSE:
            self._close(byte)
            return position + 1
        if state not in {_VALUE, _FIRST_VALUE}:
            self._state = _BAD
            return position
        if byte in _OPEN:
            self._open(byte)
            return position + 1
        scalar = _SCALAR.match(data, position)
        if scalar is None or scalar.end() - position > _SCALAR_BYTES_MAX:
            self._state = _BAD
            return position
        if scalar.end() == len(data):
            self._held = data[position:]
            return len(data)
        self._scalar(scalar[0])
        return scalar.end()

    def _wanted(self) -> bool:
        """The value that comes is to be kept."""
        if not self._containers:
            return True
        if type(self._containers[-1]) is dict:
            return self._name is not None
        return self._items < ITEMS_MAX

    def _open(self, byte: int) -> None:
        if not self._wanted() or len(self._containers) >= DEPTH_MAX:
            self._skip = 1
            return
        self._names.append(self._name or "")
        self._containers.append({} if byte == 0x7B else [])
        self._state = _FIRST_NAME if byte == 0x7B else _FIRST_VALUE

    def _close(self, byte: int) -> None:
        opened = self._containers[-1] if self._containers else None
        expected: tuple[int, ...] = (_AFTER, _FIRST_NAME) if byte == 0x7D else (_AFTER, _FIRST_VALUE)
        if opened is None or (type(opened) is dict) != (byte == 0x7D) or self._state not in expected:
            self._state = _BAD
            return
        self._containers.pop()
        self._name = self._names.pop() or None
        self._end_value(opened)

    def _next_in_container(self) -> int:
        if not self._containers:
            return _BAD
        return _NAME if type(self._containers[-1]) is dict else _VALUE

    def _scalar(self, raw: bytes) -> None:
        if raw in _LITERALS:
            self._end_value(_LITERALS[raw])
        elif _NUMBER.fullmatch(raw):
            self._end_value(_number(raw))
        else:
            self._state = _BAD

    def _end_value(self, value: Any) -> None:
        if not self._containers:
            self._value = None if value is _SKIPPED else value
            self._state = _DONE
            return
        self._state = _AFTER
        container = self._containers[-1]
        if type(container) is dict:
            if self._name is not None and value is not _SKIPPED:
                container[self._name] = value
        elif type(container) is list and value is not _SKIPPED and self._items < ITEMS_MAX:
            self._items += 1
            container.append(value)


def _end_of_flat(data: bytes, position: int) -> int:
    """Where the next quote or bracket is, or how far there is none."""
    end = min(len(data), position + _FLAT_WINDOW)
    for byte in _STRUCTURE:
        found = data.find(byte, position, end)
        if found >= 0:
            end = found
    return end


def _number(raw: bytes) -> int | float | None:
    try:
        value: int | float = orjson.loads(raw)
    except ValueError:
        return None
    return value


_LITERALS = {
    b"true": True,
    b"false": False,
    b"null": None,
    b"NaN": None,
    b"Infinity": None,
    b"-Infinity": None,
}
