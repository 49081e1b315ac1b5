"""The upload: a request on its way to the upstream. Holds what the connection can't take yet, within a bound.

A request that was read whole can be sent again on another connection, one that is streamed can't.
"""

from __future__ import annotations

from typing import Final

from proxy.core.framing import LAST_CHUNK, chunk
from proxy.gateway.request import Request
from proxy.gateway.roles import Listener
from proxy.gateway.upstream import UpstreamConnection

HELD_MAX_BYTES: Final = 256 * 1024
_IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})  # RFC 9110, 9.2.2


class Upload:
    """One request's head and body."""

    __slots__ = ("_chunked", "_connection", "_head", "_held", "_held_bytes", "_request", "_whole")

    def __init__(self, request: Request, head: bytes) -> None:
        self._request = request
        self._head = head
        self._chunked = False
        self._whole = True
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._connection: UpstreamConnection | None = None

    def begin(self, body: bytes, *, streaming: bool, chunked: bool) -> None:
        """`body` is all of it, or with `streaming` what has come so far."""
        self._chunked = chunked
        self._whole = not streaming
        if body:
            self._held.append(chunk(body) if chunked else body)
            self._held_bytes = len(body)
        if chunked and not streaming:
            self._held.append(self._last_chunk())

    def send_on(self, connection: UpstreamConnection, listener: Listener) -> None:
        """Send what there is, and from now on what comes."""
        data = b"".join((self._head, *self._held)) if self._held else self._head
        if not self._whole:
            self._held = []
            self._connection = connection
        connection.begin(listener, self._request.method, data, complete=self._request.complete)

    def piece(self, data: bytes) -> bool:
        """More of the body. False: as much is held as may be, stop reading."""
        if self._chunked:
            data = chunk(data)
        if self._connection is not None:
            self._connection.send(data)
            return True
        self._held.append(data)
        self._held_bytes += len(data)
        return self._held_bytes <= HELD_MAX_BYTES

    def end(self) -> None:
        """The body is complete, its trailers included."""
        last = self._last_chunk() if self._chunked else b""
        if self._connection is not None:
            self._connection.send(last, last=True)
        elif last:
            self._held.append(last)

    def _last_chunk(self) -> bytes:
        lines = b"".join(b"%b: %b\r\n" % pair for pair in self._request.trailers)
        return b"0\r\n" + lines + b"\r\n" if lines else LAST_CHUNK

    def let_go(self) -> None:
        """The answer has begun: the request won't be sent again."""
        self._held = []

    def may_repeat(self, connection: UpstreamConnection | None) -> bool:
        """Whether it may be sent again, since a kept connection died without a byte of answer. A POST that was sent may have
        been served and billed, so only with an Idempotency-Key (RFC 9110, 9.2.2).
        """
        if connection is None or not connection.served or connection.answered or not self._whole:
            return False
        request = self._request
        return (
            bool(connection.unsent) or request.method in _IDEMPOTENT or b"idempotency-key" in request.fields
        )
