"""How a route is served: identify, validate, run in a transaction, record in the audit log, answer.

Whatever happens, the client gets JSON: a Refusal as it is, a broken constraint as 400, 404 or 409 that names the field,
Postgres away as 503, a report that takes too long as 503, and a fault of ours as a 500 that is logged and says nothing.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from pydantic import BaseModel

from proxy.admin import wire
from proxy.admin.auth import Authenticator, database_away
from proxy.admin.context import AdminContext
from proxy.admin.faults import EXPECTED, our_fault, refusal_of
from proxy.admin.route import Ask, Reply, Route, bad_request
from proxy.core.address import Network, client_address
from proxy.store import audit, idempotency
from proxy.store.idempotency import Claim
from proxy.store.marks import Marks
from proxy.store.postgres import Connection
from proxy.store.session import transaction

log = logging.getLogger(__name__)
IDEMPOTENCY_HEADER = "idempotency-key"
IDEMPOTENCY_CHARS_MAX = 255
REPLAYED = "idempotency-replayed"
SHOWN_ONCE = ("key",)
"""Members of answers that are secrets: a repeated creation answers them as null."""


class Server:
    """Serves routes. One per worker."""

    def __init__(
        self, context: AdminContext, authenticator: Authenticator, trusted: tuple[Network, ...]
    ) -> None:
        self._context = context
        self._authenticator = authenticator
        self._trusted = trusted

    def handler(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The aiohttp handler of a route."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                response = await self._serve(route, request)
            except EXPECTED as error:
                refusal = refusal_of(error, route)
                if refusal.status >= 500:
                    log.warning("not answered", extra={"route": route.path, "error": repr(error)})
                    self._context.metrics.database_failures.inc(("admin",))
                response = wire.error_answer(refusal)
            except Exception:
                log.exception("a request to the control plane failed", extra={"route": route.path})
                response = wire.error_answer(our_fault())
            self._context.metrics.admin_requests.inc((route.path, f"{response.status // 100}xx"))
            return self.finish(request, response)

        return handle

    def finish(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        """The answer with the headers that every answer carries."""
        if not response.prepared:
            response.headers.update(self.headers(request))
        return response

    def headers(self, request: web.Request) -> dict[str, str]:
        """The headers that every answer carries."""
        simulated = {wire.SIMULATED: "true"} if self._context.settings.demo_mode else {}
        return {"x-content-type-options": "nosniff", **simulated, **self.cors(request)}

    def cors(self, request: web.Request) -> dict[str, str]:
        """What a browser's script of an allowed origin needs to read the answer."""
        allowed = self._context.settings.admin_cors_origins
        origin = request.headers.get("origin")
        if not origin or not ("*" in allowed or origin in allowed):
            return {}
        return {
            "access-control-allow-origin": origin,
            "vary": "origin",
            "access-control-expose-headers": f"etag, retry-after, {REPLAYED}",
        }

    def address(self, request: web.Request) -> str:
        """The client's address, past our trusted proxies."""
        peer = request.remote or "unix"
        return client_address(peer, request.headers.get("x-forwarded-for"), self._trusted)

    async def _serve(self, route: Route, request: web.Request) -> web.StreamResponse:
        address, pool = self.address(request), self._context.pool()
        actor = await self._authenticator.actor(request, route, pool, address, time.monotonic())
        wire.refuse_nul(dict(request.match_info))
        ask = Ask(
            context=self._context,
            actor=actor,
            address=address,
            now=self._context.now(),
            request=request,
            path=request.match_info,
            headers=self.headers(request),
            query=wire.read_query(request.query, route.query),
            body=await wire.read_body(request, route.body) if route.body is not None else None,
        )
        if not route.transaction:
            return _answer(ask, route, await route.handler(ask))
        if pool is None:
            raise database_away()
        timeout_s = self._context.settings.admin_statement_timeout_s
        ask.marks = Marks() if route.one_moment else None
        async with transaction(
            pool, statement_timeout_s=timeout_s, one_moment=route.one_moment
        ) as connection:
            ask.connection = connection
            result = await _run(ask, route, connection)
        return _answer(ask, route, result)


async def _run(ask: Ask, route: Route, connection: Connection) -> Any:
    claimed = _claim(ask, route)
    if claimed is not None and (first := await idempotency.claim(connection, claimed)) is not None:
        return Reply(first, status=200, headers={REPLAYED: "true"})
    result = await route.handler(ask)
    if route.reads_personal_data:
        ask.audit(f"{route.tag or route.operation_id}.read", _subject(ask), after=_asked(ask))
    await audit.write(connection, ask.audited)
    if claimed is not None:
        body = orjson.loads(wire.dump(result.body if isinstance(result, Reply) else result))
        kept = {name: None if name in SHOWN_ONCE else value for name, value in body.items()}
        await idempotency.finish(connection, claimed, kept)
    return result


def _answer(ask: Ask, route: Route, result: Any) -> web.StreamResponse:
    if isinstance(result, web.StreamResponse):
        return result
    reply = result if isinstance(result, Reply) else Reply(result)
    status = reply.status if reply.status is not None else route.status
    return wire.json_answer(ask.request, reply.body, status, reply.headers)


def _claim(ask: Ask, route: Route) -> Claim | None:
    key = ask.request.headers.get(IDEMPOTENCY_HEADER)
    if key is None or not route.creates:
        return None
    if not 0 < len(key) <= IDEMPOTENCY_CHARS_MAX or not key.isprintable():
        raise bad_request("Idempotency-Key", f"Idempotency-Key has 1 to {IDEMPOTENCY_CHARS_MAX} characters.")
    asked = wire.dump([ask.request.path, ask.body])
    return Claim(ask.actor_name, key, route.operation_id, hashlib.sha256(asked).digest())


def _subject(ask: Ask) -> str:
    return "/".join(ask.path.values()) or "all"


def _asked(ask: Ask) -> Mapping[str, Any] | None:
    """The filters of a read, as they were given."""
    if not isinstance(ask.query, BaseModel):
        return None
    return ask.query.model_dump(mode="json", exclude_unset=True)
