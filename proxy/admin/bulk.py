"""Many statistics in one call, each answered with its own status."""

from __future__ import annotations

import dataclasses
import re
from typing import Any
from urllib.parse import unquote

import orjson
from multidict import MultiDict
from pydantic import Field
from yarl import URL

from proxy.admin import wire
from proxy.admin.faults import EXPECTED, refusal_of
from proxy.admin.route import Ask, Reply, Route, bad_request
from proxy.admin.shapes import Input, Name, View
from proxy.core.refusal import Refusal

QUERIES_MAX = 50


class NamedQuery(Input):
    """One statistic, as the path and query of its GET."""

    name: Name = Field(examples=["by model"])
    path: str = Field(min_length=1, max_length=4000, examples=["/admin/stats/models?days=7"])


class BulkInput(Input):
    """The queries; their names must differ."""

    queries: list[NamedQuery] = Field(min_length=1, max_length=QUERIES_MAX)


class BulkResult(View):
    """What the GET would have answered."""

    status: int
    body: Any


class BulkView(View):
    """Results by name."""

    results: dict[str, BulkResult]


def bulk_route(routes: tuple[Route, ...]) -> Route:
    """POST /admin/stats/bulk over those of `routes` that are statistics or one subject's usage."""
    answered = [
        (re.compile("^" + re.sub(r"\{([a-z_]+)\}", r"(?P<\1>[^/]+)", route.path) + "$"), route)
        for route in routes
        if route.method == "GET"
        and route.transaction
        and (route.path.startswith("/admin/stats") or route.path.endswith("/usage"))
        and route.access == "read"
    ]

    async def run_bulk(ask: Ask) -> BulkView:
        """Up to 50 statistics at once: of many users, or all that one page shows."""
        names = [query.name for query in ask.body.queries]
        if len(set(names)) < len(names):
            raise bad_request("queries", "queries: two have the same name.")
        results = {}
        for query in ask.body.queries:
            results[query.name] = await _one(ask, query.path, answered)
        return BulkView(results=results)

    return Route(
        method="POST",
        path="/admin/stats/bulk",
        handler=run_bulk,
        summary="Many statistics at once",
        access="read",
        body=BulkInput,
        answer=BulkView,
        reads_personal_data=True,
        tag="stats",
        example={"queries": [{"name": "by model", "path": "/admin/stats/models?days=7"}]},
    )


async def _one(ask: Ask, path: str, answered: list[tuple[re.Pattern[str], Route]]) -> BulkResult:
    try:
        url = URL(path)
    except ValueError:
        return _refused(bad_request("path", f"{path[:100]!r} is no path."))
    for pattern, route in answered:
        if (match := pattern.match(url.raw_path)) is not None:
            parts = {name: unquote(value) for name, value in match.groupdict().items()}
            try:
                return await _answer(ask, route, parts, url)
            except EXPECTED as error:
                return _refused(refusal_of(error, route))
    return _refused(Refusal(404, "unknown_url", f"{path[:100]!r} is no statistic.", param="path"))


async def _answer(ask: Ask, route: Route, parts: dict[str, str], url: URL) -> BulkResult:
    wire.refuse_nul(parts)
    query = wire.read_query(MultiDict(url.query), route.query)
    inner = dataclasses.replace(ask, path=parts, query=query, body=None)
    # A savepoint: what one query breaks must not break the next.
    async with ask.connection.transaction():
        result = await route.handler(inner)
    return BulkResult(status=route.status, body=result.body if isinstance(result, Reply) else result)


def _refused(refusal: Refusal) -> BulkResult:
    return BulkResult(status=refusal.status, body=orjson.loads(refusal.body()))
