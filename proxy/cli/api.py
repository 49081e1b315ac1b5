"""The admin API as commands use it: of a server by URL and admin key, or of the database at hand.

Without a server the same API runs in this process, on a socket in a private directory, so a command does and checks exactly
what the server would do; the audit log names who typed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import typer

from proxy.cli.failure import CommandError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, ClientTimeout

    from proxy.settings import Settings
    from proxy.store.postgres import Pool

T = TypeVar("T")
CONNECT_TIMEOUT_S = 10.0
LINE_MAX = 2**20
Server = Annotated[
    str | None,
    typer.Option(
        "--server", envvar="OPENAI_PROXY_SERVER", help="URL of a server; else the database is used."
    ),
]
AdminKey = Annotated[
    str | None, typer.Option("--admin-key", help="For --server; also PROXY_ADMIN_KEY.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Api:
    """The admin API. Every method raises CommandError with the API's own words."""

    def __init__(self, session: ClientSession, base: str) -> None:
        self._session = session
        self._base = base

    async def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON answer of a GET."""
        return await self.ask("GET", path, query=query)

    async def ask(
        self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None
    ) -> Any:
        """The JSON answer of any request; `body` is JSON-ready, or bytes."""
        content = {"data": body} if isinstance(body, bytes) else {"json": body}
        async with self.open(method, path, query, **content) as response:
            return await response.json()

    @contextlib.asynccontextmanager
    async def open(
        self, method: str, path: str, query: Mapping[str, Any] | None = None, **content: Any
    ) -> AsyncIterator[ClientResponse]:
        """The answer itself, for streams."""
        from aiohttp import ClientConnectionError, ClientPayloadError

        given = [(name, _text(each)) for name, value in (query or {}).items() for each in _values(value)]
        try:
            async with self._session.request(method, self._base + path, params=given, **content) as response:
                if response.status >= 400:
                    raise CommandError(await _complaint(response))
                yield response
        except (ClientConnectionError, ClientPayloadError, TimeoutError) as error:
            raise CommandError(f"{self._base}: {str(error) or 'no answer in time'}") from None


def part(text: str) -> str:
    """One part of a path, whatever characters it has."""
    return quote(text, safe="")


def on_api(
    command: str, work: Callable[[Api], Awaitable[T]], server: str | None = None, admin_key: str | None = None
) -> T:
    """Run `work(api)` on a server, or on the database that the settings name."""
    if server is None:
        from proxy.cli.database import on_database

        return on_database(command, lambda pool, settings: _locally(pool, settings, work))
    from proxy.settings import load

    key = admin_key or load().admin_key.get_secret_value()
    if not key:
        raise CommandError("an admin key is needed: give --admin-key or set PROXY_ADMIN_KEY")
    if not server.startswith(("http://", "https://")):
        raise CommandError(f"{server!r} is no URL such as http://127.0.0.1:8080")
    return asyncio.run(_remotely(server.rstrip("/"), key, work))


async def _remotely(server: str, key: str, work: Callable[[Api], Awaitable[T]]) -> T:
    from aiohttp import ClientSession

    async with ClientSession(
        headers={"authorization": f"Bearer {key}"}, timeout=_timeout(), read_bufsize=LINE_MAX
    ) as session:
        return await work(Api(session, server))


async def _locally(pool: Pool, settings: Settings, work: Callable[[Api], Awaitable[T]]) -> T:
    from aiohttp import ClientSession, UnixConnector, web

    from proxy.admin.actor import Actor
    from proxy.admin.context import AdminContext
    from proxy.admin.site import build_app
    from proxy.cli.database import actor
    from proxy.metrics import Metrics
    from proxy.pricing.live import PriceSource
    from proxy.store.prices import fetch_stored

    prices = PriceSource.from_settings(settings, fetch_stored)
    await prices.reload(pool)
    context = AdminContext(
        settings=settings,
        metrics=Metrics(),
        pool=lambda: pool,
        prices=prices,
        local=Actor(kind="cli", id=actor().removeprefix("cli:"), scope="write"),
    )
    with tempfile.TemporaryDirectory(prefix="openai-proxy-") as directory:
        os.chmod(directory, 0o700)  # noqa: PTH101  already so by mkdtemp; who can't enter it can't connect
        path = str(Path(directory, "api"))
        runner = web.AppRunner(build_app(context), access_log=None)
        await runner.setup()
        try:
            await web.UnixSite(runner, path).start()
            connector = UnixConnector(path)
            async with ClientSession(
                connector=connector, timeout=_timeout(), read_bufsize=LINE_MAX
            ) as session:
                return await work(Api(session, "http://local"))
        finally:
            await runner.cleanup()


def _timeout() -> ClientTimeout:
    from aiohttp import ClientTimeout

    # An export takes as long as it takes; only an answer that does not begin is given up.
    return ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S, sock_read=120)


async def _complaint(response: ClientResponse) -> str:
    try:
        error = (await response.json(content_type=None))["error"]
        return f"{error['message']}"
    except (ValueError, KeyError, TypeError):
        return f"{response.url.origin()} answered {response.status} {response.reason}: is it this proxy?"


def _values(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
