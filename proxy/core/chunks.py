"""Meter of chunk streams: chat completions and completions, which send one kind of object again and again, ended by `[DONE]`.

An event is parsed when it has a usage that is not null, or lacks the `"finish_reason":null` of every ordinary chunk. Most
chunks don't even cost that search: an event that equals an earlier ordinary one in all but the text of its delta (and of its
padding) can't say anything new, so it is compared with that one's beginning and end.
"""

from __future__ import annotations

from typing import Final

from proxy.core import readers
from proxy.core.call import Call
from proxy.core.streams import StreamMeter, string_end

NULL_USAGE: Final = b',"usage":null'
_TEXTS: Final = (
    b'"content":"',
    b'"text":"',
    b'"arguments":"',
    b'"refusal":"',
    b'"reasoning_content":"',
    b'"reasoning":"',
)
_PADDING: Final = b'"obfuscation":"'
_NEVER: Final = b"\n\n"
"""No event begins so."""


class ChunkMeter(StreamMeter):
    """chat.completion.chunk and text_completion events, and streams of routes nobody told us about."""

    __slots__ = ("_begins", "_ends", "_known", "_null_at", "_padded", "_start")

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._known = False
        """An event has been read: model and id are known."""
        self._begins = _NEVER
        """Up to the text of the last ordinary event, and from behind its closing quote to its end or into its padding."""
        self._ends = b""
        self._start = 0
        self._padded = False
        self._null_at = -1
        """Where the null usage stands in `_ends`; -1: nowhere."""

    def feed(self, data: bytes) -> None:
        """The next bytes. Hot path: one event like the one before."""
        if self._idle and (text := self._alike(data)) is not None:
            self._tally.wrote(text)
            return
        super().feed(data)

    def _alike(self, event: bytes) -> bytes | None:
        """The text of an event that differs from the learned one only in its text and padding; else None. Hot path.

        Slices are compared, because `startswith` and `find` with a place to begin cost twice as much.
        """
        if event[: self._start] != self._begins:
            return None
        text, _, rest = event[self._start :].partition(b'"')
        if text[-1:] == b"\\":
            return None
        if not self._padded:
            return text if rest == self._ends else None
        size = len(self._ends)
        whole = rest[:size] == self._ends and rest[size:].partition(b'"')[2] == b"}\n\n"
        return text if whole else None

    def _event(self, event: bytes) -> None:
        if (text := self._alike(event)) is not None:
            self._tally.wrote(text)
            return
        ordinary = self._ordinary(event)
        if not ordinary:
            self._look(event)
        texts = 0
        for name in _TEXTS:
            at = event.find(name)
            if at < 0:
                continue
            texts += 1
            start = at + len(name)
            end = string_end(event, start)
            if end >= start:
                self._tally.wrote(event[start:end])
                if ordinary and texts == 1:
                    self._learn(event, start, end)
        if texts > 1:
            self._begins = _NEVER

    def _ordinary(self, event: bytes) -> bool:
        """A chunk in the middle: no usage, or a null one, and no choice that ends."""
        reason = event.find(b'"finish_reason":null')
        if reason < 0 or not self._known or event.find(b'"finish_reason"', reason + 20) >= 0:
            return False
        usage = event.find(b'"usage"')
        return usage < 0 or (event.startswith(b":null", usage + 7) and event.find(b'"usage"', usage + 12) < 0)

    def _learn(self, event: bytes, start: int, end: int) -> None:
        """Remember an ordinary event as the pattern of those to come; one of unusual form is not remembered."""
        self._begins = _NEVER
        if not event.startswith(b"data: {") or not event.endswith(b"}\n\n") or event.count(b"\n") != 2:
            return
        padding = event.rfind(_PADDING, end)
        self._padded = padding >= 0 and event.find(b'"', padding + len(_PADDING)) == len(event) - 4
        self._ends = event[end + 1 : padding + len(_PADDING)] if self._padded else event[end + 1 :]
        self._null_at = self._ends.find(NULL_USAGE)
        if self._null_at >= 0:
            # What stands before the last brace, or before the padding, is a member of the chunk itself.
            after = self._ends[self._null_at + len(NULL_USAGE) :]
            if after != (b"," + _PADDING if self._padded else b"}\n\n"):
                return
        elif b'"usage"' in event:
            return
        self._begins, self._start = event[:start], start

    def _read(self, name: bytes, tree: dict[str, object]) -> None:
        del name
        self._known = True
        readers.read_body(self._call.endpoint.meter, tree, self._tally, self._call.hints)
        if tree.get("usage") and not tree.get("choices"):
            self._tally.complete = True

    def _end(self, complete: bool) -> None:
        # Some servers leave `[DONE]` out.
        if complete and (self._tally.finish_reason is not None or self._call.endpoint.meter == "generic"):
            self._tally.complete = True
