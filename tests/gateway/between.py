"""What a request and an answer must look like on the other side of the proxy, said once for all tests about bytes.

Design section 1 and 9: only credentials, hop-by-hop headers and the proxy's own headers differ.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fake_upstream import FakeUpstream
from tests.proxy_process import UPSTREAM_KEY, ProxyProcess
from tests.raw_client import RawClient
from tests.wire import Head

HOP_BY_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
}
"""RFC 9110, section 7.6.1, and their forerunners."""
OWN = re.compile(rb"x-usage-(operation|tags|end-user|user)")
ADDED = re.compile(rb"x-proxy-request-id|x-quota-(limit|remaining|reset)-(tokens|cost|requests)")
REQUEST_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Between:
    """A proxy, its upstream, and a key that it accepts."""

    proxy: ProxyProcess
    upstream: FakeUpstream
    key: str

    @property
    def authority(self) -> bytes:
        """The upstream's Host."""
        return b"127.0.0.1:%d" % self.upstream.port

    def head(self, start: bytes, *lines: bytes) -> bytes:
        """A request's head with Host and key before the given lines."""
        first = (b"Host: proxy.example", b"Authorization: Bearer " + self.key.encode())
        return b"\r\n".join((start, *first, *lines)) + b"\r\n\r\n"

    @asynccontextmanager
    async def client(self, receive_buffer_bytes: int | None = None) -> AsyncIterator[RawClient]:
        """A connection to the proxy."""
        async with RawClient.connected(self.proxy.port, receive_buffer_bytes=receive_buffer_bytes) as client:
            yield client

    def forwarded(self, sent: bytes) -> Fields:
        """The header fields that must reach the upstream for a head that the client sent, in order."""
        expected: Fields = []
        for name, value in Head.parse(sent).fields:
            lower = name.lower()
            if lower == b"host":
                expected.append((name, self.authority))
            elif lower == b"authorization":
                expected.append((name, b"Bearer " + UPSTREAM_KEY.encode()))
            elif lower not in HOP_BY_HOP and not OWN.fullmatch(lower):
                expected.append((name, value))
        return expected


def without_hops(head: Head) -> Fields:
    """A head's fields, those for one hop left out."""
    return [(name, value) for name, value in head.fields if name.lower() not in HOP_BY_HOP]


def lines_without_hops(head: Head) -> list[bytes]:
    """A head's lines as they came, those for one hop left out."""
    return [line for line in head.lines if line.partition(b":")[0].lower() not in HOP_BY_HOP]


def passed_on(head: Head) -> list[bytes]:
    """An answer's lines as the client got them, without what the proxy adds. It must add its id, once, and last."""
    lines = lines_without_hops(head)
    kept = [line for line in lines if not ADDED.fullmatch(line.partition(b":")[0].lower())]
    assert lines[: len(kept)] == kept, "what the proxy adds comes after what OpenAI sent"
    (request_id,) = head.all(b"x-proxy-request-id")
    assert REQUEST_ID.fullmatch(request_id), request_id
    return kept


@contextmanager
def proxied(
    upstream: FakeUpstream, url: str, database_url: str, tmp_path: Path, **settings: object
) -> Iterator[Between]:
    """A proxy for one test, with a key that works, whatever the upstream does."""
    with ProxyProcess.running(
        upstream_url=url, database_url=database_url, directory=tmp_path / "proxy", **settings
    ) as proxy:
        user = proxy.admin("POST", "/admin/users", {"name": "Ana"})
        key = proxy.admin("POST", f"/admin/users/{user['id']}/keys", {"name": "k"})["key"]
        proxy.wait_for_key(key)
        yield Between(proxy, upstream, key)
