"""Collecting: request bodies that are read whole before the pass goes on, within bounds for each and for all together."""

from __future__ import annotations

from proxy.core.caller import Caller
from proxy.core.refusal import Refusal, unavailable
from proxy.gateway.front import Front
from proxy.gateway.request import Request

OVERLOAD_RETRY_S = 1


class Collecting:
    """The bodies that are coming in now. One per worker."""

    def __init__(self, body_max: int, total_max: int) -> None:
        self.body_max = body_max
        """How many bytes one body may have."""
        self._total_max = total_max
        self._callers: dict[Request, Caller] = {}
        self._bytes = 0

    @property
    def max(self) -> int:
        """How many bytes of one body may be read whole now."""
        return max(0, min(self.body_max, self._total_max - self._bytes))

    def wants(self, request: Request) -> bool:
        """JSON bodies are read whole, because the pass needs the model, the ceiling and the place to splice."""
        if not request.has_body or not request.is_json:
            return False
        return request.chunked or (request.length or 0) <= self.body_max

    def check_unread(self, request: Request, caller: Caller) -> None:
        """Of a body that is too large to be read: whether a rule of the key needs it. Raises Refusal 413."""
        if request.has_body and request.is_json and caller.reads_bodies:
            raise Refusal(
                413,
                "request_too_large",
                f"A JSON request of more than {self.body_max} bytes can't be checked against the limits of this key.",
                reason="request_too_large",
            )

    def begin(self, front: Front, request: Request, caller: Caller) -> None:
        """Read the body from now on. Raises Refusal 503 when there is no room for it."""
        if (request.length or 0) > self.max:
            raise unavailable(
                "overloaded", "Too many large requests are under way; try again.", OVERLOAD_RETRY_S, "bodies"
            )
        request.collecting = True
        self._callers[request] = caller
        self._bytes += request.length or 0
        if request.expects_continue and not request.complete:
            front.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def end(self, request: Request) -> Caller | None:
        """It is there, or will not be; whose it is, None when it was not being read."""
        caller = self._callers.pop(request, None)
        if caller is not None:
            request.collecting = False
            self._bytes -= request.length or 0
        return caller
