"""Objects of the shared upstream account: who made them, which record bills them, and which are still followed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from proxy.core.claims import made_wins, object_rows, settled
from proxy.core.spoolformat import RECORD_FIELDS, decode_record
from proxy.store.postgres import Connection, Pool, statements
from proxy.store.transactions import bounded

_OWNED = re.compile(rb"\}(,-?\d+)?\]")
"""How the payload of a record ends that says something about objects: with that, or with what the cache saved behind it."""
_END_BYTES = 24


async def settle(connection: Connection, payloads: Sequence[bytes]) -> list[bytes]:
    """Act upon what records say about objects, and return the payloads as they are to be stored.

    Belongs into the transaction that stores them, before they are.
    """
    ends = [payload[-_END_BYTES:] for payload in payloads]  # of most records it has no brace
    owned = {at: decode_record(payloads[at]) for at, end in enumerate(ends) if b"}" in end and _owned(end)}
    if not owned:
        return list(payloads)
    named = statements("objects")
    lost = await _claim(connection, owned.values())
    rows = [row for record in owned.values() for row in object_rows(record)]
    if rows:
        await connection.execute(named["insert_objects"], orjson.dumps(rows).decode())
    ended = {
        object_id
        for record in owned.values()
        for object_id in (
            record["ownership"].get("ended"),
            *(claim["id"] for claim in record["ownership"].get("claims", ())),
        )
        if object_id is not None
    }
    if ended:
        await connection.execute(named["end_objects"], sorted(ended))
    kept = list(payloads)
    for at, record in owned.items():
        fields = settled(record, lost.get(record["id"], frozenset()))
        kept[at] = orjson.dumps([fields.get(name) for name in RECORD_FIELDS])
    return kept


def _owned(end: bytes) -> bool:
    return _OWNED.fullmatch(end, end.rindex(b"}")) is not None


async def _claim(connection: Connection, records: Iterable[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The objects that each record claimed in vain, by record id."""
    claims = [
        (claim["id"], _claimant(record, claim), record["started_at_us"], claim["made"], record["id"])
        for record in records
        for claim in record["ownership"].get("claims", ())
    ]
    if not claims:
        return {}
    first: dict[str, tuple[str, str, int, bool, str]] = {}
    for claim in claims:
        first.setdefault(claim[0], claim)
    named = statements("objects")
    ids, record_ids, starts, made, _ = zip(*first.values(), strict=True)
    await connection.execute(
        named["claim"], list(ids), [UUID(each) for each in record_ids], list(starts), list(made)
    )
    billed = {row["object_id"]: row for row in await connection.fetch(named["fetch_billed"], list(ids))}
    lost: dict[str, set[str]] = {}
    for object_id, claimant, started_at_us, is_made, record_id in claims:
        row = billed[object_id]
        wins = str(row["record_id"]) == claimant or (
            is_made and made_wins(row["started_at_us"], row["made"], started_at_us)
        )
        if not wins:
            lost.setdefault(record_id, set()).add(object_id)
    return lost


def _claimant(record: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """Whose claim it is: the record's own, or that of the one whose part it is."""
    return str(record["parent_id"] if claim.get("by_parent") else record["id"])


async def fetch_owners(pool: Pool, ids: Sequence[str], *, timeout_s: float) -> list[Mapping[str, Any]]:
    """A row for each object that is known: see core.claims.owner_of_row; and `billed`."""
    async with bounded(pool, timeout_s, readonly=True) as connection:
        return list(await connection.fetch(statements("objects")["fetch_owners"], list(ids)))


async def insert(pool: Pool, rows: Sequence[Mapping[str, Any]], *, timeout_s: float) -> None:
    """Make owners known to every worker, when this returns."""
    async with bounded(pool, timeout_s) as connection:
        await connection.execute(statements("objects")["insert_objects"], orjson.dumps(rows).decode())


async def try_lead(connection: Connection) -> bool:
    """Become the only follower, until this connection ends. False: another one leads."""
    return bool(await connection.fetchval(statements("objects")["try_lead"]))


async def fetch_due(pool: Pool, most: int, first_s: float, *, timeout_s: float) -> list[Mapping[str, Any]]:
    """Objects to ask for now, made at least `first_s` ago: rows for core.claims.owner_of_row, with `id`, `follow`, `follow_tries`, `age_s`."""
    async with bounded(pool, timeout_s, readonly=True) as connection:
        return list(await connection.fetch(statements("objects")["fetch_due"], most, first_s))


async def postpone(pool: Pool, object_id: str, after_s: float, *, timeout_s: float) -> None:
    """Ask for an object again after a while."""
    async with bounded(pool, timeout_s) as connection:
        await connection.execute(statements("objects")["postpone"], object_id, after_s)


async def count_followed(pool: Pool, *, timeout_s: float) -> int:
    """How many objects are followed."""
    async with bounded(pool, timeout_s, readonly=True) as connection:
        return int(await connection.fetchval(statements("objects")["count_followed"]))


async def prune(pool: Pool, cutoff: datetime) -> None:
    """Forget what nobody can ask for any more, and claims on objects from before `cutoff`."""
    await pool.execute(statements("objects")["prune_objects"], cutoff)
