"""A proxy between a raw client and the fake upstream, started once for all tests that look at bytes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream
from tests.gateway.between import Between
from tests.proxy_process import ProxyProcess


@pytest.fixture(scope="session")
def shared_between(postgres_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Between]:
    """The proxy, its upstream and a key. Timeouts are long: nothing here may depend on them."""
    with (
        lasting_database(postgres_server) as database_url,
        FakeUpstream.running(buffer_bytes=256 * 1024) as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=tmp_path_factory.mktemp("bytes"),
        ) as proxy,
    ):
        yield Between(proxy, upstream, proxy.person("bytes").key)


@pytest.fixture
def between(shared_between: Between) -> Iterator[Between]:
    """The same, with nothing scripted and nothing remembered; what reached the upstream was valid HTTP/1.1."""
    shared_between.upstream.forget()
    yield shared_between
    violations = list(shared_between.upstream.violations)
    shared_between.upstream.drop_unfinished()
    assert violations == []
