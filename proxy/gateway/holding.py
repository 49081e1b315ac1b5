"""Holding: an answer that is kept until it is complete, and looked at before its client sees any of it.

Two kinds of answers are: lists, of which other users' objects are cut out (lists.py), and client secrets, which every
worker must know before anybody can use them (issued.py). An answer that comes out as it came in reaches the client byte for
byte, framing included; one that is changed gets a length of its own. What isn't a success is passed on at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from proxy.core.answerhead import ResponseHead, parse_head
from proxy.core.framing import Body, LengthBody
from proxy.core.refusal import Refusal, bad_gateway

if TYPE_CHECKING:
    from proxy.gateway.exchange import Exchange
    from proxy.gateway.relay import Relay

log = logging.getLogger(__name__)
HELD_MAX_BYTES = 32 * 2**20
_LENGTH = frozenset({b"content-length", b"transfer-encoding", b"trailer", b"content-encoding"})

Look = Callable[["Exchange", ResponseHead, bytes], Awaitable[bytes | None]]
"""What to make of an answer: None, nothing; else its new content, not compressed. May raise Refusal."""


class Holding:
    """Stands between an upstream's connection and the relay for one exchange. Implements roles.Listener."""

    __slots__ = ("_body", "_content", "_head", "_keep_task", "_look", "_raw", "_relay", "_size")

    def __init__(self, relay: Relay, look: Look, keep_task: Callable[[asyncio.Task[None]], None]) -> None:
        self._relay = relay
        self._look = look
        self._keep_task = keep_task
        self._head: ResponseHead | None = None
        """Of the answer that is being held; None: it passes."""
        self._body = Body()
        self._raw: list[bytes] = []
        self._content: list[bytes] = []
        self._size = 0

    def upstream_head(self, head: ResponseHead, body: Body) -> None:
        """Keep the head of a success."""
        if 200 <= head.status < 300:
            self._head, self._body = head, body
        else:
            self._relay.upstream_head(head, body)

    def upstream_body(self, raw: bytes, content: bytes) -> None:
        """Keep the body, within the bound."""
        if self._head is None:
            self._relay.upstream_body(raw, content)
            return
        self._raw.append(raw)
        self._content.append(content)
        self._size += len(raw)
        if self._size > HELD_MAX_BYTES:
            self._head = None
            self._relay.give_up(
                bad_gateway("answer_too_large", "The upstream's answer is too large to be checked.")
            )

    def upstream_end(self) -> None:
        """All is there: look at it."""
        if self._head is None:
            self._relay.upstream_end()
            return
        self._relay.upstream_kept()
        self._keep_task(asyncio.get_running_loop().create_task(self._release(self._head)))

    def upstream_tunnel(self, data: bytes) -> None:
        """Never: what is held is no WebSocket."""
        self._relay.upstream_tunnel(data)

    def upstream_lost(self, reason: str) -> None:
        """The connection broke."""
        self._relay.upstream_lost(reason)

    def upstream_writable(self, writable: bool) -> None:
        """Of the request's body."""
        self._relay.upstream_writable(writable)

    async def _release(self, head: ResponseHead) -> None:
        relay, body = self._relay, self._body
        raw, content = b"".join(self._raw), b"".join(self._content)
        try:
            changed = await self._look(relay.exchange, head, content)
        except Refusal as refusal:
            if not relay.exchange.ended:
                relay.give_up(refusal)
            return
        except Exception:
            log.exception("an answer could not be checked")
            if not relay.exchange.ended:
                relay.give_up(bad_gateway("proxy_error", "The proxy failed to check the upstream's answer."))
            return
        if relay.exchange.ended:
            return
        if changed is not None or not body.framed:
            raw = content = content if changed is None else changed
            head = _with_length(head, len(content), decoded=changed is not None)
            body = LengthBody(len(content))
        body.done = False  # or it would pass for an answer without a body
        relay.upstream_head(head, body)
        body.done = True
        relay.upstream_body(raw, content)
        relay.upstream_end()


def _with_length(head: ResponseHead, length: int, *, decoded: bool) -> ResponseHead:
    """The same head for a body of another length."""
    dropped = _LENGTH if decoded else _LENGTH - {b"content-encoding"}
    lines = [
        line
        for line in head.raw.split(b"\r\n")
        if line and line.partition(b":")[0].strip().lower() not in dropped
    ]
    raw = b"\r\n".join((*lines, b"Content-Length: %d" % length, b"", b""))
    parsed = parse_head(raw)
    assert parsed is not None, "a head that was read is read again"
    return parsed[0]


class Holder:
    """Which answers are held, and what looks at them. One per worker."""

    def __init__(self, lists: Look | None, secrets: Look) -> None:
        """`lists`: None where objects are not kept apart."""
        self._lists = lists
        self._secrets = secrets

    def look(self, exchange: Exchange) -> Look | None:
        """What is to look at the answer; None, as for nearly all: it passes. Hot path."""
        call = exchange.call
        rule = call.endpoint.objects
        if rule.lists and call.method == "GET":
            return self._lists
        if rule.issues_secret and call.method == "POST":
            return self._secrets
        return None
