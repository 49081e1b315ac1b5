"""Commands as a person types them, in this process."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import typer
from typer.testing import CliRunner

from proxy.store import postgres


def typed(command: Any, *words: str, code: int = 0) -> Any:
    """What it printed, as JSON with --json. A CommandError comes through."""
    app = command
    if not isinstance(command, typer.Typer):
        app = typer.Typer()
        app.command()(command)
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in words else result.stdout


def on_pool(database_url: str, work: Any) -> Any:
    """What `work(pool)` returns, for tests that are not async since commands run their own loop."""

    async def go() -> Any:
        pool = await postgres.open_pool(database_url)
        try:
            return await work(pool)
        finally:
            await pool.close()

    return asyncio.run(go())
