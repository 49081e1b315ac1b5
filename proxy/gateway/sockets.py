"""What is asked of a socket under an event loop's transport. uvloop gives its sockets getters only, hence the second object
on the same descriptor, which is let go of without closing it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import cast


@contextlib.contextmanager
def _borrowed(transport: asyncio.Transport) -> Iterator[socket.socket | None]:
    named = transport.get_extra_info("socket")
    if named is None or transport.is_closing():
        yield None
        return
    sock = socket.socket(fileno=named.fileno())
    try:
        yield sock
    finally:
        sock.detach()


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the kernel end the connection with RST when it is closed."""
    with contextlib.suppress(OSError), _borrowed(transport) as sock:
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def is_quiet(transport: asyncio.Transport) -> bool:
    """Nothing waits to be read, not even the end: the other side has neither spoken nor closed, as far as we can know."""
    try:
        with _borrowed(transport) as sock:
            if sock is None:
                return False
            sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def peer_address(transport: asyncio.BaseTransport) -> str:
    """The other side's network address; "" for a Unix socket."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if peer else ""


def as_protocol(connection: object) -> asyncio.Protocol:
    """What has the methods of a protocol, for an event loop, which calls them and asks for no more. A class with a base that is
    not compiled would have its attributes in a dict where ours are compiled (docs/adr/0012).
    """
    return cast("asyncio.Protocol", connection)
