"""Meter of WebSocket connections: realtime, translations, responses, live sessions.

A connection has one reading of its own (its model, and what it consumed as a whole) and one for each response, transcription
or decision that ends on it. Whatever repeats an id that was read already is not read again. Seconds of live sessions are a
running sum: the largest counts, at the end. As everywhere: nothing raises, and memory is bounded.
"""

from __future__ import annotations

import re

import orjson

from proxy.core import readers, tokens
from proxy.core.call import Call
from proxy.core.readers_response import read_response
from proxy.core.sieve import Sieve, reduce
from proxy.core.streams import EVENT_BYTES_MAX, string_end
from proxy.core.tally import Tally, word
from proxy.core.usage import Reading
from proxy.core.wsframes import FrameReader, deflate_of

OPEN_MAX = 1_024
SEEN_MAX = 65_536
HEAD_BYTES = 512
PCM_BYTES_PER_MS = 48
"""24 kHz, 16 bit, mono: the only audio that translation sessions take (SDK 3.54)."""

_DELTA = re.compile(rb'"type"\s*:\s*"([a-z_.]+)\.delta"')
_AUDIO = b'"audio":"'
_RESPONSE_ENDS = frozenset({"response.completed", "response.incomplete", "response.failed", "response.done"})
_READS_CLIENT = frozenset({"ws_translation", "ws_responses"})


class WsMeter:
    """Whole messages in, readings out. For frames see WsTap."""

    __slots__ = (
        "_audio_bytes",
        "_call",
        "_hints",
        "_latest",
        "_live_ms",
        "_open",
        "_own",
        "_seen",
        "_transcriber",
    )

    def __init__(self, call: Call) -> None:
        self._call = call
        self._own = Tally()
        self._own.model = call.model
        self._open: dict[str, Tally] = {}
        """Responses that have begun and not ended."""
        self._latest: Tally | None = None
        self._seen: set[str] = set()
        self._transcriber: str | None = None
        self._hints = dict(call.hints)
        self._audio_bytes = 0
        self._live_ms = -1

    def feed_message(self, text: bytes, from_client: bool) -> Reading | None:
        """One whole text message; returns the reading of the response that it ended."""
        if from_client:
            self._client(text)
            return None
        delta = _DELTA.search(text, 0, HEAD_BYTES)
        # Behind another brace it may be a member of something that a user wrote, such as metadata.
        if delta is not None and text.find(b"{", 1, delta.start()) < 0:
            if not delta[1].endswith(b"audio"):
                self._delta(text)
            return None
        try:
            tree = orjson.loads(text)
        except ValueError:
            tree = reduce(text, KEEP)
        return self.read(tree)

    def read(self, event: object) -> Reading | None:
        """One server event, parsed or as the sieve left it."""
        if not isinstance(event, dict):
            return None
        kind = word(event.get("type")) or ""
        if kind == "error":
            self._own.error(event.get("error") or event)
        elif kind.startswith("session."):
            self._session(kind, event)
        elif kind == "response.event":
            inner = event.get("event")
            return self._response(word(inner.get("type")) or "", inner) if isinstance(inner, dict) else None
        elif kind.startswith("response."):
            return self._response(kind, event)
        elif kind == "conversation.item.input_audio_transcription.completed":
            return self._transcription(event)
        elif kind == "decision.event":
            return self._decision(event)
        return None

    def unfinished(self) -> tuple[Reading, ...]:
        """Readings of the responses that were under way when the connection ended; their usage never came."""
        return tuple(tally.reading() for tally in self._open.values())

    def finish(self, complete: bool) -> Reading:
        """The connection's own reading: what is not of one response."""
        own = self._own
        if self._live_ms >= 0:
            own.units["audio_ms"] = self._live_ms
        elif self._call.endpoint.meter == "ws_live":
            own.unknown = True
        if self._call.endpoint.meter == "ws_translation" and self._audio_bytes:
            own.units["audio_ms"] = -(-self._audio_bytes // PCM_BYTES_PER_MS)
            own.estimated = True
        own.complete = complete
        return own.reading()

    def _client(self, text: bytes) -> None:
        if self._call.endpoint.meter == "ws_translation":
            at = text.find(_AUDIO)
            if at >= 0:
                start = at + len(_AUDIO)
                end = string_end(text, start)
                if end > start:
                    self._audio_bytes += (end - start) * 3 // 4 - text.count(b"=", end - 2, end)
        elif b'"response.create"' in text and len(text) <= EVENT_BYTES_MAX:
            try:
                asked = orjson.loads(text)
            except ValueError:
                return
            if isinstance(asked, dict):
                self._own.model = word(asked.get("model")) or self._own.model

    def _session(self, kind: str, event: dict[str, object]) -> None:
        """`session.created`, `.updated`, `.started`, `.closed`, `.usage.updated`: the model, its transcriber, live seconds."""
        session = event.get("session")
        if isinstance(session, dict):
            self._own.model = word(session.get("model")) or self._own.model
            if self._call.endpoint.meter in {"ws_live", "ws_attach"}:
                self._own.object_id = word(session.get("id")) or self._own.object_id
            self._transcriber = _transcriber(session) or self._transcriber
        if kind in {"session.usage.updated", "session.closed"}:
            usage = event.get("usage")
            length = tokens.milliseconds(usage.get("seconds")) if isinstance(usage, dict) else None
            if length is not None:
                self._live_ms = max(self._live_ms, length)

    def _response(self, kind: str, event: dict[str, object]) -> Reading | None:
        response = event.get("response")
        if not isinstance(response, dict):
            return None
        response_id = word(response.get("id")) or ""
        if kind not in _RESPONSE_ENDS:
            if response_id not in self._open and response_id not in self._seen and len(self._open) < OPEN_MAX:
                tally = self._open[response_id] = self._latest = Tally()
                tally.object_id = response_id or None
                tally.model = word(response.get("model")) or self._own.model
            return None
        tally = self._open.pop(response_id) if response_id in self._open else Tally()
        if response_id in self._seen:
            return None
        self._remember(response_id)
        read_response(response, tally, self._hints)
        details = response.get("status_details")
        if isinstance(details, dict):
            tally.finish_reason = word(details.get("reason")) or tally.finish_reason
            if details.get("error"):
                tally.error(details["error"])
        tally.model = tally.model or self._own.model
        tally.complete = True
        return tally.reading()

    def _transcription(self, event: dict[str, object]) -> Reading | None:
        """Speech of the user, written down by a model of its own, at that model's price."""
        key = f"{word(event.get('item_id'))}/{event.get('content_index')}"
        usage = tokens.read(event.get("usage"))
        if usage is None or key in self._seen:
            return None
        self._remember(key)
        transcribes = self._call.endpoint.meter == "ws_realtime"
        model = self._transcriber or (self._own.model if transcribes else None)
        return Reading(usage=usage, model=model, object_id=word(event.get("item_id")), complete=True)

    def _decision(self, event: dict[str, object]) -> Reading | None:
        inner = event.get("event")
        decision = inner.get("decision") if isinstance(inner, dict) else None
        if not isinstance(decision, dict):
            return None
        decision_id = word(decision.get("id"))
        if decision_id is not None and decision_id in self._seen:
            return None
        if decision_id is not None:
            self._remember(decision_id)
        tally = Tally()
        readers.read_plain(decision, tally, {})
        tally.complete = True
        return tally.reading() if tally.usage is not None else None

    def _delta(self, text: bytes) -> None:
        """Text of the response that began last; with several at once, an estimate may go to the wrong one of them."""
        if self._latest is None:
            return
        at = text.find(b'"delta":"')
        if at >= 0:
            start = at + 9
            end = string_end(text, start)
            if end >= start:
                self._latest.wrote(text[start:end])

    def _remember(self, key: str) -> None:
        if len(self._seen) < SEEN_MAX:
            self._seen.add(key)


KEEP: frozenset[str] = readers.KEEP | {
    "status_details",
    "item_id",
    "content_index",
    "audio",
    "input",
    "transcription",
    "input_audio_transcription",
}
"""What is kept of messages too long to be parsed whole."""


def _transcriber(session: dict[str, object]) -> str | None:
    """The model that writes down what the user says: `audio.input.transcription` (before: `input_audio_transcription`)."""
    place: object = session
    for name in ("audio", "input", "transcription"):
        place = place.get(name) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        place = session.get("input_audio_transcription")
    return word(place.get("model")) if isinstance(place, dict) else None


class _Assembler:
    """Pieces of one direction's messages, put together; a long message goes through the sieve."""

    __slots__ = ("_held", "_held_bytes", "_sieve", "reader")

    def __init__(self, reader: FrameReader) -> None:
        self.reader = reader
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._sieve: Sieve | None = None

    def feed(self, data: bytes) -> list[bytes | object]:
        """Messages that are whole now: bytes, or the reduced value of a long one."""
        done: list[bytes | object] = []
        for piece in self.reader.feed(data):
            if self._sieve is not None:
                self._sieve.feed(piece.data)
            else:
                self._held.append(piece.data)
                self._held_bytes += len(piece.data)
                if self._held_bytes > EVENT_BYTES_MAX:
                    self._sieve = Sieve(KEEP)
                    for held in self._held:
                        self._sieve.feed(held)
                    self._held.clear()
            if piece.last:
                done.append(b"".join(self._held) if self._sieve is None else self._sieve.result())
                self._held.clear()
                self._held_bytes, self._sieve = 0, None
        return done


class WsTap:
    """A metered connection, fed with the raw bytes of both directions after the upgrade."""

    __slots__ = ("_client", "_server", "meter")

    def __init__(self, call: Call, extensions: str = "") -> None:
        """`extensions` is the answer's Sec-WebSocket-Extensions."""
        self.meter = WsMeter(call)
        self._server = _Assembler(FrameReader(deflate_of(extensions, from_client=False)))
        reads_client = call.endpoint.meter in _READS_CLIENT
        self._client = (
            _Assembler(FrameReader(deflate_of(extensions, from_client=True))) if reads_client else None
        )

    @property
    def failed(self) -> bool:
        """What came from the server was no WebSocket: nothing more is metered."""
        return self._server.reader.failed

    @property
    def between_frames(self) -> bool:
        """The server's side stands between two frames."""
        return self._server.reader.between_frames

    @property
    def between_messages(self) -> bool:
        """It stands between two messages, so that another one could follow."""
        return self._server.reader.between_messages

    def feed(self, data: bytes, from_client: bool) -> list[Reading]:
        """Bytes that passed by; returns the readings of the responses that ended with them, in order."""
        side = self._client if from_client else self._server
        if side is None:
            return []
        readings = []
        for message in side.feed(data):
            if isinstance(message, bytes):
                reading = self.meter.feed_message(message, from_client)
            else:
                reading = None if from_client else self.meter.read(message)
            if reading is not None:
                readings.append(reading)
        return readings

    def finish(self, complete: bool) -> Reading:
        """The connection's own reading; `meter.unfinished()` has those of responses under way."""
        return self.meter.finish(complete)
