"""The front: one client connection. It reads requests with llhttp and leads each to where it belongs.

Requests under /v1/ take the pass (handler.py). Anything else is aiohttp's: the front then steps aside and hands the
connection's bytes to an aiohttp protocol until a request under /v1/ comes again. aiohttp's own request and response
objects cost 42 µs where this costs 17, and would change bytes that we promise to pass on (docs/adr/0002).

Guarantees: answers leave in the order of the requests (pipelining); what a client sends ahead is bounded; a connection
that ends tells the exchange under way.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import httptools

from proxy.core.framing import HEAD_MAX_BYTES
from proxy.core.refusal import Refusal
from proxy.gateway.request import Request

EARLY_MAX_BYTES = 64 * 1024
SEND_BUFFER_BYTES = 256 * 1024
LINGER_S = 5.0
LINGER_MAX_BYTES = 16 * 2**20
_TARGET_MAX_LOOKAHEAD = 32
_V1 = b"/v1/"


class Exchanging(Protocol):
    """What the front tells the exchange under way."""

    def upload(self, data: bytes) -> None:
        """More of the request's body, decoded."""

    def upload_end(self) -> None:
        """The request's body is complete."""

    def client_gone(self) -> None:
        """The client hung up."""

    def client_writable(self, writable: bool) -> None:
        """The client's receive window is full, or has room again."""

    def client_tunnel(self, data: bytes) -> None:
        """Bytes of a tunnel, after a 101."""


class Pass(Protocol):
    """What the front asks of the pass."""

    now: Callable[[], float]
    """Monotonic seconds."""
    now_us: Callable[[], int]
    """Microseconds since 1970."""
    head_timeout_s: float
    body_timeout_s: float
    keepalive_s: float

    def begin(self, front: Front, request: Request) -> None:
        """A head was read; from here on the pass owns the request."""

    def proceed(self, front: Front, request: Request) -> None:
        """The body that the pass wanted to read whole is complete, or larger than it may be."""

    def forget(self, request: Request) -> None:
        """The client hung up before the request was admitted."""

    @property
    def body_max(self) -> int:
        """How many bytes of a body may be collected now."""

    def malformed(self, refusal: Refusal) -> None:
        """A request could not be read; for the metrics."""


def leads_to_v1(data: bytes) -> bool | None:
    """Whether a request that starts with `data` is for /v1/; None: too little to tell."""
    space = data.find(b" ", 0, _TARGET_MAX_LOOKAHEAD)
    if space < 0:
        return None if len(data) < _TARGET_MAX_LOOKAHEAD else True  # let llhttp say what is wrong with it
    start = space + 1
    if data.startswith((b"http://", b"https://"), start):
        slash = data.find(b"/", start + 8)
        if slash < 0:
            return None if data.find(b" ", start) < 0 and len(data) < HEAD_MAX_BYTES else False
        start = slash
    target = data[start : start + len(_V1)]
    if target == _V1:
        return True
    return None if len(target) < len(_V1) and _V1.startswith(target) else False


class Front(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_admin",
        "_early",
        "_feeding",
        "_fronts",
        "_head_bytes",
        "_header_list",
        "_inner",
        "_lingered",
        "_parser",
        "_pass",
        "_paused",
        "_pumping",
        "_queue",
        "_reading",
        "_started",
        "_target",
        "_tunnel",
        "active",
        "closing",
        "deadline",
        "exchange",
        "transport",
    )

    def __init__(
        self,
        passing: Pass,
        admin: Callable[[], asyncio.Protocol],
        fronts: set[Front],
    ) -> None:
        self._pass = passing
        self._admin = admin
        self._fronts = fronts
        self._parser = httptools.HttpRequestParser(self)
        self._inner: asyncio.Protocol | None = None
        self._queue: deque[Request] = deque()
        self._reading: Request | None = None
        self._header_list: list[tuple[bytes, bytes]] = []
        self._target = b""
        self._started = False
        self._head_bytes = 0
        self._early = b""
        self._feeding = False
        self._pumping = False
        self._paused = False
        self._tunnel = False
        self._lingered = -1
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.active: Request | None = None
        """The request whose answer is due next."""
        self.exchange: Exchanging | None = None
        """The exchange that answers it; None before admission."""
        self.closing = False
        """No request is read after the present one."""
        self.deadline = 0.0
        """Monotonic time at which the connection is closed unless something happens; 0: none."""

    # -- the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._fronts.add(self)
        self.deadline = self._pass.now() + self._pass.head_timeout_s

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if self._started:  # in the middle of a request
            self._feed(data)
        elif self._tunnel:
            assert self.exchange is not None
            self.exchange.client_tunnel(data)
        elif self._lingered >= 0:
            self._lingered += len(data)
            if self._lingered > LINGER_MAX_BYTES:
                self.transport.abort()
        elif self._inner is not None:
            self._to_admin(data)
        elif self.active is not None or self._queue:
            self._keep_early(data)
        else:
            self._open(data)

    def eof_received(self) -> bool:
        """The client will send no more: for us it has hung up. A half-closed client can't be told from a gone one."""
        if self._inner is not None:
            self._inner.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._fronts.discard(self)
        self.closing = True
        self._queue.clear()
        self._early = b""
        if self._inner is not None:
            inner, self._inner = self._inner, None
            inner.connection_lost(exc)
        exchange, self.exchange = self.exchange, None
        request, self.active = self.active, None
        if exchange is not None:
            exchange.client_gone()
        elif request is not None:
            self._pass.forget(request)

    def pause_writing(self) -> None:
        """The client does not keep up."""
        if self._inner is not None:
            self._inner.pause_writing()
        elif self.exchange is not None:
            self.exchange.client_writable(False)

    def resume_writing(self) -> None:
        """The client keeps up again."""
        if self._inner is not None:
            self._inner.resume_writing()
        elif self.exchange is not None:
            self.exchange.client_writable(True)

    # -- the pass and the relay call

    @property
    def address(self) -> str:
        """The client's network address as the socket sees it; "" for a Unix socket."""
        peer = self.transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""

    def write(self, data: bytes) -> None:
        """Bytes of an answer."""
        self.transport.write(data)

    def pause_reading(self) -> None:
        """The upstream does not keep up with the upload."""
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.deadline = 0.0
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """It does again."""
        if self._paused and not self.transport.is_closing():
            self._paused = False
            self.transport.resume_reading()

    def tunnel(self) -> None:
        """From now on bytes go to the exchange unread."""
        self._tunnel = True
        self.deadline = 0.0
        if self._early:
            early, self._early = self._early, b""
            assert self.exchange is not None
            self.exchange.client_tunnel(early)

    def cut(self, *, framed: bool) -> None:
        """End the connection without ending the answer, so that the client sees that it is not whole.

        What was written still reaches the client: a framed body just stays unfinished. A body that the connection's
        end would complete can only be told to be broken by a reset.
        """
        self.exchange = None
        self.active = None
        self.closing = True
        if not framed:
            _reset_on_close(self.transport)
        self.transport.close()

    def answered(self, *, close: bool) -> None:
        """The active request's answer has been written in full."""
        request = self.active
        self.exchange = None
        self.active = None
        if close or self.closing or request is None or not request.complete:
            self._close(unread=request is not None and not request.complete)
            return
        self.resume_reading()
        self.deadline = self._pass.now() + self._pass.keepalive_s
        self._pump()

    def refuse(self, refusal: Refusal, extra: bytes = b"") -> None:
        """Answer the active request ourselves; `extra` are header lines with CRLF."""
        request = self.active
        assert request is not None
        body = refusal.body()
        # A short body that is still to come is read and thrown away, so that the connection can be used again.
        close = not request.keep_alive or not request.complete or self.closing
        head = [b"HTTP/1.1 %d %b\r\n" % (refusal.status, _REASONS.get(refusal.status, b"Error"))]
        head.append(b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body))
        head.extend(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in refusal.headers)
        head.append(extra)
        if close:
            head.append(b"connection: close\r\n")
        elif request.http_1_0:
            head.append(b"connection: keep-alive\r\n")
        head.append(b"\r\n")
        if request.method != b"HEAD":
            head.append(body)
        self.write(b"".join(head))
        self.answered(close=close)

    def close_when_idle(self) -> None:
        """The server stops: close now, or after the answer that is under way."""
        self.closing = True
        if self._inner is None and self.active is None and not self._queue:
            self.transport.close()

    def expired(self) -> None:
        """The deadline passed: a client that sends nothing, or stopped in mid-request, is not waited for."""
        if self.active is None and not self._started:
            self.transport.close()
        elif self.exchange is None and self.active is not None:
            self.refuse(Refusal(408, "request_timeout", "The request did not arrive in time."))
        else:
            self.transport.abort()

    # -- inside

    def _close(self, *, unread: bool) -> None:
        self.closing = True
        self._queue.clear()
        self._early = b""
        self._started = False
        if unread and self.transport.can_write_eof() and not self.transport.is_closing():
            # Closing with bytes unread makes the kernel send RST, which can destroy our answer before it is read.
            self._lingered = 0
            self.deadline = self._pass.now() + LINGER_S
            self.resume_reading()
            self.transport.write_eof()
        else:
            self.transport.close()

    def _keep_early(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > EARLY_MAX_BYTES:
            self.pause_reading()

    def _open(self, data: bytes) -> None:
        """The first bytes of a request."""
        if self._early:
            data = self._early + data
            self._early = b""
        if self.closing:
            return
        ours = leads_to_v1(data)
        if ours is None:
            self._early = data
            return
        if ours:
            self._feed(data)
            return
        self._inner = self._admin()
        self.deadline = 0.0
        self._inner.connection_made(self.transport)
        self._inner.data_received(data)

    def _to_admin(self, data: bytes) -> None:
        """Aiohttp has the connection; take it back when it rests and a request for the data plane comes."""
        inner = self._inner
        assert inner is not None
        resting = (
            getattr(inner, "_current_request", inner) is None
            and not getattr(inner, "_messages", True)
            and getattr(inner, "_payload_parser", inner) is None
        )
        if resting and leads_to_v1(data):
            self._inner = None
            inner.transport = None  # type: ignore[attr-defined]  # or its connection_lost would close it
            inner.connection_lost(None)
            self._feed(data)
        else:
            inner.data_received(data)

    def _feed(self, data: bytes) -> None:
        self._feeding = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._parser = httptools.HttpRequestParser(self)
            self._started = False
            rest = data[upgrade.args[0] :]
            if rest and self._tunnel and self.exchange is not None:
                self.exchange.client_tunnel(rest)
            elif rest:
                self._keep_early(rest)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, Refusal):
                raise
            self._malformed(cause)
        except httptools.HttpParserError as error:
            self._malformed(
                Refusal(400, "invalid_http", f"The request is not valid HTTP: {error}.", reason="malformed")
            )
        finally:
            self._feeding = False
        if self._started and self._reading is None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                self._malformed(
                    Refusal(
                        431, "headers_too_large", "The request's headers are too large.", reason="malformed"
                    )
                )
        if self._early and not self._started:
            self._pump()

    def _pump(self) -> None:
        """Start what came ahead. A loop, not a recursion: one packet can hold thousands of refused requests."""
        if self._pumping or self._feeding:
            return
        self._pumping = True
        try:
            while self.active is None and not self.closing:
                if self._queue:
                    self._start(self._queue.popleft())
                elif self._early and not self._started:
                    early, self._early = self._early, b""
                    self._open(early)
                    if self._early:
                        break
                else:
                    break
        finally:
            self._pumping = False

    def _start(self, request: Request) -> None:
        if not request.target.startswith(_V1) and not leads_to_v1(b"X " + request.target):
            self._close(unread=False)  # pipelined behind a data-plane request: the client asks again
            return
        self.active = request
        self.resume_reading()
        self.deadline = 0.0 if request.complete else self._pass.now() + self._pass.body_timeout_s
        self._pass.begin(self, request)
        if request.complete and request.collecting and self.active is request:
            self._pass.proceed(self, request)

    def _malformed(self, refusal: Refusal) -> None:
        self._pass.malformed(refusal)
        self._started = False
        self._parser = httptools.HttpRequestParser(self)
        closed, self.closing = self.transport.is_closing() or self._lingered >= 0, True
        reading = self._reading
        broken = reading is not None and reading is self.active and not reading.complete
        if closed:
            return
        if self.active is None or (broken and self.exchange is None):
            body = refusal.body()
            self.write(
                b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (refusal.status, _REASONS[refusal.status], len(body), body)
            )
            self._close(unread=True)
        elif broken:
            self.transport.abort()  # its body broke off; connection_lost tells the exchange
        # else an answer is still due; the connection closes behind it

    # -- llhttp calls

    def on_message_begin(self) -> None:
        """A request starts."""
        if self.active is None:
            self.deadline = self._pass.now() + self._pass.head_timeout_s
        self._started = True
        self._reading = None
        self._header_list = []
        self._target = b""
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer."""
        if self._reading is None:
            self._header_list.append((name, value.rstrip(b" \t")))
        else:
            self._reading.trailers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is complete: the request can start, or waits for its turn."""
        parser = self._parser
        target = self._target
        if not target.startswith(b"/") and b"://" in target:
            target = (
                b"/" + target.split(b"/", 3)[3]
            )  # absolute form (RFC 9112, 3.2.2); leads_to_v1 has seen its path
        request = Request(
            parser.get_method(),
            target,
            self._header_list,
            http_1_0=parser.get_http_version() == "1.0",
            keep_alive=parser.should_keep_alive(),
            upgrade=parser.should_upgrade(),
            started=self._pass.now(),
            started_us=self._pass.now_us(),
        )
        _check_framing(request, parser.get_http_version())
        self._reading = request
        if not request.has_body:
            request.complete = True
        if self.closing:
            return
        if self.active is None and not self._queue:
            self._start(request)
        else:
            self._queue.append(request)

    def on_body(self, data: bytes) -> None:
        """A part of a request's body."""
        request = self._reading
        assert request is not None
        request.received += len(data)
        if request is not self.active:
            request.body.append(data)
            if request.received > EARLY_MAX_BYTES:
                self.pause_reading()  # until its turn comes
        elif self.exchange is not None:
            self.deadline = self._pass.now() + self._pass.body_timeout_s
            self.exchange.upload(data)
        elif request.collecting:
            request.body.append(data)
            self.deadline = self._pass.now() + self._pass.body_timeout_s
            if request.received > self._pass.body_max:
                self._pass.proceed(self, request)
        elif not self.closing:
            request.body.append(data)  # admission is being asked
            if request.received > EARLY_MAX_BYTES:
                self.pause_reading()

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self._reading
        self._started = False
        if request is None:
            return
        had_body = not request.complete
        request.complete = True
        if request is not self.active:
            return
        self.deadline = 0.0
        if not had_body:
            return
        if self.exchange is not None:
            self.exchange.upload_end()
        elif request.collecting:
            self._pass.proceed(self, request)


def _reset_on_close(transport: asyncio.Transport) -> None:
    """Make the kernel end the connection with RST. uvloop's socket only has getters, hence the second object."""
    named = transport.get_extra_info("socket")
    if named is None or transport.is_closing():
        return
    sock = socket.socket(fileno=named.fileno())
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    except OSError:
        return
    finally:
        sock.detach()


def _check_framing(request: Request, version: str) -> None:
    """Refuse what llhttp accepts and we could not pass on as it was meant."""
    if version not in {"1.0", "1.1"}:
        raise Refusal(505, "invalid_http", "The request is not HTTP/1.1 or HTTP/1.0.", reason="malformed")
    if request.chunked:
        codings = [value.lower() for name, value in request.headers if name.lower() == b"transfer-encoding"]
        if codings != [b"chunked"] or version == "1.0":  # RFC 9112, 6.1
            raise Refusal(
                501, "invalid_http", "The only transfer coding understood is chunked.", reason="malformed"
            )


_REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
