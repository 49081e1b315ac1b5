"""Quotas as rules: who is bound, in which unit, over which window, to how much. The live sums are in quotas_live.py.

A subject's list is put as a whole, but a rule that stays the same rule (unit, window, billing day and filters) keeps its
id, and with it what was used of it: changing a limit in mid-month does not give the month back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from proxy.core.quota import Scope, Unit, WindowKind
from proxy.store.ids import new_id
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row, found

_SQL = statements("quotas")


@dataclass(frozen=True, slots=True)
class Rule:
    """One quota before it is bound to a subject. `limit_amount` is in requests, tokens or nano-US-dollars."""

    unit: Unit
    window: WindowKind
    limit_amount: int
    billing_day: int = 1
    model: str | None = None
    operation: str | None = None
    tag: str | None = None
    soft: bool = False
    average_percent: int | None = None
    """Of a soft quota; see proxy/core/quota.py."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it the same rule with another limit."""
        return (self.unit, self.window, self.billing_day, self.model, self.operation, self.tag)


async def create_quota(connection: Connection, scope: Scope, scope_id: str | None, rule: Rule) -> Row:
    """One more quota of a subject; `scope_id` None is everyone, or each end user."""
    row: Row = await connection.fetchrow(
        _SQL["create"],
        new_id("quota"),
        scope,
        scope_id,
        rule.unit,
        rule.window,
        rule.limit_amount,
        rule.billing_day,
        rule.model,
        rule.operation,
        rule.tag,
        rule.soft,
        rule.average_percent,
    )
    return row


async def put_quotas(
    connection: Connection, scope: Scope, scope_id: str | None, rules: Sequence[Rule]
) -> list[Row]:
    """Make `rules` the subject's whole list, in one transaction of the caller. No two may have the same identity."""
    await connection.execute(_SQL["lock_subject"], scope, scope_id)
    present = {identity(row): row for row in await subject_quotas(connection, scope, scope_id)}
    rows = []
    for rule in rules:
        old = present.pop(rule.identity, None)
        if old is None:
            rows.append(await create_quota(connection, scope, scope_id, rule))
            continue
        change = {name: getattr(rule, name) for name in ("limit_amount", "soft", "average_percent")}
        if all(old[name] == value for name, value in change.items()):
            rows.append(old)
        else:
            rows.append(await change_quota(connection, old["id"], change))
    for row in present.values():
        await remove_quota(connection, row["id"])
    return rows


async def subject_quotas(connection: Connection, scope: Scope, scope_id: str | None) -> list[Row]:
    """The subject's own quotas, those of its plan not among them, in the order they were made."""
    rows: list[Row] = await connection.fetch(_SQL["of_subject"], scope, scope_id)
    return rows


async def fetch_quota(connection: Connection, quota_id: str) -> Row:
    """One quota. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["fetch"], quota_id), "quota", quota_id)


async def change_quota(connection: Connection, quota_id: str, change: Mapping[str, Any]) -> Row:
    """Set `limit_amount`, `soft`, `average_percent`, `raised_amount`, `raised_until`; `added_amount` tops the limit up, whatever
    it is by then. Raises MissingError.
    """
    return found(await connection.fetchrow(_SQL["change"], quota_id, dict(change)), "quota", quota_id)


async def remove_quota(connection: Connection, quota_id: str) -> Row:
    """Remove the rule and its sums; returns what it was. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["remove"], quota_id), "quota", quota_id)


async def list_quotas(
    connection: Connection,
    *,
    scope: Scope | None = None,
    scope_id: str | None = None,
    unit: Unit | None = None,
    group_id: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> tuple[list[Row], int]:
    """One page in the order they were made, and how many there are on all pages."""
    where = (scope, scope_id, unit, group_id)
    rows = await connection.fetch(_SQL["list"], *where, limit, offset)
    return rows, await connection.fetchval(_SQL["count"], *where)


def identity(row: Row) -> tuple[Any, ...]:
    """A stored quota's Rule.identity."""
    return tuple(row[name] for name in ("unit", "window", "billing_day", "model", "operation", "tag"))
