"""Admission: which rules bind a call, and the refusals they end in. The amounts are kept in shares.py.

Rules are compiled once per Caller and remembered per what the call says (model, operation, end user, tags), so that a
request costs a dictionary look-up here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.money import format_nano
from proxy.core.quota import Quota, is_long
from proxy.core.refusal import Refusal
from proxy.core.shares import Binding, Need, Share

VARIANTS_MAX = 1_000
"""Different (model, operation, end user, tags) remembered per caller; beyond it they are compiled anew."""
RETRY_MAX_S = 60
"""A client that would wait longer than this is told not to retry."""
CONCURRENCY = "concurrency"
CONCURRENCY_RETRY_S = 1

_NONE: tuple[Binding, ...] = ()
_Variant = tuple[object, ...]


def no_quotas(_end_user: str) -> tuple[Quota, ...]:
    """The quotas of a named end user, where there are none."""
    return ()


class Rules:
    """What binds one Caller. `end_user_quotas` gives the quotas set for a named end user."""

    __slots__ = ("_always", "_by_variant", "_end_user_quotas", "_tags", "_varies", "caller", "checks")

    def __init__(
        self, caller: Caller, end_user_quotas: Callable[[str], tuple[Quota, ...]] = no_quotas
    ) -> None:
        self.caller = caller
        self.checks = (
            caller.allowed_models is not None
            or caller.allowed_endpoints is not None
            or caller.max_request_tokens is not None
            or caller.max_request_cost_nanousd is not None
        )
        """There is more to check than quotas."""
        self._end_user_quotas = end_user_quotas
        self._tags = tuple(sorted({quota.tag[0] for quota in caller.quotas if quota.tag is not None}))
        self._varies = any(
            quota.scope == "end_user" or quota.model or quota.operation or quota.tag
            for quota in caller.quotas
        )
        self._by_variant: dict[_Variant, tuple[Binding, ...]] = {}
        self._always = _NONE if self._varies else self._compile(None)

    def bindings(self, call: Call) -> tuple[Binding, ...]:
        """Every quota that binds this call, each bound to the subject it counts."""
        if not self._varies and (call.end_user is None or not self._end_user_quotas(call.end_user)):
            return self._always
        variant: _Variant = (
            call.model,
            call.operation,
            call.end_user,
            *[call.tags.get(name) for name in self._tags],
        )
        found = self._by_variant.get(variant)
        if found is None:
            if len(self._by_variant) >= VARIANTS_MAX:
                self._by_variant.clear()
            found = self._by_variant[variant] = self._compile(call)
        return found

    def shares(self) -> list[tuple[Binding, Share]]:
        """The shares that were used last for calls that every quota binds alike."""
        known = [(binding, binding.share) for binding in self._always]
        return [(binding, share) for binding, share in known if share.id or share.opened]

    def check(self, call: Call, need: Need) -> None:
        """Raise the Refusal of a rule that needs no counting: allowed models and endpoints, ceilings per request."""
        caller = self.caller
        if caller.allowed_endpoints is not None and not _any_match(
            caller.allowed_endpoints, call.endpoint.template
        ):
            raise _forbidden("endpoint", call.endpoint.template, None)
        if caller.allowed_models is not None:
            if call.model is not None and not _any_match(caller.allowed_models, call.model):
                raise _forbidden("model", call.model, "model")
            if call.model is None and need.requests and call.endpoint.meter != "none":
                raise model_unknown(call)
        if caller.max_request_tokens is not None and need.tokens > caller.max_request_tokens:
            raise _too_large("token", need.tokens, caller.max_request_tokens, str)
        if caller.max_request_cost_nanousd is not None:
            if need.cost_nanousd is None:
                raise unknown_price(call)
            if need.cost_nanousd > caller.max_request_cost_nanousd:
                raise _too_large("cost", need.cost_nanousd, caller.max_request_cost_nanousd, dollars)

    def _compile(self, call: Call | None) -> tuple[Binding, ...]:
        caller = self.caller
        named = self._end_user_quotas(call.end_user) if call is not None and call.end_user else ()
        particular = {quota.identity for quota in named}
        bindings = []
        for quota in (*caller.quotas, *named):
            if quota.scope == "end_user" and quota.scope_id is None and quota.identity in particular:
                continue
            scope_id = _subject(quota, caller, call)
            if scope_id is None or (call is not None and not _applies(quota, call)):
                continue
            bindings.append(Binding(quota, scope_id))
        if caller.max_concurrent is not None:
            quota = Quota(CONCURRENCY, "key", caller.key_id, "requests", "total", caller.max_concurrent)
            bindings.append(Binding(quota, caller.key_id, concurrent=True))
        return tuple(bindings)


def _subject(quota: Quota, caller: Caller, call: Call | None) -> str | None:
    """The id that a quota counts for this call; None when it does not bind the call."""
    if quota.scope == "everyone":
        return ""
    if quota.scope == "key":
        actual = caller.key_id
    elif quota.scope == "user":
        actual = caller.user_id
    elif quota.scope == "group":
        actual = caller.group_id or ""
    else:
        actual = (call.end_user if call is not None else None) or ""
    return actual if actual and quota.scope_id in {None, actual} else None


def _applies(quota: Quota, call: Call) -> bool:
    if quota.model is not None:
        if call.model is None:
            if quota.soft or call.endpoint.meter == "none" or call.method != "POST":
                return False
            raise model_unknown(call)
        if not fnmatchcase(call.model, quota.model):
            return False
    if quota.operation is not None and not fnmatchcase(call.operation or "", quota.operation):
        return False
    return quota.tag is None or fnmatchcase(call.tags.get(quota.tag[0], ""), quota.tag[1])


def _any_match(patterns: tuple[str, ...], name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


# -- refusals


def _forbidden(what: str, name: str, param: str | None) -> Refusal:
    return Refusal(
        403,
        f"{what}_not_allowed",
        f"This key may not use the {what} {name}.",
        param=param,
        reason=f"{what}_not_allowed",
    )


def _too_large(what: str, need: int, ceiling: int, shown: Callable[[int], str]) -> Refusal:
    return Refusal(
        400,
        f"request_{what}_ceiling",
        f"This request may use up to {shown(need)} and the {what} ceiling of a request is {shown(ceiling)}. Ask for less"
        " output or send less input.",
        reason="request_ceiling",
    )


def model_unknown(call: Call) -> Refusal:
    """A rule for models applies, and the request does not say (where we can read it) which model it is for."""
    return Refusal(
        413 if call.body_bytes > 2**20 else 400,
        "model_unknown",
        "A rule for models applies to this key, and the model can't be read from this request. Name the model in a JSON body.",
        param="model",
        reason="model_unknown",
    )


def unknown_price(call: Call) -> Refusal:
    """A cost quota applies and nobody knows what the call would cost."""
    return Refusal(
        403,
        "price_unknown",
        f"The price of the model {call.model or '(not named)'} is not known, and a cost quota applies.",
        param="model",
        reason="price_unknown",
    )


def refuse(bindings: Sequence[Binding], need: Need, at: float) -> Refusal:
    """The 429 of the quota that keeps a call waiting longest, of those that do not cover it. `at`: Postgres' clock."""
    short = [binding for binding in bindings if lacks(binding, need)]
    short = [binding for binding in short if _left(binding.share) < (need[binding.unit] or 0)] or short
    binding = max(short or bindings, key=lambda each: (each.share.ends, -_left(each.share)))
    used = binding.share.limit - _left(binding.share)
    return spent(binding, used=used, needed=need[binding.unit] or 0, ends=binding.share.ends, at=at)


def lacks(binding: Binding, need: Need) -> bool:
    """What the worker holds does not cover the need."""
    return not binding.soft and binding.share.free < (need[binding.unit] or 0)


def _left(share: Share) -> int:
    """What could be had of a window when the ledger was asked last, this worker's own part included."""
    return min(share.pool, share.outside) + share.free


def concurrency_reached(limit: int) -> Refusal:
    """As many requests are under way as may be."""
    return Refusal(
        429,
        "rate_limit_exceeded",
        f"Concurrency limit reached: {limit} requests of this key may be under way at once.",
        type="requests",
        headers=(("retry-after", str(CONCURRENCY_RETRY_S)),),
        reason="concurrency",
    )


def spent(binding: Binding, *, used: int, needed: int, ends: float, at: float) -> Refusal:
    """429: a quota's remainder does not cover the call. `ends` and `at`: Unix seconds by Postgres' clock."""
    quota = binding.quota
    if binding.concurrent:
        return concurrency_reached(quota.limit)
    whom = {"everyone": "all users", "end_user": "end user"}.get(quota.scope, quota.scope)
    shown = dollars if quota.unit == "cost" else str
    unit = {"cost": " of cost", "tokens": " tokens", "requests": " requests"}[quota.unit]
    window = "in total" if quota.window == "total" else f"per {quota.window}"
    filters = "".join(f" for {name} {value}" for name, value in _filters(quota))
    reset = "It does not reset."
    headers: tuple[tuple[str, str], ...] = (("x-should-retry", "false"),)
    if not math.isinf(ends):
        wait = max(1, math.ceil(ends - at))
        reset = f"It resets at {datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}."
        headers = (("retry-after", str(wait)), *(headers if wait > RETRY_MAX_S else ()))
    long = is_long(quota)
    return Refusal(
        429,
        "insufficient_quota" if long else "rate_limit_exceeded",
        f"{'Quota' if long else 'Rate limit'} reached for {whom}{f' {binding.scope_id}' if binding.scope_id else ''}:"
        f" the limit is {shown(quota.limit)}{unit} {window}{filters}, {shown(used)} used or reserved,"
        f" this request needs up to {shown(needed)}. {reset}",
        type="insufficient_quota" if long else quota.unit,
        headers=headers,
        reason=f"quota_{quota.unit}_{quota.window}",
    )


def _filters(quota: Quota) -> list[tuple[str, str]]:
    tag = "=".join(quota.tag) if quota.tag is not None else None
    named = (("model", quota.model), ("operation", quota.operation), ("tag", tag))
    return [(name, value) for name, value in named if value is not None]


def dollars(nanousd: int) -> str:
    """Nano-dollars as US dollars, exactly, at least two decimals: 1_500_000_000 is "$1.50"."""
    return f"${format_nano(nanousd, places_min=2)}"
