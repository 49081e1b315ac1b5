"""Through PgBouncer in transaction mode: the whole proxy, with no statement cache and LISTEN over a direct URL."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ProxyProcess, free_port, wait_until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
REQUESTS = 150
SERVER_CONNECTIONS = 3
"""Fewer than the proxy has connections of its own, so that its transactions meet each other's servers."""
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="needs PgBouncer: apt-get install pgbouncer")


@contextlib.contextmanager
def pooled(url: str) -> Iterator[str]:
    """The URL of the same database through a PgBouncer of the test's own."""
    parts = urlsplit(url)
    directory = Path(tempfile.mkdtemp(prefix="proxy-pgb-"))
    directory.chmod(0o755)
    port, name = free_port(), parts.path.lstrip("/")
    config = directory / "pgbouncer.ini"
    host = parse_qs(parts.query)["host"][0]
    config.write_text(
        f"[databases]\n{name} = host={host} user=postgres\n"
        "[pgbouncer]\nlisten_addr = 127.0.0.1\nauth_type = any\npool_mode = transaction\n"
        f"listen_port = {port}\nunix_socket_dir =\ndefault_pool_size = {SERVER_CONNECTIONS}\nmax_client_conn = 100\n"
    )
    # it refuses to be root; who may come to the server's socket is the server's own user
    as_owner = ("-u", pwd.getpwuid(os.stat(host).st_uid).pw_name) if os.geteuid() == 0 else ()
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([str(PGBOUNCER), *as_owner, str(config)], stdout=log, stderr=log)
    try:
        wait_until(lambda: "process up" in (directory / "log").read_text(), "PgBouncer")
        yield f"postgresql://postgres@127.0.0.1:{port}/{name}"
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(directory)


def test_everything_works_through_a_pooler_of_transactions(postgres_server: str, tmp_path: Path) -> None:
    with (
        lasting_database(postgres_server) as direct_url,
        pooled(direct_url) as pooled_url,
        FakeUpstream.running() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=pooled_url,
            directory=tmp_path,
            workers=2,
            database_listen_url=direct_url,
            database_statement_cache="false",
            spool="postgres",  # needs the database most
            quota_share_ttl_s=2,
        ) as proxy,
    ):
        proxy.database_url = direct_url  # for the test's own look
        person = proxy.person(quotas=[{"unit": "tokens", "window": "month", "limit": "100000000"}])
        (first,) = proxy.query("select count(*) from usage_records")

        def ask(_: int) -> int:
            return proxy.request("POST", "/v1/chat/completions", BODY, person.key).status

        with ThreadPoolExecutor(8) as threads:
            asked = threads.map(ask, range(REQUESTS))
            for _ in range(20):
                proxy.admin("GET", "/admin/stats")
                proxy.admin("GET", "/admin/records?limit=10")
                assert proxy.request("GET", "/me/usage", key=person.key).status == 200
            assert set(asked) == {200}
        stored = "select count(*) from usage_records"
        wait_until(lambda: proxy.query(stored)[0]["count"] == first["count"] + REQUESTS, "the records")
        (sums,) = proxy.query(
            "select (select sum(requests) from usage_hourly) as hourly, (select count(*) from usage_records) as records,"
            " (select sum(settled) from quota_windows) as settled,"
            " (select sum((c ->> 3)::bigint) from usage_records, jsonb_array_elements(charges) c) as charged"
        )
        assert sums["hourly"] == sums["records"]
        assert sums["settled"] == sums["charged"]
        export = proxy.request(
            "GET", "/admin/export/records?format=csv", key="sk-admin-of-the-tests-0123456789abcdef"
        )
        assert len(export.body.splitlines()) == sums["records"] + 1
        # NOTIFY comes over the direct connection
        proxy.admin("DELETE", f"/admin/keys/{person.key_id}")
        proxy.wait_for_key(person.key, accepted=False)
