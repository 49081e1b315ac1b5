"""Two workers of the proxy as a user starts them, in front of the fake upstream, for all end-to-end tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import openai
import pytest

from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import Person, ProxyProcess


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream.running() as running:
        yield running


@pytest.fixture(scope="session")
def proxy(
    postgres_server: str, shared_upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyProcess]:
    with (
        lasting_database(postgres_server) as database_url,
        ProxyProcess.running(
            upstream_url=shared_upstream.url,
            database_url=database_url,
            directory=tmp_path_factory.mktemp("e2e"),
            workers=2,
        ) as running,
    ):
        yield running


@pytest.fixture
def person(proxy: ProxyProcess, shared_upstream: FakeUpstream) -> Callable[..., Person]:
    """Makes a user with a key that works in both workers; what that took is forgotten upstream."""

    def make(name: str = "Ana", **more: object) -> Person:
        made = proxy.person(name, **more)
        shared_upstream.forget()
        return made

    return make


@pytest.fixture(scope="session")
def strangers() -> list[Person]:
    """Users whom no test knows yet."""
    return []


@pytest.fixture
def ana(proxy: ProxyProcess, shared_upstream: FakeUpstream, strangers: list[Person]) -> Person:
    """A user with a key that works in both workers, and nothing used."""
    if not strangers:
        strangers.extend(proxy.people(15))
    shared_upstream.forget()
    return strangers.pop()


@pytest.fixture
def upstream(ana: Person, shared_upstream: FakeUpstream) -> Iterator[FakeUpstream]:
    """The upstream, which knows of nothing that was before the test."""
    yield shared_upstream
    violations = list(shared_upstream.violations)
    shared_upstream.drop_unfinished()
    assert violations == []


@pytest.fixture
def client(proxy: ProxyProcess, ana: Person) -> Iterator[openai.OpenAI]:
    """The official SDK as an application makes it, retries included."""
    with openai.OpenAI(base_url=f"{proxy.url}/v1", api_key=ana.key) as made:
        yield made


@pytest.fixture
async def async_client(proxy: ProxyProcess, ana: Person) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=ana.key) as made:
        yield made
