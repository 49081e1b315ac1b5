"""Signing in and out of the dashboard: a cookie that stands for the admin key, token or proxy key it was made with.

The cookie is HttpOnly and SameSite=Strict, lasts an hour without use and twelve at most, and goes only to /admin, /me and
/dashboard, so that nothing under /v1 could carry it to the upstream. With it, whatever changes something must also bear the
header X-Dashboard, which no form and no script of another origin can send: that is what makes it safe from forged requests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import jwt
from aiohttp import web
from multidict import CIMultiDict
from pydantic import Field

import proxy
from proxy.admin.route import Actor, Ask, Reply, Route
from proxy.admin.shapes import Input, View
from proxy.core.refusal import Refusal
from proxy.store import people, sign_ins
from proxy.store.audit import Entry
from proxy.store.postgres import Connection, Pool

COOKIE = "openai_proxy_session"
HEADER = "x-dashboard"
PATHS = ("/admin", "/me", "/dashboard")
COOKIE_CHARS_MAX = 100
LATEST_S = 2**33
"""Unix seconds in the year 2242: what a token says of its end beyond that is no date."""
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_STORE = {"cache-control": "no-store"}

Verify = Callable[[str, Any, str], Awaitable[Actor]]
"""(credential, pool or connection, client address) -> who that is; raises 401 or 429."""


class SignIn(Input):
    """What a person signs in with."""

    credential: str = Field(min_length=1, max_length=8192, description="An admin key, a JWT or a proxy key.")


class SessionView(View):
    """Who is signed in, and what the page needs to know before it asks anything else."""

    signed_in: bool
    kind: Literal["user", "admin_key", "jwt"] | None = None
    id: str | None = None
    name: str | None = None
    scope: Literal["read", "write"] | None = None
    group: str | None = None
    group_name: str | None = None
    ends_at: datetime | None = None
    simulated: bool
    currencies: list[str]
    version: str


def cookie_of(request: web.Request) -> str | None:
    """The session cookie, if the browser sent one."""
    text = request.cookies.get(COOKIE, "")
    return text if 0 < len(text) <= COOKIE_CHARS_MAX and text.isascii() else None


async def signed_in(request: web.Request, cookie: str, pool: Pool | Connection) -> Actor:
    """Who the cookie stands for. Raises 401 when it is over, 403 when the request may be a forgery."""
    if request.method not in _SAFE and not request.headers.get(HEADER):
        raise Refusal(
            403, "forged_request", f"A change with a cookie needs the header {HEADER}.", "permission_error"
        )
    row = await sign_ins.live(pool, cookie)
    if row is None:
        raise Refusal(
            401, "signed_out", "You are signed out: sign in again.", "authentication_error", reason="unknown"
        )
    return _actor(row)


def _actor(row: Any) -> Actor:
    owner = row["owner"]
    if row["kind"] == "user":
        return Actor(
            kind="user",
            id=owner["user_id"],
            name=owner["name"],
            group_id=owner["group_id"],
            user_id=owner["user_id"],
            key_id=owner["key_id"],
        )
    told = row if owner is None else owner
    return Actor(
        kind=row["kind"], id=row["subject"], name=told["name"], scope=told["scope"], group_id=told["group_id"]
    )


def routes(verify: Verify) -> tuple[Route, ...]:
    """Sign in, sign out, and who is signed in."""

    async def sign_in(ask: Ask) -> Reply:
        """Exchange a credential for a cookie."""
        if not ask.request.headers.get(HEADER):
            raise Refusal(403, "forged_request", f"Signing in needs the header {HEADER}.", "permission_error")
        text = ask.body.credential
        actor = await verify(text, ask.connection, ask.address)
        is_token = actor.kind == "jwt"
        row, cookie = await sign_ins.create(
            ask.connection,
            kind=actor.kind,
            credential=None if is_token else text,
            subject=actor.id,
            name=actor.name,
            scope=actor.scope,
            group_id=actor.group_id if actor.kind != "user" else None,
            expires_at=_expiry(text) if is_token else None,
        )
        ask.audited.append(Entry(f"{actor.kind}:{actor.id}", ask.address, "session.create", actor.id))
        view = await _view(ask, actor, row["ends_at"])
        return Reply(view, headers=_cookies(ask.request, cookie))

    async def sign_out(ask: Ask) -> Reply:
        """End the session."""
        cookie = cookie_of(ask.request)
        if cookie is not None:
            actor = await signed_in(ask.request, cookie, ask.connection)
            await sign_ins.end(ask.connection, cookie)
            ask.audited.append(Entry(f"{actor.kind}:{actor.id}", ask.address, "session.end", actor.id))
        return Reply(await _view(ask, None, None), headers=_cookies(ask.request, None))

    async def show_session(ask: Ask) -> Reply:
        """Who is signed in. Nobody is no error."""
        cookie = cookie_of(ask.request)
        row = None if cookie is None else await sign_ins.live(ask.connection, cookie)
        view = await _view(ask, None if row is None else _actor(row), None if row is None else row["ends_at"])
        return Reply(view, headers=_NO_STORE)

    def route(method: Any, handler: Any, summary: str, body: Any = None) -> Route:
        return Route(
            method=method,
            path="/dashboard/session",
            handler=handler,
            summary=summary,
            access="anyone",
            body=body,
            answer=SessionView,
            tag="dashboard",
        )

    return (
        route("GET", show_session, "Who is signed in"),
        route("POST", sign_in, "Sign in", SignIn),
        route("DELETE", sign_out, "Sign out"),
    )


async def _view(ask: Ask, actor: Actor | None, ends_at: datetime | None) -> SessionView:
    settings = ask.context.settings
    page = {
        "simulated": settings.demo_mode,
        "currencies": sorted(settings.currencies),
        "version": proxy.__version__,
    }
    if actor is None:
        return SessionView(signed_in=False, **page)
    group = await people.fetch_group(ask.connection, actor.group_id) if actor.group_id is not None else None
    return SessionView(
        signed_in=True,
        kind=actor.kind,
        id=actor.id,
        name=actor.name,
        scope=actor.scope,
        group=actor.group_id,
        group_name=group["name"] if group is not None else None,
        ends_at=ends_at,
        **page,
    )


def _cookies(request: web.Request, cookie: str | None) -> CIMultiDict[str]:
    """The cookie for each of PATHS, or its removal. Secure wherever the browser came by TLS."""
    tls = request.secure or request.headers.get("x-forwarded-proto") == "https"
    lasts = 0 if cookie is None else round(sign_ins.LONGEST.total_seconds())
    headers = CIMultiDict({"cache-control": "no-store"})
    for path in PATHS:
        headers.add(
            "set-cookie",
            f"{COOKIE}={cookie or ''}; Path={path}; Max-Age={lasts}; HttpOnly; SameSite=Strict"
            + ("; Secure" if tls else ""),
        )
    return headers


def _expiry(token: str) -> datetime:
    """When a token that was verified a moment ago ends; it carries `exp`, or it would have been refused."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return datetime.fromtimestamp(min(int(claims["exp"]), LATEST_S), UTC)
