"""A started proxy of two workers in front of one account, for tests that share it: nobody follows objects by itself."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.account import Account
from tests.databases import lasting_database
from tests.fake_upstream import FakeUpstream
from tests.proxy_process import ProxyProcess


@contextlib.contextmanager
def shared(postgres_server: str, directory: Path) -> Iterator[tuple[ProxyProcess, FakeUpstream, Account]]:
    """With a database of its own. Must not be entered inside a running event loop."""
    account = Account()
    with (
        lasting_database(postgres_server) as database_url,
        FakeUpstream.running(account.respond) as upstream,
        ProxyProcess.running(
            upstream_url=upstream.url,
            database_url=database_url,
            directory=directory,
            workers=2,
            follow="false",
        ) as proxy,
    ):
        yield proxy, upstream, account
