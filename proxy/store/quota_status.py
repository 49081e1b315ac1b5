"""Which quotas bind a user, by the rules of proxy/core/keyrow.py, and where each stands in its current window."""

from __future__ import annotations

from proxy.core.keyrow import read_plan, read_quotas, subject_of, user_quotas
from proxy.core.quota import Quota, QuotaStatus, Scope
from proxy.store import quotas_live
from proxy.store.postgres import Connection, statements
from proxy.store.rows import found

_SQL = statements("quota_status")
_LIVE = statements("keys_live")
EVERYBODY = ""
"""The counted subject of a quota that binds everyone together."""


async def binding(
    connection: Connection, user_id: str, *, key_id: str | None = None, now: float
) -> tuple[Quota, ...]:
    """Every quota that binds the user's calls (with this key), as a worker's keyring would have it. `now` is Unix seconds.

    Quotas of end users are left out: they bind whom a call names. Raises MissingError.
    """
    user = found(await connection.fetchrow(_SQL["plan_of"], user_id), "user", user_id)
    subjects = [subject_of("user", user_id), subject_of("everyone", None)]
    if key_id is not None:
        subjects.append(subject_of("key", key_id))
    if user["group_id"] is not None:
        subjects.append(subject_of("group", user["group_id"]))
    rows = {
        row["subject"]: read_quotas(row["row"], now)
        for row in await connection.fetch(_LIVE["live_quotas"], subjects)
    }
    plan: tuple[Quota, ...] = ()
    if user["plan_id"] is not None:
        for row in await connection.fetch(_LIVE["live_plans"], [user["plan_id"]]):
            plan = read_plan(row["id"], row["row"])
    own = user_quotas(rows.pop(subject_of("user", user_id), ()), plan, user_id)
    return (*own, *(quota for subject in subjects for quota in rows.get(subject, ())))


async def user_statuses(
    connection: Connection, user_id: str, *, key_id: str | None = None, now: float
) -> list[QuotaStatus]:
    """What binds the user's calls, and where it stands. Raises MissingError."""
    bound = await binding(connection, user_id, key_id=key_id, now=now)
    return await quotas_live.statuses(
        connection, [(quota, quota.scope_id or EVERYBODY) for quota in bound], now=now
    )


async def own(connection: Connection, scope: Scope, scope_id: str | None, *, now: float) -> tuple[Quota, ...]:
    """The quotas set for one key, group or end user itself."""
    for row in await connection.fetch(_LIVE["live_quotas"], [subject_of(scope, scope_id)]):
        return read_quotas(row["row"], now)
    return ()
