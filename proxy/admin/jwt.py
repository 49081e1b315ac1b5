"""Administrators by JSON Web Token: HS256 with a shared secret, or RS256 and ES256 with keys from a JWKS URL.

A token must be signed by one of the configured ways, carry `exp`, and match issuer and audience where they are set. Its
role claim says what it may: "admin" or "write" changes, "read" or "viewer" reads, anything else nothing. Its group claim,
when present, confines it to one group. The algorithm is decided by our settings, never by the token.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeGuard

import jwt

from proxy.admin.route import Actor
from proxy.settings import Settings

log = logging.getLogger(__name__)
JWKS_AGE_MAX_S = 600.0
JWKS_AGAIN_S = 10.0
"""An unknown key id asks the issuer again, at most this often: a rotation is seen soon, a flood of tokens costs nothing."""
JWKS_BYTES_MAX = 2**20
LEEWAY_S = 30
NAME_CHARS_MAX = 200
_ROLES: dict[str, Literal["read", "write"]] = {
    "admin": "write",
    "write": "write",
    "read": "read",
    "viewer": "read",
}

Fetch = Callable[[str], Awaitable[Any]]


class JwtVerifier:
    """One per worker; remembers the issuer's keys."""

    def __init__(self, settings: Settings, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def actor(self, token: str) -> Actor | None:
        """Who the token says it is, or None when it is not good here."""
        try:
            key, algorithms = await self._key_for(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=algorithms,
                audience=self._settings.admin_jwt_audience or None,
                issuer=self._settings.admin_jwt_issuer or None,
                leeway=LEEWAY_S,
                options={"require": ["exp"], "verify_aud": bool(self._settings.admin_jwt_audience)},
            )
        except (jwt.PyJWTError, LookupError) as error:
            log.info("token refused", extra={"reason": type(error).__name__})
            return None
        return self._actor_of(claims)

    def _actor_of(self, claims: dict[str, Any]) -> Actor | None:
        roles = claims.get(self._settings.admin_jwt_role_claim)
        granted = {_ROLES.get(str(role).lower()) for role in (roles if isinstance(roles, list) else [roles])}
        scope: Literal["read", "write"] | None = (
            "write" if "write" in granted else "read" if "read" in granted else None
        )
        subject = claims.get("sub")
        group = claims.get(self._settings.admin_jwt_group_claim)
        if scope is None or not _is_text(subject) or not (group is None or _is_text(group)):
            return None
        name = claims.get("name")
        name = name[:NAME_CHARS_MAX] if _is_text(name) else None
        return Actor(kind="jwt", id=subject[:NAME_CHARS_MAX], name=name, scope=scope, group_id=group)

    async def _key_for(self, token: str) -> tuple[Any, list[str]]:
        header = jwt.get_unverified_header(token)
        secret = self._settings.admin_jwt_secret.get_secret_value()
        algorithm = header.get("alg")  # whatever JSON can say, which no set can look up
        if algorithm == "HS256" and secret:
            return secret, ["HS256"]
        if algorithm in ("RS256", "ES256") and self._settings.admin_jwks_url:
            key = await self._public_key(header.get("kid"))
            if key.algorithm_name != algorithm:
                raise LookupError("the key is for another algorithm")
            return key, [algorithm]
        raise LookupError("this algorithm is not configured")

    async def _public_key(self, kid: str | None) -> jwt.PyJWK:
        async with self._lock:
            age = None if self._read_at is None else self._clock() - self._read_at
            if age is None or age > JWKS_AGE_MAX_S or (kid not in self._keys and age > JWKS_AGAIN_S):
                await self._read_keys()
        return self._keys[kid]

    async def _read_keys(self) -> None:
        self._read_at = self._clock()
        try:
            found = jwt.PyJWKSet.from_dict(await self._fetch(self._settings.admin_jwks_url))
            keys = {each.key_id: each for each in found.keys if each.public_key_use in (None, "sig")}
        except Exception:
            log.exception("can't read the JWKS; the keys known so far stay")
            return
        self._keys = keys
        if len(found.keys) == 1:
            self._keys[None] = found.keys[0]


def _is_text(value: Any) -> TypeGuard[str]:
    """Text that Postgres can hold, and that looks like what it is."""
    return isinstance(value, str) and value.isprintable()
