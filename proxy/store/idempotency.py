"""Idempotency keys: a creation that is asked for again within a day is answered as the first time, and done once.

The claim is a row in the creation's own transaction, so of two at once one waits and then finds the other's answer, and a
creation that failed leaves nothing claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from proxy.store.postgres import Connection, statements

_SQL = statements("idempotency")


class ReusedError(Exception):
    """The key was used for a different request."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A creation by its key. `request` is a digest of all that makes it the same request."""

    actor: str
    key: str
    route: str
    request: bytes


async def claim(connection: Connection, wanted: Claim) -> Any | None:
    """None: it is ours to do, in this transaction. Else the first one's answer. Raises ReusedError."""
    made = await connection.fetchrow(_SQL["claim"], wanted.actor, wanted.key, wanted.route, wanted.request)
    if made is not None:
        await connection.execute(_SQL["forget"])
        return None
    row = await connection.fetchrow(_SQL["claimed"], wanted.actor, wanted.key)
    if row is None or (row["route"], row["request"]) != (wanted.route, wanted.request):
        raise ReusedError
    return row["answer"]


async def finish(connection: Connection, done: Claim, answer: Any) -> None:
    """Keep the answer, which holds no secret."""
    await connection.execute(_SQL["finish"], done.actor, done.key, answer)
