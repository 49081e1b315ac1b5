"""The dashboard in headless Chromium, on a proxy that runs as a process with five weeks of demo data.

Without Chromium these tests skip and say how to install it; where CI=true they fail instead. Whatever the browser's console
complains about fails the test that saw it, and so does a request to any other host.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from proxy.cli.demo_data import fill
from proxy.settings import Settings
from proxy.store import postgres
from tests.databases import lasting_database
from tests.proxy_process import ADMIN_KEY, ProxyProcess

INSTALL = "no Chromium here: `apt-get install chromium`, or another distribution's package of it"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip
DAYS = 36
PHONE = {"width": 390, "height": 844}
_STATUS = re.compile(r"responded with a status of (\d{3})")
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Its path."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(INSTALL)
        pytest.skip(INSTALL)
    return found


async def _fill(url: str) -> None:
    pool = await postgres.open_pool(url)
    try:
        await fill(pool, Settings(), days=DAYS, seed=20, end=datetime.now(UTC))
    finally:
        await pool.close()


@pytest.fixture(scope="session")
def proxy(
    chromium: str, postgres_server: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    """A running proxy with demo data, whose answers are simulated."""
    del chromium
    with lasting_database(postgres_server) as url:
        asyncio.run(_fill(url))
        directory: Path = tmp_path_factory.mktemp("dashboard")
        with ProxyProcess.running(
            upstream_url="http://127.0.0.1:9",
            database_url=url,
            directory=directory,
            demo="true",
            admin_requests_per_minute=100_000,
            admin_jwt_secret="a secret of at least thirty-two bytes",
            currencies='{"EUR": {"2020-01-01": "0.90"}}',
        ) as running:
            yield running


@pytest.fixture(scope="module")
def browser(chromium: str, proxy: ProxyProcess) -> Iterator[Browser]:
    """One browser for a file's tests. Its driver runs an event loop, so the proxy is started before it."""
    del proxy
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield opened
        opened.close()


class Dashboard:
    """A page of the browser, and the API to compare it with."""

    def __init__(self, page: Page, proxy: ProxyProcess, complaints: list[str]) -> None:
        self.page = page
        self.proxy = proxy
        self.complaints = complaints

    def visit(self, path: str = "") -> Page:
        """Open a page, and wait until everything on it has come."""
        self.page.goto(f"{self.proxy.url}/dashboard{path}")
        return self.settled()

    def settled(self) -> Page:
        """The page, once it has come."""
        expect(self.page.locator("main#main")).to_have_attribute("aria-busy", "false")
        expect(self.page.locator("main h1").first).to_be_visible()
        expect(self.page.locator(".loading")).to_have_count(0)
        return self.page

    def api(self, path: str) -> Any:
        """What the API says."""
        return self.proxy.admin("GET", path)

    def press(self, name: str, **more: Any) -> None:
        """Press a button by what it is called."""
        self.page.get_by_role("button", name=name, **more).click()

    def dialog(self) -> Any:
        """The open dialog."""
        return self.page.get_by_role("dialog")

    def noted(self, *statuses: int) -> None:
        """The browser notes answers of 400 and more in its console: exactly these came, and were wanted."""
        found = [int(match[1]) for text in self.complaints if (match := _STATUS.search(text))]
        assert (found, len(self.complaints)) == (list(statuses), len(statuses)), self.complaints
        self.complaints.clear()

    def says(self, text: str) -> None:
        """A notice, which is then closed."""
        notice = self.page.locator(".notice", has_text=text)
        expect(notice).to_be_visible()
        notice.get_by_role("button", name="Close").click()


@pytest.fixture
def open_page(browser: Browser, proxy: ProxyProcess) -> Iterator[Callable[..., Dashboard]]:
    """Opens pages as different readers: `open_page(credential=…, color_scheme="dark", viewport=PHONE)`."""
    contexts, all_complaints = [], []

    def opened(credential: str | None = ADMIN_KEY, *, locale: str = "en-US", **context: Any) -> Dashboard:
        made = browser.new_context(
            locale=locale,
            timezone_id=context.pop("timezone_id", "Europe/Berlin"),
            reduced_motion="reduce",
            viewport=context.pop("viewport", {"width": 1360, "height": 900}),
            **context,
        )
        made.set_default_timeout(PATIENCE_MS)
        contexts.append(made)
        page = made.new_page()
        complaints: list[str] = []
        all_complaints.append(complaints)
        page.on("console", lambda said: said.type in {"error", "warning"} and complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda asked: asked.url.startswith((proxy.url, "data:")) or complaints.append(asked.url),
        )
        if credential is not None:
            answer = made.request.post(
                f"{proxy.url}/dashboard/session",
                data={"credential": credential},
                headers={"x-dashboard": "1"},
            )
            assert answer.ok, answer.text()
        return Dashboard(page, proxy, complaints)

    yield opened
    for made in contexts:
        made.close()
    for complaints in all_complaints:
        assert complaints == []


@pytest.fixture
def dashboard(open_page: Callable[..., Dashboard]) -> Dashboard:
    """The dashboard, as an administrator who may do everything."""
    return open_page()
