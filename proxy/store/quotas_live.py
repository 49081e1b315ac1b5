"""The ledger of live quotas in Postgres: leases, shares and windows. One round trip for each function.

The other half of the algorithm in docs/explanation/quotas.md. At every commit, for every window: `held` is the sum of its
shares' amounts, and no grant leaves more than `settled + held <= limit`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from proxy.core.quota import Quota, QuotaStatus, WindowKey, window_at
from proxy.core.shares import Ask, Grant, Return
from proxy.store.postgres import Connection, statements

CHANNEL = "openai_proxy_quota"
"""Notifications [kind, lease, quota id, subject, window start]; kinds: recall, returned, reset."""
REAP_MAX = 1_000

_SQL = statements("quotas_live")


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease as it was taken or renewed."""

    id: int
    at: float
    """Postgres' clock, Unix seconds."""
    expired: bool = False
    """There are leases of others to reap."""


async def take_lease(connection: Connection, worker: str, ttl_s: float) -> Lease:
    """A new lease. `worker` is for people who look."""
    row = await connection.fetchrow(_SQL["take_lease"], worker, ttl_s)
    return Lease(row["id"], row["at"])


async def renew_lease(connection: Connection, lease: int, ttl_s: float) -> Lease | None:
    """Make a lease last for `ttl_s` from now. None: it is gone, and so is what it held."""
    row = await connection.fetchrow(_SQL["renew_lease"], lease, ttl_s)
    return Lease(lease, row["at"], row["expired"]) if row is not None else None


async def leave(connection: Connection, lease: int) -> None:
    """End a lease with nothing under it; one with something left expires in its time."""
    await connection.execute(_SQL["leave"], lease)


async def grant(connection: Connection, lease: int, ttl_s: float, asks: Sequence[Ask]) -> list[Grant] | None:
    """Give a worker shares, and call back idle ones of others where that falls short. None: the lease is gone."""
    rows = await connection.fetch(
        _SQL["grant"],
        lease,
        ttl_s,
        *_keys([ask.key for ask in asks]),
        [0 if ask.share.quota.soft else ask.share.limit for ask in asks],
        [ask.least for ask in asks],
        [ask.demand for ask in asks],
        [None if ask.share.opened else rule_of(ask.share.quota, ask.key[2]) for ask in asks],
    )
    if not rows:
        return None
    return [
        Grant(
            key=(row["o_quota_id"], row["o_scope_id"], row["o_start"]),
            share_id=row["o_share_id"],
            granted=row["o_granted"],
            returned=row["o_returned"],
            share_settled=row["o_share_settled"],
            settled=row["o_settled"],
            held=row["o_held"],
            short=row["o_short"],
            others=row["o_others"],
            limit=row["o_limit"],
        )
        for row in rows
    ]


async def look(connection: Connection, lease: int, keys: Sequence[WindowKey]) -> list[Grant]:
    """How windows stand, and what the lease holds of them. Windows without a row are left out."""
    return [
        Grant(
            key=(row["quota_id"], row["scope_id"], row["start"]),
            share_id=row["share_id"],
            granted=row["granted"],
            returned=row["returned"],
            share_settled=row["share_settled"],
            settled=row["settled"],
            held=row["held"],
            limit=row["limit_amount"],
        )
        for row in await connection.fetch(_SQL["look"], lease, *_keys(keys))
    ]


async def give_back(
    connection: Connection, lease: int, returns: Sequence[Return], answers: Sequence[WindowKey]
) -> set[int]:
    """Take back what was given up, and tell who called for it. Returns the ids of shares with nothing left in them."""
    rows = await connection.fetch(
        _SQL["give_back"],
        [each.share_id for each in returns],
        [each.total for each in returns],
        *_keys(answers),
        lease,
    )
    return {row["id"] for row in rows}


async def reap(connection: Connection, ttl_s: float) -> None:
    """Take back what dead workers held, and forget windows that are long over."""
    await connection.execute(_SQL["reap"], ttl_s, REAP_MAX)


async def settle(
    connection: Connection, charges: Sequence[Sequence[Sequence[Any]] | None], ids: Sequence[Any]
) -> list[tuple[WindowKey, int, int]]:
    """Settle what records used, in the transaction that inserted them, as its last step: (window, amount, settled in all).

    `charges` of each record as the spool writes them, [quota id, window start, subject, amount, share id, held]; `ids` are
    the records' ids. Only for records that were really inserted. The recorder's statement calls the same function.
    """
    rows = await connection.fetch(_SQL["settle"], list(charges), list(ids))
    return [
        ((row["o_quota_id"], row["o_scope_id"], row["o_start"]), row["o_amount"], row["o_settled"])
        for row in rows
    ]


async def reset_window(connection: Connection, quota: Quota, scope_id: str, *, now: float) -> int | None:
    """Begin the window that holds `now` anew; returns what had been settled in it. What is under way counts in it again.

    The caller writes the audit entry, in the same transaction.
    """
    start, _ = window_at(quota, now)
    row = await connection.fetchrow(_SQL["reset_window"], quota.id, scope_id, start)
    settled: int | None = row["settled"]
    return settled


async def statuses(
    connection: Connection, bound: Sequence[tuple[Quota, str]], *, now: float
) -> list[QuotaStatus]:
    """How each (quota, counted subject) stands in the window that holds `now` (Unix seconds), in their order."""
    windows = [window_at(quota, now) for quota, _ in bound]
    keys = [(quota.id, subject, start) for (quota, subject), (start, _) in zip(bound, windows, strict=True)]
    rules = [rule_of(quota, start) for (quota, _), (start, _) in zip(bound, windows, strict=True)]
    rows = await connection.fetch(_SQL["sums"], *_keys(keys), rules)
    sums = {(row["quota_id"], row["scope_id"], row["start"]): row for row in rows}
    found = []
    for (quota, subject), key, (start, ends) in zip(bound, keys, windows, strict=True):
        row = sums[key]
        found.append(
            QuotaStatus(
                quota=quota,
                scope_id=subject,
                limit=max(quota.limit, row["limit_amount"] or 0),
                used=row["settled"],
                held=row["held"],
                window_start=start,
                resets_at=None if math.isinf(ends) else int(ends),
            )
        )
    return found


def rule_of(quota: Quota, start: int) -> dict[str, Any]:
    """What the ledger must know of a quota to count what was used before it existed; see migration 0004."""
    rule: dict[str, Any] = {"scope": quota.scope, "unit": quota.unit}
    _, ends = window_at(quota, start)
    if not math.isinf(ends):
        rule["ends_at"] = ends
    for name, pattern in (("model", quota.model), ("operation", quota.operation)):
        if pattern is not None:
            rule[name] = posix_pattern(pattern)
    if quota.tag is not None:
        rule["tag_name"] = quota.tag[0]
        rule["tag"] = posix_pattern(quota.tag[1])
    if quota.average_percent is not None:
        rule["average_percent"] = quota.average_percent
    return rule


def posix_pattern(pattern: str) -> str:
    """An fnmatch pattern as a regular expression of Postgres that matches the same names."""
    parts = re.split(r"(\*|\?|\[!?\]?[^\]]*\])", pattern)
    return "^" + "".join(_posix_part(part) for part in parts) + "$"


def _posix_part(part: str) -> str:
    if part == "*":
        return ".*"
    if part == "?":
        return "."
    if part.startswith("[") and part.endswith("]") and len(part) > 2:
        inner = part[1:-1].replace("\\", "\\\\")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return re.sub(r"([^A-Za-z0-9_])", r"\\\1", part)


def _keys(keys: Sequence[WindowKey]) -> tuple[list[str], list[str], list[int]]:
    return [key[0] for key in keys], [key[1] for key in keys], [key[2] for key in keys]
