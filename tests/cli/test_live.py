"""`usage --live`: a picture on a terminal, lines elsewhere, ended by Ctrl-C with nothing broken."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from rich.console import Console

from proxy.cli.api import on_api
from proxy.cli.live import Picture, Totals
from proxy.store import people, records
from tests.admin.conftest import payload, record
from tests.cli.serving import DEADLINE_S, environment
from tests.cli.typed import on_pool


class Watching:
    """`openai-proxy usage --live` as a process, its output read as it comes."""

    def __init__(self, data, database_url, *words, terminal=False):
        self.output = ""
        read, write = pty.openpty() if terminal else os.pipe()
        settings = environment(data, database_url=database_url)
        kept = {"TERM": "xterm", "COLUMNS": "160", "LINES": "30"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "proxy", "usage", "--live", *words],
            env=settings | kept,
            cwd=data.parent,
            stdout=write,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(write)
        self._reading = threading.Thread(target=self._read, args=(read,))
        self._reading.start()

    def _read(self, descriptor):
        with os.fdopen(descriptor, "rb", buffering=0) as output:
            try:
                while data := output.read(65_536):
                    self.output += data.decode(errors="replace")
            except OSError:  # a terminal whose last user is gone
                return

    def wait_for(self, words, meanwhile=lambda: None):
        end = time.monotonic() + DEADLINE_S
        while words not in self.output:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < end, self.output
            meanwhile()
            time.sleep(0.05)

    def press_ctrl_c(self):
        os.killpg(self.process.pid, signal.SIGINT)
        code = self.process.wait(DEADLINE_S)
        self._reading.join(DEADLINE_S)
        return code, self.process.stderr.read().decode()

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reading.join(DEADLINE_S)
        self.process.stderr.close()


@pytest.fixture
def watching(data, database_url) -> Iterator:
    started = []

    def start(*words, **options):
        started.append(Watching(data, database_url, *words, **options))
        return started[-1]

    yield start
    for each in started:
        each.end()


def put(database_url, **fields):
    line = record(datetime.now(UTC), **fields)
    on_pool(database_url, lambda pool: records.store(pool, [payload(line)]))


def test_away_from_a_terminal_each_request_is_a_line_and_ctrl_c_ends_with_the_totals(watching, database_url):
    seen = watching("--operation", "rag_answer")
    seen.wait_for("served model")
    put(database_url, operation="other")
    put(database_url, operation="rag_answer", user_id="user_without_name", cost_nanousd=250_000_000)
    seen.wait_for("user_without_name")

    assert seen.press_ctrl_c() == (0, "")

    *_, row, totals = seen.output.strip().splitlines()
    assert row.split()[2:] == ["user_without_name", "rag_answer", "gpt-5.1", "200", "120", "0.25", "1,000"]
    assert totals.startswith("1 requests, 0 errors, 120 tokens, 0.25 USD in ")


def test_as_json_there_is_nothing_but_records(watching, database_url):
    seen = watching("--json")
    seen.wait_for("{", meanwhile=lambda: put(database_url, outcome="upstream_error", status=500))

    assert seen.press_ctrl_c() == (0, "")
    assert all(line.startswith('{"id"') for line in seen.output.splitlines())


def test_on_a_terminal_it_is_a_picture_that_renews_itself(watching, database_url):
    on_pool(database_url, lambda pool: people.create_user(pool, name="Ana"))
    seen = watching(terminal=True)
    seen.wait_for("waiting for requests")
    put(database_url, operation="summary")
    seen.wait_for("1 requests, 0 errors, 120 tokens")

    code, errors = seen.press_ctrl_c()

    assert (code, errors) == (0, "")
    assert "summary" in seen.output
    assert "Ctrl-C ends" in seen.output
    assert seen.output.rstrip().endswith("\x1b[?25h")  # the cursor is back


def test_totals_count_parts_for_what_they_used_and_not_as_requests():
    totals = Totals(100.0)
    shown = {"outcome": "success", "part": None, "total_tokens": 1000, "cost_usd": "0.10"}
    for each in (shown, shown | {"part": "svg"}, shown | {"outcome": "refused", "cost_usd": None}):
        totals.add(each)

    assert (totals.requests, totals.errors, totals.tokens) == (2, 1, 3000)
    assert totals.cost_usd == Decimal("0.20")
    assert totals.line(190.0) == (
        "2 requests, 1 errors, 3,000 tokens, 0.20 USD (1 without a price) in 1:30; 1.3 requests a minute"
    )


def test_a_picture_shows_the_newest_that_fit():
    console = Console(height=18, width=160, record=True, file=io.StringIO())
    picture = Picture(console, Totals(0.0), lambda: 60.0)
    for number in range(100):
        picture.add(
            {
                "started_at": "2026-08-15T13:20:00Z", "user_name": None, "user_email": None, "user_id": f"user_{number}",
                "operation": None, "served_model": "gpt-5.1", "status": 200, "total_tokens": 5, "cost_usd": None,
                "duration_ms": 7, "outcome": "upstream_cut" if number == 95 else "success",
            }
        )  # fmt: skip
    console.print(picture)

    shown = console.export_text(styles=True)
    assert re.findall(r"user_\d+", shown) == [f"user_{number}" for number in range(90, 100)]
    assert [line for line in shown.splitlines() if "\x1b[31m" in line] == [
        line for line in shown.splitlines() if "user_95" in line
    ], "an answer that broke off after its 200 has failed"


def test_models_and_their_prices_without_a_server(database_url, monkeypatch, data):
    """The API within a command knows prices, as a server's does."""
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)

    answer = on_api("models", lambda api: api.get("/admin/models"))

    assert any(row["model"] == "gpt-5.1" for row in answer["data"])
