from typing import Any

from proxy.core.claims import made_wins, object_rows, settled
from proxy.core.objects import Claim, Made, Owner, Ownership
from proxy.core.quota import Charge
from proxy.core.spoolformat import decode_record, encode_record
from proxy.core.usage import COUNTS
from tests.exchanges import make_record

REQUESTS = Charge("q_requests", 0, "user_a", 1, 7, 1, 0)
TOKENS = Charge("q_tokens", 0, "user_a", 100, 8, 60, 1)
COST = Charge("q_cost", 0, "user_a", 500, 0, 0, 2)
UNHELD = ["q_requests", 0, "user_a", 1, 7, 1]
BATCH = Owner("user_m", "key_m", "group_m", "essay", {"grade": "9"}, "pupil", kind="batch")


def spooled(ownership: Ownership, **changes: Any) -> dict[str, Any]:
    """A record's fields as they come back from the spool."""
    given = {"charges": (REQUESTS, TOKENS, COST)} | changes
    return decode_record(encode_record(make_record(1, ownership=ownership, **given)))


def test_a_claim_that_wins_leaves_the_record_as_it_is() -> None:
    record = spooled(Ownership((Claim("resp_1", made=True),)))
    won = settled(record, set())
    assert won == {name: value for name, value in record.items() if name != "ownership"}


def test_a_claim_that_loses_leaves_a_request_that_used_nothing() -> None:
    lost = settled(spooled(Ownership((Claim("resp_1"),))), {"resp_1"})
    assert (lost["usage_source"], lost["cost_nanousd"], lost["price_id"]) == ("none", 0, None)
    assert not any(lost[name] for name in (*COUNTS, "units"))
    # what a share held is given back, what none held is gone, and it still was one request
    assert lost["charges"] == [UNHELD, ["q_tokens", 0, "user_a", 0, 8, 60]]
    assert lost["served_model"] == "gpt-5-2025-08-07"


def test_a_read_that_wins_is_its_makers_and_settles_the_makers_quotas() -> None:
    charge = Charge("q_maker", 0, "user_m", 100, 0, 0, 1)
    ownership = Ownership((Claim("batch_1"),), maker=BATCH, maker_charges=(charge,))
    won = settled(spooled(ownership, charges=(REQUESTS,)), set())
    assert (won["user_id"], won["key_id"], won["group_id"]) == ("user_m", "key_m", "group_m")
    assert (won["operation"], won["tags"], won["end_user"]) == ("essay", {"grade": "9"}, "pupil")
    assert won["charges"] == [UNHELD, ["q_maker", 0, "user_m", 100, 0, 0]]
    lost = settled(spooled(ownership, charges=(REQUESTS,)), {"batch_1"})
    assert (lost["user_id"], lost["operation"], lost["charges"]) == ("user_a", None, [UNHELD])


def test_a_read_of_what_nobody_is_known_to_have_made_settles_the_readers_quotas() -> None:
    charge = Charge("q_reader", 0, "user_a", 100, 0, 0, 1)
    ownership = Ownership((Claim("batch_1"),), maker_charges=(charge,))
    won = settled(spooled(ownership, charges=(REQUESTS,)), set())
    assert (won["user_id"], won["charges"]) == ("user_a", [UNHELD, ["q_reader", 0, "user_a", 100, 0, 0]])


def test_a_part_says_that_its_claim_is_that_of_the_record_above() -> None:
    claims = spooled(Ownership((Claim("resp_1", made=True, by_parent=True),)))["ownership"]["claims"]
    assert claims == [{"id": "resp_1", "made": True, "by_parent": True}]


def test_a_maker_is_forestalled_only_by_a_read_of_what_it_made() -> None:
    assert made_wins(billed_at_us=5, billed_by_maker=True, started_at_us=9)
    assert made_wins(billed_at_us=5, billed_by_maker=False, started_at_us=9)
    assert not made_wins(billed_at_us=9, billed_by_maker=False, started_at_us=5)


def test_objects_come_with_their_maker() -> None:
    follow = {"path": "/v1/batches/batch_1", "headers": {}}
    made = (
        Made("batch_1", "batch", follow=follow, upstream="router"),
        Made("file-1", "file", owner=BATCH, again=True),
    )
    own, foreign = object_rows(spooled(Ownership(made=made), operation="mine"))
    assert (own["id"], own["user_id"], own["operation"], own["follow"]) == (
        "batch_1",
        "user_a",
        "mine",
        follow,
    )
    assert (foreign["id"], foreign["user_id"], foreign["operation"]) == ("file-1", "user_m", "essay")
    assert own["record_id"] == foreign["record_id"] == make_record(1).id
    assert (own["upstream"], foreign["upstream"]) == ("router", "")
