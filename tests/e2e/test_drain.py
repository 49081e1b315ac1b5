"""Deploys: SIGTERM lets streams finish, cancels what takes too long, and a restart under load loses nothing."""

from __future__ import annotations

import asyncio
import http.client
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests import openai_answers
from tests.e2e import chaos
from tests.e2e.numbered import ask_numbered
from tests.fake_upstream import FakeUpstream, answer
from tests.gateway.between import Between
from tests.proxy_process import ProxyProcess, wait_until
from tests.raw_client import RawClient
from tests.signals import Signal

BODY = b'{"model":"gpt-4o-mini","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}'
LINES = (b"Content-Type: application/json", b"Content-Length: %d" % len(BODY))
GOOD = openai_answers.answer(b"POST", b"/v1/chat/completions", BODY)
NEVER = Signal("never")


async def test_at_sigterm_streams_finish_within_the_time_and_the_rest_is_cancelled_and_recorded(
    database_url: str, tmp_path: Path
) -> None:
    go_on = Signal("the rest of the answer")
    with FakeUpstream.running() as upstream:
        environment = ProxyProcess._environment(upstream.url, database_url, tmp_path, 1, {"drain_s": 3})
        proxy = ProxyProcess._start(environment, tmp_path, database_url, 1, None)
        person = proxy.person()
        upstream.forget()
        between = Between(proxy, upstream, person.key)
        upstream.script(answer(*GOOD[:2], go_on, *GOOD[2:]), answer(*GOOD[:2], NEVER))
        async with between.client() as slow, between.client() as endless:
            for number, client in enumerate((slow, endless), 1):
                await client.send(between.head(b"POST /v1/chat/completions HTTP/1.1", *LINES) + BODY)
                await (await upstream.arrival(number)).complete
                await client.answer_head(b"POST")
            proxy.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(refused, proxy.port)
            go_on.set()
            text = await rest_of(slow)
            assert b"data: [DONE]" in text
            assert b"data: [DONE]" not in await rest_of(endless)
        await asyncio.to_thread(proxy.process.wait, 30)
        assert proxy.process.returncode == 0
        finished, cancelled = await proxy.records(2, user_id=person.user_id)
        assert (finished["outcome"], finished["usage_source"]) == ("success", "reported")
        assert cancelled["outcome"] not in {"success", "lost"}
        assert cancelled["usage_source"] == "estimated"
        assert not list((tmp_path / "data" / "spool").iterdir()), "everything was flushed"


async def rest_of(client: RawClient) -> bytes:
    """Everything until the other side ends the connection."""
    text = b""
    while piece := await client.some():
        text += piece
    return text


def refused(port: int) -> None:
    """Until no new connection is taken."""

    def closed() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.connect()
        except OSError:
            return True
        finally:
            connection.close()
        return False

    wait_until(closed, "the end of the listening sockets")


class Patient(threading.Thread):
    """A client that, like the official SDKs, connects anew when nobody answered, and never gives up on a request."""

    def __init__(self, port: int, key: str, numbers: range) -> None:
        super().__init__()
        self.failed: list[tuple[int, int]] = []
        self.answered = 0
        self._port = port
        self._key = key
        self._numbers = numbers

    def run(self) -> None:
        for number in self._numbers:
            deadline = time.monotonic() + 60
            while True:
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
                try:
                    status = ask_numbered(connection, self._key, number)
                except (ConnectionError, http.client.RemoteDisconnected):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
                    continue
                finally:
                    connection.close()
                break
            self.answered += 1
            if status != 200:
                self.failed.append((number, status))


def test_a_restart_and_a_reload_under_load_lose_no_request_and_no_record(
    database_url: str, tmp_path: Path
) -> None:
    clients, each = 4, 80
    with FakeUpstream.running() as upstream:
        environment = ProxyProcess._environment(upstream.url, database_url, tmp_path, 2, {})
        proxy = ProxyProcess._start(environment, tmp_path, database_url, 2, None)
        try:
            person = proxy.person(quotas=[{"unit": "tokens", "window": "month", "limit": "100000000"}])
            threads = [
                Patient(proxy.port, person.key, range(at * each, (at + 1) * each)) for at in range(clients)
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: sum(thread.answered for thread in threads) > 30, "answers")
            proxy.process.send_signal(signal.SIGHUP)  # what `openai-proxy reload` sends
            wait_until(lambda: sum(thread.answered for thread in threads) > 120, "answers after the reload")
            proxy.process.send_signal(signal.SIGTERM)
            assert proxy.process.wait(30) == 0
            proxy = again(proxy, environment, tmp_path)
            for thread in threads:
                thread.join()
            assert [thread.failed for thread in threads] == [[]] * clients
            outcomes = chaos.all_recorded(proxy, set(range(clients * each)))
            assert set(outcomes.values()) == {"success"}
            chaos.check_sums(proxy)
        finally:
            proxy.kill()


def again(proxy: ProxyProcess, environment: dict[str, str], directory: Path) -> ProxyProcess:
    """The next generation, on the same port."""
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "serve"],
            env=environment | {"PROXY_PORT": str(proxy.port)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    made = ProxyProcess(process, proxy.port, directory, proxy.database_url, proxy.workers, None)
    wait_until(made._is_ready, "/readyz")
    return made
