"""Collecting: request bodies that are read whole before the pass goes on, within bounds for each and for all together.

What a body is decides, not what it says it is: a chat request sent as text/plain is a chat request. So whatever a metered
endpoint takes is read whole, but forms, which carry files; those only where a rule asks for the model that they name.
"""

from __future__ import annotations

from typing import Final

from proxy.core import endpoints
from proxy.core.caller import Caller
from proxy.core.endpoints import Endpoint
from proxy.core.forms import FormReader
from proxy.core.refusal import Refusal, overloaded
from proxy.gateway.front import Front
from proxy.gateway.request import Request
from proxy.settings import Settings

_TAKEN_FOR_JSON: Final = (b"text/", b"application/x-www-form-urlencoded")
"""Labels that clients put on JSON without meaning it; a body that says it is something else is an upload."""


class Collecting:
    """The bodies that are coming in now. One per worker."""

    def __init__(self, settings: Settings, *, by_model: bool) -> None:
        """`by_model`: which upstream serves a request depends on its model."""
        self.body_max = settings.body_read_max_bytes
        """How many bytes one body may have."""
        self._total_max = settings.body_read_total_max_bytes
        self._by_model = by_model
        self._isolates = settings.object_isolation != "off"
        self._callers: dict[Request, Caller] = {}
        self._bytes = 0

    @property
    def max(self) -> int:
        """How many bytes of one body may be read whole now."""
        return max(0, min(self.body_max, self._total_max - self._bytes))

    def wants(self, request: Request, caller: Caller) -> bool:
        """Whether to read it whole: the pass needs the model, the ceiling, the objects it names, the place to splice."""
        if not request.has_body or not (request.chunked or (request.length or 0) <= self.body_max):
            return False
        if request.is_json or _matters(request, by_model=self._by_model or caller.knows_models):
            return True
        return self._isolates and request.is_form and _endpoint_of(request).objects.in_forms

    def check_unread(self, request: Request, caller: Caller) -> None:
        """Of a body that is too large to be read: whether a rule of the key needs it. Raises Refusal 413."""
        needed = caller.knows_models if request.is_form else caller.reads_bodies
        if needed and request.has_body and _matters(request, by_model=True):
            raise Refusal(
                413,
                "request_too_large",
                f"A request of more than {self.body_max} bytes can't be checked against the limits of this key.",
                reason="request_too_large",
            )

    def begin(self, front: Front, request: Request, caller: Caller) -> None:
        """Read the body from now on. Raises Refusal 503 when there is no room for it."""
        self.check_room(request)
        length = request.length or 0
        request.collecting = True
        self._callers[request] = caller
        self._bytes += length
        if request.expects_continue and not request.complete:
            front.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def check_room(self, request: Request) -> None:
        """Raise Refusal 503 when there is no room for its body."""
        length = request.length or 0
        if length and self._bytes + length > self._total_max:
            raise overloaded("Too many large requests are under way; try again.", "bodies")

    def end(self, request: Request) -> Caller | None:
        """It is there, or will not be; whose it is, None when it was not being read."""
        caller = self._callers.pop(request, None)
        if caller is not None:
            request.collecting = False
            self._bytes -= request.length or 0
        return caller


def form_of(request: Request) -> FormReader | None:
    """Who reads a form while it is streamed on, and has read what came of it so far; None where nothing in it counts."""
    if not request.is_form or request.is_encoded or _endpoint_of(request).meter == "none":
        return None
    reader = FormReader(request.fields[b"content-type"])
    for piece in request.body:
        reader.feed(piece)
    return reader if reader.usable else None


def _matters(request: Request, *, by_model: bool) -> bool:
    """Whether the pass needs to know what the body says. Hot path."""
    if request.is_json:
        return True
    if request.is_form and not by_model:
        return False
    endpoint = _endpoint_of(request)
    if endpoint.meter != "none":
        return True
    kind = request.fields.get(b"content-type", b"")
    return bool(endpoint.objects.hints) and (not kind or kind.lower().startswith(_TAKEN_FOR_JSON))


def _endpoint_of(request: Request) -> Endpoint:
    path = request.target.partition(b"?")[0].decode("latin-1")
    return endpoints.match(request.method.decode("latin-1"), path)[0]
