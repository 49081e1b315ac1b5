"""The handover: requests that are not for /v1/ are aiohttp's. It gets the connection's bytes until one for /v1/ comes.

To take a connection back it must be known that aiohttp's protocol rests, and that what comes is the start of a request: in
the middle of one the same bytes are its head or its body, which aiohttp may have answered already. That it rests is read off
three of its underscore attributes; where a release of aiohttp renames them the connection stays with aiohttp, and a test
fails (docs/adr/0002). Where requests end is read along, by the reader that the front has for its own.
"""

from __future__ import annotations

import asyncio
import re

from proxy.core.answerhead import HEAD_MAX_BYTES
from proxy.core.refusal import Refusal
from proxy.gateway.reader import Nobody, RequestReader

V1 = b"/v1/"
_AUTHORITY = re.compile(rb"https?://[^/?# ]*", re.IGNORECASE)
_SCHEMES = (b"http://", b"https://")
_METHOD_MAX_BYTES = 32


def leads_to_v1(data: bytes) -> bool | None:
    """Whether a request that starts with `data` is for /v1/; None: too little to tell."""
    space = data.find(b" ", 0, _METHOD_MAX_BYTES)
    if space < 0:
        return None if len(data) < _METHOD_MAX_BYTES else True  # let llhttp say what is wrong with it
    start = space + 1
    if data.startswith(V1, start):
        return True
    absolute = _AUTHORITY.match(data, start)
    if absolute is not None:
        start = absolute.end()
        if start == len(data) >= HEAD_MAX_BYTES:
            return False
    elif any(scheme.startswith(data[start:].lower()) for scheme in _SCHEMES):
        return None
    target = data[start : start + len(V1)]
    if target == V1:
        return True
    return None if len(target) < len(V1) and V1.startswith(target) else False


class Handover:
    """One connection while aiohttp has it."""

    __slots__ = ("_held", "_lost", "_reader", "protocol")

    def __init__(self, protocol: asyncio.Protocol, transport: asyncio.BaseTransport) -> None:
        self.protocol = protocol
        self._reader = RequestReader(Nobody(), float, int)  # nobody asks when a request began
        self._lost = False
        """What came is no HTTP that we understand, so that nobody knows where a request begins."""
        self._held = b""
        """The first bytes of a request that may be for /v1/."""
        protocol.connection_made(transport)

    def receive(self, data: bytes) -> bytes:
        """Give aiohttp the client's next bytes. Returns them where they are not for aiohttp, which has then let go of the connection."""
        protocol = self.protocol
        if self._rests():
            data, self._held = self._held + data, b""
            ours = leads_to_v1(data)
            if ours:
                protocol.transport = None  # type: ignore[attr-defined]  # or its connection_lost would close it
                protocol.connection_lost(None)
                return data
            if ours is None:
                self._held = data
                return b""
        self._follow(data)
        protocol.data_received(data)
        return b""

    def _rests(self) -> bool:
        protocol = self.protocol
        return (
            not self._reader.busy
            and not self._lost
            and getattr(protocol, "_current_request", protocol) is None
            and not getattr(protocol, "_messages", True)
            and getattr(protocol, "_payload_parser", protocol) is None
        )

    def _follow(self, data: bytes) -> None:
        try:
            while data and not self._lost:
                data = self._reader.feed(data)
        except Refusal:
            self._lost = True
