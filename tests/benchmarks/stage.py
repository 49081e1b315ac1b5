"""The upstream of `under_load.py`: events that say when they were sent, and bodies of any size both ways.

    python -m tests.benchmarks.stage PORT [CERTIFICATE KEY]

What it answers stands in the query of the request: `chunks` events `gap_ms` apart, each with the moment it was written
(`"t"`: nanoseconds of the monotonic clock, which all processes of a machine share); or a body of `bytes`; else a chat
completion. Request bodies are counted and forgotten. `GET /connections` says how many connections were accepted so far, which
under TLS is how many handshakes there were.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import sys
import time
from typing import cast
from urllib.parse import parse_qs

import uvloop

from tests.benchmarks.upstream import HEAD, LENGTH, MADE, STREAM_HEAD, completion, dumps

HEAD_END = b"\r\n\r\n"
BLOCK = b"x" * 65_536
STAMP = re.compile(rb'"t":"(\d{20})"')
_NOTE = b"0" * 20
_CHOICE = {"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}
EVENT = b"data: %b\n\n" % dumps({**MADE, "choices": [_CHOICE], "t": _NOTE.decode()})
USAGE = {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29}
LAST = b"data: %b\n\ndata: [DONE]\n\n" % dumps({**MADE, "choices": [], "usage": USAGE})
EMBEDDING_HEAD = (
    b'{"object":"list","model":"text-embedding-3-small","usage":{"prompt_tokens":8,"total_tokens":8},"data":"'
)
EMBEDDING_END = b'"}'


def chunk(payload: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    accepted = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count it."""
        type(self).accepted += 1
        self.transport = cast("asyncio.Transport", transport)
        self._head = b""
        self._left = 0
        self._timer: asyncio.TimerHandle | None = None
        self._to_send = 0
        self._closes = False

    def data_received(self, data: bytes) -> None:
        """A head and its body, which is let go as it comes."""
        while data:
            if not self._left:
                self._head += data
                end = self._head.find(HEAD_END) + 4
                if end < 4:
                    return
                data, self._head = self._head[end:], self._head[:end]
                length = LENGTH.search(self._head)
                self._left = int(length[1]) if length else 0
            taken = min(self._left, len(data))
            self._left -= taken
            data = data[taken:]
            if not self._left:
                head, self._head = self._head, b""
                self._answer(head)

    def connection_lost(self, exc: Exception | None) -> None:
        """Send no more."""
        self._to_send = 0
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The reader does not keep up."""
        self._writable = False

    def resume_writing(self) -> None:
        """It does again."""
        self._writable = True
        self._send()

    def _answer(self, head: bytes) -> None:
        target = head[: head.index(b"\r\n")].split(b" ")[1]
        query = {
            name: int(values[0]) for name, values in parse_qs(target.partition(b"?")[2].decode()).items()
        }
        self._closes = b"\r\nconnection: close\r\n" in head.lower()
        if "chunks" in query:
            self.transport.write(STREAM_HEAD)
            self._next(query["chunks"], asyncio.get_running_loop().time(), query.get("gap_ms", 0) / 1000)
        elif "bytes" in query:
            self._to_send = query["bytes"]
            size = self._to_send + len(EMBEDDING_HEAD) + len(EMBEDDING_END)
            kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
            self.transport.write(HEAD + kind + EMBEDDING_HEAD)
            self._writable = True
            self._send()
        elif target == b"/connections":
            body = b"%d" % type(self).accepted
            self.transport.write(HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            self._end()
        else:
            self.transport.write(completion())
            self._end()

    def _end(self) -> None:
        if self._closes:
            self.transport.close()

    def _send(self) -> None:
        while self._to_send and self._writable:
            size = min(self._to_send, len(BLOCK))
            self._to_send -= size
            self.transport.write(BLOCK[:size] + (b"" if self._to_send else EMBEDDING_END))
            if not self._to_send:
                self._end()

    def _next(self, left: int, due: float, gap_s: float) -> None:
        if not left:
            self.transport.write(chunk(LAST) + b"0\r\n\r\n")
            self._end()
            return
        self.transport.write(chunk(EVENT.replace(_NOTE, b"%020d" % time.monotonic_ns())))
        due += gap_s
        self._timer = asyncio.get_running_loop().call_at(due, self._next, left - 1, due, gap_s)


async def main(port: int, files: list[str]) -> None:
    """Serve until killed."""
    context = None
    if files:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", port, backlog=4096, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2:]))
