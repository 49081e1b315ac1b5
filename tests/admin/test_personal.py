"""Erasing a user and handing over what is known about one, checked by searching the whole database."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import asyncpg
import orjson
import pytest

from proxy.core.spoolformat import RECORD_FIELDS
from proxy.store import audit, erasures, folds, people, quotas, records
from proxy.store.quotas import Rule
from tests.admin.conftest import NOW, payload, record

TEXTS = ("Ana Sørensen", "Ana.S@school.example", "pupil-4711", "lilac-tag", "end-user-88", "secret-session")
SINCE_EPOCH = int(NOW.timestamp())


async def mentions(pool: asyncpg.Pool, *texts: str) -> list[str]:
    """table.column of every value of the database, of whatever type, that has one of the texts in it, in any case."""
    columns = await pool.fetch(
        "select c.table_name, c.column_name from information_schema.columns c"
        " join information_schema.tables t using (table_schema, table_name)"
        " where c.table_schema = 'public' and t.table_type = 'BASE TABLE' order by 1, 2"
    )
    assert len(columns) > 200
    found = []
    for table, of_table in itertools.groupby(columns, lambda row: row["table_name"]):
        searched = " union all ".join(
            f"""select '{table}.{column}: ' || text as found from unnest($1::text[]) text"""
            f""" where exists (select from "{table}" where strpos(lower("{column}"::text), lower(text)) > 0)"""
            for _, column in of_table
        )
        found += [row["found"] for row in await pool.fetch(searched, texts)]
    return found


async def sums(pool: asyncpg.Pool) -> list[Any]:
    """What must stay: sums by record and by rollup, and what groups and everybody have used."""
    return [
        tuple(await pool.fetchrow(sql))
        for sql in (
            "select count(*), sum(total_tokens), sum(cost_nanousd) from usage_records",
            "select sum(requests), sum(total_tokens), sum(cost_nanousd) from usage_hourly",
            "select count(*), sum(total_tokens) from usage_records where group_id is not null",
            "select sum(settled) from quota_windows where scope_id = '' or scope_id like 'group_%'",
        )
    ]


@pytest.fixture
async def ana(api, pool, store) -> dict[str, Any]:
    """A user with something in every table that can hold it; and another user beside."""
    group = await people.create_group(pool, name="5A")
    user = await api.post(
        "/admin/users",
        {
            "name": TEXTS[0],
            "email": TEXTS[1],
            "external_id": TEXTS[2],
            "tags": {"a": TEXTS[3]},
            "group": group["id"],
        },
        headers={"idempotency-key": "made once"},
    )
    key = await api.post(
        f"/admin/users/{user['id']}/keys", {"name": f"laptop of {TEXTS[0]}", "default_tags": {"x": TEXTS[3]}}
    )
    await quotas.create_quota(pool, "user", user["id"], Rule("cost", "month", 5))
    await quotas.create_quota(pool, "key", key["id"], Rule("tokens", "day", 5))
    shared = await quotas.create_quota(pool, "group", group["id"], Rule("tokens", "month", 10**9))
    await api.ask("PATCH", f"/admin/users/{TEXTS[1]}", {"tags": {"b": TEXTS[3]}})
    await api.get(f"/admin/users?search={TEXTS[2]}")
    await api.get(f"/admin/stats/users?user={TEXTS[1]}")
    await api.get(f"/admin/users/{TEXTS[2]}")
    await pool.execute(
        "insert into sign_ins (digest, kind, credential, subject, name, ends_at)"
        " select 'cookie', 'user', digest, user_id, $2, now() + interval '1 day' from keys where id = $1",
        key["id"],
        TEXTS[0],
    )
    await pool.execute(
        "insert into objects (id, kind, user_id, key_id, group_id, tags, end_user)"
        " values ('resp_1', 'response', $1, $2, $3, $4, $5)",
        user["id"], key["id"], group["id"], {"s": TEXTS[5]}, TEXTS[4],
    )  # fmt: skip
    who = {"user_id": user["id"], "key_id": key["id"], "group_id": group["id"]}
    charges = [
        [shared["id"], SINCE_EPOCH, group["id"], 120, 0, 0],
        ["plan:x:y", SINCE_EPOCH, user["id"], 120, 0, 0],
    ]
    theirs = {
        "tags": {"session": TEXTS[5]},
        "end_user": TEXTS[4],
        "error_message": f"no such thing for {TEXTS[0]}",
        "client_request_id": TEXTS[5],
        "charges": charges,
    }
    await store(
        *(record(NOW, **who, **theirs) for _ in range(3)),
        record(NOW, user_id="user_other", key_id="key_other", group_id=group["id"], charges=charges[:1]),
        rollup_tags=("session",),
    )
    assert len(await mentions(pool, *TEXTS)) > 15
    return {**user, "key": key, "who": who, "theirs": theirs}


async def test_an_erased_user_is_nowhere_in_the_database(api, pool, ana):
    before = await sums(pool)
    await folds.make_due(pool, NOW + timedelta(days=2))
    status, answer = await api.ask("DELETE", f"/admin/users/{TEXTS[1]}/data")
    assert (status, answer["user_id"], answer["ended_at"]) == (202, ana["id"], None)
    assert await erasures.finish(pool) == 3

    assert await mentions(pool, *TEXTS) == []
    kept = {place.rpartition(":")[0] for place in await mentions(pool, ana["id"], ana["key"]["id"])}
    # which user was erased is what servers must know, and the audit log keeps ids; changes of live rows go within a day
    assert kept <= {"erasures.user_id", "erasures.key_ids", "audit_log.subject", "live_changes.id"}
    assert await sums(pool) == before
    assert (await api.get(f"/admin/erasures/{answer['id']}"))["ended_at"] is not None
    assert await pool.fetchval("select count(*) from usage_records where user_id = 'user_other'") == 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute("update audit_log set before = null")


async def test_the_audit_log_still_says_who_did_what(api, pool, ana):
    before = await pool.fetch("select id, at, actor, action from audit_log order by id")
    await api.ask("DELETE", f"/admin/users/{ana['id']}/data")
    after = await pool.fetch("select id, at, actor, action from audit_log order by id")
    assert after[: len(before)] == before
    assert after[-1]["action"] == "user.erase"


async def test_what_comes_late_of_an_erased_user_is_stored_as_nobodys(api, pool, ana):
    await api.ask("DELETE", f"/admin/users/{ana['id']}/data")
    await erasures.finish(pool)
    late, other = record(NOW, **ana["who"], **ana["theirs"]), record(NOW, user_id="user_other")
    stored: list[bytes] = []
    assert await records.store(pool, [payload(late), payload(other)], ("session",), stored=stored) == 2

    assert await mentions(pool, *TEXTS) == []
    row = await pool.fetchrow(
        "select user_id, key_id, total_tokens from usage_records where id = $1", late["id"]
    )
    assert tuple(row) == ("erased", "erased", 120)
    assert await pool.fetchval("select count(*) from quota_windows where scope_id = $1", ana["id"]) == 0
    # the daily log is not told of it
    assert [orjson.loads(line)[RECORD_FIELDS.index("user_id")] for line in stored] == ["user_other"]
    assert await records.store(pool, [payload(late)]) == 0


async def test_an_erased_users_objects_do_not_become_everybodys(api, pool, ana):
    await api.ask("DELETE", f"/admin/users/{ana['id']}/data")
    await erasures.finish(pool)
    assert await pool.fetchval("select user_id from objects where id = 'resp_1'") == "erased"


async def test_a_record_of_an_erased_user_can_still_be_voided(api, pool, ana):
    await api.ask("DELETE", f"/admin/users/{ana['id']}/data")
    await erasures.finish(pool)
    row = await pool.fetchval("select id from usage_records where user_id = 'erased' limit 1")
    await api.post(f"/admin/records/{row}/void", {"reason": "test run"})
    found = await sums(pool)
    assert found[1][0] == 3
    assert found[3][0] == 3 * 120


async def test_erasing_in_steps_may_be_interrupted_and_continued(api, pool, ana, monkeypatch):
    monkeypatch.setattr(erasures, "STEP_RECORDS", 1)
    await api.ask("DELETE", f"/admin/users/{ana['id']}/data")
    seen: list[tuple[int, int]] = []

    def stop(done: int, of: int) -> None:
        seen.append((done, of))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await erasures.finish(pool, stop)
    assert seen == [(1, 3), (2, 3)]
    assert await erasures.finish(pool) == 1
    assert await erasures.finish(pool) == 0
    assert await mentions(pool, *TEXTS) == []


async def test_everything_about_a_user_is_handed_over(api, pool, ana):
    status, text = await api.ask("GET", f"/admin/users/{TEXTS[2]}/data")
    assert status == 200
    lines = [orjson.loads(line) for line in text.splitlines()]
    kinds = [line["kind"] for line in lines]
    assert {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)} == {
        "user": 1, "key": 1, "quota": 2, "quota_window": 1, "object": 1, "sign_in": 1, "record": 3, "audit": kinds.count("audit"),
    }  # fmt: skip
    assert (lines[0]["name"], lines[0]["email"]) == TEXTS[:2]
    assert "digest" not in lines[1]
    assert {line["user_id"] for line in lines if line["kind"] == "record"} == {ana["id"]}
    actions = {line["action"] for line in lines if line["kind"] == "audit"}
    assert {"user.create", "user.export"} <= actions
    assert (await audit.list_audit(pool, action="user.export"))[0][0]["subject"] == ana["id"]


async def test_erasing_nobody_is_a_404(api):
    assert (await api.refused("DELETE", "/admin/users/nobody/data"))[0] == 404
    assert (await api.refused("GET", "/admin/users/nobody/data"))[0] == 404
    assert (await api.refused("GET", "/admin/erasures/99999999999999999999"))[0] == 404


async def test_while_a_flush_does_not_end_nothing_is_erased_and_that_is_said(api, pool, ana):
    async with pool.acquire() as flush, flush.transaction():
        await flush.execute("lock table usage_hourly in row exclusive mode")
        assert (await api.refused("DELETE", f"/admin/users/{ana['id']}/data"))[0] == 503
    assert (await api.get(f"/admin/users/{ana['id']}"))["name"] == TEXTS[0]
    assert await pool.fetchval("select count(*) from erasures") == 0
