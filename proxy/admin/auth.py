"""Who asks: administrators by admin key or JWT, users by their proxy key.

401 without a credential or with a wrong one, 403 when it is right but does not reach this far. A proxy key opens nothing
under /admin, an admin key nothing under /me. A browser that is signed in (session.py) stands for the credential it
signed in with. Only digests are compared, by the database.
"""

from __future__ import annotations

import hashlib

from aiohttp import hdrs, web

from proxy.admin import session
from proxy.admin.context import AdminContext
from proxy.admin.jwt import JwtVerifier
from proxy.admin.route import NOBODY, Access, Actor, Route
from proxy.admin.throttle import Throttle
from proxy.core import key as proxy_key
from proxy.core.refusal import Refusal
from proxy.store import admin_keys, issued_keys
from proxy.store.postgres import Pool

CREDENTIAL_CHARS_MAX = 8192
_REALM = (("www-authenticate", 'Bearer realm="openai-proxy"'),)


class Authenticator:
    """One per worker; holds the throttle and the JWT keys."""

    def __init__(self, context: AdminContext, throttle: Throttle, jwt: JwtVerifier | None) -> None:
        self._context = context
        self._throttle = throttle
        self._jwt = jwt

    async def actor(
        self, request: web.Request, route: Route, pool: Pool | None, address: str, clock: float
    ) -> Actor:
        """Who asks, when they may call this route; raises the Refusal otherwise. `clock` is monotonic seconds."""
        if route.access == "anyone":
            return NOBODY
        if self._context.local is not None:
            _authorize(self._context.local, route)
            return self._context.local
        text, cookie = _credential(request), session.cookie_of(request)
        if text is None and cookie is not None:
            if pool is None:
                raise database_away()
            actor = await session.signed_in(request, cookie, pool)
            self._throttle.succeeded(hashlib.sha256(cookie.encode()).digest(), clock)
        elif text is None:
            raise _unauthorized("missing", _needed(route.access))
        else:
            actor = await self.verified(text, pool, address, clock)
        _authorize(actor, route)
        return actor

    async def verified(self, text: str, pool: Pool | None, address: str, clock: float) -> Actor:
        """Whose credential this is. Raises 401, 429 after too many wrong ones or requests, 503 without a database."""
        digest = hashlib.sha256(text.encode()).digest()
        self._throttle.check_address(address, digest, clock)
        if pool is None:
            raise database_away()
        actor = await self._identify(text, pool)
        if actor is None:
            self._throttle.failed(address, clock)
            self._context.metrics.auth_failures.inc(("admin",))
            raise _unauthorized("unknown", "Wrong credential: unknown, expired or revoked.")
        self._throttle.succeeded(digest, clock)
        return actor

    async def _identify(self, text: str, pool: Pool) -> Actor | None:
        if text.startswith(proxy_key.PROXY_PREFIX):
            row = await issued_keys.live_key(pool, text) if proxy_key.is_well_formed(text) else None
            return (
                None
                if row is None
                else Actor(
                    kind="user",
                    id=row["user_id"],
                    name=row["name"],
                    group_id=row["group_id"],
                    user_id=row["user_id"],
                    key_id=row["key_id"],
                )
            )
        if self._jwt is not None and text.count(".") == 2:
            return await self._jwt.actor(text)
        row = await admin_keys.live_admin_key(pool, text)
        return (
            None
            if row is None
            else Actor(
                kind="admin_key", id=row["id"], name=row["name"], scope=row["scope"], group_id=row["group_id"]
            )
        )


def _credential(request: web.Request) -> str | None:
    """The bearer token, or the `api-key` header that Azure's SDKs send. No key holds bytes that are no UTF-8, which come as surrogates."""
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    text = text.strip() if scheme.lower() == "bearer" else request.headers.get("api-key", "").strip()
    return text if 0 < len(text) <= CREDENTIAL_CHARS_MAX and text.isprintable() else None


def _authorize(actor: Actor, route: Route) -> None:
    if route.access == "user":
        if actor.kind != "user":
            raise _forbidden("This is for users, with their proxy key.")
        return
    if actor.kind == "user":
        raise _forbidden("A proxy key does not open the admin API.")
    if route.access == "write" and actor.scope != "write":
        raise _forbidden("This credential may only read.")
    if route.everywhere and actor.group_id is not None:
        raise _forbidden("This credential is confined to one group.")


def _needed(access: Access) -> str:
    kind = "your proxy key" if access == "user" else "an admin key"
    return f"No credential: send {kind} as `Authorization: Bearer …`."


def _unauthorized(reason: str, message: str) -> Refusal:
    return Refusal(401, "invalid_api_key", message, "authentication_error", headers=_REALM, reason=reason)


def _forbidden(message: str) -> Refusal:
    return Refusal(403, "permission_denied", message, "permission_error", reason="forbidden")


def database_away() -> Refusal:
    """503: what was asked needs Postgres, which can't be reached now."""
    return Refusal(
        503,
        "database_unavailable",
        "The database can't be reached now.",
        "server_error",
        headers=(("retry-after", "5"),),
        reason="database",
    )
