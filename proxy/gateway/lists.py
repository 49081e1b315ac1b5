"""Lists: answers that list objects of the whole upstream account, of which each caller sees their own.

Exactly the foreign elements go (core/listing.py). A page on which nothing is left, while there are more, would end most
clients' paging: then the next page is asked for in the client's stead, a bounded number of times.
"""

from __future__ import annotations

from urllib.parse import quote

from proxy.core.answerhead import ResponseHead
from proxy.core.decode import decode_whole
from proxy.core.listing import Listing, read_listing, without
from proxy.core.refusal import Refusal, bad_gateway, unavailable
from proxy.gateway.exchange import Exchange
from proxy.gateway.fetch import FetchError, fetch
from proxy.gateway.holding import HELD_MAX_BYTES
from proxy.gateway.owners import RETRY_AFTER_S, Owners

PAGES_MAX = 20
PAGE_TIMEOUT_S = 60.0


class Lists:
    """One per worker."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def look(self, exchange: Exchange, head: ResponseHead, content: bytes) -> bytes | None:
        """A list without what is not the caller's; None: all of it is. Raises Refusal when that can't be told."""
        text = _decoded(head, content)
        if not text.strip():
            return None
        page, foreign = await self._check(exchange, text)
        pages = 1
        while (
            foreign and len(foreign) == len(page.elements) and page.cursor is not None and pages < PAGES_MAX
        ):
            text = await self._next(exchange, page.cursor)
            page, foreign = await self._check(exchange, text)
            pages += 1
        if not foreign and pages == 1:
            return None
        return without(page, foreign)

    async def _check(self, exchange: Exchange, text: bytes) -> tuple[Listing, set[str]]:
        page = read_listing(text)
        if page is None:
            raise _unreadable()
        ids = [element.object_id for element in page.elements if element.object_id is not None]
        missing = self._owners.missing(ids)
        if missing and not await self._owners.look_up_fresh(missing):
            raise unavailable(
                "objects_unknown_now",
                "Objects can't be checked at the moment.",
                RETRY_AFTER_S,
                "object_lookup",
            )
        assert exchange.caller is not None
        return page, self._owners.foreign(exchange.caller, ids)

    @staticmethod
    async def _next(exchange: Exchange, cursor: str) -> bytes:
        """The page after the one that ended with `cursor`."""
        line, _, rest = exchange.head.partition(b"\r\n")
        method, target, version = line.split(b" ", 2)
        request = b" ".join((method, after(target, cursor), version)) + b"\r\n" + rest
        try:
            found = await fetch(
                exchange.upstream.pool, request, max_bytes=HELD_MAX_BYTES, timeout_s=PAGE_TIMEOUT_S
            )
        except FetchError as error:
            raise bad_gateway("upstream_disconnected", f"The upstream did not list more: {error}.") from None
        if found.head.status != 200:
            raise bad_gateway(
                "upstream_error", f"The upstream did not list more: status {found.head.status}."
            )
        return _decoded(found.head, found.content)


def after(target: bytes, cursor: str) -> bytes:
    """A request target with `after=<cursor>` in its query, in place of any other."""
    path, _, query = target.partition(b"?")
    kept = [each for each in query.split(b"&") if each and not each.startswith(b"after=")]
    return path + b"?" + b"&".join((*kept, b"after=" + quote(cursor, safe="").encode()))


def _decoded(head: ResponseHead, content: bytes) -> bytes:
    """The upstream was asked for no compression; one that compresses all the same is understood."""
    encoding = head.fields.get(b"content-encoding")
    if encoding is None or encoding.lower() == b"identity":
        return content
    text = decode_whole(content, encoding, HELD_MAX_BYTES)
    if text is None:
        raise _unreadable()
    return text


def _unreadable() -> Refusal:
    return bad_gateway(
        "upstream_invalid", "The upstream's list can't be read, so it can't be filtered by owner."
    )
