"""The ledger: what an exchange may use, what it did use, and what that cost. Settles and records; never awaits.

Every admitted exchange ends here exactly once, whatever its end, and so does every refusal of a known key.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from proxy.core.objects import NO_OBJECTS
from proxy.core.openline import OpenLine
from proxy.core.parts import divide, part_record, total_cost
from proxy.core.price import NO_COST, UNKNOWN_COST, Cost, price_list_of
from proxy.core.quota import Charge
from proxy.core.record import MESSAGE_CHARS_MAX, Outcome, UsageRecord, UsageSource
from proxy.core.redact import redact
from proxy.core.refusal import Refusal
from proxy.core.shares import Need
from proxy.core.usage import Reading, Usage
from proxy.gateway.clocks import Clocks
from proxy.gateway.counting import Counting, log_exchange
from proxy.gateway.exchange import Exchange
from proxy.gateway.findings import BROKEN, error_of, has_failed, is_untold, usage_of
from proxy.gateway.ownership import Makers
from proxy.gateway.quotas import Quotas
from proxy.gateway.recorder import Recorder
from proxy.gateway.tokenizer import Tokenizer
from proxy.gateway.writethrough import WriteThrough
from proxy.metrics import Metrics
from proxy.pricing.live import PriceSource

if TYPE_CHECKING:
    from proxy.core.call import Call
    from proxy.core.streams import Meter
    from proxy.gateway.tunnel import Tunnel

log = logging.getLogger(__name__)
_COUNTED: Final[frozenset[Outcome]] = frozenset({"success", *BROKEN})
"""Ends after which a request counts as one, even where no usage is known: it was forwarded and may have been served."""
_WHOLE: Final[frozenset[Outcome]] = frozenset({"success", "upstream_error"})
_WRITES: Final = frozenset({"chat", "completions", "responses", "ws_responses", "compact", "runs", "generic"})
"""Meters of endpoints that write text, as much as they like where the request sets no ceiling."""
_NO_READING: Final = Reading()
_NO_USAGE: Final = Usage()
NO_NEED: Final = Need(0, 0, 0)
_ONE_REQUEST: Final = Need(1, 0, 0)


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
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._now = clocks.now
        self.now_us = clocks.now_us
        self._new_id = clocks.new_id
        self._quotas = quotas
        self._makers = makers
        self._recorder = recorder
        self.write_through = recorder.write_through
        """After `open`, `secured` must be awaited before anything is forwarded."""
        self.then: Callable[[Callable[[], None]], None] = recorder.then
        """Call back when the lines of `open` and `end` are written: only then may be sent what depends on them."""
        self.commit = recorder.commit
        self.unopened = recorder.unopened
        """Why exchanges, by their ids, may not be forwarded; to be looked at when `then` calls back."""
        self._prices = prices
        self._counting = Counting(metrics)
        self._default_output_tokens = default_output_tokens
        self._tokenizer = tokenizer
        self._logs = log.isEnabledFor(logging.DEBUG)

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
                price_list_of(exchange.upstream.provider, call.endpoint.template),
                call.model,
                call.service_tier,
                call.input_estimate_tokens,
                ceiling,
                exchange.request.started_us / 1e6,
            )
        # Made so, a named tuple takes half as long as when it is called by its name.
        return tuple.__new__(Need, (1, call.input_estimate_tokens + ceiling, cost))

    def open(self, exchange: Exchange, need: Need) -> None:
        """Note durably that the exchange is about to be forwarded. Raises Refusal (503) when the spool is full."""
        call, caller, reservation = exchange.call, exchange.caller, exchange.reservation
        if caller is None:
            return
        input_tokens = min(call.input_estimate_tokens, need.tokens)
        line = tuple.__new__(OpenLine, (
            exchange.id, exchange.request.started_us, caller.key_id, caller.user_id, caller.group_id,
            exchange.upstream.provider, call.endpoint.template, call.method, call.model, call.operation, call.tags,
            call.end_user, call.stream, input_tokens, need.tokens - input_tokens, need.cost_nanousd,
            reservation.charges or None if reservation is not None else None,
        ))  # fmt: skip
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
        self._recorder.commit()

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
        if outcome == "success" and has_failed(exchange, reading):
            outcome = "upstream_error"
        self.end_read(exchange, outcome, reading)

    def end_read(self, exchange: Exchange, outcome: Outcome, reading: Reading) -> None:
        """Record an exchange whose answer has been read."""
        exchange.ended = True
        if exchange.call.endpoint.by_object or reading.parts:
            reading = self._makers.unbilled(exchange, reading)
        usage, source = usage_of(exchange, outcome, reading, self._tokenizer)
        if source == "none" and is_untold(exchange, outcome, reading):
            reading = replace(reading, unknown=True)
        self._record(exchange, outcome, reading, usage, source)

    def response(self, exchange: Exchange, reading: Reading, outcome: Outcome = "success") -> None:
        """A response on a WebSocket is over: a record of its own, a child of the connection's."""
        if exchange.caller is None:
            return
        if outcome == "success" and has_failed(exchange, reading):
            outcome = "upstream_error"
        usage, source = usage_of(exchange, outcome, reading, self._tokenizer)
        self._record(exchange, outcome, reading, usage, source, child=True)

    def _cost(self, exchange: Exchange, reading: Reading, usage: Usage, source: UsageSource) -> Cost:
        """What it cost, at the price of the model and tier that served."""
        if source == "none":
            return UNKNOWN_COST if reading.unknown else NO_COST
        call = exchange.call
        return self._prices.book.cost(
            price_list_of(exchange.upstream.provider, call.endpoint.template),
            reading.model or call.model,
            reading.service_tier or call.service_tier,
            usage if reading.usage is not None or source == "estimated" else None,
            exchange.request.started_us / 1e6,
        )

    def _parts(
        self, exchange: Exchange, record: UsageRecord, reading: Reading, *, child: bool
    ) -> list[UsageRecord]:
        """The records of the answer's parts, at the prices of their own models."""
        book, at = self._prices.book, exchange.request.started_us / 1e6
        prices = price_list_of(exchange.upstream.provider, exchange.call.endpoint.template)
        found = []
        for part in reading.parts:
            tier = book.part_tier(prices, part, record.service_tier, at)
            cost = book.cost(prices, part.served_by, tier, part.usage, at)
            ownership = self._makers.of_part(exchange, part, cost.nanousd, record.ownership, child=child)
            new_id = self._new_id(record.started_at_us)
            found.append(part_record(record, part, cost, record_id=new_id, tier=tier, ownership=ownership))
        return found

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
        now, refusal = self._now(), exchange.refusal
        call, caller, request = exchange.call, exchange.caller, exchange.request
        assert caller is not None
        cost = self._cost(exchange, reading, usage, source)
        started_us = self.now_us() if child else request.started_us
        ownership = None
        if _concerns_objects(call):
            owned, billed = self._makers.ownership, source != "none" or cost.nanousd is None
            ownership = owned(exchange, reading, usage, cost.nanousd, billed=billed, child=child)
        # Set one by one, since keywords to a class cost a dictionary: docs/adr/0007.
        record = UsageRecord(
            self._new_id(started_us) if child else exchange.id,
            started_us,
            caller.key_id,
            caller.user_id,
            exchange.upstream.provider,
            call.endpoint.template,
            call.method,
            outcome,
            usage,
            call.tags,
        )
        record.usage_source, record.ownership = source, ownership
        record.cost_nanousd, record.price_id = cost.nanousd, cost.price_id
        record.cache_saved_nanousd = cost.cache_saved_nanousd
        record.group_id = caller.group_id
        record.requested_model = call.model
        record.served_model = reading.model
        record.operation = call.operation
        record.end_user = call.end_user
        record.streamed = exchange.streamed
        record.status = exchange.client_status
        record.error_type, record.error_code, message = error_of(refusal, reading)
        record.error_message = redact(message)[:MESSAGE_CHARS_MAX] if message else None
        record.finish_reason = reading.finish_reason
        record.service_tier = reading.service_tier or call.service_tier
        record.object_id = reading.object_id
        record.upstream_request_id = exchange.upstream_request_id
        record.client_request_id = call.client_request_id
        if child:
            record.parent_id = exchange.id
        else:
            if exchange.ttfb:
                record.ttfb_ms = round((exchange.ttfb - request.started) * 1000)
            record.duration_ms = round((now - request.started) * 1000)
            record.bytes_in, record.bytes_out = request.received, exchange.bytes_out
        self._settle_and_keep(exchange, record, reading, child=child)
        self._counting.count(exchange, record, now)
        if self._logs:
            log_exchange(log, record)

    def _settle_and_keep(
        self, exchange: Exchange, record: UsageRecord, reading: Reading, *, child: bool
    ) -> None:
        """Settle what the record and its parts used, and hand them to the recorder."""
        tokens, cost_nanousd = record.usage.input_tokens + record.usage.output_tokens, record.cost_nanousd
        reservation, exchange.reservation = exchange.reservation, None
        parts = self._parts(exchange, record, reading, child=child) if reading.parts else ()
        if parts and reservation is not None:
            tokens += sum(part.usage.input_tokens + part.usage.output_tokens for part in parts)
            costs = [each.cost_nanousd for each in (record, *parts)]
            cost_nanousd = total_cost(costs, reservation.need.cost_nanousd or 0)
        charges: tuple[Charge, ...] = ()
        if reservation is not None:
            if record.usage_source == "none" and record.outcome not in _COUNTED:
                self._quotas.release(reservation)
            else:
                charges = self._quotas.settle(reservation, tokens, cost_nanousd)
        if not parts:
            record.charges = charges
            self._recorder.record(record)
            return
        divide((record, *parts), charges)
        self._recorder.record(record, *parts)
        for part in parts:
            self._counting.count(exchange, part, 0.0)


def _concerns_objects(call: Call) -> bool:
    """Whether an answer to it may make or show an object. Hot path."""
    objects = call.endpoint.objects
    return objects is not NO_OBJECTS and (call.stores is True or not objects.opt_in)
