"""Quotas hold against many clients at once, on several servers of several workers each, with one killed in the middle."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.benchmarks.overspend import Outcome, Plan, run
from tests.databases import lasting_database
from tests.loop_thread import loop_thread
from tests.processes import process_tree
from tests.proxy_process import ProxyProcess, wait_until

ROUNDS = int(os.environ.get("OVERSPEND_ROUNDS", "1"))
WORKERS = int(os.environ.get("OVERSPEND_WORKERS", "2"))
SHARE_TTL_S = 4
INPUT_TOKENS = 5


@contextmanager
def slow_upstream(seed: int) -> Iterator[str]:
    """An upstream that takes a random while and uses all the output it was allowed. Its URL."""
    chance = random.Random(seed)

    async def chat(request: web.Request) -> web.Response:
        asked = await request.json()
        await asyncio.sleep(chance.random() * 0.1)
        output = asked["max_tokens"]
        usage = {
            "prompt_tokens": INPUT_TOKENS,
            "completion_tokens": output,
            "total_tokens": INPUT_TOKENS + output,
        }
        return web.json_response(
            {
                "id": f"chatcmpl-{chance.getrandbits(64):x}",
                "object": "chat.completion",
                "model": "gpt-4o-mini-2024-07-18",
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}
                ],
                "usage": usage,
            }
        )

    async def models(_request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    with loop_thread("slow upstream") as in_loop:
        runner = web.AppRunner(app)

        async def start() -> int:
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port: int = runner.addresses[0][1]
            return port

        yield f"http://127.0.0.1:{in_loop(start())}"
        in_loop(runner.cleanup())


@pytest.fixture(scope="module")
def servers(
    postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[ProxyProcess, ProxyProcess]]:
    """Two servers on one database."""
    settings = {"workers": WORKERS, "quota_share_ttl_s": SHARE_TTL_S, "clean": False}
    with (
        slow_upstream(1) as upstream_url,
        lasting_database(postgres_server) as database_url,
        ProxyProcess.running(
            upstream_url=upstream_url,
            database_url=database_url,
            directory=tmp_path_factory.mktemp("one"),
            **settings,
        ) as one,
        ProxyProcess.running(
            upstream_url=upstream_url,
            database_url=database_url,
            directory=tmp_path_factory.mktemp("two"),
            **settings,
        ) as two,
    ):
        yield one, two


Spender = Callable[..., Outcome]


@pytest.fixture
def spend(servers: tuple[ProxyProcess, ProxyProcess]) -> Spender:
    """Runs the public script with a new person's key; the quota is what the script is told."""

    def go(quotas: list[dict[str, str]], **plan: Any) -> Outcome:
        one, two = servers
        person = one.person(quotas=quotas)
        two.wait_for_key(person.key)
        planned = Plan(urls=[one.url, two.url], key=person.key, **plan)
        outcome = asyncio.run(run(planned))
        until_settled(one, person.user_id, outcome)
        return outcome

    return go


def until_settled(proxy: ProxyProcess, user_id: str, outcome: Outcome) -> None:
    """All that was admitted is recorded, and each window of the user's quotas holds the sum of its records."""
    stored = (
        "select count(*) from usage_records where user_id = $1 and method = 'POST' and outcome <> 'refused'"
    )
    wait_until(
        lambda: proxy.query(stored, user_id)[0]["count"] >= outcome.admitted,
        "the records of what was admitted",
    )
    compared = """
        select w.settled, (
            select coalesce(sum((c ->> 3)::bigint), 0) from usage_records r, jsonb_array_elements(r.charges) c
            where r.user_id = $1 and c ->> 0 = w.quota_id
        ) as charged
        from quota_windows w where w.scope_id = $1
    """
    wait_until(
        lambda: all(row["settled"] == row["charged"] for row in proxy.query(compared, user_id)), "settlement"
    )


def nothing_is_held(proxy: ProxyProcess) -> None:
    wait_until(
        lambda: not proxy.query("select 1 from quota_shares limit 1"),
        "the return of what is idle",
        8 * SHARE_TTL_S,
    )


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_exactly_as_many_requests_pass_as_the_quota_has(spend: Spender, round_: int) -> None:
    outcome = spend([{"unit": "requests", "window": "month", "limit": "100"}], quota_requests=100)

    assert sum(outcome.statuses.values()) == 500
    assert outcome.admitted == 100
    assert outcome.statuses["429 insufficient_quota"] == 400


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_tokens_and_cost_stay_below_their_limits_and_less_than_one_request_is_left(
    spend: Spender, servers: tuple[ProxyProcess, ProxyProcess], round_: int
) -> None:
    limit = 100 * 250
    quotas = [
        {"unit": "tokens", "window": "month", "limit": str(limit)},
        {"unit": "cost", "window": "month", "limit": "0.05"},
    ]

    outcome = spend(quotas, max_tokens=200, quota_tokens=limit, requests=700)

    reserved = 200 + 4 * len("Say something.") + 100  # the input's upper estimate is no more than that
    assert limit - reserved < outcome.tokens <= limit
    nothing_is_held(servers[0])


def test_with_a_worker_killed_in_the_middle_the_whole_rest_is_usable_within_the_expiry(
    servers: tuple[ProxyProcess, ProxyProcess],
) -> None:
    one, two = servers
    limit = 300
    person = one.person(quotas=[{"unit": "requests", "window": "month", "limit": str(limit)}])
    two.wait_for_key(person.key)

    def spend(requests: int) -> Outcome:
        return asyncio.run(run(Plan(urls=[one.url, two.url], key=person.key, requests=requests)))

    def settled() -> int:
        rows = one.query("select settled from quota_windows where scope_id = $1", person.user_id)
        return rows[0]["settled"] if rows else 0

    def kill() -> None:
        os.kill(max(process_tree(one.process.pid)), signal.SIGKILL)

    killer = threading.Timer(0.15, kill)
    killer.start()
    admitted = spend(200).admitted
    killer.join()
    end = time.monotonic() + 8 * SHARE_TTL_S
    while settled() < limit and time.monotonic() < end:
        admitted += spend(60).admitted

    assert settled() == limit, "what was lost with the worker counts as reserved, and all the rest was used"
    assert limit - 50 <= admitted <= limit
    nothing_is_held(one)
