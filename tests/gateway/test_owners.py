"""The settings of owners, in a started proxy; and clients that leave in the middle of an answer."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import openai_answers
from tests.account import Account
from tests.fake_upstream import FakeUpstream, answer
from tests.proxy_process import Person, ProxyProcess, wait_until
from tests.signals import Signal

ASKED = {"model": "gpt-4o-mini", "input": "Hello"}


@contextmanager
def running(
    account: Account, database_url: str, directory: Path, **settings: object
) -> Iterator[tuple[ProxyProcess, FakeUpstream]]:
    with (
        FakeUpstream.running(account.respond) as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url, database_url=database_url, directory=directory, **settings
        ) as proxy,
    ):
        yield proxy, upstream


def in_group(proxy: ProxyProcess, name: str, group: str) -> Person:
    user = proxy.admin("POST", "/admin/users", {"name": name, "group": group})
    return proxy.key_of(user["id"])


def test_a_group_may_share_its_objects(database_url: str, tmp_path: Path) -> None:
    with running(Account(), database_url, tmp_path, object_isolation="group") as (proxy, _):
        group = proxy.admin("POST", "/admin/groups", {"name": "Class 9"})["id"]
        ana, bob = in_group(proxy, "Ana", group), in_group(proxy, "Bob", group)
        eve, mallory = proxy.person("Eve"), proxy.person("Mallory")
        made = proxy.request("POST", "/v1/responses", ASKED, ana.key).body["id"]
        alone = proxy.request("POST", "/v1/responses", ASKED, eve.key).body["id"]
        assert proxy.request("GET", f"/v1/responses/{made}", key=bob.key).status == 200
        assert proxy.request("GET", f"/v1/responses/{made}", key=eve.key).status == 404
        assert proxy.request("GET", f"/v1/responses/{alone}", key=mallory.key).status == 404


def test_objects_are_not_kept_apart_where_the_settings_say_so(database_url: str, tmp_path: Path) -> None:
    with running(Account(), database_url, tmp_path, object_isolation="off") as (proxy, upstream):
        ana, bob = proxy.person("Ana"), proxy.person("Bob")
        made = proxy.request("POST", "/v1/files", {}, ana.key).body["id"]
        assert proxy.request("GET", f"/v1/files/{made}", key=bob.key).status == 200
        listed = proxy.request("GET", "/v1/files", key=bob.key, accept_encoding="gzip").body
        assert [each["id"] for each in listed["data"]] == [made]
        assert upstream.requests[-1].head.all(b"accept-encoding") == [b"gzip"]


def test_what_nobody_made_here_can_be_refused(database_url: str, tmp_path: Path) -> None:
    account = Account()
    account.objects["file-old"] = {"id": "file-old", "object": "file"}
    with running(account, database_url, tmp_path, unknown_objects="refuse", workers=2) as (proxy, upstream):
        ana = proxy.person("Ana")
        upstream.requests.clear()
        assert proxy.request("GET", "/v1/files/file-old", key=ana.key).body == {
            "error": {
                "message": "No such File object: file-old",
                "type": "invalid_request_error",
                "param": "id",
                "code": None,
            }
        }
        assert upstream.requests == []
        # one's own is found in every worker at once, though its record is still on its way to Postgres
        for _ in range(6):
            made = proxy.request("POST", "/v1/files", {}, ana.key).body["id"]
            assert proxy.request("GET", f"/v1/files/{made}", key=ana.key).status == 200
        listed = proxy.request("GET", "/v1/files", key=ana.key).body["data"]
        assert len(listed) == 6


def test_calls_whose_sound_goes_past_the_proxy_can_be_refused(database_url: str, tmp_path: Path) -> None:
    with running(Account(), database_url, tmp_path, realtime_calls="refuse") as (proxy, upstream):
        ana = proxy.person("Ana")
        upstream.requests.clear()
        reply = proxy.request("POST", "/v1/realtime/calls", key=ana.key)
        assert (reply.status, reply.body["error"]["code"]) == (403, "realtime_calls_refused")
        assert upstream.requests == []
        wait_until(
            lambda: (
                [
                    (row["endpoint"], row["outcome"])
                    for row in proxy.query("select * from usage_records where user_id = $1", ana.user_id)
                    if row["method"] == "POST"
                ]
                == [("/v1/realtime/calls", "refused")]
            ),
            "the record of the refusal",
        )


@pytest.mark.parametrize(
    ("setting", "source", "tokens"),
    # estimated: a token for each four bytes, of the 119 asked and the six of "Olá, "
    [("drain", "reported", (5, 7)), ("cancel", "estimated", (30, 2))],
)
def test_a_client_that_leaves_is_billed_by_report_or_by_what_was_delivered(
    database_url: str, tmp_path: Path, setting: str, source: str, tokens: tuple[int, int]
) -> None:
    asked = {
        "model": "gpt-3.5-turbo-instruct",
        "prompt": "Say hello",
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    steps = openai_answers.completion(asked)
    gone = Signal("the client's leaving")
    with running(Account(), database_url, tmp_path, on_client_disconnect=setting) as (proxy, upstream):
        ana = proxy.person("Ana")
        upstream.script(answer(*steps[:3], gone, *steps[3:]))
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
        connection.request(
            "POST",
            "/v1/completions",
            json.dumps(asked),
            {"authorization": f"Bearer {ana.key}", "content-type": "application/json"},
        )
        reply = connection.getresponse()
        heard = b""
        while heard.count(b"\n\n") < 2:
            heard += reply.read1(4096)
        reply.close()
        connection.close()
        if setting == "drain":
            wait_until(
                lambda: (
                    b"client_connections 0" in _metrics(proxy) or b"client_connections 1" in _metrics(proxy)
                ),
                "the proxy's noticing",
            )
            gone.set()

        def records() -> list[dict[str, object]]:
            return proxy.query(
                "select * from usage_records where user_id = $1 and endpoint = '/v1/completions'", ana.user_id
            )

        wait_until(lambda: len(records()) == 1, "the record")
        gone.set()
        (record,) = records()
        assert (record["outcome"], record["usage_source"]) == ("client_gone", source)
        assert (record["input_tokens"], record["output_tokens"]) == tokens
        assert record["cost_nanousd"] == tokens[0] * 1500 + tokens[1] * 2000


def _metrics(proxy: ProxyProcess) -> bytes:
    return str(proxy.request("GET", "/metrics").body).encode()
