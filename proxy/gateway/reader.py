"""The reader: requests as llhttp finds them in a client's bytes, and what llhttp would let pass but we can't pass on.

Feeds what it reads to its owner (the front) at once: a head, pieces of a body, the end. Strict: a request that could be
read in two ways is refused, since the upstream might read it in the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import httptools

from proxy.core.answerhead import HEAD_MAX_BYTES
from proxy.core.callhead import origin_form
from proxy.core.refusal import Refusal
from proxy.gateway.repeated import Repeated
from proxy.gateway.request import Request, read_request


class Owner(Protocol):
    """Who wants to know what was read."""

    def request_began(self) -> None:
        """The first byte of a request came."""

    def request_head(self, request: Request) -> None:
        """A head is complete."""

    def request_body(self, request: Request, data: bytes) -> None:
        """A piece of the request's body, decoded."""

    def request_end(self, request: Request, *, had_body: bool) -> None:
        """The request is complete."""


class Nobody:
    """An owner who wants to know nothing."""

    def request_began(self) -> None:
        """No matter."""

    def request_head(self, request: Request) -> None:
        """No matter."""

    def request_body(self, request: Request, data: bytes) -> None:
        """No matter."""

    def request_end(self, request: Request, *, had_body: bool) -> None:
        """No matter."""


_NOBODY: Final = Nobody()
_SPENT: Final = httptools.HttpRequestParser(_NOBODY)


class RequestReader:
    """Reads one connection's requests, one after the other."""

    __slots__ = (
        "_head_bytes",
        "_headers",
        "_left",
        "_now",
        "_now_us",
        "_owner",
        "_parser",
        "_repeated",
        "_target",
        "_unread",
        "busy",
        "reading",
    )

    def __init__(self, owner: Owner, now: Callable[[], float], now_us: Callable[[], int]) -> None:
        self._owner = owner
        self._now = now
        self._now_us = now_us
        self._parser = httptools.HttpRequestParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._head_bytes = 0
        self._repeated = Repeated()
        self._left = 0
        """Bytes due of the body behind a repeated head, which llhttp does not see."""
        self._unread: Request | None = None
        """A request for an upgrade, whose body llhttp leaves unread."""
        self.busy = False
        """In the middle of a request."""
        self.reading: Request | None = None
        """The request whose head was read last; None while a head is being read."""

    def again(self, data: bytes) -> Request | None:
        """The request that `data` is, when it is one and no more, whole, and with a head that was read before. None: `feed` it.
        Nearly all requests are such: to tell the owner of a head, then of a body, then of an end takes 17,000 instructions more. Hot path.
        """
        known = self._repeated.match(data)
        if known is None:
            return None
        first, length, body = known
        if len(body) != length:
            return None
        request = self.reading = first.again(length, self._now(), self._now_us())
        request.body.append(body)
        request.received = length
        request.complete = True
        return request

    def feed(self, data: bytes) -> bytes:
        """Read on. Returns what is left: what follows a request for an upgrade, which is no HTTP, or one whose head was known.
        Raises Refusal 400, 431, 501 or 505.
        """
        if self._left:
            return self._count_off(data)
        begins = not self.busy
        if begins:
            known = self._repeated.match(data)
            if known is not None:
                return self._read_again(*known)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.reset()
            data = data[upgrade.args[0] :]
            return data if self._unread is None else self._read_unread(self._unread, data)
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, Refusal):
                raise error.__context__ from None
            raise
        except httptools.HttpParserError as error:
            raise _malformed(400, "invalid_http", f"The request is not valid HTTP: {error}.") from None
        if self.busy and self.reading is None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                raise _malformed(431, "headers_too_large", "The request's headers are too large.")
        elif begins and self.reading is not None:
            self._repeated.learn(self.reading, data)
        return b""

    def _read_again(self, first: Request, length: int, data: bytes) -> bytes:
        """A request with the head of `first`, but for its length; `data` is what has come behind it."""
        self._left = length
        request = self.reading = first.again(length, self._now(), self._now_us())
        self.busy = True
        self._owner.request_head(request)
        return self._count_off(data) if data else b""

    def _count_off(self, data: bytes) -> bytes:
        """Bytes of the body behind such a head; returns what is behind it."""
        left = self._left - len(data)
        if left < 0:
            data, rest = data[:left], data[left:]
            self._left = 0
            self.on_body(data)
            self.on_message_complete()
            return rest
        self._left = left
        self.on_body(data)
        if not left:
            self.on_message_complete()
        return b""

    def _read_unread(self, request: Request, data: bytes) -> bytes:
        """The body of a request for an upgrade that is not made (RFC 9110, 7.8), such as to h2c by the JDK's client and curl. llhttp
        takes what is behind its head for another protocol, so a new parser begins behind a head that asks for none.
        """
        self._unread = None
        owner, self._owner = self._owner, _NOBODY
        framing = b"Content-Length: %d" % request.length if request.length else b"Transfer-Encoding: chunked"
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._owner = owner
        self.reading = request
        self._headers = request.trailers
        return self.feed(data)

    def reset(self) -> None:
        """Forget the request at hand; what comes next is read as the start of another."""
        self.busy = False
        self._left = 0
        self._parser = httptools.HttpRequestParser(self)

    def close(self) -> None:
        """The connection is gone. Reader, parser and owner hold one another: without this they would stay until the garbage collector looks."""
        self._owner = _NOBODY
        self._parser = _SPENT

    # -- llhttp calls

    def on_message_begin(self) -> None:
        """A request starts."""
        self.busy = True
        self.reading = None
        self._headers = []
        self._target = b""
        self._head_bytes = 0
        self._owner.request_began()

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer."""
        self._headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete."""
        parser, target = self._parser, self._target
        if not target.startswith(b"/"):
            target = origin_form(target)
        version = parser.get_http_version()
        request = read_request(
            parser.get_method(),
            target,
            self._headers,
            http_1_0=version == "1.0",
            keep_alive=parser.should_keep_alive(),
            upgrade=parser.should_upgrade(),
            started=self._now(),
            started_us=self._now_us(),
        )
        _check_framing(request, version)
        self.reading = request
        self._headers = request.trailers
        request.complete = not request.has_body
        self._owner.request_head(request)
        if request.has_body and parser.should_upgrade():
            self._unread, self.reading = request, None

    def on_body(self, data: bytes) -> None:
        """A part of a request's body."""
        request = self.reading
        assert request is not None
        request.received += len(data)
        self._owner.request_body(request, data)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.busy = False
        request = self.reading
        if request is not None:
            had_body = not request.complete
            request.complete = True
            self._owner.request_end(request, had_body=had_body)


def _check_framing(request: Request, version: str) -> None:
    """Refuse what llhttp accepts and we could not pass on as it was meant."""
    if version not in {"1.0", "1.1"}:
        raise _malformed(505, "invalid_http", "The request is not HTTP/1.1 or HTTP/1.0.")
    if len(request.fields) != len(request.headers):
        _check_twice(request)
    if request.websocket and request.has_body:
        raise _malformed(400, "invalid_http", "A WebSocket's handshake has no body.")
    if request.chunked:
        codings = [value.lower() for name, value in request.headers if name.lower() == b"transfer-encoding"]
        if codings != [b"chunked"] or version == "1.0":  # RFC 9112, 6.1
            raise _malformed(501, "invalid_http", "The only transfer coding understood is chunked.")


def _check_twice(request: Request) -> None:
    """What the body is must not be said in two ways, one for us and one for the upstream."""
    for name in (b"content-type", b"content-encoding"):
        if len({value for each, value in request.headers if each.lower() == name}) > 1:
            raise _malformed(400, "invalid_http", f"The request has two different {name.decode()} headers.")


def _malformed(status: int, code: str, message: str) -> Refusal:
    return Refusal(status, code, message, reason="malformed")
