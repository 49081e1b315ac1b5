"""The ledger: what an exchange may use, what it did use, and what that cost. Settles and records; never awaits.

Every admitted exchange ends here exactly once, whatever its end, and so does every refusal of a known key.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.core.estimate import estimate_usage
from proxy.core.objects import NO_OBJECTS, Ownership
from proxy.core.openline import OpenLine
from proxy.core.price import NO_COST, UNKNOWN_COST, Cost
from proxy.core.quota import Charge
from proxy.core.record import MESSAGE_CHARS_MAX, Outcome, UsageRecord, UsageSource
from proxy.core.redact import redact
from proxy.core.refusal import Refusal
from proxy.core.shares import Need
from proxy.core.usage import Reading, Usage
from proxy.gateway.clocks import Clocks
from proxy.gateway.counting import count_exchange, log_exchange
from proxy.gateway.exchange import Exchange
from proxy.gateway.ownership import Makers
from proxy.gateway.quotas import Quotas
from proxy.gateway.recorder import Recorder
from proxy.gateway.writethrough import WriteThrough
from proxy.metrics import Metrics
from proxy.pricing.live import PriceSource
from proxy.pricing.providers import DECISIONS_ENDPOINT, provider_of

if TYPE_CHECKING:
    from proxy.core.call import Call
    from proxy.core.streams import Meter
    from proxy.gateway.tunnel import Tunnel

log = logging.getLogger(__name__)
_BROKEN: frozenset[Outcome] = frozenset({"client_gone", "upstream_cut", "upstream_timeout"})
_COUNTED: frozenset[Outcome] = frozenset({"success", *_BROKEN})
"""Ends after which a request counts as one, even where no usage is known: it was forwarded and may have been served."""
_WHOLE: frozenset[Outcome] = frozenset({"success", "upstream_error"})
_WRITES = frozenset({"chat", "completions", "responses", "ws_responses", "compact", "runs", "generic"})
"""Meters of endpoints that write text, as much as they like where the request sets no ceiling."""
_NO_READING = Reading()
_NO_USAGE = Usage()
NO_NEED = Need(0, 0, 0)
_ONE_REQUEST = Need(1, 0, 0)


class Ledger:
    """Reserves before, settles and records after. One per worker."""

    def __init__(
        self,
        *,
        clocks: Clocks,
        quotas: Quotas,
        makers: Makers,
        recorder: Recorder | WriteThrough,
        prices: PriceSource,
        metrics: Metrics,
        default_output_tokens: int,
    ) -> None:
        self._now = clocks.now
        self.now_us = clocks.now_us
        self._new_id = clocks.new_id
        self._quotas = quotas
        self._makers = makers
        self._recorder = recorder
        self.write_through = recorder.write_through
        """After `open`, `secured` must be awaited before anything is forwarded."""
        self._prices = prices
        self._metrics = metrics
        self._default_output_tokens = default_output_tokens

    # -- before

    def need(self, exchange: Exchange) -> Need:
        """An upper estimate of what the exchange will use, which it is admitted on."""
        call = exchange.call
        if call.method != "POST" and not exchange.request.websocket:
            return NO_NEED
        if not call.endpoint.bills:
            return _ONE_REQUEST
        ceiling = call.output_ceiling_tokens
        if ceiling is None:
            ceiling = self._default_output_tokens if call.endpoint.meter in _WRITES else 0
        cost: int | None = 0
        if (
            call.model is not None
        ):  # a form's model is inside the upload; what it costs is settled, not reserved
            cost = self._prices.book.ceiling(
                _price_list(exchange),
                call.model,
                call.service_tier,
                call.input_estimate_tokens,
                ceiling,
                exchange.request.started_us / 1e6,
            )
        return Need(1, call.input_estimate_tokens + ceiling, cost)

    def open(self, exchange: Exchange, need: Need) -> None:
        """Note durably that the exchange is about to be forwarded. Raises Refusal (503) when the spool is full."""
        call, caller, reservation = exchange.call, exchange.caller, exchange.reservation
        if caller is None:
            return
        input_tokens = min(call.input_estimate_tokens, need.tokens)
        line = OpenLine(
            id=exchange.id,
            started_at_us=exchange.request.started_us,
            key_id=caller.key_id,
            user_id=caller.user_id,
            group_id=caller.group_id,
            provider=exchange.provider,
            endpoint=call.endpoint.template,
            method=call.method,
            model=call.model,
            operation=call.operation,
            tags=call.tags,
            end_user=call.end_user,
            streamed=call.stream,
            input_tokens=input_tokens,
            output_tokens=need.tokens - input_tokens,
            cost_nanousd=need.cost_nanousd,
            charges=reservation.charges if reservation is not None else (),
        )
        try:
            self._recorder.open(line)
        except Refusal:
            exchange.reservation = None
            if reservation is not None:
                self._quotas.release(reservation)
            raise

    async def secured(self, exchange: Exchange) -> None:
        """Return when the open line is durable. Raises Refusal (503) when it can't be, and then nothing stays reserved."""
        try:
            await self._recorder.secured(exchange.id)
        except BaseException:
            reservation, exchange.reservation = exchange.reservation, None
            if reservation is not None:
                self._quotas.release(reservation)
            raise

    def quota_lines(self, exchange: Exchange) -> bytes:
        """The x-quota-… header lines of an answer, each with CRLF."""
        if exchange.caller is None:
            return b""
        return self._quotas.header_lines(exchange.caller, exchange.reservation)

    # -- after

    def refused(self, exchange: Exchange) -> None:
        """A refusal of a known key: nothing was sent, nothing is settled."""
        assert exchange.refusal is not None
        exchange.ended = True
        self._record(exchange, "refused", _NO_READING, _NO_USAGE, "none")

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """The exchange is over: settle its reservation and record it. A second end changes nothing."""
        if exchange.ended:
            return
        exchange.ended = True
        if exchange.caller is None:
            return
        meter: Meter | Tunnel | None = exchange.meter
        if exchange.tunnel is not None:
            exchange.tunnel.end()
            meter = exchange.tunnel
        reading = _NO_READING if meter is None else meter.finish(outcome in _WHOLE)
        if outcome == "success" and reading.error_type is not None:
            outcome = "upstream_error"  # an error event in a stream that began with 200
        self.end_read(exchange, outcome, reading)

    def end_read(self, exchange: Exchange, outcome: Outcome, reading: Reading) -> None:
        """Record an exchange whose answer has been read."""
        exchange.ended = True
        if exchange.call.endpoint.by_object or reading.parts:
            reading = self._makers.unbilled(exchange, reading)
        usage, source = self._usage(exchange, outcome, reading)
        self._record(exchange, outcome, reading, usage, source)

    def response(self, exchange: Exchange, reading: Reading, outcome: Outcome = "success") -> None:
        """A response on a WebSocket is over: a record of its own, a child of the connection's."""
        if exchange.caller is None:
            return
        if outcome == "success" and reading.error_type is not None:
            outcome = "upstream_error"
        usage, source = self._usage(exchange, outcome, reading)
        self._record(exchange, outcome, reading, usage, source, child=True)

    def _usage(self, exchange: Exchange, outcome: Outcome, reading: Reading) -> tuple[Usage, UsageSource]:
        """What was used, and how we know: reported where OpenAI said so, estimated where the answer ended without saying."""
        if reading.usage is not None:
            return reading.usage, "estimated" if reading.estimated else "reported"
        if reading.parts:
            return _NO_USAGE, "reported"
        call = exchange.call
        broke_off = outcome in _BROKEN and (exchange.status or outcome == "client_gone")
        unsaid = (
            outcome in {"success", "upstream_error"} and exchange.streamed and reading.delivered_bytes > 0
        )
        if (
            (broke_off or unsaid)
            and exchange.forwarded
            and exchange.status < 400
            and call.endpoint.bills
            and not call.background
            and (call.input_text_bytes or reading.delivered_bytes)
        ):
            return estimate_usage(call, reading), "estimated"
        return _NO_USAGE, "none"

    def _settle(
        self, exchange: Exchange, outcome: Outcome, usage: Usage, cost_nanousd: int | None, *, known: bool
    ) -> tuple[Charge, ...]:
        reservation = exchange.reservation
        if reservation is None:
            return ()
        exchange.reservation = None
        if not known and outcome not in _COUNTED:
            self._quotas.release(reservation)
            return ()
        return self._quotas.settle(
            reservation,
            tokens=usage.input_tokens + usage.output_tokens,
            cost_nanousd=cost_nanousd,
            counted=True,
        )

    def _cost(self, exchange: Exchange, reading: Reading, usage: Usage, source: UsageSource) -> Cost:
        """What it cost, at the price of the model and tier that served."""
        if source == "none":
            return UNKNOWN_COST if reading.unknown else NO_COST
        call = exchange.call
        return self._prices.book.cost(
            _price_list(exchange),
            reading.model or call.model,
            reading.service_tier or call.service_tier,
            usage if reading.usage is not None or source == "estimated" else None,
            exchange.request.started_us / 1e6,
            reading.parts,
        )

    def _ownership(
        self,
        exchange: Exchange,
        reading: Reading,
        usage: Usage,
        source: UsageSource,
        cost_nanousd: int | None,
        *,
        child: bool,
    ) -> Ownership | None:
        """What the record says about objects; a part that is billed by its own id is priced by itself."""
        costs = tuple(
            self._cost(exchange, replace(reading, usage=None, parts=(part,)), _NO_USAGE, "reported").nanousd
            if part.object_id is not None
            else None
            for part in reading.parts
        )
        billed = source != "none" or cost_nanousd is None
        return self._makers.ownership(
            exchange, reading, usage, cost_nanousd, costs, billed=billed, child=child
        )

    def _record(
        self,
        exchange: Exchange,
        outcome: Outcome,
        reading: Reading,
        usage: Usage,
        source: UsageSource,
        *,
        child: bool = False,
    ) -> None:
        now = self._now()
        call, caller, request, refusal = exchange.call, exchange.caller, exchange.request, exchange.refusal
        assert caller is not None
        cost = self._cost(exchange, reading, usage, source)
        error_type, error_code, error_message = _error(refusal, reading)
        charges = self._settle(exchange, outcome, usage, cost.nanousd, known=source != "none")
        started_us = self.now_us() if child else request.started_us
        ownership = None
        if _concerns_objects(call):
            ownership = self._ownership(exchange, reading, usage, source, cost.nanousd, child=child)
        record = UsageRecord(
            id=self._new_id(started_us) if child else exchange.id,
            parent_id=exchange.id if child else None,
            started_at_us=started_us,
            key_id=caller.key_id,
            user_id=caller.user_id,
            group_id=caller.group_id,
            provider=exchange.provider,
            endpoint=call.endpoint.template,
            method=call.method,
            requested_model=call.model,
            served_model=reading.model,
            operation=call.operation,
            tags=call.tags,
            end_user=call.end_user,
            streamed=exchange.streamed,
            status=exchange.client_status,
            outcome=outcome,
            error_type=error_type,
            error_code=error_code,
            error_message=redact(error_message)[:MESSAGE_CHARS_MAX] if error_message else None,
            finish_reason=reading.finish_reason,
            service_tier=reading.service_tier or call.service_tier,
            usage=usage,
            usage_source=source,
            cost_nanousd=cost.nanousd,
            price_id=cost.price_id,
            object_id=reading.object_id,
            upstream_request_id=exchange.upstream_request_id,
            client_request_id=call.client_request_id,
            ttfb_ms=round((exchange.ttfb - request.started) * 1000) if exchange.ttfb and not child else None,
            duration_ms=0 if child else round((now - request.started) * 1000),
            bytes_in=0 if child else request.received,
            bytes_out=0 if child else exchange.bytes_out,
            charges=charges,
            ownership=ownership,
        )
        self._recorder.record(record)
        count_exchange(self._metrics, exchange, record, now)
        log_exchange(log, record)


def _concerns_objects(call: Call) -> bool:
    """Whether an answer to it may make or show an object. Hot path."""
    objects = call.endpoint.objects
    return objects is not NO_OBJECTS and (call.stores is True or not objects.opt_in)


def _error(refusal: Refusal | None, reading: Reading) -> tuple[str | None, str | None, str | None]:
    """Type, code and message: our own refusal's, else what the upstream said."""
    if refusal is not None:
        return refusal.type, refusal.code, refusal.message
    return reading.error_type, reading.error_code, reading.error_message


def _price_list(exchange: Exchange) -> str:
    """The id that prices go by: the provider's, but OpenAI sells decisions by a list of their own."""
    template = exchange.call.endpoint.template
    if template != DECISIONS_ENDPOINT:
        return exchange.provider
    return provider_of(exchange.upstream.host, default=exchange.provider, endpoint=template)
