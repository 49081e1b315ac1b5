"""Which windows of cost quotas a record counts in, and by how much they change when its cost does.

A record says what it settled (`charges`). A cost that was unknown or zero settled nothing, so the rules that bind the
record are asked too, as they are now, the way the gateway asks them at admission.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from proxy.core.admission import Rules
from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.endpoints import Endpoint
from proxy.core.keyrow import read_quotas, subject_of
from proxy.core.quota import Quota, window_at
from proxy.store import quota_status
from proxy.store.conflicts import MissingError
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row

CALLERS_MAX = 10_000
Charges = list[list[Any]]
"""As in usage_records: [[quota_id, window_start, scope_id, amount, …], …]."""


class CostWindows:
    """Reads the rules of each caller once. One for each reprice."""

    def __init__(self) -> None:
        self._cost_quotas: frozenset[str] = frozenset()
        self._rules: dict[tuple[str, str, str | None], Rules] = {}
        self._end_users: dict[str, tuple[Quota, ...]] = {}

    async def read(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Make ready for these records."""
        self._cost_quotas = frozenset(
            row["id"] for row in await connection.fetch(statements("reprice")["cost_quotas"])
        )
        if len(self._rules) > CALLERS_MAX:
            self._rules.clear()
        await self._read_end_users(connection, rows)
        for row in rows:
            who = (row["user_id"], row["key_id"], row["group_id"])
            if who not in self._rules:
                self._rules[who] = await self._read_rules(connection, *who, row["started_at"].timestamp())

    def charge(self, row: Row, cost_nanousd: int) -> tuple[Charges, list[tuple[str, str, float, int]]]:
        """The record's charges with its new cost, and (quota id, subject, window's start, difference) of each window."""
        kept: Charges = []
        before: dict[tuple[str, str, int], list[Any]] = {}
        for entry in row["charges"] or ():
            if entry[0] in self._cost_quotas:
                before[entry[0], entry[2], int(entry[1])] = entry
            else:
                kept.append(entry)
        differences = []
        counted = {(quota_id, scope_id) for quota_id, scope_id, _ in before}
        bound = [key for key in self._windows(row) if key[:2] not in counted]
        for key in (*before, *bound):
            quota_id, scope_id, start = key
            entry = before.get(key)
            settled = int(entry[3]) if entry is not None else row["cost_nanousd"] or 0
            rest = entry[4:] if entry is not None else []
            if cost_nanousd:
                kept.append([quota_id, start, scope_id, cost_nanousd, *rest])
            if cost_nanousd != settled:
                differences.append((quota_id, scope_id, float(start), cost_nanousd - settled))
        return kept, differences

    def _windows(self, row: Row) -> list[tuple[str, str, int]]:
        rules = self._rules[row["user_id"], row["key_id"], row["group_id"]]
        call = Call(
            method="POST",
            path="",
            endpoint=Endpoint(row["endpoint"]),
            model=row["requested_model"],
            operation=row["operation"],
            tags=row["tags"],
            end_user=row["end_user"],
        )
        at = row["started_at"].timestamp()
        return [(each.quota.id, each.scope_id, window_at(each.quota, at)[0]) for each in rules.bindings(call)]

    async def _read_rules(
        self, connection: Connection, user_id: str, key_id: str, group_id: str | None, now: float
    ) -> Rules:
        try:
            quotas = await quota_status.binding(connection, user_id, key_id=key_id, now=now)
        except MissingError:
            quotas = ()
        quotas = (*quotas, *self._end_users.get("", ()))
        caller = Caller(
            key_id=key_id,
            user_id=user_id,
            group_id=group_id,
            quotas=tuple(quota for quota in quotas if quota.unit == "cost"),
        )
        return Rules(caller, lambda end_user: self._end_users.get(end_user, ()))

    async def _read_end_users(self, connection: Connection, rows: Sequence[Row]) -> None:
        wanted = {"", *(row["end_user"] for row in rows if row["end_user"])} - self._end_users.keys()
        if not wanted:
            return
        subjects = {subject_of("end_user", name or None): name for name in wanted}
        found = await connection.fetch(statements("keys_live")["live_quotas"], list(subjects))
        self._end_users |= dict.fromkeys(wanted, ())
        for row in found:
            quotas = read_quotas(row["row"], 0.0)
            self._end_users[subjects[row["subject"]]] = tuple(each for each in quotas if each.unit == "cost")
