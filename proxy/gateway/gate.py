"""The gate: stands between a client and its WebSocket where the messages that it sends may name objects of the account.

A text message goes on, frame for frame as it came, once it is whole and known to name nothing that is somebody else's; what
memory does not know is looked up meanwhile. One that does name such an object goes nowhere: the client is told so in an `error`
event, as OpenAI would, and the connection is closed. What is no WebSocket, or longer than may be held, ends it as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.core.objects import MESSAGE_HINTS
from proxy.core.references import hides_names
from proxy.core.refusal import Refusal
from proxy.core.wsframes import FrameReader, deflate_of
from proxy.gateway.front import Front
from proxy.gateway.owners import Owners, named_in
from proxy.gateway.relay import Relay
from proxy.gateway.roles import Exchanging

MESSAGE_MAX_BYTES = 32 * 2**20
WAITING_MAX_BYTES = 2**20
"""While something is looked up, a client that goes on sending is not read beyond this."""

KeepTask = Callable[[asyncio.Task[None]], None]


def gated(relay: Relay, front: Front, owners: Owners, keep_task: KeepTask) -> Exchanging:
    """What the front talks to: the relay itself, but for sockets whose messages may name objects."""
    exchange = relay.exchange
    if (
        exchange.request.websocket
        and exchange.call.endpoint.objects.in_messages
        and owners.isolation != "off"
    ):
        return Gate(relay, front, owners, keep_task)
    return relay


class Gate:
    """One WebSocket's. Implements roles.Exchanging."""

    __slots__ = (
        "_front", "_held", "_keep_task", "_message", "_message_bytes", "_owners", "_passed", "_reader", "_relay", "_shut",
        "_waiting",
    )  # fmt: skip

    def __init__(self, relay: Relay, front: Front, owners: Owners, keep_task: KeepTask) -> None:
        self._relay = relay
        self._front = front
        self._owners = owners
        self._keep_task = keep_task
        self._reader: FrameReader | None = None
        self._held = bytearray()
        """What has been read and not passed on."""
        self._passed = 0
        self._message: list[bytes] = []
        """Text of the message that is coming in."""
        self._message_bytes = 0
        self._waiting: bytearray | None = None
        """What came while objects are looked up; None: nothing is."""
        self._shut = False
        """Nothing goes on any more."""

    def upload(self, data: bytes) -> None:
        """Of a request's body, which an upgrade has none of."""
        self._relay.upload(data)

    def upload_end(self) -> None:
        """Likewise."""
        self._relay.upload_end()

    def client_gone(self) -> None:
        """The client hung up."""
        self._shut = True
        self._relay.client_gone()

    def client_writable(self, writable: bool) -> None:
        """Backpressure is the relay's."""
        self._relay.client_writable(writable)

    def client_tunnel(self, data: bytes) -> None:
        """Frames of the client."""
        if self._shut:
            return
        if self._waiting is not None:
            self._waiting += data
            if len(self._waiting) > WAITING_MAX_BYTES:
                self._front.pause_reading()
            return
        tunnel = self._relay.exchange.tunnel
        if self._reader is None:
            self._reader = FrameReader(deflate_of(tunnel.extensions if tunnel else "", from_client=True))
        try:
            named = self._read(self._reader, data)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        missing = self._owners.missing(dict(named))
        if missing:
            self._waiting = bytearray()
            work = self._ask(missing, named)
            self._keep_task(asyncio.get_running_loop().create_task(work))
        else:
            self._decide(named)

    def _read(self, reader: FrameReader, data: bytes) -> list[tuple[str, str]]:
        """What the messages name that end in this piece. Raises Refusal."""
        self._held += data
        named: list[tuple[str, str]] = []
        for piece in reader.feed(data):
            self._message.append(piece.data)
            self._message_bytes += len(piece.data)
            if piece.last:
                text = b"".join(self._message)
                self._message.clear()
                self._message_bytes = 0
                if hides_names(text) or any(hint in text for hint in MESSAGE_HINTS):
                    named += named_in(text)
        if max(self._message_bytes, len(self._held) - (reader.settled - self._passed)) > MESSAGE_MAX_BYTES:
            raise Refusal(413, "message_too_large", "A message is too large to be checked.")
        if reader.failed:
            raise Refusal(400, "invalid_frame", "What was sent is no WebSocket frame.")
        return named

    async def _ask(self, missing: list[str], named: list[tuple[str, str]]) -> None:
        """Look up what memory does not know, then go on."""
        try:
            await self._owners.look_up_missing(missing)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        came, self._waiting = self._waiting, None
        self._decide(named)
        if came:
            self.client_tunnel(bytes(came))
        if self._waiting is None:
            self._front.resume_reading()

    def _decide(self, named: list[tuple[str, str]]) -> None:
        """Pass on what is whole, or nothing more."""
        caller, reader = self._relay.exchange.caller, self._reader
        if self._shut or caller is None or reader is None:
            return
        try:
            self._owners.forbid(caller, named)
        except Refusal as refusal:
            self._refuse(refusal)
            return
        size = reader.settled - self._passed
        if size:
            self._passed = reader.settled
            whole = bytes(self._held[:size])
            del self._held[:size]
            self._relay.client_tunnel(whole)

    def _refuse(self, refusal: Refusal) -> None:
        self._shut = True
        self._held.clear()
        self._message.clear()
        exchange = self._relay.exchange
        if exchange.tunnel is not None and not exchange.ended:
            exchange.refusal = refusal
            exchange.tunnel.refuse(refusal)
        else:
            self._relay.cancel()
