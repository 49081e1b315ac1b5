"""Answers: what the pass does with an answer while the relay passes it on. Metering faults never reach the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from proxy.core.answerhead import ResponseHead
from proxy.core.call import with_form
from proxy.core.forms import FormReader
from proxy.core.meter import kind_of, open_meter
from proxy.core.record import Outcome
from proxy.gateway.cors import Cors
from proxy.gateway.exchange import Exchange
from proxy.gateway.ledger import Ledger
from proxy.gateway.quotas import Quotas
from proxy.gateway.relay import Relay
from proxy.gateway.tokenizer import KEPT_BYTES_MAX, Tokenizer
from proxy.gateway.tunnel import Tunnel
from proxy.metrics import Metrics

log = logging.getLogger(__name__)
REQUEST_ID_MAX_CHARS: Final = 200


class Answers:
    """Meters every answer, and owns the exchanges under way. One per worker."""

    def __init__(
        self,
        *,
        now: Callable[[], float],
        ledger: Ledger,
        quotas: Quotas,
        cors: Cors,
        metrics: Metrics,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.now = now
        self._tokenizer = tokenizer
        self._quotas = quotas
        self.relays: set[Relay] = set()
        """Exchanges under way."""
        self._ledger = ledger
        self.then = ledger.then
        self.commit = ledger.commit
        self.unopened = ledger.unopened
        self._cors = cors
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()

    def keep(self, exchange: Exchange, body: bytes | None) -> None:
        """A body that was read whole is about to be forwarded: keep it while the tokenizer may have to count it."""
        if self._tokenizer is not None and self._tokenizer.ready and body and len(body) <= KEPT_BYTES_MAX:
            exchange.body = body

    def uploaded(self, exchange: Exchange, data: bytes) -> None:
        """A part of a form has been passed on: what it says besides its files is part of the call."""
        form = exchange.form
        if form is not None:
            try:
                form.feed(data)
            except Exception as error:  # noqa: BLE001  logged; never the client's
                exchange.form = None
                self._fault("form", error)

    def answer_head(self, exchange: Exchange, head: ResponseHead) -> bytes:
        """The answer's head came: open the meter; returns the header lines to add."""
        fields = head.fields
        kind = kind_of(fields.get(b"content-type", b""), fields.get(b"content-encoding", b""))
        exchange.streamed = kind.is_stream
        request_id = fields.get(b"x-request-id")
        if request_id is not None:
            exchange.upstream_request_id = request_id.decode("latin-1")[:REQUEST_ID_MAX_CHARS]
        if exchange.call.endpoint.meter == "media" and (location := fields.get(b"location")) is not None:
            exchange.location = location.decode("latin-1")
        added = b"x-proxy-request-id: " + exchange.id.encode() + b"\r\n"
        try:
            if exchange.form is not None:
                _read_form(exchange, exchange.form)
            added += self._ledger.quota_lines(exchange)
            meter = exchange.meter = open_meter(
                exchange.call,
                kind,
                status=head.status,
                strip_usage=exchange.spliced,
                keep_text=self._tokenizer is not None and self._tokenizer.ready,
            )
            exchange.spliced = meter.strips
        except Exception as error:  # noqa: BLE001  logged; never the client's
            self._fault("open", error)
        if b"origin" in exchange.request.fields and b"access-control-allow-origin" not in fields:
            added += self._cors.lines(exchange.request)
        return added

    def answer_body(self, exchange: Exchange, content: bytes) -> None:
        """A part of the answer has been passed on: meter it."""
        meter = exchange.meter
        if meter is not None and content:
            try:
                meter.feed(content)
            except Exception as error:  # noqa: BLE001  logged; never the client's
                exchange.meter = None
                self._fault("feed", error)

    def answer_strip(self, exchange: Exchange, content: bytes, *, last: bool) -> bytes:
        """A part of a spliced answer: meter it, and return what the client may see."""
        meter = exchange.meter
        if meter is not None:
            try:
                return meter.flush() if last else meter.feed_through(content)
            except Exception as error:  # noqa: BLE001  logged; never the client's
                exchange.meter = None
                self._fault("strip", error)
        return content

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, end_client: Callable[[bytes], None]
    ) -> None:
        """The answer was 101: from now on frames pass."""
        exchange.streamed = True
        exchange.tunnel = Tunnel(
            exchange,
            head,
            ledger=self._ledger,
            quotas=self._quotas,
            end_client=end_client,
            keep_task=self.keep_task,
        )

    def tunnelled(self, exchange: Exchange, data: bytes, *, from_client: bool) -> None:
        """Bytes that passed through a tunnel, in either direction."""
        if from_client:
            exchange.request.received += len(data)
        else:
            exchange.bytes_out += len(data)
        if exchange.tunnel is not None:
            try:
                exchange.tunnel.feed(data, from_client=from_client)
            except Exception as error:  # noqa: BLE001  logged; never the client's
                exchange.tunnel = None
                self._fault("tunnel", error)

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """The exchange is over: settle and record."""
        try:
            if exchange.form is not None:
                _read_form(exchange, exchange.form)
            self._ledger.end(exchange, outcome)
        except Exception as error:  # noqa: BLE001  logged; never the client's
            self._fault("record", error)

    def keep_task(self, task: asyncio.Task[None]) -> None:
        """Own a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tick(self) -> None:
        """Once in a while: end the exchanges whose upstream is overdue."""
        now = self.now()
        for relay in [relay for relay in self.relays if relay.deadline and relay.deadline < now]:
            relay.expired()

    def _fault(self, step: str, error: Exception) -> None:
        log.error("metering failed", extra={"step": step}, exc_info=error)
        self._metrics.metering_faults.inc((step,))


def _read_form(exchange: Exchange, form: FormReader) -> None:
    """Take over what a form said so far; more may come after an early answer."""
    if form.fields:
        exchange.call = with_form(exchange.call, form.fields)
