from __future__ import annotations

from dataclasses import replace

import pytest

from proxy.core.admission import Rules, concurrency_reached, dollars, refuse, spent
from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.endpoints import Endpoint
from proxy.core.quota import NO_END, Quota
from proxy.core.refusal import Refusal
from proxy.core.shares import Binding, Need, Share

CHAT = Endpoint("/v1/chat/completions", meter="chat")
CALL = Call(method="POST", path="/v1/chat/completions", endpoint=CHAT, model="gpt-4o")
NEED = Need(1, 100, 1_000)
AT = 1_760_000_000.0


def quota(name: str, scope: str = "user", **more) -> Quota:
    return Quota(
        **(
            {"id": name, "scope": scope, "scope_id": None, "unit": "tokens", "window": "month", "limit": 10}
            | more
        )
    )


def bound(caller: Caller, call: Call = CALL, **more) -> list[tuple[str, str]]:
    return [(binding.quota.id, binding.scope_id) for binding in Rules(caller, **more).bindings(call)]


def refusal_of(caller: Caller, call: Call = CALL, need: Need = NEED) -> Refusal:
    with pytest.raises(Refusal) as refused:
        Rules(caller).check(call, need)
    return refused.value


# -- which quotas bind


def test_each_scope_counts_its_own_subject():
    scopes = ("key", "user", "group", "end_user", "everyone")
    caller = Caller("k", "u", group_id="g", quotas=tuple(quota(scope, scope) for scope in scopes))

    assert bound(caller, replace(CALL, end_user="e")) == [
        ("key", "k"),
        ("user", "u"),
        ("group", "g"),
        ("end_user", "e"),
        ("everyone", ""),
    ]


def test_a_quota_of_somebody_else_does_not_bind():
    caller = Caller(
        "k", "u", quotas=(quota("a", scope_id="u"), quota("b", scope_id="v"), quota("c", "group"))
    )

    assert bound(caller) == [("a", "u")]


@pytest.mark.parametrize(
    ("rule", "more", "binds"),
    [
        ({"model": "gpt-4*"}, {}, True),
        ({"model": "gpt-4*"}, {"model": "o3"}, False),
        ({"operation": "rag*"}, {"operation": "rag_answer"}, True),
        ({"operation": "rag*"}, {}, False),
        ({"tag": ("grade", "9*")}, {"tags": {"grade": "9b"}}, True),
        ({"tag": ("grade", "9*")}, {"tags": {"grade": "8"}}, False),
        ({"tag": ("grade", "9*")}, {}, False),
    ],
)
def test_patterns_choose_the_calls(rule, more, binds):
    caller = Caller("k", "u", quotas=(quota("q", **rule),))

    assert bool(bound(caller, replace(CALL, **more))) is binds


def test_a_rule_for_models_is_not_escaped_by_hiding_the_model():
    caller = Caller("k", "u", quotas=(quota("q", model="gpt-*"),))

    with pytest.raises(Refusal) as refused:
        bound(caller, replace(CALL, model=None))
    with pytest.raises(Refusal) as too_large:
        bound(caller, replace(CALL, model=None, body_bytes=100 * 2**20))

    assert (refused.value.status, refused.value.code, too_large.value.status) == (400, "model_unknown", 413)
    assert bound(caller, replace(CALL, model=None, method="GET")) == []
    assert (
        bound(Caller("k", "u", quotas=(quota("q", model="gpt-*", soft=True),)), replace(CALL, model=None))
        == []
    )


def test_the_quota_of_a_named_end_user_stands_in_for_that_of_each():
    caller = Caller("k", "u", quotas=(quota("each", "end_user"), quota("day", "end_user", window="day")))
    named = {"ana": (quota("ana", "end_user", scope_id="ana"),)}

    def lookup(name: str) -> tuple[Quota, ...]:
        return named.get(name, ())

    assert bound(caller, replace(CALL, end_user="ana"), end_user_quotas=lookup) == [
        ("day", "ana"),
        ("ana", "ana"),
    ]
    assert bound(caller, replace(CALL, end_user="bo"), end_user_quotas=lookup) == [
        ("each", "bo"),
        ("day", "bo"),
    ]
    assert bound(caller, CALL, end_user_quotas=lookup) == []


def test_what_binds_is_compiled_once():
    plain = Rules(Caller("k", "u", quotas=(quota("q"),)))
    varied = Rules(Caller("k", "u", quotas=(quota("q", model="gpt-*"),)))

    assert plain.bindings(CALL) is plain.bindings(replace(CALL, model="o3"))
    assert varied.bindings(CALL) is varied.bindings(CALL)


def test_a_limit_of_concurrent_requests_is_a_share_like_any_other():
    (binding,) = Rules(Caller("k", "u", max_concurrent=4)).bindings(CALL)

    assert binding.concurrent
    assert (binding.quota.limit, binding.scope_id) == (4, "k")


# -- rules without counting


def test_models_and_endpoints_may_be_limited():
    caller = Caller("k", "u", allowed_models=("gpt-4o*",), allowed_endpoints=("/v1/chat/*",))
    Rules(caller).check(CALL, NEED)

    model = refusal_of(caller, replace(CALL, model="o3"))
    endpoint = refusal_of(caller, replace(CALL, endpoint=Endpoint("/v1/responses", meter="responses")))
    hidden = refusal_of(caller, replace(CALL, model=None))

    assert (model.status, model.code, model.param) == (403, "model_not_allowed", "model")
    assert (endpoint.status, endpoint.code) == (403, "endpoint_not_allowed")
    assert (hidden.status, hidden.code) == (400, "model_unknown")


def test_a_request_may_have_a_ceiling():
    caller = Caller("k", "u", max_request_tokens=100, max_request_cost_nanousd=1_000)
    Rules(caller).check(CALL, NEED)

    tokens = refusal_of(caller, need=Need(1, 101, 0))
    cost = refusal_of(caller, need=Need(1, 1, 2_000_000_000))
    unknown = refusal_of(caller, need=Need(1, 1, None))

    assert (tokens.status, tokens.code) == (400, "request_token_ceiling")
    assert "up to $2.00 and the cost ceiling of a request is $0.000001" in cost.message
    assert (unknown.status, unknown.code) == (403, "price_unknown")


# -- refusals


def test_a_spent_quota_says_whose_how_much_and_until_when_and_is_not_retried():
    refusal = spent(
        Binding(quota("q", limit=100_000), "u_1"), used=99_900, needed=500, ends=AT + 90_000.2, at=AT
    )

    assert (refusal.status, refusal.code, refusal.type) == (429, "insufficient_quota", "insufficient_quota")
    assert refusal.message == (
        "Quota reached for user u_1: the limit is 100000 tokens per month, 99900 used or reserved, this request needs up"
        " to 500. It resets at 2025-10-10T09:53:20Z."
    )
    assert refusal.headers == (("retry-after", "90001"), ("x-should-retry", "false"))


def test_a_rate_limit_is_retried_after_its_window():
    binding = Binding(quota("q", "everyone", unit="requests", window="minute"), "")

    refusal = spent(binding, used=10, needed=1, ends=AT + 12.5, at=AT)

    assert (refusal.code, refusal.type, refusal.headers) == (
        "rate_limit_exceeded",
        "requests",
        (("retry-after", "13"),),
    )
    assert refusal.message.startswith(
        "Rate limit reached for all users: the limit is 10 requests per minute,"
    )


def test_a_rate_limit_of_an_hour_is_not_retried_at_once():
    refusal = spent(Binding(quota("q", window="hour"), "u"), used=10, needed=1, ends=AT + 61, at=AT)

    assert (refusal.code, dict(refusal.headers)["x-should-retry"]) == ("rate_limit_exceeded", "false")


def test_a_spent_balance_does_not_reset():
    binding = Binding(quota("q", "group", unit="cost", window="total", limit=5 * 10**8, model="o*"), "g")

    refusal = spent(binding, used=5 * 10**8, needed=1, ends=NO_END, at=AT)

    assert "the limit is $0.50 of cost in total for model o*" in refusal.message
    assert refusal.message.endswith("It does not reset.")
    assert refusal.headers == (("x-should-retry", "false"),)


def test_of_several_the_one_that_keeps_the_call_waiting_longest_is_named():
    minute = Binding(quota("minute", window="minute"), "u")
    month = Binding(quota("month"), "u")
    roomy = Binding(quota("roomy", window="total", limit=1_000), "u")
    for binding, ends, left in ((minute, AT + 5, 0), (month, AT + 500, 3), (roomy, NO_END, 1_000)):
        binding.share = Share((binding.quota.id, "u", 0), binding.quota, ends)
        binding.share.pool = left

    refusal = refuse([minute, month, roomy], Need(1, 5, 0), AT)

    assert "per month, 7 used or reserved" in refusal.message


def test_too_many_at_once_may_try_again_soon():
    refusal = concurrency_reached(4)

    assert (refusal.status, refusal.code, refusal.headers) == (
        429,
        "rate_limit_exceeded",
        (("retry-after", "1"),),
    )


def test_dollars_are_exact():
    assert [dollars(n) for n in (0, 10**9, 1_500_000_000, 1, 123_456_789_012)] == [
        "$0.00",
        "$1.00",
        "$1.50",
        "$0.000000001",
        "$123.456789012",
    ]
