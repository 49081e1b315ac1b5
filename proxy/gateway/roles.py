"""Who asks what of whom on the data path: the front, the relay, an upstream's connection, and the pass between them.

Each part knows the others only by these, so that every one can be tried alone and exchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.core.answerhead import ResponseHead
    from proxy.core.framing import Body
    from proxy.core.record import Outcome
    from proxy.core.refusal import Refusal
    from proxy.gateway.exchange import Exchange
    from proxy.gateway.front import Front
    from proxy.gateway.pressure import Pressure
    from proxy.gateway.relay import Relay
    from proxy.gateway.request import Request


class Exchanging(Protocol):
    """What the front tells the exchange under way."""

    def upload(self, data: bytes) -> None:
        """More of the request's body, decoded."""

    def upload_end(self) -> None:
        """The request's body is complete."""

    def client_gone(self) -> None:
        """The client hung up."""

    def client_writable(self, writable: bool) -> None:
        """The client's receive window is full, or has room again."""

    def client_tunnel(self, data: bytes) -> None:
        """Bytes of a tunnel, after a 101."""


class Pass(Protocol):
    """What the front asks of the pass."""

    now: Callable[[], float]
    """Monotonic seconds."""
    now_us: Callable[[], int]
    """Microseconds since 1970."""
    head_timeout_s: float
    body_timeout_s: float
    keepalive_s: float
    pressure: Pressure

    def begin(self, front: Front, request: Request) -> None:
        """A head was read; from here on the pass owns the request."""

    def proceed(self, front: Front, request: Request) -> None:
        """The body that the pass wanted to read whole is complete, or larger than it may be."""

    def forget(self, request: Request) -> None:
        """The client hung up before the request was admitted."""

    @property
    def body_max(self) -> int:
        """How many bytes of a body may be collected now."""

    def malformed(self, refusal: Refusal) -> None:
        """A request could not be read; for the metrics."""


class Listener(Protocol):
    """What a connection tells the exchange that it carries."""

    def upstream_head(self, head: ResponseHead, body: Body) -> None:
        """A final or interim head came; for a final one `body` will read what follows."""

    def upstream_body(self, raw: bytes, content: bytes) -> None:
        """Bytes of the body as they came, and what they say once unframed."""

    def upstream_end(self) -> None:
        """The answer came to its framed end."""

    def upstream_tunnel(self, data: bytes) -> None:
        """Bytes after a 101."""

    def upstream_lost(self, reason: str) -> None:
        """The connection broke before the answer's end. `reason` is for the log."""

    def upstream_writable(self, writable: bool) -> None:
        """The connection's send buffer is full, or has room again."""


class Ends(Protocol):
    """What the relay asks of the pass."""

    now: Callable[[], float]
    relays: set[Relay]
    then: Callable[[Callable[[], None]], None]
    """Call back when what was written down so far lies in the spool: before, nothing that depends on it may be sent."""
    commit: Callable[[], None]
    """Write it now."""
    unopened: dict[str, Refusal]
    """Why exchanges, by their ids, may not be forwarded after all; to be looked at when `then` calls back."""

    def uploaded(self, exchange: Exchange, data: bytes) -> None:
        """A part of the request's body has been passed on: read what it says. Never raises."""

    def answer_head(self, exchange: Exchange, head: ResponseHead) -> bytes:
        """The answer's head came: open the meter; returns the header lines to add."""

    def answer_body(self, exchange: Exchange, content: bytes) -> None:
        """A part of the answer has been passed on: meter it. Never raises."""

    def answer_strip(self, exchange: Exchange, content: bytes, *, last: bool) -> bytes:
        """A part of a spliced answer: meter it, and return what the client may see. Never raises."""

    def open_tunnel(
        self, exchange: Exchange, head: ResponseHead, end_client: Callable[[bytes], None]
    ) -> None:
        """The answer was 101. `end_client` sends last bytes to the client and closes both sides."""

    def tunnelled(self, exchange: Exchange, data: bytes, *, from_client: bool) -> None:
        """Bytes that passed through a tunnel. Never raises."""

    def end(self, exchange: Exchange, outcome: Outcome) -> None:
        """The exchange is over: settle and record. Never raises."""

    def keep_task(self, task: asyncio.Task[None]) -> None:
        """Own a task until it is done."""
