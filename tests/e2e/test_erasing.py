"""Erasing a user while a server runs: nothing of them is left in its database and its data directory."""

from __future__ import annotations

from pathlib import Path

from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ADMIN_KEY, ProxyProcess, wait_until

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hi"}]}


def test_a_running_server_forgets_a_user_everywhere(database_url: str, tmp_path: Path) -> None:
    data = tmp_path / "data"

    def files_with(text: str) -> list[Path]:
        return [path for path in data.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]

    with (
        FakeUpstream.running() as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=tmp_path,
            workers=2,
            jsonl_log="true",
            rollup_tags="session",
        ) as proxy,
    ):
        person = proxy.person(
            "Ana Sørensen", quotas=[{"unit": "tokens", "window": "month", "limit": "1000000"}]
        )
        other = proxy.person("Somebody else")
        for who in (person, other):
            reply = proxy.request(
                "POST", "/v1/chat/completions", BODY, who.key, x_usage_tags=f"session=of-{who.user_id}"
            )
            assert reply.status == 200
        wait_until(lambda: len(files_with(f"of-{person.user_id}")) >= 2, "spool and daily log")

        erasure = proxy.request("DELETE", f"/admin/users/{person.user_id}/data", key=ADMIN_KEY)
        assert erasure.status == 202
        ended = f"/admin/erasures/{erasure.body['id']}"
        wait_until(lambda: proxy.admin("GET", ended)["ended_at"], "the end of the erasure")
        wait_until(lambda: not files_with(person.user_id), "files without the user")
        # behind that: a worker that hasn't heard of it would note what it let pass, and its spool would rest for half a minute
        proxy.wait_for_key(person.key, accepted=False)
        assert files_with(other.user_id)
        left = "select count(*) from usage_records where user_id = $1 or tags ->> 'session' = 'of-' || $1"
        assert proxy.query(left, person.user_id)[0]["count"] == 0
        assert proxy.query("select count(*) from usage_records where user_id = 'erased'")[0]["count"] >= 1
        again = proxy.request("GET", f"/admin/users/{person.user_id}", key=ADMIN_KEY)
        assert again.status == 404
