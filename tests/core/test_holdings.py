"""Single steps of `Holdings`; whole lives of several workers are in test_holdings_model.py."""

from __future__ import annotations

from dataclasses import replace

from proxy.core.holdings import Holdings
from proxy.core.quota import Charge, Quota
from proxy.core.shares import Binding, Grant, Need

AT = 1_760_000_000.0
HOUR = 1_759_996_800
TOKENS = Quota("q", "user", "u", "tokens", "hour", 1000)
TOKENS_UNIT = 1
KEY = ("q", "u", HOUR)


def holding(free: int, quota: Quota = TOKENS, **more) -> tuple[Holdings, Binding]:
    """A worker that was granted `free` of a quota of which nothing is used."""
    held = Holdings(lease=1, deadline=100.0)
    binding = Binding(quota, "u", **more)
    share = held.turn(binding, AT)
    held.grant(share, Grant(share.key, 7, free, 0, 0, 0, free))
    return held, binding


def tokens(amount: int) -> Need:
    return Need(1, amount, 0)


def test_what_is_reserved_is_not_free_and_what_was_not_used_is_again():
    held, binding = holding(100)

    reservation = held.reserve([binding], tokens(60), AT, 0.0)
    assert reservation is not None
    assert (binding.share.free, binding.share.reserved, binding.share.remaining) == (40, 60, 940)
    charges = held.settle(reservation, tokens(25))

    assert charges == (Charge("q", HOUR, "u", 25, 7, 25, TOKENS_UNIT),)
    assert (binding.share.free, binding.share.reserved, binding.share.remaining) == (75, 0, 975)


def test_a_need_that_is_not_covered_takes_nothing_of_any_quota():
    held, first = holding(100)
    second = Binding(replace(TOKENS, id="q2"), "u")

    assert held.reserve([first, second], tokens(50), AT, 0.0) is None
    assert first.share.free == 100


def test_use_beyond_the_reservation_is_covered_from_what_is_free_and_the_rest_is_overage():
    held, binding = holding(100)
    reservation = held.reserve([binding], tokens(60), AT, 0.0)
    assert reservation is not None

    charges = held.settle(reservation, tokens(130))

    assert charges == (Charge("q", HOUR, "u", 130, 7, 100, TOKENS_UNIT),)
    assert held.overage == [0, 30, 0]
    assert (binding.share.free, binding.share.remaining) == (0, 870)


def test_an_unknown_cost_settles_as_it_was_reserved():
    held, binding = holding(100, replace(TOKENS, unit="cost"))
    reservation = held.reserve([binding], Need(1, 5, 60), AT, 0.0)
    assert reservation is not None

    assert held.settle(reservation, Need(1, 5, None))[0].amount == 60


def test_what_is_lost_with_its_process_is_charged_as_reserved():
    held, binding = holding(100)
    reservation = held.reserve([binding], tokens(60), AT, 0.0)
    assert reservation is not None

    assert reservation.charges == (("q", HOUR, "u", 60, 7, 60),)


def test_nothing_is_admitted_from_the_deadline_on():
    held, binding = holding(100)

    assert held.reserve([binding], tokens(1), AT, 99.9) is not None
    assert held.reserve([binding], tokens(1), AT, 100.0) is None


def test_a_window_that_turns_begins_without_a_share_and_the_old_one_is_given_back():
    held, binding = holding(100)
    old = binding.share

    assert held.reserve([binding], tokens(1), AT + 3600, 0.0) is None
    assert binding.share is not old
    held.tick(AT + 3600, 5)

    assert [(each.share_id, each.total) for each in held.returns()] == [(7, 100)]


def test_an_exchange_that_outlives_its_window_is_charged_to_the_window_of_its_admission():
    held, binding = holding(100)
    reservation = held.reserve([binding], tokens(60), AT, 0.0)
    assert reservation is not None
    held.turn(binding, AT + 3600)

    assert held.settle(reservation, tokens(60))[0].window_start == HOUR


def test_no_demand_is_more_than_postgres_can_be_told():
    held, binding = holding(0)

    (ask,) = held.asks([([binding], tokens(2**62))] * 5, AT)

    assert ask.demand == 2**60


def test_an_answer_heard_twice_gives_nothing_twice():
    held, binding = holding(100)
    again = Grant(KEY, 7, 130, 0, 0, 0, 130)

    held.grant(binding.share, again)
    held.grant(binding.share, again)

    assert binding.share.free == 130


def test_a_return_is_told_until_it_is_taken():
    held, binding = holding(100)
    held.recall(binding.share)
    held.recall(binding.share)
    told = held.returns()

    assert [(each.share_id, each.total) for each in told] == [(7, 100)]
    held.acknowledge(told[0], gone=True)

    assert held.returns() == []
    assert binding.share.remaining == 1000


def test_what_runs_low_is_asked_for_before_anybody_must_wait():
    held, binding = holding(100)
    held.lower(binding.share)
    assert binding.share.low == 25

    assert held.reserve([binding], tokens(70), AT, 0.0) is not None
    assert held.thirsty == []
    assert held.reserve([binding], tokens(10), AT, 0.0) is not None
    asks = held.asks([], AT)

    assert [(ask.key, ask.least, ask.demand) for ask in asks] == [(KEY, 0, 0)]


def test_who_waits_together_asks_together():
    held, binding = holding(10)

    asks = held.asks([([binding], tokens(60)), ([binding], tokens(20))], AT)

    assert [(ask.key, ask.least, ask.demand) for ask in asks] == [(KEY, 10, 70)]


def test_a_lowered_limit_takes_back_what_the_higher_one_gave():
    held, binding = holding(100)
    lowered = Binding(replace(TOKENS, limit=500), "u")

    held.turn(lowered, AT)

    assert (lowered.share.free, lowered.share.returned, lowered.share.remaining) == (0, 100, 500)
    assert lowered.share is binding.share


def test_what_a_higher_limit_gave_and_the_worker_never_heard_of_is_not_used_under_the_lower_one():
    held, binding = Holdings(lease=1, deadline=100.0), Binding(TOKENS, "u")
    share = held.turn(binding, AT)
    held.edit(share, replace(TOKENS, limit=60, version=1))

    # 40 were given under the limit of 1,000, in an answer that was lost; others hold 50.
    held.grant(share, Grant(KEY, 7, 40, 0, 0, 0, 90))

    assert share.free == 10
    assert [(each.share_id, each.total) for each in held.returns()] == [(7, 30)]


def test_a_limit_that_was_changed_and_changed_back_is_asked_for_again():
    held, _ = holding(100)
    later = Binding(replace(TOKENS, version=2.0), "u")

    assert held.turn(later, AT).free == 0


def test_a_limit_on_what_is_under_way_charges_nothing_and_is_free_again_at_the_end():
    held, binding = holding(3, replace(TOKENS, unit="requests", window="total"), concurrent=True)
    reservation = held.reserve([binding], Need(1, 0, 0), AT, 0.0)
    assert reservation is not None
    assert reservation.charges == ()
    assert binding.share.free == 2

    assert held.settle(reservation, Need(1, 0, 0)) == ()
    assert binding.share.free == 3


def test_a_soft_quota_holds_nothing_and_is_looked_at_once():
    held = Holdings(lease=1, deadline=100.0)
    binding = Binding(replace(TOKENS, soft=True), "u")

    reservation = held.reserve([binding], tokens(5000), AT, 0.0)
    assert reservation is not None
    assert [ask.demand for ask in held.asks([], AT)] == [0]
    assert held.settle(reservation, tokens(5000)) == (Charge("q", HOUR, "u", 5000, unit=TOKENS_UNIT),)
    assert held.overage == [0, 0, 0]


def test_without_cover_what_the_worker_itself_counted_still_binds():
    held = Holdings()
    binding = Binding(TOKENS, "u")
    reservation = held.reserve_uncovered([binding], tokens(900), AT)
    assert reservation is not None
    assert reservation.charges == (("q", HOUR, "u", 900, 0, 0),)
    held.settle(reservation, tokens(900))

    assert held.reserve_uncovered([binding], tokens(101), AT) is None
    assert held.reserve_uncovered([binding], tokens(100), AT) is not None


def test_a_lost_lease_takes_everything_and_its_reservations_still_charge():
    held, binding = holding(100)
    reservation = held.reserve([binding], tokens(60), AT, 0.0)
    assert reservation is not None
    held.lose()

    assert held.reserve([binding], tokens(1), AT, 0.0) is None
    assert held.settle(reservation, tokens(60)) == (Charge("q", HOUR, "u", 60, 7, 60, TOKENS_UNIT),)
    assert held.held == {}
