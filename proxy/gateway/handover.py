"""The handover: requests that are not for /v1/ are aiohttp's. It gets the connection's bytes until one for /v1/ comes.

To take a connection back it must be known that aiohttp's protocol rests; that is read off three of its underscore
attributes. Where a release of aiohttp renames them the connection stays with aiohttp, and a test fails (docs/adr/0002).
"""

from __future__ import annotations

import asyncio

from proxy.core.framing import HEAD_MAX_BYTES

V1 = b"/v1/"
_METHOD_MAX_BYTES = 32


def leads_to_v1(data: bytes) -> bool | None:
    """Whether a request that starts with `data` is for /v1/; None: too little to tell."""
    space = data.find(b" ", 0, _METHOD_MAX_BYTES)
    if space < 0:
        return None if len(data) < _METHOD_MAX_BYTES else True  # let llhttp say what is wrong with it
    start = space + 1
    if data.startswith((b"http://", b"https://"), start):
        slash = data.find(b"/", start + 8)
        if slash < 0:
            return None if data.find(b" ", start) < 0 and len(data) < HEAD_MAX_BYTES else False
        start = slash
    target = data[start : start + len(V1)]
    if target == V1:
        return True
    return None if len(target) < len(V1) and V1.startswith(target) else False


class Handover:
    """One connection while aiohttp has it."""

    __slots__ = ("protocol",)

    def __init__(self, protocol: asyncio.Protocol, transport: asyncio.BaseTransport) -> None:
        self.protocol = protocol
        protocol.connection_made(transport)

    def receive(self, data: bytes) -> bool:
        """Give aiohttp the client's next bytes. False: they are not for aiohttp, and it has let go of the connection."""
        protocol = self.protocol
        resting = (
            getattr(protocol, "_current_request", protocol) is None
            and not getattr(protocol, "_messages", True)
            and getattr(protocol, "_payload_parser", protocol) is None
        )
        if resting and leads_to_v1(data):
            protocol.transport = None  # type: ignore[attr-defined]  # or its connection_lost would close it
            protocol.connection_lost(None)
            return False
        protocol.data_received(data)
        return True
