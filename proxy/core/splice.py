"""Splicing: asking for a stream's usage on the client's behalf, and taking what that added out of the answer again.

`add_include_usage` changes a request by exactly one member, found by structure in its raw bytes; everything else stays as
the client wrote it. `UsageStripper` gives the client, byte for byte, the stream that it would have got: without the last
chunk, whose `choices` is empty and which carries the usage, and without the `"usage":null` of all other chunks.
"""

from __future__ import annotations

import re

import orjson

from proxy.core import sse
from proxy.core.call import Call
from proxy.core.members import Member, members, space_end
from proxy.core.streams import ChunkMeter

HELD_BYTES_MAX = 8 * 2**20
"""An event that grows beyond this is passed on as it comes: no chunk of usage is so long, nor any chunk OpenAI sends."""
_NULL_USAGE = b',"usage":null'
_OBFUSCATION = re.compile(rb',"obfuscation":"[^"\\{}]*"\}(?:\r\n\r\n|\n\n)')


def add_include_usage(body: bytes) -> bytes | None:
    """The body of a streamed chat or completions request with `stream_options.include_usage` set.

    None when it must stay as it is: not a streamed request, already asking, not understood, or holding one of the names in
    question twice, since readers differ on which of the two counts.
    """
    found = members(body, space_end(body, 0))
    if found is None:
        return None
    if body[space_end(body, found[1]) :]:
        return None
    stream, options = _only(found[0], "stream"), _only(found[0], "stream_options")
    if not isinstance(stream, Member) or body[stream.value : stream.end] != b"true":
        return None
    if options is None:
        start = found[0][0].start
        return b'%b"stream_options":{"include_usage":true},%b' % (body[:start], body[start:])
    if not isinstance(options, Member):
        return None
    if body[options.value : options.end] == b"null":
        return b'%b{"include_usage":true}%b' % (body[: options.value], body[options.end :])
    return _add_to_options(body, options.value)


def _add_to_options(body: bytes, start: int) -> bytes | None:
    inside = members(body, start)
    if inside is None:
        return None
    asked = _only(inside[0], "include_usage")
    if asked is None:
        if not inside[0]:
            return b'%b"include_usage":true%b' % (body[: start + 1], body[start + 1 :])
        first = inside[0][0].start
        return b'%b"include_usage":true,%b' % (body[:first], body[first:])
    if isinstance(asked, Member) and body[asked.value : asked.end] in {b"false", b"null"}:
        return b"%btrue%b" % (body[: asked.value], body[asked.end :])
    return None


def _only(found: list[Member], name: str) -> Member | list[Member] | None:
    """The one member of that name, None without one, a list when there are several."""
    named = [member for member in found if member.name == name]
    return named[0] if len(named) == 1 else named or None


class UsageStripper(ChunkMeter):
    """The meter of a spliced stream: reads the usage, and returns what the client may see.

    An event is decided when it is whole, and passes at once; what is held is less than one event.
    """

    __slots__ = ("_drop_newline", "_passing", "_visible")

    strips = True

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._visible = sse.Cutter()
        self._passing = False
        """In the middle of an event too long to be held."""
        self._drop_newline = False
        """The event taken out ended in CR; an LF that follows belongs to it."""

    def feed_through(self, data: bytes) -> bytes:
        """Meter the bytes, and return those the client may see now. Hot path: one whole ordinary event."""
        self.feed(data)
        if self._passing:
            return self._pass(data)
        if self._drop_newline and data:
            self._drop_newline = False
            data = data.removeprefix(b"\n")
        events = self._visible.cut(data)
        if len(events) == 1:
            out = self._strip(events[0])
        else:
            out = b"".join([self._strip(event) for event in events])
        if self._visible.held > HELD_BYTES_MAX:
            self._passing = True
            out += self._visible.take()
        return out

    def flush(self) -> bytes:
        """What is left when the stream is over: an event without its blank line, unless it is what was added."""
        return self._strip(self._visible.take()) if self._visible.held else b""

    def _pass(self, data: bytes) -> bytes:
        found = sse.BLANK_LINE.search(data)
        if found is None:
            return data
        self._passing = False
        return data[: found.end()] + self.feed_rest(data[found.end() :])

    def feed_rest(self, data: bytes) -> bytes:
        """What follows a long event: its bytes were metered already."""
        return b"".join([self._strip(event) for event in self._visible.cut(data)])

    def _strip(self, event: bytes) -> bytes:
        at = event.find(_NULL_USAGE)
        if at >= 0:
            rest = event[at + len(_NULL_USAGE) :]
            # What stands before the last brace of the data is a member of the chunk itself.
            if rest == b"}\n\n" or _OBFUSCATION.fullmatch(rest):
                return event[:at] + rest
        elif event.find(b"usage") < 0:
            return event
        return self._strip_by_structure(event)

    def _strip_by_structure(self, event: bytes) -> bytes:
        """Any order, any white space, any line ends; data over several lines is left as it is."""
        start = event.find(b"data:")
        if start < 0:
            return event
        start = space_end(event, start + 5)
        found = members(event, start)
        if found is None:
            return self._strip_cut(event)
        for place, member in enumerate(found[0]):
            if member.name != "usage":
                continue
            if event[member.value : member.end] == b"null":
                return _without(event, found[0], place)
            if self._is_added(event[start : found[1]]):
                self._drop_newline = event.endswith(b"\r")
                return b""
        return event

    def _is_added(self, data: bytes) -> bool:
        try:
            tree = orjson.loads(data)
        except ValueError:
            return False
        return isinstance(tree, dict) and tree.get("choices") == [] and isinstance(tree.get("usage"), dict)

    def _strip_cut(self, event: bytes) -> bytes:
        """An event that broke off at the end of the stream: dropped when it was becoming the added chunk."""
        return b"" if b'"choices":[]' in event or b'"choices": []' in event else event


def _without(event: bytes, found: list[Member], place: int) -> bytes:
    """The event without one member: with the comma before it, or, for the first, with the comma after it."""
    if place > 0:
        comma = event.rfind(b",", found[place - 1].end, found[place].start)
        return event[:comma] + event[found[place].end :]
    if len(found) == 1:
        return event[: found[0].start] + event[found[0].end :]
    return event[: found[0].start] + event[found[1].start :]
