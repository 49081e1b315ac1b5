"""The relay: the data path of one exchange between a client's connection and an upstream's.

Bytes of the answer go to the client's transport as they arrive and are looked at afterwards. Neither side can make the
other's data pile up here: a client that reads slowly stops the upstream, an upstream that reads slowly stops the upload.
However an exchange ends (answer complete, cut, timed out, unreachable, client gone), `on_end` is called exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from proxy.core.framing import LAST_CHUNK, Body, ResponseHead, chunk
from proxy.core.record import Outcome
from proxy.core.refusal import Refusal, bad_gateway, gateway_timeout
from proxy.gateway.dial import DialError
from proxy.gateway.exchange import Exchange
from proxy.gateway.front import Front
from proxy.gateway.upstream import Pool, UpstreamConnection

UPLOAD_HELD_MAX_BYTES = 256 * 1024
_IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE"})  # RFC 9110, 9.2.2


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Times in seconds."""

    first_byte_s: float
    idle_s: float
    drain_s: float | None
    """How long an answer is still read after its client hung up; None: it is cancelled at once."""


class Ends(Protocol):
    """What the relay asks of the pass."""

    now: Callable[[], float]
    relays: set[Relay]

    def answer_head(self, exchange: Exchange, head: ResponseHead) -> bytes:
        """The answer's head came: open the meter; returns the header lines to add."""

    def answer_body(self, exchange: Exchange, content: bytes) -> None:
        """A part of the answer has been passed on: meter it. Never raises."""

    def answer_strip(self, exchange: Exchange, content: bytes, *, last: bool) -> bytes:
        """A part of a spliced answer: meter it, and return what the client may see. Never raises."""

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, end_client: Callable[[bytes], None]
    ) -> None:
        """The answer was 101. `end_client` sends last bytes to the client and closes both sides."""

    def tunnelled(self, exchange: Exchange, data: bytes, *, from_client: bool) -> None:
        """Bytes that passed through a tunnel. Never raises."""

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """The exchange is over: settle and record. Never raises."""

    def keep_task(self, task: asyncio.Task[None]) -> None:
        """Own a task until it is done."""


class Relay:
    """Drives one exchange. Implements the front's `Exchanging` and the connection's `Listener`."""

    __slots__ = (
        "_body",
        "_client_open",
        "_close_after",
        "_connection",
        "_dialing",
        "_draining",
        "_ends",
        "_framed",
        "_front",
        "_head",
        "_held",
        "_held_bytes",
        "_limits",
        "_method",
        "_over",
        "_paused_upstream",
        "_pool",
        "_rechunk",
        "_replayable",
        "_strip",
        "_tunnel",
        "_unframe",
        "_unsent",
        "_upload_chunked",
        "deadline",
        "exchange",
    )

    def __init__(
        self, front: Front, exchange: Exchange, pool: Pool, ends: Ends, limits: RelayLimits, *, head: bytes
    ) -> None:
        self._front = front
        self.exchange = exchange
        self._pool = pool
        self._ends = ends
        self._limits = limits
        self._head = head
        self._method = exchange.request.method
        self._connection: UpstreamConnection | None = None
        self._dialing: asyncio.Task[None] | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._replayable = True
        self._upload_chunked = False
        self._body: Body | None = None
        self._strip = False
        self._unframe = False
        self._unsent = b""
        self._rechunk = False
        self._framed = True
        self._close_after = False
        self._client_open = True
        self._draining = False
        self._paused_upstream = False
        self._tunnel = False
        self._over = False
        self.deadline = 0.0
        """Monotonic time at which `expired` is to be called; 0: never."""

    # -- the pass calls

    def start(self, body: bytes, *, streaming: bool, upload_chunked: bool) -> None:
        """Send the request: `body` is all of it, or with `streaming` what has come so far."""
        self._upload_chunked = upload_chunked
        self._replayable = not streaming
        self._ends.relays.add(self)
        if body:
            self._held.append(chunk(body) if upload_chunked else body)
            self._held_bytes = len(body)
        if not streaming and upload_chunked:
            self._held.append(LAST_CHUNK)
        connection = self._pool.take()
        if connection is not None:
            self._send(connection)
        else:
            self._dial()

    def expired(self) -> None:
        """The upstream did not answer, or stopped answering, in time."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.abandon()
        if self._draining:
            self._end("client_gone")
        elif not self.exchange.client_status:
            self._refuse(
                gateway_timeout("upstream_timeout", "The upstream did not answer in time."),
                "upstream_timeout",
            )
        else:
            self._cut("upstream_timeout")

    def cancel(self) -> None:
        """The server stops and won't wait for this exchange."""
        self._drop_upstream()
        if self._client_open:
            self._cut("upstream_cut")
        else:
            self._end("client_gone")

    # -- the front calls

    def upload(self, data: bytes) -> None:
        """More of the request's body."""
        if self._over:
            return
        if self._upload_chunked:
            data = chunk(data)
        if self._connection is not None:
            self._connection.send(data)
            self.deadline = self._ends.now() + self._limits.first_byte_s
        else:
            self._held.append(data)
            self._held_bytes += len(data)
            if self._held_bytes > UPLOAD_HELD_MAX_BYTES:
                self._front.pause_reading()

    def upload_end(self) -> None:
        """The request's body is complete, its trailers included."""
        last = b""
        if self._upload_chunked:
            trailers = self.exchange.request.trailers
            lines = b"".join(b"%b: %b\r\n" % pair for pair in trailers)
            last = b"0\r\n" + lines + b"\r\n"
        if self._connection is not None:
            self._connection.send(last, last=True)
        elif last:
            self._held.append(last)

    def client_gone(self) -> None:
        """The client hung up: cancel upstream, or by setting read the answer to its end for the meter."""
        self._client_open = False
        if self._over:
            return
        connection = self._connection
        request_complete = self.exchange.request.complete
        if (
            self._limits.drain_s is not None
            and connection is not None
            and request_complete
            and not self._tunnel
        ):
            self._draining = True
            self.deadline = self._ends.now() + self._limits.drain_s
            if self._paused_upstream:
                self._paused_upstream = False
                connection.resume()
            return
        self._drop_upstream()
        self._end("success" if self._tunnel else "client_gone")

    def client_writable(self, writable: bool) -> None:
        """Backpressure from the client reaches the upstream."""
        connection = self._connection
        if connection is None:
            return
        if writable and self._paused_upstream:
            self._paused_upstream = False
            connection.resume()
            self.deadline = self._idle_deadline()
        elif not writable and not self._paused_upstream:
            self._paused_upstream = True
            connection.pause()
            self.deadline = 0.0  # a slow client is not a silent upstream

    def client_tunnel(self, data: bytes) -> None:
        """The client's bytes after a 101."""
        if self._connection is not None:
            self._connection.send(data)
            self._ends.tunnelled(self.exchange, data, from_client=True)

    # -- the upstream's connection calls

    def upstream_head(self, head: ResponseHead, body: Body) -> None:
        """An interim answer is passed on, a final one begins."""
        if head.status < 200 and head.status != 101:
            if self._client_open and not self.exchange.request.http_1_0:
                self._front.write(head.render(b"", reframed=False))
            return
        exchange = self.exchange
        request = exchange.request
        if head.status == 101 and not (request.websocket and self._client_open):
            self._drop_upstream()
            self._refuse(
                bad_gateway("upstream_invalid", "The upstream changed protocols unasked."), "upstream_cut"
            )
            return
        now = self._ends.now()
        exchange.ttfb = now
        exchange.status = head.status
        self._body = body
        added = self._ends.answer_head(exchange, head)
        if head.status == 101:
            self._begin_tunnel(head, added)
            return
        self.deadline = now + self._limits.idle_s if not self._draining else self.deadline
        self._strip = exchange.spliced
        # The client's framing is the upstream's, byte for byte, unless the body changes or the client can't read it.
        self._unframe = body.chunked and (request.http_1_0 or self._strip)
        # Only a client that reads chunks can see that an answer until close was cut.
        until_close = not body.framed and b"transfer-encoding" not in head.fields
        reframed = self._unframe or (self._strip and body.framed) or until_close
        self._rechunk = reframed and not request.http_1_0 and not body.done
        if self._rechunk:
            added += b"transfer-encoding: chunked\r\n"
        self._framed = body.done or self._rechunk or (body.framed and not reframed)
        self._close_after = (
            not request.keep_alive or not request.complete or not self._framed or self._front.closing
        )
        self._held = []
        if self._close_after:
            added += b"connection: close\r\n"
        elif request.http_1_0:
            added += b"connection: keep-alive\r\n"
        if self._client_open:
            exchange.client_status = head.status
            self._unsent = head.render(added, reframed=reframed)

    def upstream_body(self, raw: bytes, content: bytes) -> None:
        """Pass on, then look. A head waits for the body bytes that came with it: a write is a system call, and those are
        two thirds of what forwarding costs. The last bytes wait for `upstream_end`, which follows at once.
        """
        exchange = self.exchange
        if self._strip:
            shown = self._ends.answer_strip(exchange, content, last=False) if content else b""
            if self._client_open and (shown or self._unsent):
                self._show(shown)
                if self._body is None or not self._body.done:
                    self._write_unsent()
        elif self._body is not None and self._body.done:
            if self._client_open:
                exchange.bytes_out += len(content)
                self._unsent += content if self._unframe else raw
            self._ends.answer_body(exchange, content)
        else:
            if self._client_open:
                exchange.bytes_out += len(content)
                data = content if self._unframe else chunk(raw) if self._rechunk else raw
                if self._unsent:
                    data = self._unsent + data
                    self._unsent = b""
                self._front.write(data)
            self._ends.answer_body(exchange, content)
        if not self._draining and not self._paused_upstream:
            self.deadline = self._ends.now() + self._limits.idle_s

    def upstream_end(self) -> None:
        """The answer is complete."""
        self._connection = None
        exchange = self.exchange
        if self._strip:
            self._show(self._ends.answer_strip(exchange, b"", last=True))
        if self._rechunk:
            self._unsent += LAST_CHUNK
        # Settled and recorded before the last bytes reach the network, so that a client that asks next finds it.
        self._end(
            "client_gone" if self._draining else "upstream_error" if exchange.status >= 400 else "success"
        )
        if self._client_open:
            self._client_open = False
            self._write_unsent()
            self._front.answered(close=self._close_after)

    def upstream_tunnel(self, data: bytes) -> None:
        """The upstream's bytes after a 101."""
        self._front.write(data)
        self._ends.tunnelled(self.exchange, data, from_client=False)

    def upstream_lost(self, reason: str) -> None:
        """The connection broke: try again where nothing can have happened, else say so."""
        connection, self._connection = self._connection, None
        if self._tunnel:
            self._end("success")
            if self._client_open:
                self._client_open = False
                self._front.transport.close()
            return
        if self._draining:
            self._end("client_gone")
            return
        if self.exchange.client_status:
            self._cut("upstream_cut")
            return
        if connection is not None and connection.served and not connection.answered and self._may_repeat():
            self._dial()
            return
        message = "The upstream closed the connection without an answer."
        if connection is not None and connection.answered:
            message = f"The upstream's answer is not valid HTTP: {reason}."
        self._refuse(bad_gateway("upstream_disconnected", message), "upstream_cut")

    def upstream_writable(self, writable: bool) -> None:
        """Backpressure from the upstream reaches the client."""
        if not self._client_open:
            return
        if writable:
            self._front.resume_reading()
        else:
            self._front.pause_reading()

    # -- inside

    def _may_repeat(self) -> bool:
        """A kept connection died without a byte of answer. A POST may have been served and billed, so it is repeated
        only when it carries an Idempotency-Key (RFC 9110, 9.2.2).
        """
        request = self.exchange.request
        return self._replayable and (request.method in _IDEMPOTENT or b"idempotency-key" in request.fields)

    def _dial(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._dialing = task
        self._ends.keep_task(task)

    async def _connect(self) -> None:
        try:
            connection = await self._pool.dial()
        except DialError as error:
            self._dialing = None
            answer = gateway_timeout if error.code.endswith("timeout") else bad_gateway
            self._refuse(answer(error.code, error.message), "upstream_unreachable")
            return
        self._dialing = None
        if self._over:
            self._pool.put(connection)
        elif connection.transport.is_closing():
            self._refuse(
                bad_gateway("upstream_disconnected", "The upstream closed the connection."),
                "upstream_unreachable",
            )
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        request = self.exchange.request
        now = self._ends.now()
        self.exchange.forwarded = now
        self.deadline = now + self._limits.first_byte_s
        data = b"".join((self._head, *self._held)) if self._held else self._head
        if not self._replayable:
            self._held = []
        connection.begin(self, self._method, data, complete=request.complete)
        if self._client_open:
            self._front.resume_reading()

    def _begin_tunnel(self, head: ResponseHead, added: bytes) -> None:
        self._tunnel = True
        self.deadline = 0.0
        self.exchange.client_status = 101
        self._front.write(
            head.render(added + b"connection: Upgrade\r\nupgrade: websocket\r\n", reframed=False)
        )
        self._ends.open_tunnel(self.exchange, head, self._end_tunnel)
        self._front.tunnel()

    def _end_tunnel(self, last: bytes) -> None:
        """Close both sides of a tunnel, the client's with last words."""
        self._drop_upstream()
        self._end("success")
        if self._client_open:
            self._client_open = False
            self._front.write(last)
            self._front.transport.close()

    def _idle_deadline(self) -> float:
        return self._ends.now() + (self._limits.idle_s if self.exchange.ttfb else self._limits.first_byte_s)

    def _drop_upstream(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abandon()

    def _refuse(self, refusal: Refusal, outcome: Outcome) -> None:
        """Answer instead of the upstream; nothing of an answer has been sent yet."""
        self.exchange.refusal = refusal
        if self._client_open:
            self.exchange.client_status = refusal.status
        self._end(outcome)
        if self._client_open:
            self._client_open = False
            self._front.refuse(refusal, b"x-proxy-request-id: %b\r\n" % self.exchange.id.encode())

    def _cut(self, outcome: Outcome) -> None:
        """The answer broke off after its head: break the client's connection too, so that it can tell."""
        if self._strip and self._client_open:
            self._show(self._ends.answer_strip(self.exchange, b"", last=True))
        if self._client_open:
            self._write_unsent()
        self._end(outcome)
        if self._client_open:
            self._client_open = False
            self._front.cut(framed=self._framed)

    def _show(self, shown: bytes) -> None:
        """Take up bytes of a stripped answer, framed as the client's are."""
        if shown:
            self.exchange.bytes_out += len(shown)
            self._unsent += chunk(shown) if self._rechunk else shown

    def _write_unsent(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._front.write(unsent)

    def _end(self, outcome: Outcome) -> None:
        if self._over:
            return
        self._over = True
        self.deadline = 0.0
        self._ends.relays.discard(self)
        self._ends.end(self.exchange, outcome)
