"""Splicing: asking for a stream's usage on the client's behalf, and taking what that added out of the answer again.

`add_include_usage` changes a request by exactly one member, found by structure in its raw bytes; everything else stays as
the client wrote it. `UsageStripper` gives the client, byte for byte, the stream that it would have got: without the last
chunk, whose `choices` is empty and which carries the usage, and without the `"usage":null` of all other chunks.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from proxy.core import sse
from proxy.core.call import Call
from proxy.core.chunks import NULL_USAGE, ChunkMeter
from proxy.core.longevent import LongEvent
from proxy.core.members import Member, members, space_end
from proxy.core.streams import EVENT_BYTES_MAX

TAIL_BYTES: Final = 1_024
_PADDING: Final = b',"obfuscation":"'
_DATA: Final = re.compile(rb"(?:\A|[\r\n])(?:\xef\xbb\xbf)?data:")
_COMMENT: Final = re.compile(rb"(?<![^\r\n]):[^\r\n]*+(?:\r\n|\n|\r)")
_CHOICES_EMPTY: Final = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_NULL_AT_END: Final = re.compile(rb',"usage":null(?=(?:,"obfuscation":"[^"\\{}]*")?\}(?:\r\n\r\n|\n\n)\Z)')


def add_include_usage(body: bytes, light: bytes | None = None) -> bytes | None:
    """The body of a streamed chat or completions request with `stream_options.include_usage` set. `light`: what lightbody.py left of it.

    None when it must stay as it is: not a streamed request, already asking, not understood, or holding one of the names in
    question twice, since readers differ on which of the two counts.
    """
    if _is_plain(body if light is None else light):
        start = space_end(body, body.find(b"{") + 1)
        return b'%b"stream_options":{"include_usage":true},%b' % (body[:start], body[start:])
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


def _is_plain(body: bytes) -> bool:
    """What most clients send: a streamed request without options. Both names are searched for in the bytes, where none can
    hide when nothing is written as an escape; so the parser's answer is about the one `"stream"` there is. Hot path.
    """
    if b"stream_options" in body or body.count(b'"stream"') != 1 or b"\\u" in body:
        return False
    try:
        tree = orjson.loads(body)
    except ValueError:
        return False
    return type(tree) is dict and tree.get("stream") is True


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

    An event is decided when it is whole, and passes at once; what is held is less than one event. Of an event too long to be
    held only the last TAIL_BYTES are: the added member stands at the end of OpenAI's chunks.
    """

    __slots__ = ("_drop_newline", "_tail")

    strips = True

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._drop_newline = False
        """The event taken out ended in CR; an LF that follows belongs to it."""
        self._tail = b""
        """The last bytes of a long event so far."""

    def feed(self, data: bytes) -> None:
        """Meter bytes of which the client sees nothing."""
        self.feed_through(data)

    def feed_through(self, data: bytes) -> bytes:
        """Meter the bytes, and return those the client may see now. Hot path: one event like the one before."""
        if self._idle and (text := self._alike(data)) is not None:
            self._tally.wrote(text)
            return self._without_null(data, text)
        return b"".join(self._through(data))

    def flush(self) -> bytes:
        """What is left when the stream is over: an event without its blank line, unless it was becoming the added one."""
        if self._long is not None:
            self._end_long()
            return self._tail
        if not self._cutter.held:
            return b""
        event = self._cutter.take()
        self._event(event)
        if _CHOICES_EMPTY.search(event) and members(event, space_end(event, _data_start(event))) is None:
            return b""
        return self._strip(event)

    def _through(self, data: bytes) -> list[bytes]:
        out: list[bytes] = []
        if self._drop_newline and data:
            self._drop_newline = False
            data = data.removeprefix(b"\n")
        if self._long is not None:
            rest = self._long.feed(data)
            if rest is None:
                return self._pass_long(data)
            self._end_long()
            out += [_strip_tail(self._tail + data[: len(data) - len(rest)])]
            data = rest
        for event in self._cutter.cut(data):
            if (text := self._alike(event)) is not None:
                self._tally.wrote(text)
                out.append(self._without_null(event, text))
            elif len(event) <= EVENT_BYTES_MAX:
                self._event(event)
                out.append(self._strip(event))
            else:
                self._long = LongEvent()
                self._long.feed(event)
                self._end_long()
                out.append(_strip_tail(event))
        self._idle = not self._cutter.held
        if self._cutter.held > EVENT_BYTES_MAX:
            held = self._cutter.take()
            self._long, self._tail = LongEvent(), b""
            self._long.feed(held)
            out += self._pass_long(held)
        return out

    def _without_null(self, event: bytes, text: bytes) -> bytes:
        """An event like the learned one, whose text is given."""
        if self._null_at < 0:
            return event
        at = self._start + len(text) + 1 + self._null_at
        return event[:at] + event[at + len(NULL_USAGE) :]

    def _pass_long(self, data: bytes) -> list[bytes]:
        data = self._tail + data
        self._tail = data[-TAIL_BYTES:]
        return [data[:-TAIL_BYTES]]

    def _strip(self, event: bytes) -> bytes:
        at = event.find(NULL_USAGE)
        if at >= 0:
            rest = event[at + len(NULL_USAGE) :]
            # What stands before the last brace of the data is a member of the chunk itself.
            if event.startswith(b"data:") and (rest == b"}\n\n" or _is_padding(rest)):
                return event[:at] + rest
        elif event.find(b"usage") < 0:
            return event
        return self._strip_by_structure(event)

    def _strip_by_structure(self, event: bytes) -> bytes:
        """Any order, any white space, any line ends. Data over several lines is left as it is, unless it is the added chunk."""
        start = space_end(event, _data_start(event))
        found = members(event, start)
        if found is not None:
            for place, member in enumerate(found[0]):
                if member.name == "usage" and event[member.value : member.end] == b"null":
                    return _without(event, found[0], place)
        if _is_added(event):
            self._drop_newline = event.endswith(b"\r")
            # Line ends before it belong to the event before it.
            return event[: len(event) - len(event.lstrip(b"\r\n"))] + b"".join(_COMMENT.findall(event))
        return event


def _is_padding(rest: bytes) -> bool:
    """`,"obfuscation":"…"}` and the blank line."""
    return (
        rest.startswith(_PADDING)
        and rest.find(b'"', len(_PADDING)) == len(rest) - 4
        and rest.endswith(b"}\n\n")
    )


def _is_added(event: bytes) -> bool:
    """The chunk that only a request for usage brings: no choices, and the usage."""
    _, data = sse.parse(event)
    try:
        tree = orjson.loads(data or b"")
    except ValueError:
        return False
    return isinstance(tree, dict) and tree.get("choices") == [] and isinstance(tree.get("usage"), dict)


def _data_start(event: bytes) -> int:
    """Where the data of an event begins; its end when it has none."""
    found = _DATA.search(event)
    return found.end() if found else len(event)


def _strip_tail(end: bytes) -> bytes:
    """The last bytes of a long event without its null usage."""
    found = _NULL_AT_END.search(end, max(0, len(end) - TAIL_BYTES))
    return end if found is None else end[: found.start()] + end[found.start() + len(NULL_USAGE) :]


def _without(event: bytes, found: list[Member], place: int) -> bytes:
    """The event without one member: with the comma before it, or, for the first, with the comma after it."""
    if place > 0:
        comma = event.rfind(b",", found[place - 1].end, found[place].start)
        return event[:comma] + event[found[place].end :]
    if len(found) == 1:
        return event[: found[0].start] + event[found[0].end :]
    return event[: found[0].start] + event[found[1].start :]
