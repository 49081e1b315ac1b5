"""Ownership: what a record says about objects: whose usage it bills, what its exchange made, what is to be followed.

An object's usage may show in many answers and is billed by one of them, to whoever made the object. Which one that is, the
transaction decides that stores them (store/objects.py); what this worker knows to be billed it does not count again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.objects import FOLLOWED, Claim, Made, Owner, Ownership
from proxy.core.quota import Charge
from proxy.core.usage import Part, Reading, Usage
from proxy.gateway.exchange import Exchange
from proxy.gateway.owners import Owners
from proxy.gateway.quotas import Quotas

_COLLECTION_OF = {
    "batch": "/v1/batches/",
    "response": "/v1/responses/",
    "video": "/v1/videos/",
    "fine_tuning.job": "/v1/fine_tuning/jobs/",
}
_KEPT_HEADERS = (b"openai-beta", b"openai-organization", b"openai-project")
LOCATION_CHARS_MAX = 512


class Makers:
    """Tells records about objects, and remembers. One per worker."""

    def __init__(
        self, owners: Owners, quotas: Quotas, *, caller_of: Callable[[Owner], Caller | None], follow: bool
    ) -> None:
        """`caller_of`: the live Caller behind an owner, whose quotas are charged; None: there is none any more."""
        self._owners = owners
        self._quotas = quotas
        self._caller_of = caller_of
        self._follow = follow

    def unbilled(self, exchange: Exchange, reading: Reading) -> Reading:
        """The reading without what a record is known to bill already."""
        owners, endpoint = self._owners, exchange.call.endpoint
        if endpoint.by_object and not endpoint.bills and owners.is_billed(reading.object_id):
            return replace(reading, usage=None, parts=(), unknown=False)
        if any(part.object_id is not None and owners.is_billed(part.object_id) for part in reading.parts):
            left = tuple(part for part in reading.parts if not owners.is_billed(part.object_id))
            return replace(reading, parts=left)
        return reading

    def ownership(
        self,
        exchange: Exchange,
        reading: Reading,
        usage: Usage,
        cost_nanousd: int | None,
        *,
        billed: bool,
        child: bool,
    ) -> Ownership | None:
        """What the exchange's record says about objects; None: nothing. `billed`: it bills something of the reading."""
        endpoint, object_id = exchange.call.endpoint, reading.object_id
        ended = object_id if reading.finish_reason is not None and endpoint.by_object else None
        if not 0 < exchange.status < 300:
            return Ownership(ended=ended) if ended is not None else None
        made = self._made(exchange, reading, child=child)
        claims: tuple[Claim, ...] = ()
        if billed and object_id is not None and (endpoint.by_object or child):
            claims = (Claim(object_id, made=self._is_maker(exchange)),)
            self._owners.note_billed(object_id)
        if not (made or claims or ended is not None):
            return None
        ownership = Ownership(claims, made, None if claims else ended)
        if object_id is not None and claims and not endpoint.bills and not child:
            owner = self._owners.owner(object_id) or exchange.owner
            charges = self._charges(exchange, owner, reading.model, usage, cost_nanousd)
            ownership = replace(ownership, maker=owner, maker_charges=charges)
        return ownership

    def of_part(
        self,
        exchange: Exchange,
        part: Part,
        cost_nanousd: int | None,
        above: Ownership | None,
        *,
        child: bool,
    ) -> Ownership | None:
        """What the record of a part says: it bills the part's own object, or what the record above bills.

        `above` is what the record above says; `child`: that one is a WebSocket's response.
        """
        if not 0 < exchange.status < 300:
            return None
        if part.object_id is not None:
            self._owners.note_billed(part.object_id)
            claim = Claim(part.object_id)
        elif above is not None and above.claims:
            claim = replace(above.claims[0], by_parent=True)
        else:
            return None
        if exchange.call.endpoint.bills or child:
            return Ownership((claim,))
        maker = above.maker if above is not None else exchange.owner
        charges = self._charges(exchange, maker, None, part.usage, cost_nanousd)
        return Ownership((claim,), maker=maker, maker_charges=charges)

    @staticmethod
    def _is_maker(exchange: Exchange) -> bool:
        """The exchange made the object itself. One that is repeated, or listens to another's call, may not have."""
        call = exchange.call
        return (
            call.endpoint.bills
            and b"idempotency-key" not in exchange.request.fields
            and not (call.endpoint.websocket and "call_id" in call.query)
        )

    def _made(self, exchange: Exchange, reading: Reading, *, child: bool) -> tuple[Made, ...]:
        call = exchange.call
        rule = call.endpoint.objects
        kind = rule.makes if call.method == "POST" else None
        object_id = reading.object_id
        if child:
            kind = "response" if call.endpoint.meter == "ws_responses" else None
        elif kind == "realtime.call" or (kind == "live.session" and object_id is None):
            object_id = _last_segment(exchange.location)
        elif (kind == "chat.completion" and call.stores is not True) or (
            kind == "response" and call.stores is False
        ):
            kind = None
        found = []
        upstream = exchange.upstream.name
        if kind is not None and object_id is not None:
            follow = None if child else self._to_follow(exchange, kind, object_id, reading)
            found.append(Made(object_id, kind, follow=follow, upstream=upstream))
            self._owners.remember(object_id, self.owner_of(exchange, kind))
        if exchange.issued is not None:
            issued = self._owners.owner(exchange.issued)
            found.append(
                Made(
                    exchange.issued,
                    "client_secret",
                    expires_at=issued.expires_at if issued else None,
                    upstream=upstream,
                )
            )
        also = [(each, kind_) for each, kind_ in reading.also]
        also += [
            (part.object_id, "container")
            for part in reading.parts
            if part.kind == "container" and part.object_id
        ]
        for each, kind_ in also:
            if self._owners.owner(each) is None:
                owner = exchange.owner or self.owner_of(exchange, kind_)
                self._owners.remember(each, replace(owner, kind=kind_))
                found.append(Made(each, kind_, owner=exchange.owner, again=True, upstream=upstream))
        return tuple(found)

    def owner_of(self, exchange: Exchange, kind: str) -> Owner:
        """The caller of an exchange as the owner of what it made."""
        call, caller, request = exchange.call, exchange.caller, exchange.request
        assert caller is not None
        token = request.token()
        digest = exchange.request.key_digest or (hashlib.sha256(token).digest() if token else None)
        return Owner(
            user_id=caller.user_id,
            key_id=caller.key_id,
            group_id=caller.group_id,
            operation=call.operation,
            tags=call.tags,
            end_user=call.end_user,
            kind=kind,
            model=call.model,
            upstream=exchange.upstream.name,
            key_digest=digest,
        )

    def _to_follow(
        self, exchange: Exchange, kind: str, object_id: str, reading: Reading
    ) -> dict[str, Any] | None:
        """What the follower needs, where the object's usage is still to come."""
        call = exchange.call
        if (
            not self._follow
            or kind not in FOLLOWED
            or reading.usage is not None
            or reading.finish_reason is not None
            or (kind == "response" and not call.background)
        ):
            return None
        named = quote(
            object_id, safe="", errors="replace"
        )  # whatever a server calls an object, it is one segment of a path
        if kind == "run":
            thread = next((each for each, kind_ in reading.also if kind_ == "thread"), call.object_id)
            path = f"/v1/threads/{quote(thread or '', safe='', errors='replace')}/runs/{named}"
        elif kind == "eval.run":
            path = f"/v1/evals/{quote(call.object_id or '', safe='', errors='replace')}/runs/{named}"
        else:
            path = _COLLECTION_OF[kind] + named
        fields = exchange.request.fields
        headers = {name.decode(): fields[name].decode("latin-1") for name in _KEPT_HEADERS if name in fields}
        return {"path": path, "headers": headers}

    def _charges(
        self,
        exchange: Exchange,
        owner: Owner | None,
        model: str | None,
        usage: Usage,
        cost_nanousd: int | None,
    ) -> tuple[Charge, ...]:
        """What the object's usage settles against the quotas of its maker, who reserved nothing for it."""
        call: Call = replace(exchange.call, model=model or exchange.call.model)
        caller = exchange.caller
        if owner is not None:
            caller = self._caller_of(owner)
            call = replace(
                call,
                model=owner.model or call.model,
                operation=owner.operation,
                tags=owner.tags,
                end_user=owner.end_user,
            )
        if caller is None:
            return ()
        return self._quotas.charge(
            caller,
            call,
            tokens=usage.input_tokens + usage.output_tokens,
            cost_nanousd=cost_nanousd,
        )


def _last_segment(location: str | None) -> str | None:
    """The id at the end of a Location header: `/v1/realtime/calls/rtc_…`."""
    if location is None or len(location) > LOCATION_CHARS_MAX:
        return None
    return location.partition("?")[0].rstrip("/").rpartition("/")[2] or None
