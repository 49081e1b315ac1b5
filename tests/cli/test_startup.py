"""What happens before the first worker, piece by piece; the whole is in test_serve.py."""

from __future__ import annotations

import socket
import threading
from collections import Counter

import asyncpg
import pytest

from proxy.cli import startup
from proxy.cli.failure import CommandError
from proxy.cli.startup import FirstStart
from proxy.settings import load
from proxy.store import admin_keys, people, postgres


def test_each_worker_has_a_socket_of_its_own_on_one_port():
    sockets = startup.listen("127.0.0.1", 0, 3)
    try:
        assert len({sock.getsockname() for sock in sockets}) == 1
        assert len({sock.fileno() for sock in sockets}) == 3
        with pytest.raises(CommandError, match="is in use"):
            startup.listen("127.0.0.1", sockets[0].getsockname()[1], 1)
    finally:
        for sock in sockets:
            sock.close()


def test_connections_spread_over_the_sockets():
    """With 4 sockets and 400 connections, a fair spread gives each 100 ± 9; none may have fewer than half of that."""
    sockets = startup.listen("127.0.0.1", 0, 4)
    taken: Counter[int] = Counter()

    def accept(number: int) -> None:
        sockets[number].setblocking(True)
        while True:
            try:
                sockets[number].accept()[0].close()
            except OSError:
                return
            taken[number] += 1

    threads = [threading.Thread(target=accept, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(400):
        with socket.create_connection(sockets[0].getsockname()) as client:
            client.recv(1)
    for sock in sockets:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
    for thread in threads:
        thread.join()
    assert sum(taken.values()) == 400
    assert min(taken.values()) > 50


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("localhost", "http://127.0.0.1:"),
    ],
)
def test_the_url_is_one_that_works_here(host: str, expected: str):
    (sock,) = startup.listen(host, 0, 1)
    with sock:
        assert startup.base_url(load(), sock) == f"{expected}{sock.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://proxy:secret@db.example.com:6432/usage", "db.example.com:6432/usage"),
        ("postgresql://postgres@/postgres?host=%2Ftmp", "local/postgres"),
        ("postgresql://proxy:secret@db1:5432,db2:5433/usage", "db1:5432,db2:5433/usage"),
    ],
)
def test_a_database_is_described_without_its_password(url: str, expected: str):
    assert startup.described(url) == expected


async def test_a_first_start_on_the_embedded_database_makes_people_once(
    database_url: str, pool: asyncpg.Pool
):
    first = await startup.prepare(database_url, load(), embedded=True)
    assert first.user == "demo"
    assert (await admin_keys.live_admin_key(pool, first.admin_key))["scope"] == "write"
    (user,), _ = await people.list_users(pool)
    assert user["name"] == "demo"
    assert await pool.fetchval("select user_id from keys") == user["id"]
    assert await startup.prepare(database_url, load(), embedded=True) == FirstStart()


async def test_with_an_upstream_key_the_first_user_is_no_demo(database_url: str):
    first = await startup.prepare(database_url, load(openai_api_key="sk-x"), embedded=True)
    assert first.user == "first user"


async def test_a_database_of_ones_own_gets_the_admin_key_that_is_set_and_nobody_else(
    database_url: str, pool: asyncpg.Pool
):
    settings = load(admin_key="sk-admin-chosen-by-hand")
    for _ in range(2):
        assert await startup.prepare(database_url, settings, embedded=False) == FirstStart()
    assert (await admin_keys.live_admin_key(pool, "sk-admin-chosen-by-hand"))["scope"] == "write"
    assert await pool.fetchval("select count(*) from admin_keys") == 1
    assert (await people.list_users(pool))[1] == 0


def test_a_database_that_is_away_is_no_mistake():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql://proxy@127.0.0.1:{unused.getsockname()[1]}/proxy"
        assert startup.prepare_database(url, load(), embedded=False) is None


def test_a_url_that_is_none_is_a_mistake():
    with pytest.raises(CommandError, match="setting database_url: "):
        startup.prepare_database("mysql://nothing", load(), embedded=False)


def test_the_greeting_shows_what_was_made():
    text = startup.greeting(
        FirstStart("sk-admin-a", "demo", "sk-proxy-b"), "http://127.0.0.1:1", simulated=True
    )
    assert "sk-admin-a" in text
    assert "Key of demo:          sk-proxy-b" in text
    assert "curl http://127.0.0.1:1/v1/chat/completions -H 'Authorization: Bearer sk-proxy-b'" in text
    assert "answers are simulated" in text


async def test_the_store_names_what_is_misconfigured(postgres_server: str):
    with pytest.raises(postgres.MISCONFIGURED):
        await startup.prepare(postgres_server.replace("/postgres?", "/nowhere?"), load(), embedded=False)


async def test_migrations_go_past_a_pooler(database_url: str, pool: asyncpg.Pool):
    """Their lock belongs to a session, which a pooler in transaction mode does not give."""
    pooler = "postgresql://proxy@127.0.0.1:1/proxy"  # nobody listens there

    settings = load(database_listen_url=database_url, admin_key="sk-admin-chosen-by-hand")
    await startup.prepare(pooler, settings, embedded=False)

    assert await pool.fetchval("select count(*) from admin_keys") == 1
