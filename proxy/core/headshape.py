"""Shapes: heads of answers that have the same lines as one before, by name and in order, whatever these lines say.

An upstream answers with few different heads; what differs from one to the next are a date, an id, what is left of a limit. The
first head of a kind is searched for the lines that matter, and a pattern made of it: a head that matches has exactly these
lines, so that nothing is left to search for. With 14 lines a head takes 22,000 instructions so, and 47,000 when it is searched.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.core.framing import DROPPED, HEAD_MAX_BYTES, ResponseHead, keeps_alive, parse_head

SHAPES_MAX: Final = 4
"""Of one upstream: whole answers, streams, errors. The one that was not met for longest gives way to a new one."""
LEARNED_MAX: Final = 64
"""Making a pattern takes a millisecond: an upstream whose heads never repeat is not learned from for longer than this."""
LINES_MAX: Final = 64
_LINE: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*")


class Shape:
    """One kind of head."""

    __slots__ = ("_before", "_match", "_names", "_plain", "_status")

    def __init__(self, head: ResponseHead, lines: list[bytes]) -> None:
        """`lines` are those of `head` behind its status line; the noted ones all have different names."""
        self._names = tuple(head.fields)
        self._plain = DROPPED.isdisjoint(head.fields)
        self._status = head.status
        pattern = [re.escape(head.raw[: head.raw.index(b"\r\n")])]
        before = []
        for line in lines:
            name, _, value = line.partition(b":")
            if name.lower() not in head.fields:
                # A bare LF is nothing here. To look for it as well would cost five times as much.
                pattern.append(re.escape(name) + rb":[^\r]*+")
                continue
            begin = line[: len(line) - len(value.lstrip(b" \t"))]
            before.append(len(begin))
            # Between other blanks, or with a bare LF, a value is left to the search.
            pattern.append(re.escape(begin) + rb"(?![ \t])([^\r\n]*+)(?<![ \t])")
        self._before = tuple(before)
        self._match = re.compile(rb"\r\n".join(pattern) + rb"\r\n\r\n").match

    def read(self, buffer: bytes) -> tuple[ResponseHead, int] | None:
        """As `parse_head` reads it; None: it is another kind of head, or not whole. Hot path."""
        found = self._match(buffer, 0, HEAD_MAX_BYTES)
        if found is None:
            return None
        end, names = found.end(), self._names
        fields = dict(zip(names, found.groups(), strict=True))
        connection = fields.get(b"connection")
        head = ResponseHead(
            buffer[: end - 2],
            self._status,
            False,
            fields,
            (found, self._before),
            connection is None or keeps_alive(connection),
            self._plain,
        )
        return head, end


class Shapes:
    """The kinds of heads that an upstream answers with, the last one first."""

    __slots__ = ("_left", "_shapes")

    def __init__(self) -> None:
        self._shapes: list[Shape] = []
        self._left = LEARNED_MAX

    def read(self, buffer: bytes) -> tuple[ResponseHead, int] | None:
        """`parse_head`, for an upstream that this remembers. Raises FramingError. Hot path."""
        shapes = self._shapes
        for shape in shapes:
            read = shape.read(buffer)
            if read is not None:
                if shape is not shapes[0]:
                    shapes.remove(shape)
                    shapes.insert(0, shape)
                return read
        parsed = parse_head(buffer)
        if parsed is not None and self._left:
            self._learn(parsed[0])
        return parsed

    def _learn(self, head: ResponseHead) -> None:
        """Remember a final answer's head in which every line is plain, and none that matters is there twice."""
        lines = head.raw.split(b"\r\n")[1:-1]
        names = {line[: line.find(b":")].lower() for line in lines}
        if (
            head.status >= 200
            and not head.http_1_0
            and isinstance(head.noted, list)
            and len(head.noted) == len(head.fields)
            and names.issuperset(head.fields)
            and len(lines) <= LINES_MAX
            and all(_LINE.fullmatch(line) for line in lines)
        ):
            self._left -= 1
            del self._shapes[SHAPES_MAX - 1 :]
            self._shapes.insert(0, Shape(head, lines))
