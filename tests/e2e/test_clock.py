"""A server whose clock jumps, ahead and back, between requests and in the middle of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests import openai_answers
from tests.e2e import chaos
from tests.fake_upstream import FakeUpstream, Step
from tests.proxy_process import ROOT, ProxyProcess, wait_until

# Wall clocks of the process read a file that says how far off they are; the monotonic clock stays true, as in a kernel.
CLOCK = """
import pathlib, time
_offset, _ns, _s = pathlib.Path({path!r}), time.time_ns, time.time
def time_ns(): return _ns() + int(_offset.read_text()) * 10**9
def seconds(): return _s() + int(_offset.read_text())
time.time_ns, time.time = time_ns, seconds
"""
HOUR, DAY = 3600, 86_400
JUMPS = (0, 3 * DAY, -DAY, 500 * DAY, -2 * HOUR, 0)
EACH = 10


def test_a_clock_that_jumps_loses_doubles_and_drops_nothing(database_url: str, tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("0")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CLOCK.format(path=str(offset)))

    def jump_within(method: bytes, target: bytes, body: bytes) -> tuple[Step, ...]:
        if target == chaos.CHAT and int(json.loads(body)["messages"][0]["content"]) % EACH == EACH - 1:
            following = int(json.loads(body)["messages"][0]["content"]) // EACH + 1
            offset.write_text(str(JUMPS[min(following, len(JUMPS) - 1)]))
        return openai_answers.answer(method, target, body)

    with FakeUpstream.running(jump_within) as upstream:
        environment = ProxyProcess._environment(
            upstream.url, database_url, tmp_path, 1, {"jsonl_log": "true"}
        )
        environment["PYTHONPATH"] = f"{tmp_path / 'site'}:{ROOT}"
        proxy = ProxyProcess._start(environment, tmp_path, database_url, 1, None)
        try:
            person = proxy.person(quotas=[{"unit": "requests", "window": "day", "limit": "1000"}])
            before = proxy.query("select count(*) from quota_windows")[0]["count"]
            count = EACH * len(JUMPS)
            for number in range(count):
                body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": str(number)}]}
                reply = proxy.request(
                    "POST", "/v1/chat/completions", body, person.key, x_usage_tags=f"n={number}"
                )
                assert reply.status == 200
            assert set(chaos.all_recorded(proxy, set(range(count))).values()) == {"success"}
            chaos.check_sums(proxy)
            rows = proxy.query("select started_at, duration_ms, ttfb_ms from usage_records where tags ? 'n'")
            assert all(0 <= row["duration_ms"] < 60_000 and 0 <= row["ttfb_ms"] < 60_000 for row in rows)
            wrong = [row for row in rows if abs(row["started_at"] - datetime.now(UTC)) > timedelta(hours=1)]
            assert len(wrong) == EACH * sum(jump != 0 for jump in JUMPS)
            # quotas go by Postgres' clock: a jump gives nobody a fresh window (one more at most, at a real midnight)
            windows = proxy.query("select sum(settled) as used, count(*) from quota_windows")[0]
            assert windows["count"] <= before + 1
            assert windows["used"] >= count
            proxy.stop()
        finally:
            if proxy.process.poll() is None:
                proxy.kill()
    wait_until(lambda: not list((tmp_path / "data" / "spool").iterdir()), "an empty spool")
