"""Health, readiness, metrics and the OpenAPI document: what machines ask."""

from __future__ import annotations

import asyncio
from typing import Literal

from aiohttp import web

from proxy.admin.route import Ask, Reply, Route
from proxy.admin.shapes import View
from proxy.metrics import CONTENT_TYPE
from proxy.store.postgres import UNAVAILABLE

PROBE_TIMEOUT_S = 2.0


class Health(View):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(View):
    """Whether requests should be sent here, and if not, what is missing in words."""

    ready: bool
    not_ready: dict[str, str]


async def show_health(ask: Ask) -> Health:
    """200 while the process answers at all; asks nothing of anybody."""
    del ask
    return Health()


async def show_readiness(ask: Ask) -> Reply:
    """200 when every part is ready, else 503 that says which is not."""
    missing = {name: why for name, check in ask.context.ready.items() if (why := check()) is not None}
    if (why := await _database(ask)) is not None:
        missing["database"] = why
    answer = Readiness(ready=not missing, not_ready=missing)
    return Reply(answer, status=503 if missing else 200, headers={"cache-control": "no-store"})


async def _database(ask: Ask) -> str | None:
    pool = ask.context.pool()
    if pool is None:
        return "not connected"
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await pool.fetchval("select 1")
    except UNAVAILABLE:
        return "does not answer"
    return None


async def show_metrics(ask: Ask) -> web.Response:
    """All metrics of this server's workers, in Prometheus' text format."""
    text = ask.context.metrics.render()
    return web.Response(body=text, headers={"content-type": CONTENT_TYPE, "cache-control": "no-store"})


def routes(*, metrics_require_key: bool) -> tuple[Route, ...]:
    """The routes; /metrics is open unless the setting asks for an admin key."""
    return (
        Route(
            method="GET",
            path="/healthz",
            handler=show_health,
            summary="Is it alive",
            access="anyone",
            answer=Health,
            transaction=False,
            tag="health",
        ),
        Route(
            method="GET",
            path="/readyz",
            handler=show_readiness,
            summary="Is it ready",
            access="anyone",
            answer=Readiness,
            transaction=False,
            tag="health",
        ),
        Route(
            method="GET",
            path="/metrics",
            handler=show_metrics,
            summary="Metrics for Prometheus",
            access="read" if metrics_require_key else "anyone",
            everywhere=True,
            transaction=False,
            media_types=("text/plain",),
            tag="health",
        ),
    )
