"""Key rows: what a worker holds of each live key until it is used, and the Caller that is made of it then.

A worker may hold a million keys. Each is kept as the JSON text that Postgres made of its row (a hundred-odd bytes),
and so are groups, plans and quotas; a Caller is built from them when its key is used first.

Rules: a user's plan stands in for its group's. Each user on a plan counts alone. A quota set for a user replaces what
its plan says about the same unit, window, model, operation and tag. What a key, its user and its group allow is
narrowed, never widened, by each of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any, Literal

import orjson

from proxy.core.caller import Caller
from proxy.core.quota import Quota, Scope

Ended = Literal["revoked", "expired", "inactive"]
NANO = 10**9
_Settings = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key and its user, as the store's `live_keys` gives them. Times are Unix seconds."""

    key_id: str
    user_id: str
    group_id: str | None
    plan_id: str | None
    """The user's own plan."""
    active: bool
    """The user is active."""
    service: bool
    creates_users: bool
    expires_at: float | None
    revoked_at: float | None
    """May lie ahead: a rotated key lives on for a grace period."""
    default_operation: str | None
    default_tags: dict[str, str]
    key_settings: _Settings
    user_settings: _Settings

    def ends_at(self) -> float | None:
        """When the key stops being good, by expiry or revocation, whichever is first."""
        ends = [end for end in (self.expires_at, self.revoked_at) if end is not None]
        return min(ends) if ends else None

    def ended(self, now: float, *, group_active: bool) -> Ended | None:
        """Why the key is not good now; None when it is."""
        if self.revoked_at is not None and self.revoked_at <= now:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return None if self.active and group_active else "inactive"


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as the store's `live_groups` gives it."""

    plan_id: str | None
    active: bool
    settings: _Settings


NO_GROUP = GroupRow(None, True, {})


def read_key_row(text: str | bytes) -> KeyRow:
    """A row from its JSON array; trailing nulls may be left out."""
    fields: list[Any] = orjson.loads(text)
    fields += [None] * (13 - len(fields))
    return KeyRow(
        key_id=fields[0],
        user_id=fields[1],
        group_id=fields[2],
        plan_id=fields[3],
        active=fields[4],
        service=fields[5],
        creates_users=fields[6],
        expires_at=fields[7],
        revoked_at=fields[8],
        default_operation=fields[9],
        default_tags=fields[10] or {},
        key_settings=fields[11] or {},
        user_settings=fields[12] or {},
    )


def read_group_row(text: str | bytes) -> GroupRow:
    """A row from its JSON array [plan_id, active, settings]."""
    plan_id, active, settings = orjson.loads(text)
    return GroupRow(plan_id, active, settings or {})


def read_quotas(text: str | bytes, now: float) -> tuple[Quota, ...]:
    """The quotas of one subject from a JSON array of rows of the table `quotas`, ordered by id; raises in force applied."""
    return tuple(_quota_of_row(row, now) for row in orjson.loads(text))


def next_raise_end(text: str | bytes, now: float) -> float | None:
    """When the first of the temporary raises in force ends, so that its quotas must be read again."""
    ends = [row["raised_until"] for row in orjson.loads(text) if (row.get("raised_until") or 0) > now]
    return min(ends) if ends else None


def _quota_of_row(row: dict[str, Any], now: float) -> Quota:
    raised = row.get("raised_amount") is not None and (row.get("raised_until") or 0) > now
    return Quota(
        id=row["id"],
        scope=row["scope"],
        scope_id=row.get("scope_id"),
        unit=row["unit"],
        window=row["window"],
        limit=row["raised_amount"] if raised else row["limit_amount"],
        billing_day=row.get("billing_day") or 1,
        model=row.get("model"),
        operation=row.get("operation"),
        tag=_tag(row.get("tag")),
        soft=bool(row.get("soft")),
        average_percent=row.get("average_percent"),
        version=row.get("version") or 0.0,
    )


def read_plan(plan_id: str, text: str | bytes) -> tuple[Quota, ...]:
    """A plan's quotas, still without a subject, from the JSON array `plans.quotas`. Entries that make no sense are left out.

    An entry is as in the admin API: {"unit", "window", "limit", …}; a cost limit is decimal US dollars, as text or number,
    unless it is given as whole nano-dollars in "limit_amount".
    """
    quotas = []
    for index, entry in enumerate(orjson.loads(text)):
        limit = plan_limit(entry)
        if limit is None:
            continue
        quotas.append(
            Quota(
                id=f"plan:{plan_id}:{entry.get('id') or index}",
                scope="user",
                scope_id=None,
                unit=entry["unit"],
                window=entry["window"],
                limit=limit,
                billing_day=entry.get("billing_day") or 1,
                model=entry.get("model"),
                operation=entry.get("operation"),
                tag=_tag(entry.get("tag")),
                soft=bool(entry.get("soft")),
                average_percent=entry.get("average_percent"),
                version=entry.get("version") or 0.0,
            )
        )
    return tuple(quotas)


def plan_limit(entry: dict[str, Any]) -> int | None:
    """The limit of a plan's entry in requests, tokens or nano-dollars; None when it says none (or nonsense)."""
    if entry.get("unit") not in {"requests", "tokens", "cost"} or not entry.get("window"):
        return None
    if isinstance(entry.get("limit_amount"), int):
        return int(entry["limit_amount"])
    try:
        limit = Decimal(str(entry.get("limit")))
        scale = NANO if entry["unit"] == "cost" else 1
        whole = int((limit * scale).to_integral_value(ROUND_HALF_UP))
    except (InvalidOperation, OverflowError, ValueError):
        return None
    return whole if whole >= 0 else None


def _tag(text: str | None) -> tuple[str, str] | None:
    if not text:
        return None
    name, _, value = text.partition("=")
    return (name, value)


def user_quotas(own: tuple[Quota, ...], plan: tuple[Quota, ...], user_id: str) -> tuple[Quota, ...]:
    """What binds one user: its own quotas, and its plan's where no own one says otherwise."""
    overridden = {_subject(quota) for quota in own}
    inherited = (replace(quota, scope_id=user_id) for quota in plan if _subject(quota) not in overridden)
    return (*own, *inherited)


def _subject(quota: Quota) -> tuple[object, ...]:
    return (quota.unit, quota.window, quota.model, quota.operation, quota.tag)


def subject_of(scope: Scope, scope_id: str | None) -> str:
    """What quotas are filed under: `scope:scope_id`, as in the log of live changes."""
    return f"{scope}:{scope_id or ''}"


def build_caller(row: KeyRow, group: GroupRow, quotas: tuple[Quota, ...]) -> Caller:
    """The Caller of one key; `quotas` is all that binds it, in their order."""
    layers = (row.key_settings, row.user_settings, group.settings)
    operations = [
        layer["allowed_operations"] for layer in layers if layer.get("allowed_operations") is not None
    ]
    return Caller(
        key_id=row.key_id,
        user_id=row.user_id,
        group_id=row.group_id,
        service=row.service,
        creates_users=row.creates_users,
        expires_at=row.ends_at(),
        default_operation=row.default_operation,
        default_tags=tuple(sorted((str(name), str(value)) for name, value in row.default_tags.items())),
        allowed_operations=frozenset.intersection(*map(frozenset, operations)) if operations else None,
        allowed_models=_narrowed(layers, "allowed_models", fnmatchcase),
        allowed_endpoints=_narrowed(layers, "allowed_endpoints", fnmatchcase),
        allowed_addresses=_narrowed(layers, "allowed_addresses", _within),
        max_concurrent=_lowest(layers, "max_concurrent"),
        max_request_tokens=_lowest(layers, "max_request_tokens"),
        max_request_cost_nanousd=_lowest(layers, "max_request_cost_nanousd"),
        quotas=quotas,
    )


def _lowest(layers: Iterable[_Settings], name: str) -> int | None:
    given = [int(layer[name]) for layer in layers if layer.get(name) is not None]
    return min(given) if given else None


def _narrowed(
    layers: Iterable[_Settings], name: str, within: Callable[[str, str], bool]
) -> tuple[str, ...] | None:
    """The patterns that all layers allow. Of two that overlap without one holding the other, neither: never wider."""
    allowed: tuple[str, ...] | None = None
    for layer in layers:
        given = layer.get(name)
        if given is None:
            continue
        if allowed is None:
            allowed = tuple(given)
            continue
        inner = [mine for mine in allowed if any(within(mine, theirs) for theirs in given)]
        outer = [theirs for theirs in given if any(within(theirs, mine) for mine in allowed)]
        allowed = tuple(dict.fromkeys([*inner, *outer]))
    return allowed


def _within(inner: str, outer: str) -> bool:
    try:
        small, large = ipaddress.ip_network(inner, strict=False), ipaddress.ip_network(outer, strict=False)
    except ValueError:
        return False
    if isinstance(small, ipaddress.IPv4Network) and isinstance(large, ipaddress.IPv4Network):
        return small.subnet_of(large)
    if isinstance(small, ipaddress.IPv6Network) and isinstance(large, ipaddress.IPv6Network):
        return small.subnet_of(large)
    return False
