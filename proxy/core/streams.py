"""Meters: what they all promise, and what the meters of event streams share.

In JSON a quote inside a string is always escaped, so `"usage"` with its bare quotes is a name in the structure or a whole
string value, never a piece of text that a model wrote. Byte searches only say which events to parse; what is read is what the
parsed structure says.
"""

from __future__ import annotations

import orjson

from proxy.core import readers, sse
from proxy.core.call import Call
from proxy.core.longevent import LongEvent
from proxy.core.sieve import reduce
from proxy.core.tally import Tally
from proxy.core.usage import Reading

EVENT_BYTES_MAX = 2**20
"""Events up to this size are held and parsed whole; longer ones go through the sieve as they come."""


class Meter:
    """Watches one answer. `feed` every byte of its body, then `finish` once. Nothing raises; how the bytes are cut is nothing."""

    __slots__ = ("_call", "_tally")

    strips = False
    """`feed_through` may return less than it was given."""

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        self._call = call
        self._tally = Tally(keep_text)

    def feed(self, data: bytes) -> None:
        """The next bytes of the body, as they came on the wire."""

    def feed_through(self, data: bytes) -> bytes:
        """Feed, and say what the client may see of it."""
        self.feed(data)
        return data

    def flush(self) -> bytes:
        """What the client may still see at the end of the body."""
        return b""

    def finish(self, complete: bool) -> Reading:
        """What was read. `complete`: the body came to the end that its framing promised."""
        del complete
        return self._tally.reading()


class StreamMeter(Meter):
    """Cuts the stream into events, gives them to `_event`, and reads those too long to be held."""

    __slots__ = ("_cutter", "_idle", "_long")

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._cutter = sse.Cutter()
        self._long: LongEvent | None = None
        self._idle = True
        """Between two events."""

    def feed(self, data: bytes) -> None:
        """The next bytes of the stream."""
        if self._long is not None:
            rest = self._long.feed(data)
            if rest is None:
                return
            self._end_long()
            data = rest
        for event in self._cutter.cut(data):
            if len(event) <= EVENT_BYTES_MAX:
                self._event(event)
            else:
                self._long = LongEvent()
                self._long.feed(event)
                self._end_long()
        held = self._cutter.held
        if held > EVENT_BYTES_MAX:
            self._long = LongEvent()
            self._long.feed(self._cutter.take())
        self._idle = not held

    def finish(self, complete: bool) -> Reading:
        """An event without its blank line counts when its data is whole: nothing of it is missing but the line end."""
        if self._long is not None:
            self._end_long()
        elif self._cutter.held:
            self._event(self._cutter.take())
        self._idle = False
        self._end(complete)
        return self._tally.reading()

    def _end_long(self) -> None:
        ended, self._long = self._long, None
        if ended is not None:
            name, tree = ended.end()
            if isinstance(tree, dict):
                self._read(name, tree)

    def _look(self, event: bytes) -> None:
        """Parse an event and read it."""
        name, data = sse.parse(event)
        if not data:
            return
        if data.startswith(b"[DONE]"):
            self._tally.complete = True
            return
        try:
            tree = orjson.loads(data)
        except ValueError:
            tree = reduce(data, readers.KEEP)
        if isinstance(tree, dict):
            self._read(name, tree)

    def _event(self, event: bytes) -> None:
        """One event, whole but for the last of a stream that broke off."""
        raise NotImplementedError

    def _read(self, name: bytes, tree: dict[str, object]) -> None:
        """Read one event's data; `name` is what its `event:` line says."""
        raise NotImplementedError

    def _end(self, complete: bool) -> None:
        """The stream is over."""
        raise NotImplementedError


def string_end(text: bytes, start: int) -> int:
    """Where the JSON string whose inside begins at `start` has its closing quote; -1 when it is cut."""
    end = text.find(b'"', start)
    while end > start and text[end - 1] == 0x5C:
        before = end - 1
        while before >= start and text[before] == 0x5C:
            before -= 1
        if (end - before) % 2:
            break
        end = text.find(b'"', end + 1)
    return end
