"""Answers that are sent as they are made: exports and live views, each kind bounded in number."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

from aiohttp import web

from proxy.admin.route import Ask
from proxy.core.refusal import Refusal

log = logging.getLogger(__name__)


class Slots:
    """How many streams of a kind may be open in this worker. `closing` is set when the server stops."""

    def __init__(self, count: int, kind: str) -> None:
        self._free = count
        self._kind = kind
        self.closing = asyncio.Event()

    @contextmanager
    def take(self) -> Iterator[None]:
        """Holds one; raises 429 when there is none."""
        if self._free == 0:
            raise Refusal(
                429,
                "rate_limit_exceeded",
                f"Too many {self._kind} at once. Try again when another has ended.",
                "rate_limit_error",
                headers=(("retry-after", "10"),),
                reason="slots",
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def send(ask: Ask, chunks: AsyncIterator[bytes], headers: Mapping[str, str]) -> web.StreamResponse:
    """Answer with the chunks as they come.

    What fails before the first chunk is an ordinary error answer; what fails later cuts the connection, so that nobody takes
    a part for the whole.
    """
    first = await anext(chunks, b"")
    response = web.StreamResponse(headers={**ask.headers, **headers, "cache-control": "no-store"})
    if "text/event-stream" not in headers.get("content-type", ""):
        response.enable_compression()
    await response.prepare(ask.request)
    try:
        await response.write(first)
        async for chunk in chunks:
            await response.write(chunk)
        await response.write_eof()
    except ConnectionError:
        log.debug("the reader of a stream is gone", extra={"path": ask.request.path})
    except Exception:
        log.exception("a stream was cut", extra={"path": ask.request.path})
        if ask.request.transport is not None:
            ask.request.transport.abort()
    return response
