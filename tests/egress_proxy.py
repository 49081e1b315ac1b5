"""An egress proxy's stand-in: answers CONNECT, then carries bytes both ways; remembers what it was asked for.

It may map names to ports of this machine, so a test can let the proxy believe that it talks to api.openai.com.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from typing import Self

from tests.loop_thread import loop_thread

PIECE_BYTES = 1 << 16


class EgressProxy:
    """A CONNECT proxy on 127.0.0.1. `heads` are the CONNECT requests as they came."""

    def __init__(self, ports: Mapping[str, int], refuse: bytes | None = None) -> None:
        self.heads: list[bytes] = []
        self.port = 0
        self._ports = ports
        self._refuse = refuse
        """An answer to every CONNECT instead of 200, e.g. b"HTTP/1.1 407 …"."""
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What HTTPS_PROXY takes."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    @contextlib.contextmanager
    def running(cls, ports: Mapping[str, int], refuse: bytes | None = None) -> Iterator[Self]:
        """`ports`: "host:port" as asked for → port of 127.0.0.1. Runs in a thread with a loop of its own."""
        proxy = cls(ports, refuse)
        with loop_thread("egress proxy") as run:
            server = run(proxy._start())
            try:
                yield proxy
            finally:
                run(proxy._stop(server))

    async def _start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _stop(self, server: asyncio.Server) -> None:
        server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await server.wait_closed()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, name = head.split(b" ")[:2]
        port = self._ports.get(name.decode())
        if self._refuse is not None or method != b"CONNECT" or port is None:
            writer.write(self._refuse or b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await asyncio.gather(_carry(reader, far_writer), _carry(far_reader, writer))
        finally:
            far_writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(PIECE_BYTES):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
