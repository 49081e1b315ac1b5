"""A tunnel: a WebSocket whose frames pass as they are, metered in passing.

Each response that ends on it becomes a record of its own, a child of the connection's; the quotas that bind the key are
asked again for the next one. When they are spent the connection is closed (1008) between two frames, since a request of
its own, which could be refused with 429, there is none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import orjson

from proxy.core.answerhead import ResponseHead
from proxy.core.refusal import Refusal
from proxy.core.shares import Reservation
from proxy.core.usage import Reading
from proxy.core.wsmeter import WsTap
from proxy.gateway.exchange import Exchange
from proxy.gateway.ledger import Ledger
from proxy.gateway.quotas import NeedsShare, Quotas

log = logging.getLogger(__name__)
CLOSE_POLICY = 1008
REASON_MAX_BYTES = 123
"""RFC 6455, 5.5: a control frame holds 125 bytes, two of which are the code."""


class Tunnel:
    """One metered WebSocket."""

    def __init__(
        self,
        exchange: Exchange,
        head: ResponseHead,
        *,
        ledger: Ledger,
        quotas: Quotas,
        end_client: Callable[[bytes], None],
        keep_task: Callable[[asyncio.Task[None]], None],
    ) -> None:
        """`end_client` sends last bytes to the client and closes both sides."""
        self._exchange = exchange
        self._ledger = ledger
        self._quotas = quotas
        self._end_client = end_client
        self._keep_task = keep_task
        self.extensions = head.fields.get(b"sec-websocket-extensions", b"").decode("latin-1")
        self._tap = WsTap(exchange.call, self.extensions)
        self._refusal: Refusal | None = None
        self._tells = False
        """The client is told why in an event before the connection is closed."""

    def feed(self, data: bytes, *, from_client: bool) -> None:
        """Bytes that have just been passed on."""
        for reading in self._tap.feed(data, from_client):
            self._ledger.response(self._exchange, reading)
            self._renew()
        if self._refusal is not None and self._tap.between_frames:
            self._end_client(self._last_words(self._refusal))

    def refuse(self, refusal: Refusal) -> None:
        """What the client sent goes no further: tell it so, and close the connection, as soon as a frame may follow."""
        self._refusal, self._tells = refusal, True
        if self._tap.between_frames or self._tap.failed:
            self._end_client(self._last_words(refusal))

    def _last_words(self, refusal: Refusal) -> bytes:
        told = self._tells and self._tap.between_messages
        return (error_frame(refusal) if told else b"") + close_frame(CLOSE_POLICY, refusal.code)

    def end(self) -> None:
        """The connection is over: responses that were under way are recorded, estimated by what was delivered."""
        for reading in self._tap.meter.unfinished():
            self._ledger.response(self._exchange, reading, outcome="client_gone")

    def finish(self, complete: bool) -> Reading:
        """What the connection itself used, besides its responses."""
        return self._tap.finish(complete)

    def _renew(self) -> None:
        """Reserve for the next response. The connection goes on meanwhile: what it uses is settled in any case."""
        exchange = self._exchange
        caller = exchange.caller
        if caller is None or exchange.reservation is not None:
            return
        need = self._ledger.need(exchange)
        try:
            exchange.reservation = self._quotas.admit(caller, exchange.call, need)
        except NeedsShare:
            self._keep_task(asyncio.get_running_loop().create_task(self._ask()))
        except Refusal as refusal:
            self._refusal = refusal

    async def _ask(self) -> None:
        exchange = self._exchange
        assert exchange.caller is not None
        need = self._ledger.need(exchange)
        try:
            reservation = await self._quotas.ask(exchange.caller, exchange.call, need)
        except Refusal as refusal:
            self._refusal = refusal
            if self._tap.between_frames and not exchange.ended:
                self._end_client(close_frame(CLOSE_POLICY, refusal.code))
        else:
            self._keep(reservation)

    def _keep(self, reservation: Reservation) -> None:
        if self._exchange.ended or self._exchange.reservation is not None:
            self._quotas.release(reservation)
        else:
            self._exchange.reservation = reservation


def error_frame(refusal: Refusal) -> bytes:
    """An `error` event of the Responses API's WebSocket mode, as an unmasked text frame: {"type", "status", "error"}."""
    error = {"type": refusal.type, "code": refusal.code, "message": refusal.message, "param": refusal.param}
    event = orjson.dumps({"type": "error", "status": refusal.status, "error": error})
    length = bytes((len(event),)) if len(event) < 126 else b"\x7e" + len(event).to_bytes(2, "big")
    return b"\x81" + length + event


def close_frame(code: int, reason: str) -> bytes:
    """An unmasked close frame, as servers send it (RFC 6455, 5.5.1)."""
    payload = code.to_bytes(2, "big") + reason.encode()[:REASON_MAX_BYTES]
    return bytes((0x88, len(payload))) + payload
