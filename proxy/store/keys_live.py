"""Live keys: everything that decides who may call, read as one snapshot or as what changed since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.store.postgres import Pool, statements
from proxy.store.transactions import bounded

CHANGES_MAX = 20_000
"""With more changes than this since the last load, everything is read again: it costs less."""
PREFETCH = 2_000
LOAD_TIMEOUT_S = 120.0
REFRESH_TIMEOUT_S = 10.0


@dataclass(slots=True)
class LiveRows:
    """Rows by their id, each the JSON text that proxy.core.keyrow reads."""

    keys: dict[bytes, str] = field(default_factory=dict)
    """By digest."""
    groups: dict[str, str] = field(default_factory=dict)
    plans: dict[str, str] = field(default_factory=dict)
    """`plans.quotas` by plan id."""
    quotas: dict[str, str] = field(default_factory=dict)
    """All quotas of a subject by `scope:scope_id`."""
    horizon: str | None = None
    """Changes of transactions from this id on may be missing."""


async def load(pool: Pool, *, timeout_s: float = LOAD_TIMEOUT_S) -> LiveRows:
    """Everything, in one snapshot. Keys come through a cursor, so that the event loop stays free."""
    named = statements("keys_live")
    rows = LiveRows()
    async with bounded(pool, timeout_s, isolation="repeatable_read", readonly=True) as connection:
        rows.horizon = await connection.fetchval(named["horizon"])
        for name, target in (
            ("live_groups", rows.groups),
            ("live_plans", rows.plans),
            ("live_quotas", rows.quotas),
        ):
            target.update(await connection.fetch(named[name], None))
        async for digest, text in connection.cursor(named["live_keys"], prefetch=PREFETCH):
            rows.keys[digest] = text
    return rows


async def refresh(pool: Pool, rows: LiveRows, *, timeout_s: float = REFRESH_TIMEOUT_S) -> int | None:
    """Bring `rows` up to date; returns how many rows had changed since its horizon. None: too many, call `load`.

    `rows` is changed only when everything was read, without a pause in between.
    """
    named = statements("keys_live")
    assert rows.horizon is not None, "only what was loaded can be refreshed"
    async with bounded(pool, timeout_s, isolation="repeatable_read", readonly=True) as connection:
        horizon = await connection.fetchval(named["horizon"])
        changes = await connection.fetch(named["changes_since"], rows.horizon, CHANGES_MAX + 1)
        if len(changes) > CHANGES_MAX:
            return None
        changed: dict[str, list[str]] = {"key": [], "user": [], "group": [], "plan": [], "quota": []}
        for kind, name in changes:
            changed[kind].append(name)
        keys = groups = plans = quotas = ()
        if changed["key"] or changed["user"]:
            keys = await connection.fetch(named["live_keys_changed"], changed["key"], changed["user"])
        if changed["group"]:
            groups = await connection.fetch(named["live_groups"], changed["group"])
        if changed["plan"]:
            plans = await connection.fetch(named["live_plans"], changed["plan"])
        if changed["quota"]:
            quotas = await connection.fetch(named["live_quotas"], changed["quota"])
    for digest in changed["key"]:
        rows.keys.pop(bytes.fromhex(digest), None)
    rows.keys.update(keys)
    for gone, target, found in (
        (changed["group"], rows.groups, groups),
        (changed["plan"], rows.plans, plans),
        (changed["quota"], rows.quotas, quotas),
    ):
        for name in gone:
            target.pop(name, None)
        target.update(found)
    rows.horizon = horizon
    return len(changes)


async def set_last_used(pool: Pool, used: Mapping[str, float]) -> None:
    """Note when keys were used last: key id -> Unix seconds."""
    await pool.execute(statements("keys_live")["set_last_used"], list(used), list(used.values()))


async def prune_changes(pool: Pool) -> None:
    """Forget changes that every worker has long read."""
    await pool.execute(statements("keys_live")["prune_changes"])
