"""Fetch: a request of the proxy's own, over the same upstream connections that carry its clients' requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from proxy.core.answerhead import ResponseHead
from proxy.core.framing import Body
from proxy.gateway.dial import DialError
from proxy.gateway.upstream import Pool, UpstreamConnection


class FetchError(Exception):
    """No usable answer; says why."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole answer; `content` is unframed and still compressed as its head says."""

    head: ResponseHead
    content: bytes


class _Collector:
    """Listens to one answer."""

    def __init__(self, max_bytes: int) -> None:
        self.answer: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._max_bytes = max_bytes
        self._head: ResponseHead | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def upstream_head(self, head: ResponseHead, body: Body) -> None:
        """Interim answers are nothing to us."""
        del body
        if head.status == 101:
            self._fail("it changed protocols")
        elif head.status >= 200:
            self._head = head

    def upstream_body(self, raw: bytes, content: bytes) -> None:
        """Collect, within the bound."""
        del raw
        self._size += len(content)
        if self._size > self._max_bytes:
            self._fail("its answer is too large")
        elif content:
            self._pieces.append(content)

    def upstream_end(self) -> None:
        """All is there."""
        if not self.answer.done() and self._head is not None:
            self.answer.set_result(Fetched(self._head, b"".join(self._pieces)))

    def upstream_tunnel(self, data: bytes) -> None:
        """Never asked for."""
        del data

    def upstream_lost(self, reason: str) -> None:
        """The connection broke."""
        self._fail(reason)

    def upstream_writable(self, writable: bool) -> None:
        """A request of ours is small."""
        del writable

    def _fail(self, reason: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(FetchError(reason))


async def fetch(pool: Pool, request: bytes, *, max_bytes: int, timeout_s: float) -> Fetched:
    """Send a request without a body, given as its whole head, and read the answer. Raises FetchError.

    The request must be one that may be repeated: a kept connection that died unnoticed is replaced once.
    """
    method = request.partition(b" ")[0]
    try:
        async with asyncio.timeout(timeout_s):
            kept = pool.take()
            if kept is not None:
                try:
                    return await _ask(kept, method, request, max_bytes)
                except FetchError:
                    if kept.answered:
                        raise
            try:
                return await _ask(await pool.dial(), method, request, max_bytes)
            except DialError as error:
                raise FetchError(error.message) from None
    except TimeoutError:
        raise FetchError("it did not answer in time") from None


async def _ask(connection: UpstreamConnection, method: bytes, request: bytes, max_bytes: int) -> Fetched:
    collector = _Collector(max_bytes)
    connection.begin(collector, method, request, complete=True)
    connection.flush()
    try:
        return await collector.answer
    finally:
        if connection.listener is collector:
            connection.abandon()
