"""A control plane on a real socket and a real Postgres, and what talks to it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.context import AdminContext
from proxy.admin.site import build_app
from proxy.core.spoolformat import RECORD_FIELDS
from proxy.metrics import Metrics
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store import people, records

NOW = datetime(2026, 8, 15, 13, 20, tzinfo=UTC)


class Api:
    """The control plane as one client sees it: JSON in, (status, JSON) out."""

    def __init__(self, client: TestClient, key: str | None, pool: Any) -> None:
        self.client = client
        self.key = key
        self.pool = pool

    def as_(self, key: str | None) -> Api:
        """The same with another credential."""
        return Api(self.client, key, self.pool)

    async def ask(self, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
        headers = dict(more.pop("headers", {}))
        if self.key is not None:
            headers.setdefault("authorization", f"Bearer {self.key}")
        async with self.client.request(method, path, json=body, headers=headers, **more) as response:
            return response.status, (
                await response.json()
                if response.content_type == "application/json"
                else await response.text()
            )

    async def get(self, path: str, **more: Any) -> Any:
        """The answer of a GET that must succeed."""
        status, answer = await self.ask("GET", path, **more)
        assert status == 200, (path, status, answer)
        return answer

    async def post(self, path: str, body: Any, **more: Any) -> Any:
        """The answer of a POST that must succeed."""
        status, answer = await self.ask("POST", path, body, **more)
        assert status in (200, 201), (path, status, answer)
        return answer

    async def refused(
        self, method: str, path: str, body: Any = None, **more: Any
    ) -> tuple[int, str, str | None]:
        """(status, code, param) of a request that must fail."""
        status, answer = await self.ask(method, path, body, **more)
        assert status >= 400, (path, status, answer)
        assert set(answer["error"]) == {"message", "type", "param", "code"}
        return status, answer["error"]["code"], answer["error"]["param"]


@pytest.fixture
async def serve(pool) -> AsyncIterator[Callable[..., Any]]:
    """Starts control planes with given settings: `await serve(admin_requests_per_minute=5)`."""
    clients = []

    async def start(
        *, pool: Any = pool, exports: Any = None, ready: Any = None, **settings: Any
    ) -> TestClient:
        context = AdminContext(
            settings=Settings(demo=settings.pop("demo", False), **settings),
            metrics=Metrics(),
            pool=lambda: pool,
            exports=(lambda: exports) if exports is not None else None,
            ready=ready or {},
            now=lambda: NOW,
            prices=PriceSource(),
        )
        client = TestClient(TestServer(build_app(context)))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


@pytest.fixture
async def api(serve, pool) -> Api:
    """A control plane, as an administrator who may do everything."""
    _, key = await people.create_admin_key(pool, name="tests")
    return Api(await serve(admin_requests_per_minute=100_000), key, pool)


_numbers = itertools.count(1)
SUMMED = (
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "total_tokens",
)  # fmt: skip


def record(started_at: datetime = NOW, **fields: Any) -> dict[str, Any]:
    """A line as the recorder stores it; whole usage follows from input and output."""
    number = next(_numbers)
    usage = {"input_tokens": 100, "cached_input_tokens": 0, "output_tokens": 20}
    usage |= {name: fields.pop(name) for name in SUMMED if name in fields}
    usage.setdefault("total_tokens", usage["input_tokens"] + usage["output_tokens"])
    return {
        "id": str(UUID(int=(int(started_at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | number)),
        "started_at_us": round(started_at.timestamp() * 1e6),
        "key_id": "key_1",
        "user_id": "user_1",
        "provider": "openai",
        "endpoint": "/v1/chat/completions",
        "method": "POST",
        "requested_model": "gpt-5.1",
        "served_model": "gpt-5.1",
        "status": 200,
        "outcome": "success",
        "usage_source": "reported",
        "cost_nanousd": 1_000_000,
        "cache_saved_nanousd": 0,
        "duration_ms": 1000,
        "ttfb_ms": 100,
        **usage,
        **fields,
    }


def payload(line: dict[str, Any]) -> bytes:
    """A line as the spool holds it."""
    return orjson.dumps([line.get(name) for name in RECORD_FIELDS])


@pytest.fixture
def store(pool) -> Callable[..., Any]:
    """Stores records as the recorder does: `await store(record(…), record(…))`."""

    async def put(*lines: dict[str, Any], rollup_tags: tuple[str, ...] = ()) -> None:
        assert await records.store(pool, list(map(payload, lines)), rollup_tags) == len(lines)

    return put
