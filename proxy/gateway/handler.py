"""THE PASS. One straight way for each request:

    read -> authenticate -> admit -> forward, metering -> settle and record

`begin` reads and authenticates, `proceed` goes on once a body that must be read whole is there, `_admit` reserves, and
`_forward` hands over to the relay; `Ledger.end` settles and records. Before and after the forwarding nothing awaits, so a
client that hangs up can't tear a bill. What memory doesn't know is asked before anything was sent (`_ask`): a quota whose
share in this worker is too small, a named user, an object's owner.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from proxy.core import splice
from proxy.core.attribution import attribute
from proxy.core.call import read_call
from proxy.core.caller import Caller
from proxy.core.headers import request_head
from proxy.core.lightbody import LIGHT_FROM_BYTES, NOTHING_TAKEN, without_media
from proxy.core.refusal import Refusal, media_refused, overloaded
from proxy.gateway.answers import Answers
from proxy.gateway.bearers import Bearers
from proxy.gateway.clocks import Clocks
from proxy.gateway.collecting import Collecting, form_of
from proxy.gateway.cors import Cors
from proxy.gateway.exchange import Exchange
from proxy.gateway.front import Front
from proxy.gateway.gate import gated
from proxy.gateway.holding import Holder, Holding
from proxy.gateway.ledger import Ledger
from proxy.gateway.limits import RelayLimits
from proxy.gateway.onbehalf import OnBehalf
from proxy.gateway.onward import call_of, onward_head
from proxy.gateway.owners import Owners
from proxy.gateway.pressure import Pressure
from proxy.gateway.quotas import NeedsShare, Quotas
from proxy.gateway.relay import Relay
from proxy.gateway.request import Request
from proxy.gateway.upstreams import Upstreams
from proxy.metrics import Metrics
from proxy.settings import Settings

log = logging.getLogger(__name__)


class Handler:
    """Leads every request under /v1/ through the pass. One per worker."""

    def __init__(
        self,
        settings: Settings,
        *,
        clocks: Clocks,
        bearers: Bearers,
        owners: Owners,
        holder: Holder,
        onbehalf: OnBehalf,
        quotas: Quotas,
        ledger: Ledger,
        answers: Answers,
        cors: Cors,
        upstreams: Upstreams,
        pressure: Pressure,
        metrics: Metrics,
    ) -> None:
        self.now = clocks.now
        self.now_us = clocks.now_us
        self._new_id = clocks.new_id
        self.head_timeout_s = settings.request_head_timeout_s
        self.body_timeout_s = settings.request_idle_timeout_s
        self.keepalive_s = settings.keepalive_timeout_s
        self.pressure = pressure
        self._exchanges_max = settings.exchanges_max
        self._limits = RelayLimits(
            first_byte_s=settings.upstream_first_byte_timeout_s,
            idle_s=settings.upstream_idle_timeout_s,
            drain_s=settings.drain_limit_s if settings.on_client_disconnect == "drain" else None,
        )
        self._refuses_calls = settings.realtime_calls == "refuse"
        self._cors = cors
        self._bearers = bearers
        self._owners = owners
        self._holder = holder
        self._onbehalf = onbehalf
        self._quotas = quotas
        self._ledger = ledger
        self._answers = answers
        self._upstreams = upstreams
        self._anonymous = replace(upstreams.default.policy, authorization=None, key=b"")
        self._metrics = metrics
        self._waiting: dict[Request, asyncio.Task[None]] = {}
        self._collecting = Collecting(settings, by_model=bool(upstreams.others))

    # -- read, authenticate

    def begin(self, front: Front, request: Request) -> None:
        """A head was read. Raises nothing: a fault of ours is an answer of 500."""
        try:
            if request.method == b"OPTIONS" and request.is_preflight:
                self._preflight(front, request)
                return
            caller = self._bearers.known(front, request)
            if caller is not None:
                self._enter(front, request, caller)
            else:
                self._wait(request, self._ask_bearer(front, request))
        except Refusal as refusal:
            self._turn_away(front, refusal)
        except Exception:
            log.exception("the pass failed", extra={"step": "begin"})
            self._fault(front)

    def proceed(self, front: Front, request: Request) -> None:
        """The body is there, or is larger than may be read whole; then what came of it is the start of an upload."""
        caller = self._collecting.end(request)
        if caller is None:
            return
        try:
            self._pass(front, request, caller, request.take_body() if request.complete else None)
        except Refusal as refusal:
            self._turn_away(front, refusal)
        except Exception:
            log.exception("the pass failed", extra={"step": "proceed"})
            self._fault(front)

    def forget(self, request: Request) -> None:
        """The client hung up before its request was admitted."""
        self._collecting.end(request)
        task = self._waiting.pop(request, None)
        if task is not None:
            task.cancel()

    def malformed(self, refusal: Refusal) -> None:
        """What came is not HTTP."""
        self._metrics.refusals.inc((refusal.reason,))

    @property
    def body_max(self) -> int:
        """How many bytes of one body may be read whole now."""
        return self._collecting.max

    async def _ask_bearer(self, front: Front, request: Request) -> None:
        """A client secret that memory does not know: look it up, then go on as if nothing had happened."""
        try:
            caller = await self._bearers.find(front, request)
            self._waiting.pop(request, None)
            if front.active is request:
                self._enter(front, request, caller)
                if request.complete and request.collecting:
                    self.proceed(front, request)
                front.resume_reading()
        except Refusal as refusal:
            self._waiting.pop(request, None)
            self._turn_away(front, refusal)
        except Exception:
            self._waiting.pop(request, None)
            log.exception("the pass failed", extra={"step": "bearer"})
            self._fault(front)

    def _enter(self, front: Front, request: Request, caller: Caller) -> None:
        if not self._collecting.wants(request, caller):
            self._pass(front, request, caller, None)
        elif request.complete:
            self._collecting.check_room(request)
            self._pass(front, request, caller, request.take_body())
        else:
            self._collecting.begin(front, request, caller)

    # -- admit

    def _pass(self, front: Front, request: Request, caller: Caller, body: bytes | None) -> None:
        """Read the call, admit it, forward it. `body` is None when there is none, or when it is streamed on."""
        self.pressure.enter(self.now())
        light, taken = body, NOTHING_TAKEN
        if body is not None and len(body) >= LIGHT_FROM_BYTES and not request.is_encoded:
            light, taken = without_media(body)
        call = attribute(call_of(request, light, taken), caller)
        upstream = self._upstreams.choose(call.model)
        if request.secret:
            upstream = self._upstreams.named(self._bearers.issuer(request.secret))
        exchange = Exchange(self._new_id(request.started_us), caller, call, request, upstream)
        try:
            self._check(exchange, body)
            admitted = (
                not self._ledger.write_through and self._knows(exchange, light) and self._admit(exchange)
            )
        except Refusal as refusal:
            self._refuse(front, exchange, refusal)
            return
        if admitted:
            self._forward(front, exchange, body, light)
            return
        self._wait(request, self._ask(front, exchange, body, light))

    def _wait(self, request: Request, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._waiting[request] = task
        self._answers.keep_task(task)

    def _knows(self, exchange: Exchange, light: bytes | None) -> bool:
        """Whether memory holds everything that admission depends on. False: ask. Raises Refusal."""
        name, caller = exchange.call.on_behalf_of, exchange.caller
        if name is not None and caller is not None:
            user = self._onbehalf.known(caller, name)
            if user is None:
                return False
            exchange.caller = user
        return self._owners.knows(exchange, light)

    def _admit(self, exchange: Exchange) -> bool:
        """Reserve from memory. False: memory can't decide, ask. Raises Refusal."""
        assert exchange.caller is not None
        if exchange.owner is not None and exchange.owner.upstream:
            exchange.upstream = self._upstreams.named(exchange.owner.upstream)
        need = self._ledger.need(exchange)
        try:
            exchange.reservation = self._quotas.admit(exchange.caller, exchange.call, need)
        except NeedsShare:
            return False
        self._ledger.open(exchange, need)
        return True

    async def _ask(self, front: Front, exchange: Exchange, body: bytes | None, light: bytes | None) -> None:
        """What memory could not say is asked of Postgres; then the pass goes on as if nothing had happened."""
        request = exchange.request
        try:
            caller, name = exchange.caller, exchange.call.on_behalf_of
            assert caller is not None
            if name is not None and caller.service:  # else the caller is the named user already
                caller = exchange.caller = await self._onbehalf.find(caller, name)
            if not self._owners.knows(exchange, light):
                await self._owners.learn(exchange)
                self._owners.check(exchange)
            if not self._admit(exchange):
                need = self._ledger.need(exchange)
                exchange.reservation = await self._quotas.ask(exchange.caller or caller, exchange.call, need)
                self._ledger.open(exchange, need)
            if self._ledger.write_through:
                await self._ledger.secured(exchange)
            # From the last answer to the forwarding nothing awaits: the client can't hang up in between.
        except Refusal as refusal:
            self._waiting.pop(request, None)
            self._refuse(front, exchange, refusal)
        except Exception:
            self._waiting.pop(request, None)
            log.exception("the pass failed", extra={"step": "ask"})
            self._fault(front)
        else:
            self._waiting.pop(request, None)
            self._forward(front, exchange, body, light)

    def _check(self, exchange: Exchange, body: bytes | None) -> None:
        """Whether this worker, and what is known of the request, allow it to be admitted at all."""
        if len(self._answers.relays) >= self._exchanges_max:
            raise overloaded("Too many requests are under way; try again.", "exchanges")
        if self._refuses_calls and exchange.call.endpoint.meter == "media":
            raise media_refused()
        if body is None and exchange.caller is not None:
            self._collecting.check_unread(exchange.request, exchange.caller)

    # -- forward

    def _forward(self, front: Front, exchange: Exchange, body: bytes | None, light: bytes | None) -> None:
        """Hand over to the relay; where the client did not ask for a stream's usage, ask for it in its place."""
        request, call, upstream = exchange.request, exchange.call, exchange.upstream
        sent = body
        self._answers.keep(exchange, body)
        if body and call.stream and call.endpoint.splices and not call.wants_usage and not request.is_encoded:
            sent = splice.add_include_usage(body, light) or body
            exchange.spliced = sent is not body
        streaming, chunked = sent is None and request.has_body, request.chunked
        look = self._holder.look(exchange)
        head = onward_head(request, upstream, sent, identity=exchange.spliced or look is not None)
        relay = Relay(front, exchange, upstream.pool, self._answers, self._limits, head)
        front.exchange = gated(relay, front, self._owners, self._answers.keep_task)
        if look is not None:
            exchange.head = head
            relay.listener = Holding(relay, look, self._answers.keep_task)
        if streaming:
            exchange.form = form_of(request)
            relay.start(request.take_body(), streaming=True, upload_chunked=chunked)
            if request.complete:
                relay.upload_end()
        else:
            relay.start(sent or b"", streaming=False, upload_chunked=chunked)

    def _preflight(self, front: Front, request: Request) -> None:
        """A CORS preflight: answered here, or passed on without any credential, by setting."""
        answer = self._cors.preflight(request)
        if answer is not None:
            front.write(answer)
            front.answered(close=not request.keep_alive)
            return
        call = read_call(
            method="OPTIONS", target=request.target, header=request.fields.get, body=None, body_bytes=0
        )
        upstream = self._upstreams.default
        exchange = Exchange(self._new_id(request.started_us), None, call, request, upstream)
        target, chunked = upstream.prefix + request.target, request.chunked
        head = request_head(request.method, target, request.headers, self._anonymous, chunked=chunked)
        relay = Relay(front, exchange, upstream.pool, self._answers, self._limits, head)
        front.exchange = relay
        relay.start(request.take_body(), streaming=request.has_body, upload_chunked=chunked)
        if request.has_body and request.complete:
            relay.upload_end()

    # -- refuse

    def _turn_away(self, front: Front, refusal: Refusal) -> None:
        """A refusal without a known key, or before the call was read: only a metric."""
        counter = self._metrics.auth_failures if refusal.status == 401 else self._metrics.refusals
        counter.inc((refusal.reason,))
        if front.active is not None:
            front.refuse(refusal, self._cors.lines(front.active))

    def _refuse(self, front: Front, exchange: Exchange, refusal: Refusal) -> None:
        """A refusal of a known key: a record as well."""
        exchange.refusal = refusal
        exchange.client_status = refusal.status
        self._ledger.refused(exchange)
        if front.active is exchange.request:
            extra = b"x-proxy-request-id: %b\r\n" % exchange.id.encode() + self._ledger.quota_lines(exchange)
            front.refuse(refusal, extra + self._cors.lines(exchange.request))

    def _fault(self, front: Front) -> None:
        self._metrics.metering_faults.inc(("pass",))
        if front.active is not None and front.exchange is None:
            front.refuse(Refusal(500, "proxy_error", "The proxy failed at this request.", "server_error"))
        elif not front.transport.is_closing():
            front.transport.abort()
