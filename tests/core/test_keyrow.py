from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.core.keyrow import (
    NO_GROUP,
    GroupRow,
    build_caller,
    next_raise_end,
    plan_limit,
    read_group_row,
    read_key_row,
    read_plan,
    read_quotas,
    subject_of,
    user_quotas,
)
from proxy.core.quota import Quota

NOW = 1_760_000_000.0


def row(**changes: Any) -> str:
    fields = {
        "key_id": "key_a",
        "user_id": "user_a",
        "group_id": None,
        "plan_id": None,
        "active": True,
        "service": False,
        "creates_users": False,
        "expires_at": None,
        "revoked_at": None,
        "default_operation": None,
        "default_tags": None,
        "key_settings": None,
        "user_settings": None,
    }
    return orjson.dumps(list((fields | changes).values())).decode()


def quota_row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "q",
        "scope": "user",
        "scope_id": "u",
        "unit": "tokens",
        "window": "day",
        "limit_amount": 10,
    } | changes


def test_a_row_without_its_trailing_nulls_is_the_same() -> None:
    short = orjson.dumps(orjson.loads(row())[:7])
    assert read_key_row(short) == read_key_row(row())


@pytest.mark.parametrize(
    ("changes", "group_active", "expected"),
    [
        ({}, True, None),
        ({"expires_at": NOW + 1, "revoked_at": NOW + 1}, True, None),
        ({"expires_at": NOW}, True, "expired"),
        ({"revoked_at": NOW}, True, "revoked"),
        ({"expires_at": NOW, "revoked_at": NOW}, True, "revoked"),
        ({"active": False}, True, "inactive"),
        ({}, False, "inactive"),
    ],
)
def test_why_a_key_is_not_good(changes: dict[str, Any], group_active: bool, expected: str | None) -> None:
    assert read_key_row(row(**changes)).ended(NOW, group_active=group_active) == expected


def test_a_caller_ends_with_expiry_or_revocation_whichever_is_first() -> None:
    read = read_key_row(row(expires_at=NOW + 2, revoked_at=NOW + 1))
    assert build_caller(read, NO_GROUP, ()).expires_at == NOW + 1


def test_each_layer_narrows_what_the_others_allow() -> None:
    read = read_key_row(
        row(
            key_settings={
                "allowed_models": ["gpt-5*", "o3"],
                "max_concurrent": 9,
                "allowed_operations": ["a", "b"],
            },
            user_settings={"allowed_models": ["gpt-5-mini", "gpt-*"], "max_concurrent": 3},
        )
    )
    group = GroupRow(
        None, True, {"allowed_models": ["gpt-*"], "max_concurrent": 5, "allowed_operations": ["b", "c"]}
    )
    caller = build_caller(read, group, ())
    assert caller.allowed_models == ("gpt-5*", "gpt-5-mini")
    assert caller.max_concurrent == 3
    assert caller.allowed_operations == frozenset({"b"})


def test_patterns_that_overlap_without_one_holding_the_other_allow_nothing() -> None:
    read = read_key_row(
        row(key_settings={"allowed_models": ["*-mini"]}, user_settings={"allowed_models": ["gpt-*"]})
    )
    assert build_caller(read, NO_GROUP, ()).allowed_models == ()


def test_an_empty_list_allows_nothing_and_none_allows_all() -> None:
    assert (
        build_caller(read_key_row(row(key_settings={"allowed_models": []})), NO_GROUP, ()).allowed_models
        == ()
    )
    assert build_caller(read_key_row(row()), NO_GROUP, ()).allowed_models is None


def test_networks_are_narrowed_as_networks() -> None:
    read = read_key_row(
        row(
            key_settings={"allowed_addresses": ["10.1.0.0/16", "192.168.0.0/24", "fd00::/8", "nonsense"]},
            user_settings={"allowed_addresses": ["10.0.0.0/8", "fd00:1::/32"]},
        )
    )
    assert build_caller(read, NO_GROUP, ()).allowed_addresses == ("10.1.0.0/16", "fd00:1::/32")


def test_a_group_row_is_read() -> None:
    assert read_group_row('["plan_a", false, {"max_concurrent": 2}]') == GroupRow(
        "plan_a", False, {"max_concurrent": 2}
    )
    assert read_group_row("[null, true, null]") == NO_GROUP


def test_a_raise_counts_until_its_end() -> None:
    text = orjson.dumps([quota_row(raised_amount=99, raised_until=NOW + 10)])
    assert read_quotas(text, NOW)[0].limit == 99
    assert next_raise_end(text, NOW) == NOW + 10
    assert read_quotas(text, NOW + 10)[0].limit == 10
    assert next_raise_end(text, NOW + 10) is None


def test_a_quota_row_is_read_with_every_field() -> None:
    text = orjson.dumps(
        [
            quota_row(
                billing_day=15, model="gpt-*", operation="rag", tag="grade=9=b", soft=True, limit_amount=0
            )
        ]
    )
    assert read_quotas(text, NOW) == (
        Quota("q", "user", "u", "tokens", "day", 0, 15, "gpt-*", "rag", ("grade", "9=b"), True),
    )


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"unit": "tokens", "window": "month", "limit": "100000"}, 100_000),
        ({"unit": "tokens", "window": "month", "limit": 5}, 5),
        ({"unit": "cost", "window": "month", "limit": "0.50"}, 500_000_000),
        ({"unit": "cost", "window": "month", "limit": 0.5}, 500_000_000),
        ({"unit": "cost", "window": "month", "limit_amount": 7}, 7),
        ({"unit": "cost", "window": "month", "limit": "0.0000000015"}, 2),
        ({"unit": "tokens", "window": "month", "limit": "-1"}, None),
        ({"unit": "tokens", "window": "month", "limit": "much"}, None),
        ({"unit": "tokens", "window": "month", "limit": "Infinity"}, None),
        ({"unit": "tokens", "window": "month"}, None),
        ({"unit": "tokens", "limit": 5}, None),
        ({"unit": "words", "window": "month", "limit": 5}, None),
    ],
)
def test_a_plans_limit_is_read_as_in_the_admin_api(entry: dict[str, Any], expected: int | None) -> None:
    assert plan_limit(entry) == expected


def test_plan_entries_get_ids_that_last_and_nonsense_is_left_out() -> None:
    text = orjson.dumps(
        [
            {"unit": "tokens", "window": "month", "limit": 1},
            {"unit": "nonsense"},
            {"id": "c", "unit": "cost", "window": "day", "limit": "1"},
        ]
    )
    assert [quota.id for quota in read_plan("free", text)] == ["plan:free:0", "plan:free:c"]


def test_a_users_own_quota_replaces_the_plans_and_leaves_the_others() -> None:
    plan = (
        Quota("plan:p:0", "user", None, "tokens", "month", 10),
        Quota("plan:p:1", "user", None, "tokens", "month", 10, model="o3"),
    )
    own = (Quota("q", "user", "u", "tokens", "month", 99),)
    assert user_quotas(own, plan, "u") == (
        own[0],
        Quota("plan:p:1", "user", "u", "tokens", "month", 10, model="o3"),
    )


def test_subjects_are_named_as_in_the_log_of_changes() -> None:
    assert subject_of("user", "u") == "user:u"
    assert subject_of("everyone", None) == "everyone:"
