"""Readers of exports and live views, slow or gone, beside everything else that a worker does."""

from __future__ import annotations

import socket

from proxy.admin.live import OPEN_MAX
from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ADMIN_KEY, ProxyProcess, wait_until

READERS = 2
FILL = (
    "insert into usage_records (id, started_at, key_id, user_id, provider, endpoint, method, streamed, status, outcome,"
    " usage_source, duration_ms, error_message)"
    " select gen_random_uuid(), now() - interval '40 days' - n * interval '1 second', 'key_1', 'user_1', 'openai', '/v1/x', 'POST', false, 500,"
    " 'upstream_error', 'none', 1, repeat('x', 2000) from generate_series(1, 20000) as n"
)


class RefusedError(Exception):
    """Another answer than 200."""


def reader(proxy: ProxyProcess, path: str) -> socket.socket:
    """Somebody who reads the beginning of an answer and then no more."""
    opened = socket.create_connection(("127.0.0.1", proxy.port), timeout=30)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    opened.sendall(
        f"GET {path} HTTP/1.1\r\nhost: proxy\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n".encode()
    )
    if opened.recv(12) != b"HTTP/1.1 200":
        opened.close()
        raise RefusedError
    return opened


def refused(proxy: ProxyProcess, path: str) -> bool:
    return proxy.request("GET", path, key=ADMIN_KEY).status == 429


def test_slow_readers_take_nothing_from_calls_and_statistics(postgres_server, tmp_path):
    with (
        FakeUpstream.running() as upstream,
        lasting_database(postgres_server) as database_url,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=tmp_path,
            database_pool_max=2,
            admin_exports_max=READERS,
        ) as proxy,
    ):
        person = proxy.person()
        proxy.query(FILL)
        readers = [
            reader(proxy, "/admin/export/records?days=60&columns=error_message") for _ in range(READERS)
        ]
        assert refused(proxy, "/admin/export/users")

        before = proxy.admin("GET", "/admin/stats")["overall"]["requests"]
        for _ in range(5):
            answer = proxy.request("POST", "/v1/responses", {"model": "gpt-5.1", "input": "Hi"}, person.key)
            assert answer.status == 200
        wait_until(
            lambda: proxy.admin("GET", "/admin/stats")["overall"]["requests"] == before + 5,
            "records and sums",
        )

        for each in readers:
            each.close()
        wait_until(lambda: not refused(proxy, "/admin/export/users?days=1"), "a place for an export")


def test_the_places_of_live_views_are_free_when_their_readers_leave(proxy):
    """The front tells the control plane that a connection was lost."""
    readers = []
    try:
        while len(readers) <= OPEN_MAX * proxy.workers:
            readers.append(reader(proxy, "/admin/records/live"))
    except RefusedError:
        pass
    assert OPEN_MAX <= len(readers) <= OPEN_MAX * proxy.workers
    for each in readers:
        each.close()

    def free() -> bool:
        taken = []
        try:
            while len(taken) < OPEN_MAX:
                taken.append(reader(proxy, "/admin/records/live"))
        except RefusedError:
            return False
        finally:
            for each in taken:
                each.close()
        return True

    wait_until(free, "all places of a worker")
