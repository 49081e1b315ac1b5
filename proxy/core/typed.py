"""Meter of typed streams: responses, images, speech, transcriptions, assistants' runs, agents' sessions.

Each event names its type, in its `event:` line or as the first member of its data. An event is parsed when its type is one
that carries usage; deltas are searched for the text they carry; all others only pass. A type that can't be told from
the start of an event is told by parsing it.
"""

from __future__ import annotations

from typing import Final

import orjson

from proxy.core import readers_media
from proxy.core.call import Call
from proxy.core.readers_jobs import read_run, read_turn
from proxy.core.readers_response import read_response
from proxy.core.streams import StreamMeter, string_end
from proxy.core.tally import Tally, word
from proxy.core.usage import Part

TURNS_MAX: Final = 1_024
TYPE_BYTES_MAX: Final = 256
METERS: Final = frozenset({"responses", "images", "speech", "transcription", "translation", "runs", "agents"})
"""The values of Endpoint.meter that this meter reads."""

_AUDIO_DELTA: Final = b"audio.delta"
_TEXTS: Final = (b'"delta":"', b'"value":"', b'"arguments":"')
_NEVER: Final = b"\n\n"
_UNNAMED: Final = b"message"
"""The name of an event that has none (HTML, 9.2.6), which some servers write; its type is in its data then."""
_RESPONSE_ENDS: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_READ: Final = frozenset(
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
"""Types whose events are parsed."""


class TypedMeter(StreamMeter):
    """Reads the events of one stream by their types."""

    __slots__ = ("_begins", "_turns")

    def __init__(self, call: Call, *, keep_text: bool = False) -> None:
        super().__init__(call, keep_text=keep_text)
        self._begins = _NEVER
        """The last delta, up to its text: an event that begins so is another one."""
        self._turns: set[str] = set()

    def feed(self, data: bytes) -> None:
        """The next bytes. Hot path: one delta like the one before."""
        if self._idle and data.startswith(self._begins):
            start = len(self._begins)
            end = data.find(b'"', start)
            last = len(data) - 2
            if data[end - 1] != 0x5C and data.find(b"\n\n", end) == last and b"\r" not in data:
                self._tally.wrote(data[start:end])
                return
        super().feed(data)

    def _event(self, event: bytes) -> None:
        if event[0] in b"\r\n":
            event = event.lstrip(b"\r\n")  # the LF of a CRLF whose CR ended the event before
        kind = _kind(event)
        if kind.endswith(b".delta"):
            if not kind.endswith(_AUDIO_DELTA):
                self._delta(event)
        elif not kind or kind in _READ or kind == _UNNAMED:
            self._look(event)

    def _delta(self, event: bytes) -> None:
        for name in _TEXTS:
            at = event.find(name)
            if at >= 0:
                start = at + len(name)
                end = string_end(event, start)
                if end >= start:
                    self._tally.wrote(event[start:end])
                    self._begins = event[:start]
                return

    def _read(self, name: bytes, tree: dict[str, object]) -> None:
        kind = word(tree.get("type")) or name.decode("latin-1")
        tally = self._tally
        if kind == "error" or (not kind and tree.get("error")):
            tally.error(tree.get("error") or tree.get("data") or tree)
            return
        if kind.endswith(".delta"):
            text = tree.get("delta")
            if isinstance(text, str) and not kind.endswith("audio.delta"):
                tally.wrote(orjson.dumps(text)[1:-1])
            return
        meter = self._call.endpoint.meter
        if meter == "responses":
            response = tree.get("response")
            if isinstance(response, dict):
                read_response(response, tally, self._call.hints)
                tally.complete = tally.complete or kind in _RESPONSE_ENDS
        elif meter == "runs":
            if kind.startswith("thread.run.") and not kind.startswith("thread.run.step."):
                read_run(tree, tally, self._call.hints)
                tally.complete = tally.complete or tally.finish_reason is not None
        elif meter == "agents":
            self._read_agents(kind, tree)
        else:
            self._read_media(kind, tree)

    def _read_media(self, kind: str, tree: dict[str, object]) -> None:
        tally = self._tally
        if kind in {"image_generation.completed", "image_edit.completed"}:
            readers_media.read_image_event(tree, tally)
        elif kind == "speech.audio.done":
            readers_media.read_speech(tree, tally, self._call.hints)
        elif kind == "transcript.text.done":
            readers_media.read_transcription(tree, tally, self._call.hints)
        else:
            return
        tally.complete = True

    def _read_agents(self, kind: str, tree: dict[str, object]) -> None:
        """A stream of a session may hold several turns: the first is the reading's own, the others are its parts."""
        tally = self._tally
        turn = tree.get("turn")
        if not isinstance(turn, dict) or not kind.startswith("agent.session.turn."):
            session = tree.get("session")
            agent = session.get("agent") if isinstance(session, dict) else None
            if isinstance(agent, dict):
                tally.model = tally.model or word(agent.get("model"))
                tally.service_tier = tally.service_tier or word(agent.get("service_tier"))
            return
        seen = Tally()
        read_turn({"object": "agent.session.turn", **turn}, seen, {})
        turn_id = seen.object_id
        if (
            seen.finish_reason is None
            or turn_id is None
            or turn_id in self._turns
            or len(self._turns) >= TURNS_MAX
        ):
            return
        self._turns.add(turn_id)
        tally.complete = True
        if len(self._turns) == 1:
            tally.usage, tally.object_id, tally.finish_reason = seen.usage, turn_id, seen.finish_reason
            tally.unknown = seen.unknown
        elif seen.usage is not None:
            tally.part(Part("turn", tally.model, seen.usage, turn_id))

    def _end(self, complete: bool) -> None:
        """The end of the connection says nothing: these streams have terminal events."""


def _kind(event: bytes) -> bytes:
    """The type that an event names at its start; b"" when it must be parsed to know."""
    if event.startswith(b"event: "):
        end = event.find(b"\n", 7, TYPE_BYTES_MAX)
        name = event[7:end].rstrip(b"\r") if end > 0 else b""
        return name if b"\r" not in name else b""
    if event.startswith(b'data: {"type":"'):
        end = event.find(b'"', 15, TYPE_BYTES_MAX)
        return event[15:end] if end > 0 else b""
    return b""
