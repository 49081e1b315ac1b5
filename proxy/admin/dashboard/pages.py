"""The dashboard's routes: one page for every path under /dashboard, and its static files.

The page runs no inline script and loads nothing from anywhere else; its headers make the browser hold it to that.
"""

from __future__ import annotations

import hashlib

from aiohttp import web

from proxy.admin import session, wire
from proxy.admin.dashboard.files import PREFIX, File, Files
from proxy.admin.serve import Server
from proxy.core.refusal import Refusal

POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_PAGE_HEADERS = {
    "content-security-policy": POLICY,
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",
}
_FOR_EVER = {"cache-control": "public, max-age=31536000, immutable"}


def mount(router: web.UrlDispatcher, server: Server, verify: session.Verify) -> None:
    """Signing in and out, the files, and last the page, which takes every other path under /dashboard."""
    for route in session.routes(verify):
        router.add_route(route.method, route.path, server.handler(route))
    files = Files()
    tag = f'"{hashlib.blake2b(files.page.content, digest_size=12).hexdigest()}"'

    async def show_file(request: web.Request) -> web.StreamResponse:
        found = files.find(request.match_info["version"], request.match_info["name"])
        if found is None:
            refusal = Refusal(404, "unknown_url", "There is no such file in this version of the dashboard.")
            return server.finish(request, wire.error_answer(refusal))
        return server.finish(request, await _answer(request, found, _FOR_EVER))

    async def show_page(request: web.Request) -> web.StreamResponse:
        headers = _PAGE_HEADERS | {"etag": tag}
        if tag in request.headers.get("if-none-match", ""):
            return server.finish(request, web.Response(status=304, headers=headers))
        return server.finish(request, await _answer(request, files.page, headers))

    router.add_get(PREFIX + "{version}/{name:.+}", show_file)
    router.add_get("/dashboard", show_page)
    router.add_get("/dashboard/{rest:.*}", show_page)


async def _answer(request: web.Request, found: File, headers: dict[str, str]) -> web.Response:
    body, encoding = await found.encoded(request.headers.get("accept-encoding", ""))
    sent = headers | {"content-type": found.kind, "vary": "accept-encoding"}
    if encoding is not None:
        sent["content-encoding"] = encoding
    return web.Response(body=body, headers=sent)
