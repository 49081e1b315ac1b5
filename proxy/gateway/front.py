"""The front: one client connection. It reads requests with llhttp and leads each to where it belongs.

Requests under /v1/ take the pass (handler.py). Anything else is aiohttp's: the front then steps aside and hands the
connection's bytes to an aiohttp protocol until a request under /v1/ comes again. aiohttp's own request and response
objects cost 42 µs where this costs 17, and would change bytes that we promise to pass on (docs/adr/0002).

Guarantees: answers leave in the order of the requests (pipelining); what a client sends ahead is bounded; a connection
that ends tells the exchange under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from proxy.core.lonerequest import stands_alone
from proxy.core.refusal import Refusal
from proxy.gateway.handover import V1, Handover, leads_to_v1
from proxy.gateway.intake import MUCH_BYTES, Intake
from proxy.gateway.reader import RequestReader
from proxy.gateway.request import Request
from proxy.gateway.roles import Exchanging, Pass
from proxy.gateway.sockets import reset_on_close

EARLY_MAX_BYTES: Final = 64 * 1024
SEND_BUFFER_BYTES: Final = 256 * 1024
LINGER_S: Final = 5.0
LINGER_MAX_BYTES: Final = 16 * 2**20


class Front:
    """One client connection: an asyncio.Protocol but for its bases (see sockets.as_protocol)."""

    __slots__ = (
        "_admin", "_early", "_feeding", "_fronts", "_inner", "_intake", "_lingered", "_pass", "_pumping",
        "_queue", "_reader", "_tunnel", "active", "closing", "deadline", "exchange", "transport",
    )  # fmt: skip

    def __init__(self, passing: Pass, admin: Callable[[], asyncio.Protocol], fronts: set[Front]) -> None:
        self._pass = passing
        self._admin = admin
        self._fronts = fronts
        self._reader = RequestReader(self, passing.now, passing.now_us)
        self._inner: Handover | None = None
        self._queue: deque[Request] = deque()
        self._early = b""
        self._feeding = self._pumping = self._tunnel = False
        self._lingered = -1
        self._intake: Intake
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
        self._intake = Intake(self.transport)
        self.transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
        self._fronts.add(self)
        self.deadline = self._pass.now() + self._pass.head_timeout_s

    def data_received(self, data: bytes) -> None:
        """Bytes from the client."""
        if len(data) > MUCH_BYTES:
            self._intake.rest()
        if self._reader.busy:
            self._feed(data)
        elif self._tunnel:
            assert self.exchange is not None
            self.exchange.client_tunnel(data)
        elif self._lingered >= 0:
            self._lingered += len(data)
            if self._lingered > LINGER_MAX_BYTES:
                self.transport.abort()
        elif self._inner is not None:
            if rest := self._inner.receive(data):
                self._inner = None
                self._feed(rest)
        elif self.active is not None or self._queue:
            self._keep_early(data)
        elif self._pass.pressure.refusing and not (self._early or self.closing) and stands_alone(data):
            self.deadline = self._pass.now() + self._pass.keepalive_s
            self.write(self._pass.pressure.unread())
        else:
            self._open(data)

    def eof_received(self) -> bool:
        """The client will send no more: for us it has hung up. A half-closed client can't be told from a gone one."""
        if self._inner is not None:
            self._inner.protocol.eof_received()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._fronts.discard(self)
        self.closing = True
        self._queue.clear()
        self._early = b""
        if self._inner is not None:
            inner, self._inner = self._inner, None
            inner.protocol.connection_lost(exc)
        exchange, request = self.exchange, self.active
        self.exchange = self.active = None
        if exchange is not None:
            exchange.client_gone()
        elif request is not None:
            self._pass.forget(request)
        self._reader.close()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        if self._inner is not None:
            self._inner.protocol.pause_writing()
        elif self.exchange is not None:
            self.exchange.client_writable(False)

    def resume_writing(self) -> None:
        """The client keeps up again."""
        if self._inner is not None:
            self._inner.protocol.resume_writing()
        elif self.exchange is not None:
            self.exchange.client_writable(True)

    # -- the pass and the relay call

    def write(self, data: bytes) -> None:
        """Bytes of an answer."""
        self.transport.write(data)

    def pause_reading(self) -> None:
        """The upstream does not keep up with the upload."""
        if not self._intake.paused:
            self.deadline = 0.0
            self._intake.pause()

    def resume_reading(self) -> None:
        """It does again."""
        if self._intake.paused:
            self._intake.resume()

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
        self.exchange = self.active = None
        self.closing = True
        if not framed:
            reset_on_close(self.transport)
        self.transport.close()

    def answered(self, *, close: bool) -> None:
        """The active request's answer has been written in full."""
        request = self.active
        self.exchange = self.active = None
        if close or self.closing or request is None or not request.complete:
            self._close(unread=request is not None and not request.complete)
            return
        self.resume_reading()
        self.deadline = self._pass.now() + self._pass.keepalive_s
        if self._early or self._queue:
            self._pump()

    def refuse(self, refusal: Refusal, extra: bytes = b"") -> None:
        """Answer the active request ourselves; `extra` are header lines with CRLF."""
        request = self.active
        assert request is not None
        close = not request.keep_alive or not request.complete or self.closing
        if close:
            extra += b"connection: close\r\n"
        elif request.http_1_0:
            extra += b"connection: keep-alive\r\n"
        self.write(refusal.answer(extra, with_body=request.method != b"HEAD"))
        self.answered(close=close)

    def close_when_idle(self) -> None:
        """The server stops: close now, or after the answer that is under way."""
        self.closing = True
        if self._inner is None and self.active is None and not self._queue:
            self.transport.close()

    def expired(self) -> None:
        """The deadline passed: a client that sends nothing, or stopped in mid-request, is not waited for."""
        if self.active is None and not self._reader.busy:
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
        self._reader.busy = False
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
        data, self._early = self._early + data, b""
        if self.closing:
            return
        request = self._reader.again(data)
        if request is not None:
            self._begin(request)
        elif (ours := leads_to_v1(data)) is None:
            self._early = data
        elif ours:
            self._feed(data)
        else:
            self.deadline = 0.0
            self._inner = Handover(self._admin(), self.transport)
            self._inner.receive(data)

    def _feed(self, data: bytes) -> None:
        self._feeding, rest = True, b""
        try:
            rest = self._reader.feed(data)
        except Refusal as refusal:
            self._malformed(refusal)
        finally:
            self._feeding = False
        if rest and self._tunnel and self.exchange is not None:
            self.exchange.client_tunnel(rest)
        elif rest:
            self._keep_early(rest)
        if self._early and not self._reader.busy:
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
                elif self._early and not self._reader.busy:
                    early, self._early = self._early, b""
                    self._open(early)
                    if self._early:
                        break
                else:
                    break
        finally:
            self._pumping = False

    def _start(self, request: Request) -> None:
        if request.target.startswith(V1) or leads_to_v1(b"X " + request.target):
            self._begin(request)
        else:
            self._close(unread=False)  # pipelined behind a data-plane request: the client asks again

    def _begin(self, request: Request) -> None:
        self.active = request
        self.resume_reading()
        self.deadline = 0.0 if request.complete else self._pass.now() + self._pass.body_timeout_s
        self._pass.begin(self, request)
        if request.complete and request.collecting and self.active is request:
            self._pass.proceed(self, request)

    def _malformed(self, refusal: Refusal) -> None:
        self._pass.malformed(refusal)
        self._reader.reset()
        closed, self.closing = self.transport.is_closing() or self._lingered >= 0, True
        reading = self._reader.reading
        broken = reading is not None and reading is self.active and not reading.complete
        if closed:
            return
        if self.active is None or (broken and self.exchange is None):
            self.write(refusal.answer(b"connection: close\r\n"))
            self._close(unread=True)
        elif broken:
            self.transport.abort()  # its body broke off; connection_lost tells the exchange
        # else an answer is still due; the connection closes behind it

    # -- the reader calls

    def request_began(self) -> None:
        """The first byte of a request came."""
        if self.active is None:
            self.deadline = self._pass.now() + self._pass.head_timeout_s

    def request_head(self, request: Request) -> None:
        """A head is complete: the request can start, or waits for its turn."""
        if self.active is None and not self._queue and not self.closing:
            self._start(request)
        elif not self.closing:
            self._queue.append(request)

    def request_body(self, request: Request, data: bytes) -> None:
        """A piece of a request's body: streamed on, collected, or kept until admission or its turn."""
        if request is self.active and self.exchange is not None:
            self.deadline = self._pass.now() + self._pass.body_timeout_s
            self.exchange.upload(data)
        elif request is self.active and request.collecting:
            request.body.append(data)
            self.deadline = self._pass.now() + self._pass.body_timeout_s
            if request.length is None and request.received > self._pass.body_max:
                self._pass.proceed(self, request)
        elif not self.closing:
            request.body.append(data)
            if request.received > EARLY_MAX_BYTES:
                self.pause_reading()

    def request_end(self, request: Request, *, had_body: bool) -> None:
        """A request is complete."""
        if request is not self.active:
            return
        self.deadline = 0.0
        if had_body and self.exchange is not None:
            self.exchange.upload_end()
        elif had_body and request.collecting:
            self._pass.proceed(self, request)
