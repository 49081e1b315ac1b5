"""The writer: an answer as its client gets it. Decides how the body is framed, and when bytes leave.

The upstream's framing is passed on byte for byte, chunk sizes and trailers included, unless the body itself changes (a
spliced stream), the client can't read chunks (HTTP/1.0), or it could not see that the answer was cut (until close).
"""

from __future__ import annotations

from proxy.core.answerhead import ResponseHead
from proxy.core.framing import LAST_CHUNK, Body, chunk
from proxy.gateway.front import Front
from proxy.gateway.request import Request


class AnswerWriter:
    """One answer on its way to one client."""

    __slots__ = ("_as_is", "_chunks", "_decoded", "_front", "_unsent", "_write", "closes", "framed", "sent")

    def __init__(self, front: Front) -> None:
        self._front = front
        self._write = front.transport.write
        self._as_is = True
        """The body passes as it came."""
        self._chunks = False
        """The body is framed anew, in chunks."""
        self._decoded = False
        """The upstream's chunks are taken off."""
        self._unsent = b""
        self.framed = True
        """The client can tell by the framing whether it got all."""
        self.closes = False
        """The connection ends with this answer."""
        self.sent = 0
        """Bytes of the body's content handed over."""

    def begin(self, head: ResponseHead, body: Body, request: Request, added: bytes, *, strip: bool) -> None:
        """Hold the head, until there is a first piece of the body or it is known to be late.

        `added` are our own header lines; `strip`: bytes will be taken out of the body.
        """
        self._decoded = body.chunked and (request.http_1_0 or strip)
        # Only a client that reads chunks can see that an answer until close was cut.
        until_close = not body.framed and b"transfer-encoding" not in head.fields
        reframed = self._decoded or (strip and body.framed) or until_close
        self._chunks = reframed and not request.http_1_0 and not body.done
        self._as_is = not self._chunks and not self._decoded
        if self._chunks:
            added += b"transfer-encoding: chunked\r\n"
        self.framed = body.done or self._chunks or (body.framed and not reframed)
        self.closes = not request.keep_alive or not request.complete or not self.framed or self._front.closing
        if self.closes:
            added += b"connection: close\r\n"
        elif request.http_1_0:
            added += b"connection: keep-alive\r\n"
        self._unsent = head.render(added, reframed=reframed)

    def take(self, raw: bytes, content: bytes, *, last: bool) -> None:
        """Bytes of the body as they came, and what they say. They leave at once, the last ones with `flush`. Hot path."""
        self.sent += len(content)
        if not self._as_is:
            raw = content if self._decoded else chunk(raw) if raw else raw
        if self._unsent:
            raw = self._unsent + raw
            self._unsent = b""
        if last:
            self._unsent = raw
        elif raw:
            self._write(raw)

    def show(self, content: bytes) -> None:
        """Content that is left of a stripped body."""
        if content:
            self.sent += len(content)
            self._unsent += chunk(content) if self._chunks else content

    def end(self) -> None:
        """The body is complete."""
        if self._chunks:
            self._unsent += LAST_CHUNK

    def flush(self) -> None:
        """Hand to the client what there is: one write, because each is a system call, and those are two thirds of what
        forwarding costs.
        """
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._write(unsent)
