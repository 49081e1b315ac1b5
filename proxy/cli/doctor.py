"""`openai-proxy doctor`: looks at everything the proxy depends on, and says what to do about what is wrong.

Each check stands alone: one that fails or takes too long stops no other. The exit code is 1 when any failed.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

import proxy
from proxy.build import build
from proxy.cli.datadir import DataDir, command_database
from proxy.cli.failure import CommandError
from proxy.cli.startup import described, tls_context
from proxy.settings import Settings, SettingsError, load
from proxy.store import migrate, postgres

CHECK_TIMEOUT_S = 20.0
CLOCK_OFF_S = 5.0
DISK_LOW_BYTES = 2**30
PRICES_OLD_DAYS = 60
CALL_MODEL = "gpt-4o-mini"
Verdict = Literal["ok", "warning", "failed"]
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    verdict: Verdict
    detail: str


def doctor(
    call: Annotated[
        bool, typer.Option("--call", help=f"Also make a small call of {CALL_MODEL}, which costs money.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check settings, database, upstream, clock, disk and the age of prices."""
    findings = asyncio.run(examine(call=call))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        _show(findings)
    if any(finding.verdict == "failed" for finding in findings):
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for heading in ("Check", "Result", "Detail"):
        table.add_column(heading, overflow="fold")
    for each in findings:
        table.add_row(each.check, Text(each.verdict, style=_COLOURS[each.verdict]), Text(each.detail))
    Console().print(table)


async def examine(*, call: bool = False) -> list[Finding]:
    """Run all checks in order. Without readable settings there is nothing else to check."""
    try:
        settings = load()
    except SettingsError as error:
        return [Finding("settings", "failed", str(error))]
    findings = [_version(), _settings(settings)]
    checks: list[tuple[str, Callable[[Settings], Awaitable[list[Finding]]]]] = [
        ("data directory", _disk),
        ("database", _database),
        ("upstream", _upstream),
        ("prices", _prices),
    ]
    if call:
        checks.append(("call", _call))
    for name, check in checks:
        try:
            findings += await asyncio.wait_for(check(settings), CHECK_TIMEOUT_S)
        except TimeoutError:
            findings.append(Finding(name, "failed", f"no answer within {CHECK_TIMEOUT_S:.0f} s"))
        except CommandError as error:
            findings.append(Finding(name, "failed", str(error)))
    return findings


def _version() -> Finding:
    return Finding("version", "ok", f"{proxy.__version__}, the pass is {build()}")


def _settings(settings: Settings) -> Finding:
    try:
        tls_context(settings)
    except CommandError as error:
        return Finding("settings", "failed", str(error))
    if settings.demo_mode:
        return Finding("settings", "warning", "demo mode: no OPENAI_API_KEY is set, answers are simulated")
    return Finding("settings", "ok", f"{settings.workers} worker(s)")


async def _disk(settings: Settings) -> list[Finding]:
    data_dir = DataDir(settings.data_dir)
    data_dir.prepare()
    free = shutil.disk_usage(data_dir.path).free
    wanted = max(DISK_LOW_BYTES, settings.spool_max_bytes)
    detail = f"{data_dir.path}: {free / 2**30:.1f} GiB free"
    if free < wanted:
        return [
            Finding("data directory", "warning", f"{detail}; the spool may need {wanted / 2**30:.1f} GiB")
        ]
    return [Finding("data directory", "ok", detail)]


async def _database(settings: Settings) -> list[Finding]:
    with command_database(settings, "doctor") as url:
        name = described(url) if settings.database_url.get_secret_value() else "embedded"
        try:
            connection = await postgres.connect(url)
        except (*postgres.UNAVAILABLE, postgres.PostgresError) as error:
            return [Finding("database", "failed", f"{name}: {error or type(error).__name__}")]
        try:
            row = await connection.fetchrow(
                "select current_setting('server_version') as version, clock_timestamp() as now,"
                " to_regclass('schema_migrations') is not null as migrated"
            )
            off_s = (row["now"] - datetime.now(UTC)).total_seconds()
            applied = 0
            if row["migrated"]:
                applied = await connection.fetchval("select count(*) from schema_migrations")
        finally:
            await connection.close()
    missing = len(migrate.load()) - applied
    detail = f"{name}: PostgreSQL {row['version']}"
    if missing > 0:
        found = Finding("database", "warning", f"{detail}, {missing} migration(s) to apply: run migrate")
    else:
        found = Finding("database", "ok", detail)
    return [found, _clock("clock against database", off_s)]


def _clock(check: str, off_s: float) -> Finding:
    if abs(off_s) > CLOCK_OFF_S:
        return Finding(check, "warning", f"{off_s:+.1f} s off: set this machine's clock by NTP")
    return Finding(check, "ok", f"{off_s:+.1f} s off")


async def _upstream(settings: Settings) -> list[Finding]:
    if settings.demo_mode:
        return [Finding("upstream", "ok", "simulated")]
    began = time.monotonic()
    status, headers, _ = await _request(settings, "GET", "/v1/models")
    took_ms = (time.monotonic() - began) * 1000
    detail = f"{settings.upstream_url}: {status} in {took_ms:.0f} ms"
    if status == 401:
        found = Finding("upstream", "failed", f"{detail}: the key is refused, set OPENAI_API_KEY")
    elif status >= 500:
        found = Finding("upstream", "warning", detail)
    else:
        found = Finding("upstream", "ok", detail)
    if "date" not in headers:
        return [found]
    # Date has whole seconds and is half a round trip old.
    off_s = (parsedate_to_datetime(headers["date"]) - datetime.now(UTC)).total_seconds() + 0.5
    return [found, _clock("clock against upstream", off_s)]


async def _call(settings: Settings) -> list[Finding]:
    if settings.demo_mode:
        return [Finding("call", "ok", "simulated: not made")]
    asked = {"model": CALL_MODEL, "messages": [{"role": "user", "content": "Say OK."}], "max_tokens": 5}
    status, _, body = await _request(settings, "POST", "/v1/chat/completions", asked)
    if status != 200 or not isinstance(body, dict):
        message = body.get("error", {}).get("message", "") if isinstance(body, dict) else ""
        return [Finding("call", "failed", f"{CALL_MODEL}: {status} {message}".strip())]
    tokens = body.get("usage", {}).get("total_tokens")
    return [Finding("call", "ok", f"{body.get('model')}: {tokens} tokens")]


async def _request(
    settings: Settings, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, str], Any]:
    """One request to the upstream as the gateway would make it. Raises CommandError when it can't be reached."""
    from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

    context = ssl.create_default_context(cafile=settings.upstream_ca_file)
    headers = {"authorization": f"Bearer {settings.openai_api_key.get_secret_value()}"}
    timeout = ClientTimeout(total=CHECK_TIMEOUT_S - 1, sock_connect=settings.upstream_connect_timeout_s)
    try:
        async with (
            ClientSession(connector=TCPConnector(ssl=context), timeout=timeout) as session,
            session.request(
                method,
                settings.upstream_url + path,
                json=body,
                headers=headers,
                proxy=settings.upstream_proxy,
            ) as answer,
        ):
            try:
                parsed = await answer.json(content_type=None)
            except ValueError:
                parsed = None
            found = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, found, parsed
    except (ClientError, OSError) as error:
        raise CommandError(f"{settings.upstream_url}: {str(error) or type(error).__name__}") from None


async def _prices(settings: Settings) -> list[Finding]:
    del settings
    found = distribution("genai-prices")
    installed = Path(str(found.locate_file("genai_prices"))) / "data.py"
    days = int((time.time() - installed.stat().st_mtime) / 86_400)
    detail = f"genai-prices {found.version}, installed {days} day(s) ago"
    if days > PRICES_OLD_DAYS:
        return [Finding("prices", "warning", f"{detail}: run openai-proxy prices update")]
    return [Finding("prices", "ok", detail)]
