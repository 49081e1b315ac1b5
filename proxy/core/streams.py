"""Meters of event streams: they watch the bytes of an answer go by and read the few events that say something.

Two families. Chunk streams (chat, completions) send the same object again and again; an event is read when it has a usage
that is not null, or lacks the `"finish_reason":null` that every ordinary chunk has. Typed streams (all others) name the type of
an event at its start; an event is read when its type is one that carries usage. All other events cost a few byte searches.

In JSON a quote inside a string is always escaped, so `"usage"` with its bare quotes is a name in the structure or a whole
string value, never text that a model wrote; and what decides is the parsed structure, the search only says where to look.
"""

from __future__ import annotations

import orjson

from proxy.core import readers, readers_media, sse
from proxy.core.call import Call
from proxy.core.readers_jobs import read_run, read_turn
from proxy.core.readers_response import read_response
from proxy.core.sieve import Sieve, reduce
from proxy.core.tally import Tally
from proxy.core.usage import Part, Reading

EVENT_BYTES_MAX = 2**20
"""Events up to this size are held and parsed whole; longer ones go through the sieve as they come."""
TYPE_BYTES_MAX = 256
_AUDIO_DELTA = b"audio.delta"


class Meter:
    """Watches one answer. `feed` every byte of its body, then `finish` once. Nothing raises; the cut of the bytes is nothing."""

    __slots__ = ("_call", "_tally")

    strips = False
    """`feed_through` returns less than it was given: the client's bytes are what it returns."""

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        self._call = call
        self._tally = Tally(keep_text=keep_text)

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
    """What both families share: cutting, long events, the end."""

    __slots__ = ("_cutter", "_long")

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._cutter = sse.Cutter()
        self._long: LongEvent | None = None

    def feed(self, data: bytes) -> None:
        """Hot path: for an ordinary event one call of `_event`."""
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
        if self._cutter.held > EVENT_BYTES_MAX:
            self._long = LongEvent()
            self._long.feed(self._cutter.take())

    def finish(self, complete: bool) -> Reading:
        """An event without its blank line counts when its data is whole: nothing of it is missing but the line end."""
        if self._long is not None:
            self._end_long()
        elif self._cutter.held:
            self._event(self._cutter.take())
        self._end(complete)
        return self._tally.reading()

    def _end_long(self) -> None:
        ended, self._long = self._long, None
        if ended is not None:
            name, tree = ended.end()
            if isinstance(tree, dict):
                self._read(name, tree)

    def _event(self, event: bytes) -> None:
        raise NotImplementedError

    def _read(self, name: bytes, tree: dict[str, object]) -> None:
        raise NotImplementedError

    def _end(self, complete: bool) -> None:
        raise NotImplementedError


class ChunkMeter(StreamMeter):
    """chat.completion.chunk and text_completion events, ended by `[DONE]`."""

    __slots__ = ("_known",)

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._known = False
        """An event has been read: model and id are known."""

    def _event(self, event: bytes) -> None:
        usage = event.find(b'"usage"')
        ordinary = event.find(b'"finish_reason":null')
        if (
            ordinary < 0
            or not self._known
            or (
                usage >= 0
                and (not event.startswith(b":null", usage + 7) or event.find(b'"usage"', usage + 12) >= 0)
            )
            or event.find(b'"finish_reason"', ordinary + 20) >= 0
        ):
            self._look(event)
        at = event.find(b'"content":"')
        if at >= 0:
            self._text(event, at + 11)
        else:
            self._other_text(event)

    def _look(self, event: bytes) -> None:
        _, data = sse.parse(event)
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
            self._read(b"", tree)

    def _read(self, name: bytes, tree: dict[str, object]) -> None:
        del name
        self._known = True
        readers.read_body(self._call.endpoint.meter, tree, self._tally, self._call.hints)
        if tree.get("usage") and not tree.get("choices"):
            self._tally.complete = True

    def _text(self, event: bytes, start: int) -> None:
        """Count the string whose inside starts here."""
        end = event.find(b'"', start)
        while end > 0 and event[end - 1] == 0x5C and _escaped(event, end):
            end = event.find(b'"', end + 1)
        if end > start:
            self._tally.written(event[start:end])

    def _other_text(self, event: bytes) -> None:
        for name in (
            b'"text":"',
            b'"arguments":"',
            b'"refusal":"',
            b'"reasoning_content":"',
            b'"reasoning":"',
        ):
            at = event.find(name)
            if at >= 0:
                self._text(event, at + len(name))

    def _end(self, complete: bool) -> None:
        # Some servers leave `[DONE]` out.
        if complete and (self._tally.finish_reason is not None or self._call.endpoint.meter == "generic"):
            self._tally.complete = True


class TypedMeter(StreamMeter):
    """Events that name their type, in an `event:` line or as the first member of their data."""

    __slots__ = ("_turns",)

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._turns: set[str] = set()

    def _event(self, event: bytes) -> None:
        kind = _kind(event)
        if kind.endswith(b".delta"):
            if not kind.endswith(_AUDIO_DELTA):
                self._delta(event)
            return
        if kind and kind not in _READ:
            return
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

    def _delta(self, event: bytes) -> None:
        for name in (b'"delta":"', b'"value":"', b'"arguments":"'):
            at = event.find(name)
            if at >= 0:
                start = at + len(name)
                end = event.find(b'"', start)
                while end > 0 and event[end - 1] == 0x5C and _escaped(event, end):
                    end = event.find(b'"', end + 1)
                if end > start:
                    self._tally.written(event[start:end])
                return

    def _read(self, name: bytes, tree: dict[str, object]) -> None:
        kind = tree.get("type")
        kind = kind if isinstance(kind, str) else name.decode("latin-1")
        tally, hints = self._tally, self._call.hints
        meter = self._call.endpoint.meter
        if kind == "error" or (not kind and tree.get("error")):
            tally.error(tree.get("error") or tree)
        elif meter == "responses":
            response = tree.get("response")
            if isinstance(response, dict):
                read_response(response, tally, hints)
                tally.complete = tally.complete or kind in _RESPONSE_ENDS
        elif meter == "images":
            if kind in {"image_generation.completed", "image_edit.completed"}:
                readers_media.read_image_event(tree, tally)
                tally.complete = True
        elif meter == "speech":
            if kind == "speech.audio.done":
                readers_media.read_speech(tree, tally, hints)
                tally.complete = True
        elif meter in {"transcription", "translation"}:
            if kind == "transcript.text.done":
                readers_media.read_transcription(tree, tally, hints)
                tally.complete = True
        elif meter == "runs":
            if kind.startswith("thread.run.") and not kind.startswith("thread.run.step."):
                read_run(tree, tally, hints)
                tally.complete = tally.complete or tally.finish_reason is not None
        elif meter == "agents":
            self._agents(kind, tree)
        else:
            readers.read_body(meter, tree, tally, hints)

    def _agents(self, kind: str, tree: dict[str, object]) -> None:
        """A stream of a session may hold several turns: the first is the reading's own, the others are its parts."""
        turn = tree.get("turn")
        if not isinstance(turn, dict) or not kind.startswith("agent.session.turn."):
            session = tree.get("session")
            if isinstance(session, dict) and isinstance(agent := session.get("agent"), dict):
                self._tally.model = self._tally.model or _text_of(agent.get("model"))
                self._tally.service_tier = self._tally.service_tier or _text_of(agent.get("service_tier"))
            return
        seen = Tally()
        read_turn({"object": "agent.session.turn", **turn}, seen, {})
        if seen.finish_reason is None or seen.object_id is None or seen.object_id in self._turns:
            return
        if len(self._turns) >= TURNS_MAX:
            return
        self._turns.add(seen.object_id)
        tally = self._tally
        tally.complete = True
        if len(self._turns) == 1:
            tally.usage, tally.object_id, tally.finish_reason = seen.usage, seen.object_id, seen.finish_reason
            tally.unknown = seen.unknown
        elif seen.usage is not None:
            tally.part(Part("turn", tally.model, seen.usage, seen.object_id))

    def _end(self, complete: bool) -> None:
        """The end of the connection says nothing: these streams have terminal events."""


TURNS_MAX = 1_024
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed"})
_READ = frozenset(
    {
        b"response.created", b"response.queued", b"response.in_progress", b"response.completed", b"response.incomplete",
        b"response.failed", b"error", b"done",
        b"image_generation.completed", b"image_edit.completed", b"speech.audio.done", b"transcript.text.done",
        b"thread.run.created", b"thread.run.queued", b"thread.run.in_progress", b"thread.run.requires_action",
        b"thread.run.completed", b"thread.run.incomplete", b"thread.run.failed", b"thread.run.cancelling",
        b"thread.run.cancelled", b"thread.run.expired",
        b"agent.session.created", b"agent.session.turn.completed", b"agent.session.turn.failed", b"agent.session.turn.cancelled",
    }
)  # fmt: skip
"""Types whose events are read; others of a typed stream only pass."""


def _kind(event: bytes) -> bytes:
    """The type an event names at its start; b"" when it must be read to know."""
    if event.startswith(b"event: "):
        end = event.find(b"\n", 7, TYPE_BYTES_MAX)
        name = event[7:end].rstrip(b"\r") if end > 0 else b""
        return name if b"\r" not in name else b""
    if event.startswith(b'data: {"type":"'):
        end = event.find(b'"', 15, TYPE_BYTES_MAX)
        return event[15:end] if end > 0 else b""
    return b""


def _escaped(text: bytes, quote: int) -> bool:
    """An odd number of backslashes stands before the quote."""
    at = quote - 1
    while at >= 0 and text[at] == 0x5C:
        at -= 1
    return (quote - at) % 2 == 0


def _text_of(value: object) -> str | None:
    return value[:TYPE_BYTES_MAX] if isinstance(value, str) and value else None


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
        if len(self._field) < TYPE_BYTES_MAX:
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
