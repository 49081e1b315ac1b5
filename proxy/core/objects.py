"""Objects: what the answers of OpenAI's API make (responses, files, batches …), and where requests name them.

All users share one upstream account, so that an object's maker is known only to whoever saw it being made. Two tables say
what is what by the route's template; everything else here is values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxy.core.quota import Charge
from proxy.core.refusal import Refusal

ID_CHARS_MAX = 256
SECRET_PREFIX = b"ek_"

_KINDS = {
    "/v1/agents": "agent",
    "/v1/agents/automations": "agent.automation",
    "/v1/agents/environments": "agent.environment",
    "/v1/agents/environments/templates": "agent.environment.template",
    "/v1/agents/sessions": "agent.session",
    "/v1/assistants": "assistant",
    "/v1/audio/voice_consents": "voice_consent",
    "/v1/audio/voices": "voice",
    "/v1/batches": "batch",
    "/v1/chat/completions": "chat.completion",
    "/v1/chatkit/sessions": "chatkit.session",
    "/v1/chatkit/threads": "chatkit.thread",
    "/v1/containers": "container",
    "/v1/conversations": "conversation",
    "/v1/evals": "eval",
    "/v1/files": "file",
    "/v1/fine_tuning/jobs": "fine_tuning.job",
    "/v1/live/sessions": "live.session",
    "/v1/realtime/calls": "realtime.call",
    "/v1/responses": "response",
    "/v1/skills": "skill",
    "/v1/threads": "thread",
    "/v1/uploads": "upload",
    "/v1/vaults": "vault",
    "/v1/vector_stores": "vector_store",
    "/v1/videos": "video",
    "/v1/videos/characters": "video.character",
    "/v1/webhook_endpoints": "webhook_endpoint",
}
"""What the path's first id names, by the template before it; a POST to that template makes one, a GET lists them."""

_ALSO_MAKE = {
    "/v1/threads/runs": "run",
    "/v1/threads/{thread_id}/runs": "run",
    "/v1/evals/{eval_id}/runs": "eval.run",
    "/v1/videos/edits": "video",
    "/v1/videos/extensions": "video",
    "/v1/videos/{video_id}/remix": "video",
    "/v1/live/sessions/{session_id}/fork": "live.session",
}
"""Other templates a POST to which makes an object."""

_SECRETS = frozenset(
    {
        "/v1/realtime/client_secrets",
        "/v1/realtime/translations/client_secrets",
        "/v1/realtime/sessions",
        "/v1/realtime/transcription_sessions",
        "/v1/chatkit/sessions",
    }
)
_ANY = (b"_id", b"_file", b"conversation", b"container", b"video")
MESSAGE_HINTS = _ANY
_SOCKETS = frozenset({"ws_responses", "ws_live", "ws_attach"})
_OF_RESPONSES = (b"_id", b"conversation", b"container")
_HINTS: Mapping[str, tuple[bytes, ...]] = {
    "/v1/chat/completions": (b"file_id",),
    "/v1/responses": _OF_RESPONSES,
    "/v1/responses/compact": _OF_RESPONSES,
    "/v1/responses/input_tokens": _OF_RESPONSES,
    "/v1/images/edits": (b"file_id",),
    "/v1/audio/voices": (b"consent",),
    "/v1/fine_tuning/alpha/graders/run": (b"file_id",),
    "/v1/realtime/client_secrets": _ANY,
    "/v1/realtime/sessions": _ANY,
}
_FORMS = frozenset(
    {
        "/v1/audio/voices",
        "/v1/containers/{container_id}/files",
        "/v1/images/edits",
        "/v1/videos",
        "/v1/videos/edits",
        "/v1/videos/extensions",
    }
)
"""Templates that take forms in which objects are named beside files."""
FOLLOWED = frozenset({"batch", "response", "video", "run", "eval.run", "fine_tuning.job"})
"""Kinds whose usage shows after the answer that made them."""


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """What one route has to do with objects."""

    names: str | None = None
    """The kind of the first id in the path."""
    makes: str | None = None
    """The kind that a POST makes."""
    lists: bool = False
    """A GET lists objects of all makers in `data`."""
    opt_in: bool = False
    """A POST makes one only where the request says `"store": true`."""
    issues_secret: bool = False
    """The answer to a POST holds a client secret."""
    hints: tuple[bytes, ...] = ()
    """A body that names objects holds one of these; see references.py."""
    in_messages: bool = False
    """Messages that a client sends on such a WebSocket may name objects."""
    in_forms: bool = False
    """A form may name objects."""


NO_OBJECTS = ObjectRule()


def rule_of(template: str, *, meter: str, websocket: bool) -> ObjectRule:
    """The rule of a route, made once at import."""
    before, has_id, _ = template.partition("/{")
    names = _KINDS.get(before) if has_id else None
    collection = _KINDS.get(template)
    makes = collection or _ALSO_MAKE.get(template)
    hints = _HINTS.get(template)
    if hints is None:
        hints = _ANY if (names or makes) and not websocket else ()
    rule = ObjectRule(
        names,
        makes,
        lists=collection is not None and not websocket,
        opt_in=collection == "chat.completion",
        issues_secret=template in _SECRETS,
        hints=hints,
        in_messages=meter in _SOCKETS,
        in_forms=template in _FORMS,
    )
    # a WebSocket's responses have ids as well, which other sockets may show again
    return NO_OBJECTS if rule == NO_OBJECTS and not meter.startswith("ws_") else rule


@dataclass(frozen=True, slots=True)
class Owner:
    """Who made an object, and what for."""

    user_id: str
    key_id: str
    group_id: str | None = None
    operation: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    end_user: str | None = None
    kind: str = ""
    model: str | None = None
    """As it was asked for."""
    upstream: str = ""
    """The name of the upstream that holds it."""
    key_digest: bytes | None = None
    expires_at: float | None = None
    """Unix seconds; of client secrets."""

    def columns(self) -> dict[str, Any]:
        """Whom a record is attributed to, by the names of its columns."""
        return {
            "key_id": self.key_id,
            "user_id": self.user_id,
            "group_id": self.group_id,
            "operation": self.operation,
            "tags": dict(self.tags),
            "end_user": self.end_user,
        }


@dataclass(frozen=True, slots=True)
class Claim:
    """A record's claim that it bills the usage of an object. The first one that is stored wins; see claims.py."""

    object_id: str
    made: bool = False
    """By the exchange that made the object, which only a read of that same object can forestall."""
    by_parent: bool = False
    """It is the claim of the record above, whose part this is: both bill or neither."""


@dataclass(frozen=True, slots=True)
class Made:
    """An object whose maker becomes known with a record."""

    object_id: str
    kind: str
    owner: Owner | None = None
    """None: whoever the record is of."""
    follow: Mapping[str, Any] | None = None
    """What the follower needs to ask for it: {"path", "headers"}; None: its usage is known, or never will be."""
    expires_at: float | None = None
    again: bool = False
    """Seen by a read: an owner that is known stays."""
    upstream: str = ""
    """The name of the upstream that holds it; without `owner`, whose word counts."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """What a record says about objects. Spooled with it, acted upon in the transaction that stores it."""

    claims: tuple[Claim, ...] = ()
    made: tuple[Made, ...] = ()
    ended: str | None = None
    """An object that has come to its end: it need not be followed any more."""
    maker: Owner | None = None
    """Whom the record is attributed to if its claim wins; None: it stays as it is."""
    maker_charges: tuple[Charge, ...] = ()
    """What it settles then, besides its own charges."""


def not_found(object_id: str, kind: str, param: str | None = None) -> Refusal:
    """OpenAI's answer for an object that does not exist, in its own words where they are known."""
    if param == "previous_response_id":
        message = f"Previous response with id '{object_id}' not found."
        return Refusal(404, "previous_response_not_found", message, param=param, reason="foreign_object")
    message = _MESSAGES.get(kind, "No {kind} found with id '{id}'.").format(
        id=object_id, kind=kind.replace(".", " ").replace("_", " ")
    )
    return Refusal(
        404, "", message, param=param or ("id" if kind == "file" else None), reason="foreign_object"
    )


_MESSAGES = {
    "file": "No such File object: {id}",
    "response": "Response with id '{id}' not found.",
    "conversation": "Conversation with id '{id}' not found.",
    "container": "Container with id '{id}' not found.",
    "": "No object found with id '{id}'.",
}
