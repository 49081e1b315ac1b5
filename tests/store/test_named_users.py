"""Users as service keys name them: who is meant, and who is made on sight."""

from __future__ import annotations

import asyncio

import asyncpg

from proxy.store import named_users, people


async def test_a_user_is_found_by_id_by_external_id_and_by_email_of_any_case(pool: asyncpg.Pool):
    made = await people.create_user(pool, name="Ana", email="Ana@school.example", external_id="42")

    for name in (made["id"], "42", "ana@SCHOOL.example"):
        found = await named_users.find(pool, name)
        assert found is not None
        assert found.id == made["id"]
        assert (found.group_id, found.plan_id, found.active, found.settings) == (None, None, True, {})


async def test_nobody_is_made_unless_the_key_may(pool: asyncpg.Pool):
    assert await named_users.find(pool, "43") is None
    assert await pool.fetchval("select count(*) from users") == 0


async def test_a_name_becomes_a_user_by_external_id_and_an_address_one_by_email(pool: asyncpg.Pool):
    pupil = await named_users.find(pool, "pupil-77", create=True)
    ben = await named_users.find(pool, "ben@school.example", create=True)

    assert pupil is not None
    assert ben is not None
    rows = {row["id"]: row for row in await pool.fetch("select id, name, external_id, email from users")}
    assert tuple(rows[pupil.id])[1:] == ("pupil-77", "pupil-77", None)
    assert tuple(rows[ben.id])[1:] == ("ben@school.example", None, "ben@school.example")


async def test_an_id_wins_over_an_external_id_and_that_over_an_email(pool: asyncpg.Pool):
    by_id = await people.create_user(pool, name="one")
    await people.create_user(pool, name="two", external_id=by_id["id"])
    by_external_id = await people.create_user(pool, name="three", external_id="x@school.example")
    await people.create_user(pool, name="four", email="x@school.example")

    assert (await named_users.find(pool, by_id["id"])).id == by_id["id"]
    assert (await named_users.find(pool, "x@school.example")).id == by_external_id["id"]


async def test_workers_that_see_a_name_at_once_make_one_user(pool: asyncpg.Pool):
    found = await asyncio.gather(*(named_users.find(pool, "pupil-77", create=True) for _ in range(8)))

    assert len({each.id for each in found}) == 1
    assert await pool.fetchval("select count(*) from users") == 1


async def test_a_deactivated_user_is_found_and_said_to_be_so(pool: asyncpg.Pool):
    made = await people.create_user(pool, name="Ana", external_id="42")
    await pool.execute("update users set active = false where id = $1", made["id"])

    found = await named_users.find(pool, "42", create=True)

    assert found is not None
    assert (found.id, found.active) == (made["id"], False)
