"""Owners: who made which object of the shared upstream account, as this worker knows it, and who may reach it.

Memory is bounded and holds what this worker saw being made, and what it looked up. An id that memory doesn't know is looked
up once, before anything is sent; what nobody recorded was made before the proxy, or past it, and is allowed or refused by
setting. A request for an object of another owner is answered as OpenAI answers for one that does not exist.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterable
from typing import Final, TypeVar
from urllib.parse import parse_qs

from proxy.core.call import DECODED_MAX_BYTES
from proxy.core.caller import Caller
from proxy.core.claims import owner_of_row
from proxy.core.decode import decode_labelled
from proxy.core.objects import NO_OBJECTS, Owner, not_found
from proxy.core.references import REFERENCES_MAX, form_references, hides_names, references
from proxy.core.refusal import Refusal, unavailable
from proxy.gateway.exchange import Exchange
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import objects
from proxy.store.postgres import RETRYABLE, UNAVAILABLE, Pool, PostgresError

log = logging.getLogger(__name__)
REMEMBERED_MAX: Final = 200_000
UNKNOWN_S: Final = 60.0
"""How long an id that was looked up in vain is not looked up again."""
LOOK_UP_TIMEOUT_S: Final = 2.0
FRESH_LOOKS: Final = 3
"""How often to look again, a flush interval apart, where much depends on it: another worker may have made the object a
moment ago, and its record be on its way to Postgres."""
FRESH_PAUSE_MAX_S: Final = 0.5
RETRY_AFTER_S: Final = 1
PURPOSE: Final = ("objects",)
_Value = TypeVar("_Value")


class Owners:
    """One per worker. What is called before the forwarding raises Refusal; nothing else raises."""

    def __init__(
        self, pool: Pool, settings: Settings, *, metrics: Metrics, clock: Callable[[], float]
    ) -> None:
        """`clock`: monotonic seconds."""
        self._pool = pool
        self._metrics = metrics
        self._clock = clock
        self.isolation = settings.object_isolation
        self._refuses_unknown = settings.unknown_objects == "refuse" and self.isolation != "off"
        self._looks_at_paths = self.isolation != "off" or bool(settings.upstreams)
        """Whose an object is, or which upstream holds it, decides about the request."""
        self._fresh_s = min(settings.flush_interval_s, FRESH_PAUSE_MAX_S)
        self._timeout_s = min(LOOK_UP_TIMEOUT_S, settings.database_timeout_s)
        self._owners: dict[str, Owner] = {}
        self._unknown: dict[str, float] = {}
        self._billed: dict[str, None] = {}

    # -- before anything is sent

    def knows(self, exchange: Exchange, body: bytes | None) -> bool:
        """Whether memory knows all that the request names. False: `learn` first. Raises Refusal. Hot path."""
        call = exchange.call
        rule = call.endpoint.objects
        if rule is NO_OBJECTS:
            return True
        if call.object_id is None and not call.query:
            if not body:
                return True
            for hint in rule.hints:
                if body.find(hint) >= 0:  # not `in`: see hides_names
                    break
            else:
                if b"content-encoding" not in exchange.request.fields and not hides_names(body):
                    return True
        exchange.named = self._named(exchange, body)
        if any(self._is_missing(object_id) for object_id, _ in exchange.named):
            return False
        self.check(exchange)
        return True

    async def learn(self, exchange: Exchange) -> None:
        """Look up what memory does not know of the objects that the request names. Raises Refusal."""
        missing = [object_id for object_id, _ in exchange.named if self._is_missing(object_id)]
        if missing:
            # A read that is billed must not come before the record of who made the object.
            await self.look_up_missing(missing, matters=exchange.call.endpoint.by_object)

    async def look_up_missing(self, missing: list[str], *, matters: bool = False) -> None:
        """Look up, as thoroughly as it matters. Raises Refusal 503 where nothing may pass that could not be looked up."""
        thoroughly = matters or self._refuses_unknown
        known = await (self.look_up_fresh(missing) if thoroughly else self.look_up(missing))
        if not known and self._refuses_unknown:
            raise unavailable(
                "objects_unknown_now",
                "Objects can't be checked at the moment.",
                RETRY_AFTER_S,
                "object_lookup",
            )

    async def look_up_fresh(self, ids: Iterable[str]) -> bool:
        """Look up, and wait a little for what nobody knows: its record may be on its way. False: it could not be asked."""
        left = list(ids)
        for again in range(1 + FRESH_LOOKS):
            if again:
                await asyncio.sleep(self._fresh_s)
            if not await self.look_up(left):
                return False
            left = [object_id for object_id in left if object_id not in self._owners]
            if not left:
                break
        return True

    def check(self, exchange: Exchange) -> None:
        """Refuse what belongs to somebody else, once all is known that can be. Raises Refusal."""
        caller, rule = exchange.caller, exchange.call.endpoint.objects
        for object_id, param in exchange.named:
            owner = self.owner(object_id)
            if exchange.owner is None and param in {PATH, INNER}:
                exchange.owner = owner
            if param == INNER:
                exchange.owner = owner or exchange.owner
                continue
            if caller is not None:
                self._forbid(caller, object_id, param, (rule.names or "") if param == PATH else "")

    def forbid(self, caller: Caller, named: Iterable[tuple[str, str]]) -> None:
        """Refuse what a message names of somebody else. Raises Refusal."""
        for object_id, param in named:
            self._forbid(caller, object_id, param, "")

    def _forbid(self, caller: Caller, object_id: str, param: str, kind: str) -> None:
        owner = self.owner(object_id)
        if self._refuses_unknown if owner is None else not self.may(caller, owner):
            raise not_found(object_id, owner.kind if owner is not None else kind, param or None)

    def may(self, caller: Caller, owner: Owner) -> bool:
        """Whether the setting lets this caller reach an object of that owner."""
        if self.isolation == "off" or caller.user_id == owner.user_id:
            return True
        return self.isolation == "group" and caller.group_id is not None and caller.group_id == owner.group_id

    async def look_up(self, ids: Iterable[str]) -> bool:
        """Ask Postgres who made them. False: it could not be asked."""
        wanted = list(ids)
        # An id that Postgres can't hold is nobody's, and must not keep the others from being found.
        possible = [object_id for object_id in wanted if _is_storable(object_id)]
        self._metrics.database_round_trips.inc(PURPOSE)
        try:
            rows = await objects.fetch_owners(self._pool, possible, timeout_s=self._timeout_s)
        except (*UNAVAILABLE, *RETRYABLE, PostgresError) as error:
            self._metrics.database_failures.inc(PURPOSE)
            log.warning("owners of objects can't be looked up", extra={"error": repr(error)})
            return False
        for row in rows:
            self.remember(row["id"], owner_of_row(row))
            if row["billed"]:
                self.note_billed(row["id"])
        until = self._clock() + UNKNOWN_S
        for object_id in wanted:
            if object_id not in self._owners:
                _keep(self._unknown, object_id, until)
        return True

    # -- memory

    def owner(self, object_id: str) -> Owner | None:
        """Who made it, as far as memory knows."""
        found = self._owners.get(object_id)
        if found is not None and len(self._owners) > REMEMBERED_MAX // 2:
            self._owners[object_id] = self._owners.pop(object_id)  # the last used are kept longest
        return found

    def remember(self, object_id: str, owner: Owner) -> None:
        """Who made it."""
        self._unknown.pop(object_id, None)
        self._owners.pop(object_id, None)
        _keep(self._owners, object_id, owner)

    def is_billed(self, object_id: str | None) -> bool:
        """Whether a record that this worker knows of bills it."""
        return object_id in self._billed

    def note_billed(self, object_id: str) -> None:
        """A record bills it."""
        _keep(self._billed, object_id, None)

    def foreign(self, caller: Caller, ids: Iterable[str]) -> set[str]:
        """Those of a list's elements that the caller may not see."""
        found = set()
        for object_id in ids:
            owner = self.owner(object_id)
            if self._refuses_unknown if owner is None else not self.may(caller, owner):
                found.add(object_id)
        return found

    def missing(self, ids: Iterable[str]) -> list[str]:
        """Those that memory says nothing about."""
        return [object_id for object_id in ids if self._is_missing(object_id)]

    def _is_missing(self, object_id: str) -> bool:
        if object_id in self._owners:
            return False
        until = self._unknown.get(object_id)
        return until is None or until <= self._clock()

    def _named(self, exchange: Exchange, body: bytes | None) -> tuple[tuple[str, str], ...]:
        """(id, where it stands) of what the request names: in its path, its query, its body."""
        call = exchange.call
        endpoint, rule = call.endpoint, call.endpoint.objects
        named: list[tuple[str, str]] = []
        if call.object_id is not None and rule.names is not None:
            if self._looks_at_paths or endpoint.by_object:
                named.append((call.object_id, PATH))
            if endpoint.by_object and (inner := _inner_id(call.path, endpoint.template)) is not None:
                named.append((inner, INNER))
        if self.isolation == "off":
            return tuple(named)
        if endpoint.websocket and "call_id" in call.query:
            named += [(each, "call_id") for each in parse_qs(call.query).get("call_id", ())]
        if body and rule.hints:
            encoding = exchange.request.fields.get(b"content-encoding")
            text = body if encoding is None else decode_labelled(body, encoding, DECODED_MAX_BYTES)
            if text is None:
                raise Refusal(415, "unreadable_encoding", _UNREADABLE, reason="unreadable_encoding")
            if text and (hides_names(text) or any(hint in text for hint in rule.hints)):
                named += named_in(text, exchange.request.fields.get(b"content-type", b""))
        return tuple(named)


_UNREADABLE: Final = "The request's Content-Encoding can't be undone, and what it names must be looked at."
PATH: Final = ""
INNER: Final = "/"


def named_in(text: bytes, content_type: bytes = b"") -> tuple[tuple[str, str], ...]:
    """What a body or a message names. Raises Refusal 400 where it names more than is looked at."""
    found = references(text) or (form_references(text, content_type) if content_type else ())
    if len(found) > REFERENCES_MAX:
        raise Refusal(
            400,
            "too_many_objects",
            f"A request may name {REFERENCES_MAX} objects.",
            reason="too_many_objects",
        )
    return found


def _inner_id(path: str, template: str) -> str | None:
    """The second id of a path: of the run in a thread, the turn in a session."""
    parts = template.split("/")
    at = [index for index, part in enumerate(parts) if part.startswith("{")]
    segments = path.split("/")
    return segments[at[-1]] if len(at) > 1 and len(segments) == len(parts) else None


def _is_storable(object_id: str) -> bool:
    """No NUL, no half of a surrogate pair."""
    return "\0" not in object_id and not any(0xD800 <= ord(each) <= 0xDFFF for each in object_id)


def _keep(memory: dict[str, _Value], name: str, value: _Value) -> None:
    """Remember, and forget the oldest at the bound."""
    if len(memory) >= REMEMBERED_MAX and name not in memory:
        del memory[next(iter(memory))]
    memory[name] = value


def secret_id(secret: bytes) -> str:
    """What a client secret is remembered by; the secret itself is kept nowhere."""
    return "ek:" + hashlib.sha256(secret).hexdigest()


def is_expired(owner: Owner, now: float) -> bool:
    """`now`: Unix seconds."""
    return owner.expires_at is not None and now >= owner.expires_at


def expired_secret() -> Refusal:
    """401, as for an expired key."""
    return Refusal(401, "invalid_api_key", "The client secret provided has expired.", reason="expired")
