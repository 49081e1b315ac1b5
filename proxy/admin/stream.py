"""Answers that are sent as they are made: exports and live views, each kind bounded in number."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager

from aiohttp import web

from proxy.admin.route import Ask
from proxy.core.refusal import Refusal

log = logging.getLogger(__name__)
READER_TIMEOUT_S = 120.0
"""How long a reader may take nothing of what is ready for it."""
_COMPRESSED = ("text/csv", "application/jsonl", "application/json")


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


async def send(
    ask: Ask, chunks: AsyncGenerator[bytes, None], headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer with the chunks as they come.

    What fails before the first chunk is an ordinary error answer; what fails later cuts the connection, so that nobody takes
    a part for the whole.
    """
    async with aclosing(chunks):
        first = await anext(chunks, b"")
        response = web.StreamResponse(headers={**ask.headers, **headers, "cache-control": "no-store"})
        packed = _Gzip() if _compresses(ask, headers) else None
        if packed is not None:
            response.headers.update({"content-encoding": "gzip", "vary": "accept-encoding"})
        await response.prepare(ask.request)
        try:
            await _write(response, packed.first(first) if packed is not None else first)
            async for chunk in chunks:
                if data := packed.more(chunk) if packed is not None else chunk:
                    await _write(response, data)
            await response.write_eof(packed.end() if packed is not None else b"")
        except ConnectionError:
            log.debug("the reader of a stream is gone", extra={"path": ask.request.path})
        except TimeoutError:
            log.warning("a reader took nothing for too long: cut", extra={"path": ask.request.path})
            _cut(ask)
        except Exception:
            log.exception("a stream was cut", extra={"path": ask.request.path})
            _cut(ask)
    return response


def _cut(ask: Ask) -> None:
    if ask.request.transport is not None:
        ask.request.transport.abort()


class _Gzip:
    """Compressed as it goes. The beginning is sent at once: its rows must not wait in here until more have come."""

    def __init__(self) -> None:
        self._packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)

    def first(self, chunk: bytes) -> bytes:
        return self._packer.compress(chunk) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def more(self, chunk: bytes) -> bytes:
        return self._packer.compress(chunk)

    def end(self) -> bytes:
        return self._packer.flush()


def _compresses(ask: Ask, headers: Mapping[str, str]) -> bool:
    return headers.get("content-type", "").startswith(_COMPRESSED) and "gzip" in ask.request.headers.get(
        "accept-encoding", ""
    )


async def _write(response: web.StreamResponse, chunk: bytes) -> None:
    async with asyncio.timeout(READER_TIMEOUT_S):
        await response.write(chunk)


def gone(ask: Ask) -> bool:
    """Whether nobody reads any more what is sent."""
    transport = ask.request.transport
    return transport is None or transport.is_closing()
