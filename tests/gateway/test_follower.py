"""The follower, in a started proxy: what nobody asks for again is billed all the same, once, to its maker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.account import Account
from tests.fake_upstream import FakeUpstream, answer
from tests.openai_answers import plain
from tests.proxy_process import Person, ProxyProcess, wait_until

ASKED = {"model": "gpt-4o-mini", "input": "Hello"}


@contextmanager
def following(
    account: Account, database_url: str, directory: Path, **settings: object
) -> Iterator[tuple[ProxyProcess, FakeUpstream]]:
    given = {"workers": 2, "follow_first_s": 0.2, "follow_max_s": 0.5, **settings}
    with (
        FakeUpstream.running(account.respond) as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url, database_url=database_url, directory=directory, **given
        ) as proxy,
    ):
        yield proxy, upstream


def make(proxy: ProxyProcess, who: Person, path: str, body: Any, **headers: str) -> str:
    reply = proxy.request("POST", path, body, who.key, **headers)
    assert reply.status < 300, reply.body
    return str(reply.body["id"])


def followed(proxy: ProxyProcess) -> int:
    return len(proxy.query("select from objects where follow is not null"))


def billed(proxy: ProxyProcess, who: Person) -> list[dict[str, Any]]:
    return proxy.query(
        "select * from usage_records where user_id = $1 and usage_source = 'reported' order by started_at",
        who.user_id,
    )


def test_background_work_that_nobody_asks_for_is_billed_to_its_maker(
    database_url: str, tmp_path: Path
) -> None:
    account = Account()
    with following(account, database_url, tmp_path) as (proxy, upstream):
        ana = proxy.person("Ana")
        beta = {"openai_beta": "assistants=v2"}
        made = [
            make(proxy, ana, "/v1/responses", ASKED | {"background": True}, x_usage_operation="essay"),
            make(proxy, ana, "/v1/batches", {"input_file_id": "file-x"}),
            make(proxy, ana, "/v1/threads/runs", {"assistant_id": "asst_x"}, **beta),
            make(proxy, ana, "/v1/videos", {"model": "sora-2"}),
        ]
        wait_until(lambda: followed(proxy) == 4, "four objects to follow")
        path = f"/v1/responses/{made[0]}".encode()
        wait_until(
            lambda: sum(request.target == path for request in upstream.requests) >= 2, "a second question"
        )
        assert billed(proxy, ana) == []
        for each in made:
            account.finish(each)
        wait_until(lambda: len(billed(proxy, ana)) == 4 and followed(proxy) == 0, "four bills")
        found = {record["object_id"]: record for record in billed(proxy, ana)}
        assert [found[each]["total_tokens"] for each in made] == [1200, 120_000, 60, 0]
        assert found[made[3]]["units"] == '{"video_ms": 4000}'
        essay = found[made[0]]
        assert (essay["endpoint"], essay["method"], essay["status"], essay["outcome"]) == (
            "/v1/responses/{response_id}", "GET", 200, "success",
        )  # fmt: skip
        assert (essay["key_id"], essay["operation"]) == (ana.key_id, "essay")
        assert found[made[1]]["service_tier"] == "batch"
        run = next(request for request in upstream.requests if made[2].encode() in request.target)
        assert run.head.all(b"openai-beta") == [b"assistants=v2"]


def test_tuning_and_evals_that_nobody_asks_for_are_billed_to_their_maker(
    database_url: str, tmp_path: Path
) -> None:
    account = Account()
    with following(account, database_url, tmp_path) as (proxy, upstream):
        ana = proxy.person("Ana")
        job = make(
            proxy, ana, "/v1/fine_tuning/jobs", {"model": "gpt-4o-mini-2024-07-18", "training_file": "file-x"}
        )
        run = make(proxy, ana, "/v1/evals/eval_1/runs", {"data_source": {"type": "completions"}})
        wait_until(lambda: followed(proxy) == 2, "two objects to follow")
        account.finish(job, "succeeded")
        account.finish(run)
        wait_until(lambda: len(billed(proxy, ana)) == 3 and followed(proxy) == 0, "the bills")
        bills = {(bill["object_id"], bill["part"]): bill for bill in billed(proxy, ana)}
        tuned, own, part = bills[job, None], bills[run, None], bills[None, "eval"]
        assert (tuned["units"], tuned["served_model"]) == (
            '{"trained_tokens": 5000}',
            "gpt-4o-mini-2024-07-18",
        )
        assert (own["total_tokens"], part["parent_id"]) == (0, own["id"])
        assert (part["total_tokens"], part["units"]) == (240, '{"requests": 2}')
        assert part["cost_nanousd"] == 200 * 150 + 40 * 600
        (file,) = account.objects[job]["result_files"]
        (row,) = proxy.query("select user_id, kind from objects where id = $1", file)
        assert (row["user_id"], row["kind"]) == (ana.user_id, "file")
        asked = [request.target for request in upstream.requests if request.method == b"GET"]
        assert {b"/v1/fine_tuning/jobs/" + job.encode(), b"/v1/evals/eval_1/runs/" + run.encode()} <= set(
            asked
        )


def test_what_is_followed_outlives_a_restart_and_whoever_asks_is_not_billed_again(
    database_url: str, tmp_path: Path
) -> None:
    account = Account()
    with following(account, database_url, tmp_path, follow_first_s=1000) as (proxy, _):
        ana = proxy.person("Ana")
        made = make(proxy, ana, "/v1/responses", ASKED | {"background": True})
        wait_until(lambda: followed(proxy) == 1, "an object to follow")
    account.finish(made)
    with following(account, database_url, tmp_path) as (proxy, _):
        for _ in range(12):  # in a race with the follower
            reply = proxy.request("GET", f"/v1/responses/{made}", key=ana.key)
            assert reply.body["usage"]["total_tokens"] == 1200
        wait_until(lambda: len(billed(proxy, ana)) == 1 and followed(proxy) == 0, "one bill")
        asyncio.run(proxy.rows("select 1"))
        wait_until(
            lambda: len(proxy.query("select from usage_records where user_id = $1", ana.user_id)) >= 13,
            "a record of each question",
        )
        assert [record["total_tokens"] for record in billed(proxy, ana)] == [1200]


@pytest.mark.parametrize(
    ("ends", "outcome", "code"),
    [("forgotten", "upstream_error", "object_gone"), ("silent", "upstream_timeout", "follow_given_up")],
)
def test_what_never_ends_is_given_up_with_a_record(
    database_url: str, tmp_path: Path, ends: str, outcome: str, code: str
) -> None:
    account = Account()
    patience = 1000 if ends == "forgotten" else 0.5
    with following(account, database_url, tmp_path, follow_give_up_s=patience) as (proxy, _):
        ana = proxy.person("Ana")
        made = make(proxy, ana, "/v1/batches", {"input_file_id": "file-x"})
        if ends == "forgotten":
            del account.objects[made]

        def last() -> list[dict[str, Any]]:
            return proxy.query(
                "select * from usage_records where user_id = $1 and method = 'GET'", ana.user_id
            )

        wait_until(lambda: bool([each for each in last() if each["error_code"] == code]), "the last record")
        wait_until(lambda: followed(proxy) == 0, "the end of following")
        record = next(each for each in last() if each["error_code"] == code)
        assert (record["outcome"], record["usage_source"], record["total_tokens"]) == (outcome, "none", 0)


def test_whatever_a_server_calls_it_an_object_is_one_segment_of_the_path_it_is_asked_for_by(
    database_url: str, tmp_path: Path
) -> None:
    with following(Account(), database_url, tmp_path) as (proxy, upstream):
        ana = proxy.person("Ana")
        upstream.forget()
        odd = {"id": "a b\r\nHost: evil/../x?y=%41#\ud800", "object": "batch", "status": "validating"}
        upstream.script(answer(*plain(json.dumps(odd).encode())))
        make(proxy, ana, "/v1/batches", {"input_file_id": "file-x"})
        target = b"/v1/batches/a%20b%0D%0AHost%3A%20evil%2F..%2Fx%3Fy%3D%2541%23%3F"
        wait_until(lambda: any(request.target == target for request in upstream.requests), "the question")
        wait_until(lambda: followed(proxy) == 0, "the end of following")
        assert upstream.violations == []


def test_nothing_is_followed_where_the_settings_say_so(database_url: str, tmp_path: Path) -> None:
    with following(Account(), database_url, tmp_path, follow="false") as (proxy, upstream):
        ana = proxy.person("Ana")
        make(proxy, ana, "/v1/batches", {"input_file_id": "file-x"})
        wait_until(lambda: bool(proxy.query("select from objects where kind = 'batch'")), "the batch")
        assert followed(proxy) == 0
        assert not any(request.target.startswith(b"/v1/batches/") for request in upstream.requests)
