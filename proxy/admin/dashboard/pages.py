"""The dashboard's routes: one page for every path under /dashboard, and its static files.

The page runs no inline script and loads nothing from anywhere else; its headers make the browser hold it to that.
"""

from __future__ import annotations

import hashlib

from aiohttp import web

from proxy.admin import session
from proxy.admin.dashboard.files import PREFIX, File, Files
from proxy.admin.route import Ask, Route
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


def routes(verify: session.Verify) -> tuple[Route, ...]:
    """Signing in and out, the files, and last the page, which takes every other path under /dashboard."""
    files = Files()
    tag = f'"{hashlib.blake2b(files.page.content, digest_size=12).hexdigest()}"'

    async def show_file(ask: Ask) -> web.StreamResponse:
        """One file of the page."""
        found = files.find(ask.path["version"], ask.path["name"])
        if found is None:
            raise Refusal(404, "unknown_url", "There is no such file in this version of the dashboard.")
        return await _answer(ask.request, found, _FOR_EVER)

    async def show_page(ask: Ask) -> web.StreamResponse:
        """The page."""
        headers = _PAGE_HEADERS | {"etag": tag}
        if tag in ask.request.headers.get("if-none-match", ""):
            return web.Response(status=304, headers=headers)
        return await _answer(ask.request, files.page, headers)

    return (
        *session.routes(verify),
        _get(f"{PREFIX}{{version}}/{{name:.+}}", show_file, "A file of the dashboard"),
        _get("/dashboard", show_page, "The dashboard"),
        _get("/dashboard/{rest:.*}", show_page, "The dashboard"),
    )


def _get(path: str, handler: object, summary: str) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,  # type: ignore[arg-type]
        summary=summary,
        access="anyone",
        transaction=False,
        media_types=("text/html",),
        tag="dashboard",
    )


async def _answer(request: web.Request, found: File, headers: dict[str, str]) -> web.Response:
    body, encoding = await found.encoded(request.headers.get("accept-encoding", ""))
    sent = headers | {"content-type": found.kind, "vary": "accept-encoding"}
    if encoding is not None:
        sent["content-encoding"] = encoding
    return web.Response(body=body, headers=sent)
