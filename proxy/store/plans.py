"""Plans: named sets of quotas. Who is on a plan is bound by its quotas as if they were their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import asyncpg

from proxy.store import conflicts
from proxy.store.ids import new_id
from proxy.store.postgres import Connection, statements
from proxy.store.quotas import Rule
from proxy.store.rows import Row, found, like

_SQL = statements("plans")


async def create_plan(connection: Connection, *, name: str, rules: Sequence[Rule] = ()) -> Row:
    """A new plan. Raises TakenError when another has this name."""
    with conflicts.named():
        row: Row = await connection.fetchrow(_SQL["create"], new_id("plan"), name, _as_json(rules, []))
    return row


async def change_plan(
    connection: Connection, plan_id: str, *, name: str | None = None, rules: Sequence[Rule] | None = None
) -> Row:
    """Set its name or its whole set of quotas, in one transaction of the caller.

    A rule that stays the same rule keeps its id, and with it what everybody has used of it. Raises MissingError, TakenError.
    """
    old = found(await connection.fetchrow(_SQL["lock"], plan_id), "plan", plan_id)
    change: dict[str, Any] = {}
    if name is not None:
        change["name"] = name
    if rules is not None:
        change["quotas"] = _as_json(rules, old["quotas"])
    with conflicts.named():
        row: Row = await connection.fetchrow(_SQL["change"], plan_id, change)
    return row


async def find_plan(connection: Connection, named: str) -> Row:
    """A plan by id or name, with the numbers of `users` and `groups` on it. Raises MissingError."""
    return found(await connection.fetchrow(_SQL["find"], named), "plan", named)


async def list_plans(
    connection: Connection, *, search: str | None = None, limit: int = 100, offset: int = 0
) -> tuple[list[Row], int]:
    """One page in the order they were made, and how many there are on all pages."""
    rows = await connection.fetch(_SQL["list"], like(search), limit, offset)
    return rows, await connection.fetchval(_SQL["count"], like(search))


async def remove_plan(connection: Connection, plan_id: str) -> Row:
    """Remove a plan that nobody is on. Raises MissingError, or TakenError while somebody is."""
    try:
        return found(await connection.fetchrow(_SQL["remove"], plan_id), "plan", plan_id)
    except asyncpg.ForeignKeyViolationError as error:
        raise conflicts.TakenError("plan", "users or groups are still on this plan") from error


def rules_of(quotas: Sequence[dict[str, Any]]) -> list[tuple[str, Rule]]:
    """The (id, rule) pairs of a plan's `quotas` column."""
    return [(quota["id"], Rule(**{k: v for k, v in quota.items() if k != "id"})) for quota in quotas]


def _as_json(rules: Sequence[Rule], old: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    ids = {rule.identity: quota_id for quota_id, rule in rules_of(old)}
    return [{"id": ids.get(rule.identity) or new_id("quota")} | asdict(rule) for rule in rules]
