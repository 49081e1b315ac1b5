"""The relay: the data path of one exchange between a client's connection and an upstream's.

Bytes of the answer go to the client's transport as they arrive and are looked at afterwards. Neither side can make the
other's data pile up here: a client that reads slowly stops the upstream, an upstream that reads slowly stops the upload.
However an exchange ends (answer complete, cut, timed out, unreachable, client gone), `Ends.end` is called exactly once.
"""

from __future__ import annotations

import asyncio

from proxy.core.answerhead import ResponseHead
from proxy.core.framing import Body
from proxy.core.record import Outcome
from proxy.core.refusal import Refusal, unavailable
from proxy.gateway.dial import DialError
from proxy.gateway.exchange import Exchange
from proxy.gateway.faults import CLOSED, LATE, UNASKED, disconnected, unreachable
from proxy.gateway.front import Front
from proxy.gateway.limits import RelayLimits
from proxy.gateway.roles import Ends, Listener
from proxy.gateway.upload import Upload
from proxy.gateway.upstream import Pool, UpstreamConnection
from proxy.gateway.writer import AnswerWriter


class Relay:
    """Drives one exchange. Implements the front's `Exchanging` and the connection's `Listener`."""

    __slots__ = (
        "_body", "_client_open", "_connection", "_dialing", "_draining", "_ends", "_front", "_limits", "_over",
        "_paused_upstream", "_pool", "_strip", "_tunnel", "_upload", "_writer", "deadline", "exchange", "listener",
    )  # fmt: skip

    def __init__(
        self, front: Front, exchange: Exchange, pool: Pool, ends: Ends, limits: RelayLimits, head: bytes
    ) -> None:
        self._front = front
        self._writer = AnswerWriter(front)
        self.exchange = exchange
        self._pool = pool
        self._ends = ends
        self._limits = limits
        self._upload = Upload(exchange.request, head)
        self._connection: UpstreamConnection | None = None
        self.listener: Listener | None = None
        """Who hears the connection in the relay's stead. Not itself where nobody does: that would be a cycle, and every
        exchange wait for the garbage collector with all it holds."""
        self._dialing: asyncio.Task[None] | None = None
        self._body: Body | None = None
        self._strip = False
        self._client_open = True
        self._draining = self._paused_upstream = self._tunnel = self._over = False
        self.deadline = 0.0
        """Monotonic time at which `expired` is to be called; 0: never."""

    # -- the pass calls

    def start(self, body: bytes, *, streaming: bool, upload_chunked: bool) -> None:
        """Send the request: `body` is all of it, or with `streaming` what has come so far."""
        self._ends.relays.add(self)
        self._upload.begin(body, streaming=streaming, chunked=upload_chunked)
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
            self._refuse(LATE, "upstream_timeout")
        else:
            self._cut("upstream_timeout")

    def cancel(self) -> None:
        """The server stops and won't wait for this exchange."""
        self._drop_upstream()
        if self._client_open and not self.exchange.client_status:
            self._refuse(unavailable("stopping", "The proxy is stopping.", 1, "stopping"), "upstream_cut")
        elif self._client_open:
            self._cut("upstream_cut")
        else:
            self._end("client_gone")

    # -- the front calls

    def upload(self, data: bytes) -> None:
        """More of the request's body."""
        if self._over:
            return
        self._ends.uploaded(self.exchange, data)
        if not self._upload.piece(data):
            self._front.pause_reading()
        if self._connection is not None:
            self.deadline = self._ends.now() + self._limits.first_byte_s

    def upload_end(self) -> None:
        """The request's body is complete, its trailers included."""
        if not self._over:
            self._upload.end()

    def client_gone(self) -> None:
        """The client hung up: cancel upstream, or by setting read the answer to its end for the meter."""
        self._client_open = False
        if self._over:
            return
        connection = self._connection
        drains = self._limits.drain_s is not None and self.exchange.request.complete and not self._tunnel
        if drains and connection is not None:
            self._draining = True
            self.deadline = self._ends.now() + (self._limits.drain_s or 0)
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
            limit_s = self._limits.idle_s if self.exchange.ttfb else self._limits.first_byte_s
            self.deadline = self._ends.now() + limit_s
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
            self._refuse(UNASKED, "upstream_cut")
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
        self._upload.let_go()
        if self._client_open:
            exchange.client_status = head.status
            self._writer.begin(head, body, request, added, strip=self._strip)

    def upstream_body(self, raw: bytes, content: bytes) -> None:
        """Pass on, then look. The last bytes wait for `upstream_end`, which follows at once."""
        body, ends = self._body, self._ends
        is_last = body is not None and body.done
        if self._strip:
            shown = ends.answer_strip(self.exchange, content, last=False) if content else b""
            if self._client_open:
                self._writer.show(shown)
                if not is_last:
                    self._writer.flush()
        else:
            if self._client_open:
                self._writer.take(raw, content, last=is_last)
            ends.answer_body(self.exchange, content)
        if not is_last and not self._draining and not self._paused_upstream:
            self.deadline = ends.now() + self._limits.idle_s

    def upstream_end(self) -> None:
        """The answer is complete."""
        self._connection = None
        exchange, writer = self.exchange, self._writer
        if self._strip:
            writer.show(self._ends.answer_strip(exchange, b"", last=True))
        writer.end()
        outcome: Outcome = "upstream_error" if exchange.status >= 400 else "success"
        # Settled and recorded before the last bytes reach the network, so that a client that asks next finds it.
        self._end("client_gone" if self._draining else outcome, at_once=False)
        if self._client_open:
            self._ends.then(self._answer)

    def _answer(self) -> None:
        """Its record is written, so the last bytes may leave."""
        if self._client_open:
            self._client_open = False
            self._writer.flush()
            self._front.answered(close=self._writer.closes)

    def upstream_kept(self) -> None:
        """The answer is complete, but held; its connection is free for others."""
        self._connection = None
        self.deadline = 0.0

    def give_up(self, refusal: Refusal, outcome: Outcome = "upstream_error") -> None:
        """Answer so, in place of the answer that was held, or of forwarding anything."""
        self._drop_upstream()
        self._refuse(refusal, outcome)

    def upstream_tunnel(self, data: bytes) -> None:
        """The upstream's bytes after a 101."""
        self._front.write(data)
        self._ends.tunnelled(self.exchange, data, from_client=False)

    def upstream_lost(self, reason: str) -> None:
        """The connection broke: try again where nothing can have happened, else say so."""
        connection, self._connection = self._connection, None
        if self._tunnel:
            self._end_tunnel(b"")
            return
        if self._draining:
            self._end("client_gone")
            return
        if self.exchange.client_status:
            self._cut("upstream_cut")
            return
        if self._upload.may_repeat(connection):
            self._dial()
            return
        self._refuse(disconnected(connection, reason), "upstream_cut")

    def upstream_writable(self, writable: bool) -> None:
        """Backpressure from the upstream reaches the client."""
        if self._client_open and writable:
            self._front.resume_reading()
        elif self._client_open:
            self._front.pause_reading()

    # -- inside

    def _dial(self) -> None:
        task = asyncio.get_running_loop().create_task(self._connect())
        self._dialing = task
        self._ends.keep_task(task)

    async def _connect(self) -> None:
        try:
            connection = await self._pool.dial()
        except DialError as error:
            self._dialing = None
            self._refuse(unreachable(error), "upstream_unreachable")
            return
        self._dialing = None
        if self._over:
            self._pool.put(connection)
        elif connection.transport.is_closing():
            self._refuse(CLOSED, "upstream_unreachable")
        else:
            self._send(connection)

    def _send(self, connection: UpstreamConnection) -> None:
        self._connection = connection
        now = self._ends.now()
        self.exchange.forwarded = now
        self.deadline = now + self._limits.first_byte_s
        self._upload.send_on(connection, self.listener or self)
        self._ends.then(self._leave)
        if self._client_open:
            self._front.resume_reading()

    def _leave(self) -> None:
        """Its open line is written, so the request may leave; or it could not be."""
        unopened = self._ends.unopened
        if unopened and not self._over and self.exchange.id in unopened:
            self.give_up(unopened[self.exchange.id], "refused")
        elif self._connection is not None:
            self._connection.flush()

    def _begin_tunnel(self, head: ResponseHead, added: bytes) -> None:
        self._tunnel = True
        self.deadline = 0.0
        self.exchange.client_status = 101
        added += b"connection: Upgrade\r\nupgrade: websocket\r\n"
        self._front.write(head.render(added, reframed=False))
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

    def _drop_upstream(self) -> None:
        if self._dialing is not None:
            self._dialing.cancel()
            self._dialing = None
        connection, self._connection = self._connection, None
        if connection is not None and not connection.abandon():
            self.exchange.forwarded = 0.0

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
            self._writer.show(self._ends.answer_strip(self.exchange, b"", last=True))
        if self._client_open:
            self._writer.flush()
        self._end(outcome)
        if self._client_open:
            self._client_open = False
            self._front.cut(framed=self._writer.framed)

    def _end(self, outcome: Outcome, *, at_once: bool = True) -> None:
        if self._over:
            return
        self._over = True
        self.listener = None
        self.deadline = 0.0
        if not self._tunnel:
            self.exchange.bytes_out = self._writer.sent
        self._ends.relays.discard(self)
        self._ends.end(self.exchange, outcome)
        if at_once:  # what the client is told next must not come before the record
            self._ends.commit()
