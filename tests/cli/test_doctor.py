"""`openai-proxy doctor`: each thing it looks at, well and unwell."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator
from importlib.metadata import distribution
from pathlib import Path

import asyncpg
import pytest
from aiohttp import web

import proxy
from proxy.build import build
from proxy.cli import doctor
from proxy.cli.doctor import Finding
from proxy.settings import load
from proxy.simulator.server import make_app
from tests.cli.serving import command


@pytest.fixture
async def upstream() -> AsyncIterator[str]:
    runner = web.AppRunner(make_app(pace=0), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def healthy(monkeypatch: pytest.MonkeyPatch, data: Path, database_url: str, upstream: str) -> None:
    monkeypatch.setenv("PROXY_DATABASE_URL", database_url)
    monkeypatch.setenv("PROXY_DATA_DIR", str(data))
    monkeypatch.setenv("PROXY_UPSTREAM_URL", upstream)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-any")
    monkeypatch.setenv("PROXY_SPOOL_MAX_BYTES", "1048576")


def by_check(findings: list[Finding]) -> dict[str, tuple[str, str]]:
    return {finding.check: (finding.verdict, finding.detail) for finding in findings}


@pytest.mark.usefixtures("healthy")
async def test_all_is_well_and_a_call_is_made():
    found = by_check(await doctor.examine(call=True))
    assert set(found) == {
        "version", "settings", "data directory", "database", "clock against database", "upstream",
        "clock against upstream", "prices", "call",
    }  # fmt: skip
    assert {check: verdict for check, (verdict, _) in found.items() if verdict != "ok"} == {}
    assert found["version"][1] == f"{proxy.__version__}, the pass is {build()}"
    assert found["call"][1].startswith("gpt-4o-mini-2024-07-18: ")


@pytest.mark.usefixtures("healthy")
async def test_migrations_to_apply_are_a_warning(pool: asyncpg.Pool):
    await pool.execute(
        "delete from schema_migrations where number = (select max(number) from schema_migrations)"
    )
    verdict, detail = by_check(await doctor.examine())["database"]
    assert (verdict, detail.endswith("1 migration(s) to apply: run migrate")) == ("warning", True)


@pytest.mark.usefixtures("healthy")
async def test_what_can_not_be_reached_fails_and_stops_no_other_check(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROXY_DATABASE_URL", "postgresql://proxy:secret@127.0.0.1:1/proxy")
    monkeypatch.setenv("PROXY_UPSTREAM_URL", "http://127.0.0.1:1")
    found = by_check(await doctor.examine(call=True))
    assert [check for check, (verdict, _) in found.items() if verdict == "failed"] == [
        "database",
        "upstream",
        "call",
    ]
    assert "secret" not in str(found)


@pytest.mark.usefixtures("healthy")
async def test_a_key_that_is_refused_fails(monkeypatch: pytest.MonkeyPatch):
    async def refused(*_: object) -> tuple[int, dict[str, str], None]:
        return 401, {}, None

    monkeypatch.setattr(doctor, "_request", refused)
    verdict, detail = by_check(await doctor.examine())["upstream"]
    assert (verdict, "set OPENAI_API_KEY" in detail) == ("failed", True)


async def test_wrong_settings_are_all_there_is_to_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PROXY_PROT", "1")
    assert await doctor.examine() == [
        Finding("settings", "failed", "unknown setting PROXY_PROT in the environment")
    ]


@pytest.mark.parametrize(
    ("off_s", "verdict"), [(0.4, "ok"), (-4.9, "ok"), (5.1, "warning"), (-300, "warning")]
)
def test_a_clock_that_is_off_is_a_warning(off_s: float, verdict: str):
    assert doctor._clock("clock", off_s).verdict == verdict


async def test_a_disk_too_small_for_the_spool_is_a_warning(data: Path):
    settings = load(data_dir=data, spool_max_bytes=2**60)
    (finding,) = await doctor._disk(settings)
    assert finding.verdict == "warning"


async def test_old_prices_are_a_warning(monkeypatch: pytest.MonkeyPatch):
    installed = Path(str(distribution("genai-prices").locate_file("genai_prices"))) / "data.py"
    now = os.stat(installed).st_mtime
    monkeypatch.setattr(time, "time", lambda: now + 61 * 86_400)
    (finding,) = await doctor._prices(load())
    assert (finding.verdict, "prices update" in finding.detail) == ("warning", True)


def test_the_command_prints_a_table_or_json_and_ends_with_1_when_something_failed(data: Path):
    url = "postgresql://proxy@127.0.0.1:1/proxy"
    table = command("doctor", data=data, database_url=url)
    assert table.returncode == 1
    assert "clock" not in table.stdout
    assert "failed" in table.stdout
    shown = command("doctor", "--json", data=data, database_url=url)
    assert [(each["check"], each["verdict"]) for each in json.loads(shown.stdout)][:4] == [
        ("version", "ok"),
        ("settings", "warning"),
        ("data directory", "ok"),
        ("database", "failed"),
    ]
