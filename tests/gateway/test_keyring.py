from __future__ import annotations

import asyncio
import datetime as dt
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from proxy.core.key import digest, make_key
from proxy.core.quota import Quota
from proxy.core.refusal import Refusal
from proxy.gateway.keyring import Keyring

NOW = 1_760_000_000.0
DEAD = "postgresql://nobody@127.0.0.1:1/none"
ANNA = make_key(b"anna" * 10)
BERT = make_key(b"bert" * 10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def add_key(pool: asyncpg.Pool, key: str, key_id: str, user_id: str = "user_a", **columns: Any) -> None:
    await pool.execute("insert into users (id) values ($1) on conflict do nothing", user_id)
    await pool.execute(
        "insert into keys (id, user_id, digest, masked) values ($1, $2, $3, '')",
        key_id,
        user_id,
        digest(key.encode()),
    )
    for name, value in columns.items():
        await pool.execute(f"update keys set {name} = $1 where id = $2", value, key_id)


@pytest.fixture
async def make_keyring(
    pool: asyncpg.Pool, database_url: str, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Keyring]]]:
    made: list[Keyring] = []

    async def make(reload_s: float = 600.0, listen: bool = True, **options: Any) -> Keyring:
        keyring = Keyring(
            options.pop("pool", pool),
            listen_url=database_url if listen else DEAD,
            snapshot=tmp_path / "keys.snapshot",
            reload_s=reload_s,
            **options,
        )
        made.append(keyring)
        await keyring.start()
        return keyring

    yield make
    for keyring in made:
        await keyring.stop()


def refused(keyring: Keyring, token: bytes, now: float = NOW) -> Refusal:
    with pytest.raises(Refusal) as caught:
        keyring.lookup(token, now)
    return caught.value


async def test_a_live_key_names_its_caller(pool: asyncpg.Pool, make_keyring: Any) -> None:
    await add_key(
        pool, ANNA, "key_a", service=True, default_operation="rag", default_tags={"b": "2", "a": "1"}
    )
    keyring = await make_keyring()
    caller = keyring.lookup(ANNA.encode(), NOW)
    assert (caller.key_id, caller.user_id, caller.service) == ("key_a", "user_a", True)
    assert caller.default_operation == "rag"
    assert caller.default_tags == (("a", "1"), ("b", "2"))
    assert keyring.lookup(ANNA.encode(), NOW) is caller
    assert keyring.ready


async def test_each_refusal_says_why(pool: asyncpg.Pool, make_keyring: Any) -> None:

    past = dt.datetime.fromtimestamp(NOW - 1, dt.UTC)
    await add_key(pool, ANNA, "key_revoked", revoked_at=past)
    await add_key(pool, BERT, "key_expired", expires_at=past)
    gone = make_key(b"gone" * 10)
    await add_key(pool, gone, "key_gone", "user_gone")
    await pool.execute("update users set active = false where id = 'user_gone'")
    keyring = await make_keyring()
    unknown = make_key(b"nobo" * 10).encode()
    reasons = {
        b"": "missing",
        b"sk-1234": "malformed",
        unknown[:-1] + b"!": "malformed",
        unknown: "unknown",
        ANNA.encode(): "revoked",
        BERT.encode(): "expired",
        gone.encode(): "inactive",
    }
    for token, reason in reasons.items():
        refusal = refused(keyring, token)
        assert (refusal.status, refusal.code, refusal.reason) == (401, "invalid_api_key", reason)
        assert token.decode() not in refusal.message or not token


async def test_a_key_lives_to_the_second_of_its_expiry_and_a_rotated_one_through_its_grace(
    pool: asyncpg.Pool, make_keyring: Any
) -> None:

    soon = dt.datetime.fromtimestamp(NOW + 10, dt.UTC)
    await add_key(pool, ANNA, "key_a", expires_at=soon)
    await add_key(pool, BERT, "key_b", revoked_at=soon)
    keyring = await make_keyring()
    assert keyring.lookup(ANNA.encode(), NOW + 9.9).key_id == "key_a"
    assert keyring.lookup(BERT.encode(), NOW + 9.9).key_id == "key_b"
    assert refused(keyring, ANNA.encode(), NOW + 10).reason == "expired"
    assert refused(keyring, BERT.encode(), NOW + 10).reason == "revoked"


async def test_a_key_issued_and_revoked_elsewhere_is_heard_of(pool: asyncpg.Pool, make_keyring: Any) -> None:
    keyring = await make_keyring()
    await until(lambda: keyring._listener.connected)
    assert refused(keyring, ANNA.encode()).reason == "unknown"
    await add_key(pool, ANNA, "key_a")
    await until(lambda: len(keyring) == 1)
    assert keyring.lookup(ANNA.encode(), NOW).key_id == "key_a"
    await pool.execute("update keys set revoked_at = to_timestamp(0)")
    await until(lambda: not keyring._callers)
    assert refused(keyring, ANNA.encode()).reason == "revoked"
    await pool.execute("delete from keys")
    await until(lambda: len(keyring) == 0)
    assert refused(keyring, ANNA.encode()).reason == "unknown"


async def test_without_notifications_the_periodic_reload_finds_the_change(
    pool: asyncpg.Pool, make_keyring: Any
) -> None:
    keyring = await make_keyring(reload_s=0.02, listen=False)
    await add_key(pool, ANNA, "key_a")
    await until(lambda: len(keyring) == 1)


async def test_a_refresh_misses_nothing_whatever_the_order_of_commits(
    pool: asyncpg.Pool, make_keyring: Any
) -> None:
    keyring = await make_keyring(listen=False)
    async with pool.acquire() as slow, slow.transaction():
        await slow.execute("insert into users (id) values ('user_slow')")
        await slow.execute(
            "insert into keys (id, user_id, digest, masked) values ('key_slow', 'user_slow', $1, '')",
            digest(ANNA.encode()),
        )
        await add_key(pool, BERT, "key_b")
        await keyring._reload()
        assert keyring.lookup(BERT.encode(), NOW).key_id == "key_b"
        assert refused(keyring, ANNA.encode()).reason == "unknown"
    await keyring._reload()
    assert keyring.lookup(ANNA.encode(), NOW).key_id == "key_slow"


def said(quotas: tuple[Quota, ...]) -> list[tuple[object, ...]]:
    return [(each.id, each.scope, each.scope_id, each.unit, each.window, each.limit) for each in quotas]


async def test_the_quotas_of_key_user_plan_group_and_everyone_bind_in_this_order(
    pool: asyncpg.Pool, make_keyring: Any
) -> None:
    plan = [
        {"unit": "tokens", "window": "month", "limit": "100000"},
        {"unit": "cost", "window": "month", "limit": "0.50"},
    ]
    await pool.execute("insert into plans (id, name, quotas) values ('plan_f', 'F', $1)", plan)
    await pool.execute("insert into groups (id, name, plan_id) values ('group_g', 'G', 'plan_f')")
    await pool.execute("insert into users (id, group_id) values ('user_a', 'group_g')")
    await add_key(pool, ANNA, "key_a")
    for row in (
        ("q_everyone", "everyone", None, "requests", "minute", 10),
        ("q_group", "group", "group_g", "tokens", "month", 20),
        ("q_user", "user", "user_a", "tokens", "month", 30),
        ("q_key", "key", "key_a", "tokens", "day", 40),
        ("q_each", "end_user", None, "tokens", "day", 50),
        ("q_42", "end_user", "42", "tokens", "day", 60),
    ):
        await pool.execute(
            'insert into quotas (id, scope, scope_id, unit, "window", limit_amount) values ($1, $2, $3, $4, $5, $6)',
            *row,
        )
    keyring = await make_keyring()
    assert said(keyring.lookup(ANNA.encode(), NOW).quotas) == [
        ("q_key", "key", "key_a", "tokens", "day", 40),
        ("q_user", "user", "user_a", "tokens", "month", 30),
        ("plan:plan_f:1", "user", "user_a", "cost", "month", 500_000_000),
        ("q_each", "end_user", None, "tokens", "day", 50),
        ("q_group", "group", "group_g", "tokens", "month", 20),
        ("q_everyone", "everyone", None, "requests", "minute", 10),
    ]
    assert said(keyring.end_user_quotas("42")) == [("q_42", "end_user", "42", "tokens", "day", 60)]
    await pool.execute("delete from quotas where scope <> 'key'")
    await pool.execute("update plans set quotas = '[]'")
    # the two changes may be heard of one after the other
    await until(lambda: [each.id for each in keyring.lookup(ANNA.encode(), NOW).quotas] == ["q_key"])


async def test_a_temporary_raise_ends_by_itself(pool: asyncpg.Pool, make_keyring: Any) -> None:
    clock = [NOW]
    await add_key(pool, ANNA, "key_a")
    await pool.execute(
        'insert into quotas (id, scope, scope_id, unit, "window", limit_amount, raised_amount, raised_until)'
        " values ('q', 'user', 'user_a', 'tokens', 'month', 10, 99, to_timestamp($1))",
        NOW + 60,
    )
    keyring = await make_keyring(clock=lambda: clock[0])
    assert keyring.lookup(ANNA.encode(), NOW).quotas[0].limit == 99
    clock[0] = NOW + 60
    keyring._changed.set()
    await until(lambda: not keyring._callers)
    assert keyring.lookup(ANNA.encode(), NOW + 60).quotas[0].limit == 10


async def test_a_start_without_postgres_goes_on_with_the_last_known_keys(
    pool: asyncpg.Pool, make_keyring: Any, tmp_path: Path, database_url: str
) -> None:
    await pool.execute("insert into groups (id, name) values ('g \n1', 'G')")
    await pool.execute("insert into users (id, group_id) values ('user_a', 'g \n1')")
    await add_key(pool, ANNA, "key_a", settings={"allowed_models": ["gpt-*"]})
    await pool.execute(
        'insert into quotas (id, scope, scope_id, unit, "window", limit_amount)'
        " values ('q1', 'user', 'user_a', 'tokens', 'day', 1), ('q2', 'user', 'user_a', 'cost', 'day', 2)"
    )
    first = await make_keyring()
    snapshot = tmp_path / "keys.snapshot"
    await until(snapshot.exists)
    assert stat.S_IMODE(snapshot.stat().st_mode) == 0o600
    assert ANNA.encode() not in snapshot.read_bytes()
    expected = first.lookup(ANNA.encode(), NOW)
    away = await asyncpg.create_pool(database_url, min_size=0)
    await away.close()
    second = await make_keyring(pool=away, listen=False)
    assert not second.ready
    assert second.lookup(ANNA.encode(), NOW) == expected
    assert len(expected.quotas) == 2


async def test_half_a_snapshot_is_no_snapshot(
    pool: asyncpg.Pool, make_keyring: Any, tmp_path: Path, database_url: str
) -> None:
    from proxy.gateway import keyfile

    await add_key(pool, ANNA, "key_a")
    await make_keyring()
    snapshot = tmp_path / "keys.snapshot"
    await until(snapshot.exists)
    whole = snapshot.read_bytes()
    for end in range(len(whole) - 1):
        snapshot.write_bytes(whole[:end])
        assert keyfile.read(snapshot) is None
    snapshot.write_bytes(whole)
    found = keyfile.read(snapshot)
    assert found is not None
    assert list(found[0].keys) == [digest(ANNA.encode())]


async def test_before_any_key_is_known_a_well_formed_key_is_not_called_wrong(
    make_keyring: Any, database_url: str
) -> None:
    away = await asyncpg.create_pool(database_url, min_size=0)
    await away.close()
    keyring = await make_keyring(pool=away, listen=False)
    assert refused(keyring, ANNA.encode()).status == 503


async def test_last_use_is_noted_in_batches_and_wakes_nobody(pool: asyncpg.Pool, make_keyring: Any) -> None:
    await add_key(pool, ANNA, "key_a")
    keyring = await make_keyring()
    await until(lambda: keyring._listener.connected and not keyring._changed.is_set())
    keyring.lookup(ANNA.encode(), NOW)
    changes = await pool.fetchval("select count(*) from live_changes")
    await keyring._note_last_used()
    assert (await pool.fetchval("select last_used_at from keys")).timestamp() == NOW
    assert await pool.fetchval("select count(*) from live_changes") == changes


async def test_many_changes_at_once_are_read_as_a_whole(
    pool: asyncpg.Pool, make_keyring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.store import keys_live

    keyring = await make_keyring(listen=False)
    monkeypatch.setattr(keys_live, "CHANGES_MAX", 2)
    await add_key(pool, ANNA, "key_a")
    await add_key(pool, BERT, "key_b")
    await keyring._reload()
    assert len(keyring) == 2
