"""Everything that is not under /v1, mounted on one aiohttp application."""

from __future__ import annotations

import asyncio
import functools
import re
import time
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import ClientSession, ClientTimeout, web

from proxy.admin import (
    admin_keys,
    audit_log,
    check,
    exports,
    groups,
    health,
    keys,
    live,
    me,
    personal,
    plans,
    price_lists,
    prices,
    profiles,
    quotas,
    records,
    reports,
    stats,
    user_import,
    users,
    wire,
)
from proxy.admin.auth import Authenticator
from proxy.admin.bulk import bulk_route
from proxy.admin.context import AdminContext
from proxy.admin.dashboard import pages as dashboard
from proxy.admin.jwt import JWKS_BYTES_MAX, JwtVerifier
from proxy.admin.openapi import document
from proxy.admin.route import Ask, Reply, Route
from proxy.admin.serve import Server
from proxy.admin.stream import Slots
from proxy.admin.throttle import Throttle
from proxy.core.address import networks
from proxy.core.refusal import Refusal
from proxy.settings import Settings

ROOTS = ("/admin", "/me")
JWKS_TIMEOUT_S = 10
_PREFLIGHT_AGE_S = "600"

Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def all_routes(settings: Settings, streams: tuple[Slots, Slots] | None = None) -> tuple[Route, ...]:
    """Every route of the control plane, in the order in which they are matched. `streams`: of exports, of live views."""
    of_exports, of_live = streams or _streams(settings)
    routes = (
        *health.routes(metrics_require_key=settings.metrics_require_key),
        *user_import.ROUTES,
        *users.ROUTES,
        *groups.ROUTES,
        *keys.ROUTES,
        *quotas.ROUTES,
        *plans.ROUTES,
        *price_lists.ROUTES,
        *prices.ROUTES,
        *admin_keys.ROUTES,
        *stats.ROUTES,
        live.route(of_live),
        *records.ROUTES,
        *exports.routes(of_exports),
        *personal.routes(of_exports),
        *audit_log.ROUTES,
        *reports.ROUTES,
        *profiles.ROUTES,
        *me.ROUTES,
        *check.ROUTES,
    )
    return (*routes, bulk_route(routes))


def add_routes(app: web.Application, context: AdminContext) -> None:
    """Mount the control plane. What lies under its roots and is no route is a 404 or 405 in OpenAI's shape."""
    settings = context.settings
    streams = _streams(settings)
    routes = all_routes(settings, streams)
    jwt = JwtVerifier(settings, fetch_json) if settings.admin_jwt_secret or settings.admin_jwks_url else None
    authenticator = Authenticator(context, Throttle(settings.admin_requests_per_minute), jwt)
    server = Server(context, authenticator, networks(settings.trusted_proxies))
    routes = (*routes, _openapi_route(routes))
    for route in routes:
        handler = server.handler(route)
        app.router.add_route(route.method, route.path, handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler)
    dashboard.mount(
        app.router, server, lambda text, pool, ip: authenticator.verified(text, pool, ip, time.monotonic())
    )

    async def close_streams(_: web.Application) -> None:
        for slots in streams:
            slots.closing.set()

    app.on_shutdown.append(close_streams)
    app.router.add_route("*", "/v1/{rest:.*}", _misdirected)
    unmatched = _unmatched(routes, server)
    for root in ROOTS:
        app.router.add_route("*", root, unmatched)
        app.router.add_route("*", root + "/{rest:.*}", unmatched)


def _streams(settings: Settings) -> tuple[Slots, Slots]:
    return Slots(settings.admin_exports_max, "exports"), Slots(live.OPEN_MAX, "live views")


def build_app(context: AdminContext) -> web.Application:
    """The control plane as an application of its own."""
    app = web.Application()
    add_routes(app, context)
    return app


def _openapi_route(routes: tuple[Route, ...]) -> Route:
    # made when it is first asked for, beside the loop: it takes a fifth of a second, of which most workers need nothing
    made = functools.cache(lambda: document(routes))

    async def show_openapi(ask: Ask) -> Reply:
        """This document."""
        del ask
        return Reply(await asyncio.to_thread(made), headers={"cache-control": "public, max-age=300"})

    return Route(
        method="GET",
        path="/openapi.json",
        handler=show_openapi,
        summary="The OpenAPI document",
        access="anyone",
        transaction=False,
    )


def _unmatched(routes: tuple[Route, ...], server: Server) -> Answering:
    patterns = [
        (re.compile("^" + re.sub(r"\{[a-z_]+\}", "[^/]+", route.path) + "$"), route.method)
        for route in routes
    ]

    async def unmatched(request: web.Request) -> web.StreamResponse:
        allowed: list[str] = sorted({method for pattern, method in patterns if pattern.match(request.path)})
        if request.method == "OPTIONS" and allowed:
            return server.finish(request, _preflight(server, request, allowed))
        if allowed:
            refusal = Refusal(
                405,
                "method_not_allowed",
                f"{request.method} is not allowed here; {', '.join(allowed)} are.",
                headers=(("allow", ", ".join(allowed)),),
            )
        else:
            refusal = Refusal(404, "unknown_url", f"There is nothing at {request.method} {request.path}.")
        return server.finish(request, wire.error_answer(refusal))

    return unmatched


async def _misdirected(request: web.Request) -> web.StreamResponse:
    """A request for the data plane that the front did not know for one: pipelined behind another one, or `/%761/`."""
    message = f"{request.raw_path} must begin with /v1/, and not be sent before the request ahead of it was answered."
    response = wire.error_answer(Refusal(421, "misdirected", message))
    response.force_close()
    return response


def _preflight(server: Server, request: web.Request, allowed: list[str]) -> web.Response:
    headers = {"allow": ", ".join(allowed)}
    if server.cors(request):
        headers |= {
            "access-control-allow-methods": ", ".join(allowed),
            "access-control-allow-headers": "authorization, content-type, idempotency-key, if-none-match",
            "access-control-max-age": _PREFLIGHT_AGE_S,
        }
    return web.Response(status=204, headers=headers)


async def fetch_json(url: str) -> object:
    """A small JSON document, for the JWKS. Raises what aiohttp raises, and ValueError when it is too large."""
    async with (
        ClientSession(timeout=ClientTimeout(total=JWKS_TIMEOUT_S), trust_env=False) as session,
        session.get(url, allow_redirects=False, raise_for_status=True) as response,
    ):
        text = b""
        async for part in response.content.iter_chunked(65_536):
            text += part
            if len(text) > JWKS_BYTES_MAX:
                raise ValueError(f"{url} answers more than {JWKS_BYTES_MAX} bytes")
        return orjson.loads(text)
