"""A simulator of our own for each test, on a free port, without waits."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from proxy.simulator.server import make_app


@pytest.fixture
async def simulator() -> AsyncIterator[str]:
    """The base URL, without /v1."""
    runner = web.AppRunner(make_app(pace=0), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
