"""Parts of an answer: records of their own that together settle what the call settles."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.parts import divide, part_record, total_cost
from proxy.core.price import Cost
from proxy.core.quota import Charge
from proxy.core.record import UsageRecord
from proxy.core.usage import Part, Usage

PARENT = UsageRecord(
    id="parent",
    started_at_us=1,
    key_id="key_a",
    user_id="user_a",
    provider="openai",
    endpoint="/v1/responses",
    method="POST",
    requested_model="gpt-5",
    served_model="gpt-5-2025-08-07",
    operation="rag",
    tags={"grade": "9"},
    status=200,
    outcome="success",
    finish_reason="completed",
    service_tier="priority",
    usage=Usage(input_tokens=10, output_tokens=5, total_tokens=15),
    usage_source="reported",
    cost_nanousd=100,
    price_id="gpt-5/priority",
    object_id="resp_1",
    ttfb_ms=3,
    duration_ms=4,
    bytes_in=5,
    bytes_out=6,
)
REQUESTS = Charge("requests", 0, "user_a", 1, 7, 1, 0)


def record(tokens: int, cost_nanousd: int | None) -> UsageRecord:
    return replace(PARENT, usage=Usage(input_tokens=tokens), cost_nanousd=cost_nanousd)


def test_a_part_has_the_calls_labels_and_its_own_model_use_and_cost() -> None:
    part = Part("container", None, Usage(units=(("containers_1g", 1),)), "cntr_1")
    made = part_record(PARENT, part, Cost(30, "fees"), record_id="child", tier=None, ownership=None)
    assert made == replace(
        PARENT,
        id="child",
        parent_id="parent",
        part="container",
        served_model="tool:container",
        service_tier=None,
        usage=part.usage,
        cost_nanousd=30,
        price_id="fees",
        object_id="cntr_1",
        finish_reason=None,
        ttfb_ms=None,
        duration_ms=0,
        bytes_in=0,
        bytes_out=0,
    )


def test_each_record_settles_what_it_used_and_the_first_is_the_request() -> None:
    records = [record(15, 100), record(7, 30)]
    divide(
        records,
        (REQUESTS, Charge("tokens", 0, "user_a", 22, 7, 20, 1), Charge("cost", 0, "user_a", 130, 7, 130, 2)),
    )
    assert [each.charges for each in records] == [
        (REQUESTS, Charge("tokens", 0, "user_a", 15, 7, 15, 1), Charge("cost", 0, "user_a", 100, 7, 100, 2)),
        (Charge("tokens", 0, "user_a", 7, 7, 5, 1), Charge("cost", 0, "user_a", 30, 7, 30, 2)),
    ]


def test_a_record_that_no_share_covers_names_none() -> None:
    records = [record(15, 0), record(7, 0)]
    divide(records, (Charge("tokens", 0, "user_a", 22, 7, 15, 1),))
    assert records[1].charges == (Charge("tokens", 0, "user_a", 7, 0, 0, 1),)


def test_an_unknown_cost_settles_what_was_reserved_beyond_the_known_ones() -> None:
    assert total_cost([100, 30], 500) == 130
    assert total_cost([100, None], 500) is None
    assert total_cost([600, None], 500) == 600
    records = [record(0, 100), record(0, None), record(0, None)]
    divide(records, (Charge("cost", 0, "user_a", 500, 7, 500, 2),))
    assert [each.charges[0].amount for each in records[:2]] == [100, 400]
    assert records[2].charges == ()


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50) | st.none()), min_size=1, max_size=5),
    st.integers(0, 200),
    st.integers(0, 400),
)
def test_shares_of_a_charge_add_up_to_it(used, reserved, held) -> None:
    records = [record(*each) for each in used]
    total = total_cost([cost for _, cost in used], reserved)
    amounts = (1, sum(tokens for tokens, _ in used), reserved if total is None else total)
    charges = [
        Charge(str(unit), 0, "", amount, 7, min(held, amount), unit) for unit, amount in enumerate(amounts)
    ]
    divide(records, charges)
    for charge in charges:
        shares = [each for made in records for each in made.charges if each.quota_id == charge.quota_id]
        assert sum(each.amount for each in shares) == charge.amount
        assert sum(each.held for each in shares) == charge.held
        assert all(
            0 <= each.held <= each.amount and bool(each.share_id) == bool(each.held) for each in shares
        )
