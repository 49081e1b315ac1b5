"""A route of the control plane as a value: who may call it, what it takes and answers, and what runs.

Requests are validated, documented (/openapi.json) and authorised from these values alone, so none of the three can differ
from the others. A handler sees an Ask, whose actor may call it and whose body and query are valid, and returns a model.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel

from proxy.admin.actor import NOBODY, Access, Actor
from proxy.admin.context import AdminContext
from proxy.core.refusal import Refusal
from proxy.store.audit import Entry
from proxy.store.marks import Marks
from proxy.store.postgres import Connection

__all__ = ["NOBODY", "Access", "Actor", "Ask", "Reply", "Route", "bad_request", "not_found"]


@dataclass(slots=True, kw_only=True)
class Ask:
    """One authorised, validated request. `connection` is inside a transaction that commits when the handler returns."""

    context: AdminContext
    actor: Actor
    address: str
    now: datetime
    request: web.Request
    path: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    """What every answer carries; for handlers that answer by themselves."""
    query: Any = None
    body: Any = None
    connection: Connection = None
    audited: list[Entry] = field(default_factory=list)
    marks: Marks | None = None
    """What is known to be folded, in a transaction that sees one moment."""

    def audit(self, action: str, subject: str, before: Any = None, after: Any = None) -> None:
        """Say what this request did; written in its own transaction, or not at all."""
        self.audited.append(Entry(self.actor_name, self.address, action, subject, before, after))

    @property
    def actor_name(self) -> str:
        """How the audit log names who asked."""
        return f"{self.actor.kind}:{self.actor.id}"

    @property
    def group_limit(self) -> str | None:
        """The one group that this administrator may see; None: all."""
        return self.actor.group_id if self.actor.kind in {"admin_key", "jwt"} else None

    def must_see_group(self, group_id: str | None, kind: str, named: str) -> None:
        """Raises 404 when the row belongs to a group that the administrator doesn't see: as if it did not exist."""
        if self.group_limit is not None and group_id != self.group_limit:
            raise not_found(kind, named)


Handler = Callable[[Ask], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation. `path` has aiohttp's `{name}` parts, all of which are strings."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    summary: str
    access: Access
    everywhere: bool = False
    """Only for administrators who are not confined to a group."""
    query: type[BaseModel] | None = None
    body: Any = None
    """A pydantic model, or any type that a TypeAdapter validates (a list of models)."""
    answer: Any = None
    status: int = 200
    creates: bool = False
    """Takes an Idempotency-Key: a repeated request answers what the first did."""
    reads_personal_data: bool = False
    """Each call is written to the audit log."""
    transaction: bool = True
    """False: the handler brings its own connections (streams, waits)."""
    example: Any = None
    """An example of the request's body."""
    media_types: tuple[str, ...] = ("application/json",)
    """What it answers."""
    tag: str = ""

    @property
    def one_moment(self) -> bool:
        """Whether all it tells is of one moment: it changes nothing but the audit log."""
        return self.tag == "stats" or (self.method == "GET" and self.access != "anyone")

    @property
    def operation_id(self) -> str:
        """Its name in the OpenAPI document: the handler's."""
        return getattr(self.handler, "__name__", "operation")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that is more than a model with the route's own status."""

    body: Any
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def not_found(kind: str, named: str) -> Refusal:
    """404 for a row that does not exist, or not for this actor."""
    return Refusal(404, "not_found", f"There is no {kind} {named!r}.", param=kind, reason="not_found")


def bad_request(param: str | None, message: str, code: str = "invalid_value") -> Refusal:
    """400 that names the field."""
    return Refusal(400, code, message, param=param, reason="invalid")
