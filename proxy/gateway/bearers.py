"""Bearers: whose credential a request carries. A proxy key is looked up in memory; so is an `ek_…` client secret that was
issued through the proxy: it stands for the key that asked for it, goes upstream as it is, and ends when OpenAI says.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.core.address import client_address, is_within, networks
from proxy.core.caller import Caller
from proxy.core.key import digest as digest_of
from proxy.core.objects import SECRET_PREFIX
from proxy.core.refusal import Refusal, invalid_key, unavailable
from proxy.gateway.front import Front
from proxy.gateway.keyring import Keyring
from proxy.gateway.owners import RETRY_AFTER_S, Owners, expired_secret, is_expired, secret_id
from proxy.gateway.request import Request
from proxy.gateway.sockets import peer_address


class Bearers:
    """One per worker."""

    def __init__(
        self, keyring: Keyring, owners: Owners, *, trusted_proxies: tuple[str, ...], now_us: Callable[[], int]
    ) -> None:
        self._keyring = keyring
        self._owners = owners
        self._trusted = networks(trusted_proxies)
        self._now_us = now_us

    def known(self, front: Front, request: Request) -> Caller | None:
        """Who calls; None when it must be looked up with `find`. Raises Refusal 401. Hot path."""
        known, now = request.known, self._now_us() / 1e6
        if known is not None and known.digest is not None:
            caller = self._keyring.live(known.digest, now)
            if caller is not None:
                return self._from_here(front, request, caller)
        token = request.token()
        if token.startswith(SECRET_PREFIX):
            return self._by_secret(front, request, token)
        digest = digest_of(token)
        if known is not None:
            known.digest = digest
        return self._from_here(front, request, self._keyring.lookup(token, now, digest))

    async def find(self, front: Front, request: Request) -> Caller:
        """Look up a client secret that memory does not know. Raises Refusal: 401, or 503 without Postgres."""
        token = request.token()
        known = await self._owners.look_up([secret_id(token)])
        caller = self._by_secret(front, request, token)
        if caller is not None:
            return caller
        if not known:
            raise unavailable(
                "secret_unknown_now",
                "Client secrets can't be checked at the moment.",
                RETRY_AFTER_S,
                "secret",
            )
        raise invalid_key(
            "Incorrect client secret provided: it was not issued through this proxy.", "unknown"
        )

    def issuer(self, secret: bytes) -> str:
        """The name of the upstream that issued a client secret, and understands it."""
        owner = self._owners.owner(secret_id(secret))
        return owner.upstream if owner is not None else ""

    def _by_secret(self, front: Front, request: Request, token: bytes) -> Caller | None:
        owner = self._owners.owner(secret_id(token))
        if owner is None or owner.key_digest is None:
            return None
        now = self._now_us() / 1e6
        if is_expired(owner, now):
            raise expired_secret()
        request.secret, request.key_digest = token, owner.key_digest
        return self._from_here(front, request, self._keyring.bearer_of(owner, now))

    def _from_here(self, front: Front, request: Request, caller: Caller) -> Caller:
        allowed = caller.allowed_addresses
        if allowed is None:
            return caller
        forwarded = request.fields.get(b"x-forwarded-for")
        said = forwarded.decode("latin-1") if forwarded is not None else None
        address = client_address(peer_address(front.transport), said, self._trusted)
        if not is_within(address, allowed):
            raise Refusal(
                401,
                "ip_not_authorized",
                f"This API key may not be used from the address {address}.",
                reason="address",
            )
        return caller
