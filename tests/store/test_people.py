"""Users, groups and keys as rows: what is stored, what is refused, and who hears of it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from proxy.core.key import ADMIN_PREFIX, is_well_formed
from proxy.store import admin_keys, conflicts, ids, issued_keys, people, postgres
from proxy.store.rows import like


def test_ids_sort_like_time_and_randomness():
    assert ids.encode(0, 0) == "0" * 26
    assert ids.encode(1, 0) == "00000000010000000000000000"
    assert ids.encode(1, 0) > ids.encode(0, 2**80 - 1)
    assert ids.new_id("user").startswith("user_") and len(ids.new_id("user")) == 31


def test_the_wildcards_of_a_search_mean_themselves():
    assert like("50%_a\\b") == "%50\\%\\_a\\\\b%"
    assert like("") is None


async def test_a_user_is_found_by_id_external_id_and_email_of_any_case(pool):
    made = await people.create_user(pool, name="Ana", email="Ana@school.example", external_id="42")

    for named in (made["id"], "42", "ana@SCHOOL.example"):
        assert (await people.find_user(pool, named))["id"] == made["id"]
    with pytest.raises(conflicts.MissingError, match="there is no user 'nobody'"):
        await people.find_user(pool, "nobody")


async def test_an_id_wins_over_an_external_id_that_looks_like_it(pool):
    one = await people.create_user(pool, name="one")
    await people.create_user(pool, name="two", external_id=one["id"])

    assert (await people.find_user(pool, one["id"]))["name"] == "one"


async def test_a_second_user_with_the_same_email_is_refused_by_field(pool):
    await people.create_user(pool, name="a", email="x@y.example")

    with pytest.raises(conflicts.TakenError, match="another user has this e-mail") as refused:
        await people.create_user(pool, name="b", email="X@y.example")
    assert refused.value.field == "email"


async def test_an_unknown_group_is_refused_by_field(pool):
    with pytest.raises(conflicts.MissingError) as refused:
        await people.create_user(pool, name="a", group_id="group_none")
    assert refused.value.field == "group"


async def test_a_change_sets_what_it_names_and_nothing_else(pool):
    group = await people.create_group(pool, name="5A")
    user = await people.create_user(
        pool, name="a", email="a@b.example", group_id=group["id"], tags={"x": "1"}
    )

    changed = await people.change_user(pool, user["id"], {"email": None, "active": False})

    assert (changed["name"], changed["email"], changed["group_id"]) == ("a", None, group["id"])
    assert (changed["active"], changed["tags"]) == (False, {"x": "1"})
    assert changed["updated_at"] > user["updated_at"]


async def test_a_list_is_searched_filtered_and_paged_in_a_stable_order(pool):
    group = await people.create_group(pool, name="5A")
    made = [await people.create_user(pool, name=f"user {n}", group_id=group["id"]) for n in range(5)]
    await people.create_user(pool, name="somebody else", active=False, tags={"grade": "9"})

    page, total = await people.list_users(pool, search="USER ", group_id=group["id"], limit=2, offset=2)
    assert [row["id"] for row in page] == [made[2]["id"], made[3]["id"]]
    assert total == 5
    assert page[0]["group_name"] == "5A"
    assert (await people.list_users(pool, active=False))[1] == 1
    assert (await people.list_users(pool, tags={"grade": "9"}))[1] == 1


async def test_a_group_with_an_ambiguous_name_must_be_given_by_id(pool):
    one = await people.create_group(pool, name="5A")
    assert (await people.find_group(pool, "5A"))["id"] == one["id"]
    await people.create_group(pool, name="5A")

    with pytest.raises(conflicts.MissingError, match="several groups are named '5A'"):
        await people.find_group(pool, "5A")
    assert (await people.find_group(pool, one["id"]))["id"] == one["id"]


async def test_only_the_hash_of_a_key_is_stored(pool):
    user = await people.create_user(pool, name="a")
    row, key = await people.create_key(pool, user_id=user["id"], name="laptop")

    assert is_well_formed(key)
    assert row["digest"] == hashlib.sha256(key.encode()).digest()
    assert key not in str(dict(row))
    live = await issued_keys.live_key(pool, key)
    assert live is not None and live["key_id"] == row["id"]


async def test_a_rotated_key_lives_on_for_its_grace_period_only(pool):
    user = await people.create_user(pool, name="a")
    old, old_key = await people.create_key(
        pool, user_id=user["id"], service=True, default_tags={"app": "web"}, settings={"max_concurrent": 3}
    )

    async with pool.acquire() as connection, connection.transaction():
        new, new_key = await issued_keys.rotate_key(connection, old["id"], grace_s=3600)
        remaining = (await issued_keys.fetch_key(connection, old["id"]))["expires_at"] - datetime.now(UTC)

    assert timedelta(minutes=59) < remaining <= timedelta(hours=1)
    assert await issued_keys.live_key(pool, old_key) is not None
    assert new_key != old_key
    assert (new["service"], new["default_tags"], new["settings"]) == (
        True,
        {"app": "web"},
        {"max_concurrent": 3},
    )


async def test_a_grace_period_never_lengthens_a_keys_life(pool):
    user = await people.create_user(pool, name="a")
    soon = datetime.now(UTC) + timedelta(minutes=5)
    old, _ = await people.create_key(pool, user_id=user["id"], expires_at=soon)

    await issued_keys.rotate_key(pool, old["id"], grace_s=86_400)

    assert (await issued_keys.fetch_key(pool, old["id"]))["expires_at"] == soon


async def test_a_key_rotated_without_grace_is_dead_at_once_and_cannot_be_rotated_again(pool):
    user = await people.create_user(pool, name="a")
    old, old_key = await people.create_key(pool, user_id=user["id"])

    await issued_keys.rotate_key(pool, old["id"])

    assert await issued_keys.live_key(pool, old_key) is None
    with pytest.raises(conflicts.TakenError, match="revoked"):
        await issued_keys.rotate_key(pool, old["id"])


async def test_revoking_twice_keeps_the_first_time(pool):
    user = await people.create_user(pool, name="a")
    row, _ = await people.create_key(pool, user_id=user["id"])

    first = await issued_keys.revoke_key(pool, row["id"])
    second = await issued_keys.revoke_key(pool, row["id"])

    assert first["revoked_at"] == second["revoked_at"]
    assert (await issued_keys.list_keys(pool, live=True))[1] == 0
    assert (await issued_keys.list_keys(pool, user_id=user["id"], live=False))[1] == 1


async def test_keys_of_inactive_users_and_groups_are_not_live(pool):
    group = await people.create_group(pool, name="5A")
    user = await people.create_user(pool, name="a", group_id=group["id"])
    _, key = await people.create_key(pool, user_id=user["id"])

    await people.change_group(pool, group["id"], {"active": False})
    assert await issued_keys.live_key(pool, key) is None
    await people.change_group(pool, group["id"], {"active": True})
    assert await issued_keys.live_key(pool, key) is not None
    await people.change_user(pool, user["id"], {"active": False})
    assert await issued_keys.live_key(pool, key) is None


async def test_every_worker_hears_of_a_change(pool, database_url):
    listener = await postgres.connect(database_url)
    heard: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("openai_proxy_changed", lambda *args: heard.put_nowait(args[-1]))

    user = await people.create_user(pool, name="a")
    row, _ = await people.create_key(pool, user_id=user["id"])
    await issued_keys.revoke_key(pool, row["id"])

    assert [await asyncio.wait_for(heard.get(), 30) for _ in range(3)] == ["users", "keys", "keys"]
    await listener.close()


async def test_admin_keys_open_until_they_expire_or_are_revoked(pool):
    assert not await admin_keys.any_admin_key(pool)
    row, key = await people.create_admin_key(pool, name="first")
    _, expired = await admin_keys.create_admin_key(
        pool, name="old", expires_at=datetime.now(UTC) - timedelta(seconds=1)
    )

    assert is_well_formed(key, ADMIN_PREFIX)
    live = await admin_keys.live_admin_key(pool, key)
    assert live is not None and (live["id"], live["scope"]) == (row["id"], "write")
    assert await admin_keys.live_admin_key(pool, expired) is None
    assert await admin_keys.any_admin_key(pool)
    await admin_keys.revoke_admin_key(pool, row["id"])
    assert await admin_keys.live_admin_key(pool, key) is None
    assert not await admin_keys.any_admin_key(pool)


async def test_a_chosen_admin_key_is_made_once_by_many_starting_workers(pool):
    chosen = "chosen-by-the-operator"

    rows = await asyncio.gather(
        *(admin_keys.ensure_admin_key(pool, name="settings", key=chosen) for _ in range(4))
    )

    assert len({row["id"] for row in rows}) == 1
    assert (await admin_keys.list_admin_keys(pool))[1] == 1
    with pytest.raises(ValueError, match="at least 16 characters"):
        await admin_keys.create_admin_key(pool, name="short", key="short")
