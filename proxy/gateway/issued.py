"""Issued secrets: `ek_…` client secrets that OpenAI made for one of our callers.

A browser may come with one to any worker a moment later. So the answer that holds it is kept until the secret's digest is
in Postgres: one INSERT on these few endpoints, which are not asked often. Without Postgres the answer passes all the same:
this worker knows the secret, and the others learn of it with the record.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from proxy.core.answerhead import ResponseHead
from proxy.core.decode import decode_whole
from proxy.core.objects import SECRET_PREFIX
from proxy.gateway.exchange import Exchange
from proxy.gateway.owners import Owners, secret_id
from proxy.gateway.ownership import Makers
from proxy.store import objects
from proxy.store.postgres import RETRYABLE, UNAVAILABLE, Pool, PostgresError

log = logging.getLogger(__name__)
KIND = "client_secret"
BODY_MAX_BYTES = 2**20
TIMEOUT_S = 3.0
LASTS_S = 3600.0
"""How long a secret is accepted whose answer does not say."""


class Issued:
    """One per worker."""

    def __init__(self, pool: Pool, owners: Owners, makers: Makers) -> None:
        self._pool = pool
        self._owners = owners
        self._makers = makers

    async def look(self, exchange: Exchange, head: ResponseHead, content: bytes) -> bytes | None:
        """Make the answer's secret known. Never changes the answer."""
        encoding = head.fields.get(b"content-encoding")
        text = content if encoding is None else decode_whole(content, encoding, BODY_MAX_BYTES) or b""
        found = read_secret(text)
        if found is None:
            return None
        secret, expires_at = found
        started = exchange.request.started_us / 1e6
        owner = replace(self._makers.owner_of(exchange, KIND), expires_at=expires_at or started + LASTS_S)
        name = secret_id(secret.encode())
        self._owners.remember(name, owner)
        row = owner.columns() | {
            "id": name,
            "kind": KIND,
            "record_id": exchange.id,
            "upstream": owner.upstream,
            "model": owner.model,
            "expires_at": owner.expires_at,
            "started_at_us": exchange.request.started_us,
        }
        exchange.issued = name
        try:
            await objects.insert(self._pool, [row], timeout_s=TIMEOUT_S)
        except (*UNAVAILABLE, *RETRYABLE, PostgresError) as error:
            log.warning("a client secret is known to one worker only, for now", extra={"error": repr(error)})
        return None


def read_secret(text: bytes) -> tuple[str, float | None] | None:
    """(secret, when it expires in Unix seconds) of an answer: `value`, or `client_secret` as a text or an object."""
    if len(text) > BODY_MAX_BYTES:
        return None
    try:
        tree: Any = orjson.loads(text)
    except ValueError:
        return None
    if not isinstance(tree, Mapping):
        return None
    inner = tree.get("client_secret")
    for place, name in ((tree, "value"), (inner, "value"), (tree, "client_secret")):
        secret = place.get(name) if isinstance(place, Mapping) else None
        if isinstance(secret, str) and secret.encode().startswith(SECRET_PREFIX):
            expires = place.get("expires_at") if isinstance(place, Mapping) else None
            return secret, float(expires) if isinstance(expires, int | float) else None
    return None
