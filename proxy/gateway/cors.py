"""CORS: whether browsers may call from other origins. By setting, the upstream answers that, or we do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from proxy.gateway.request import Request

MAX_AGE_S = 600
_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"


class Cors:
    """`pass`: preflights go upstream without credentials. `answer`: they are answered here, for `origins`."""

    def __init__(self, mode: Literal["pass", "answer"], origins: Sequence[str]) -> None:
        self.answers = mode == "answer"
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def preflight(self, request: Request) -> bytes | None:
        """The whole answer to a preflight, or None to pass it on."""
        if not self.answers:
            return None
        allowed = self.lines(request)
        lines = [b"HTTP/1.1 204 No Content\r\n", allowed]
        if allowed:
            wanted = request.fields.get(b"access-control-request-headers", b"*")
            lines.append(b"access-control-allow-methods: %b\r\n" % _METHODS)
            lines.append(b"access-control-allow-headers: %b\r\n" % wanted)
            lines.append(b"access-control-max-age: %d\r\n" % MAX_AGE_S)
        if not request.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        return b"".join(lines)

    def lines(self, request: Request) -> bytes:
        """Header lines that allow the request's origin to read an answer; b"" where we don't decide or don't allow."""
        origin = request.fields.get(b"origin")
        if not self.answers or origin is None or not (self._any or origin in self._origins):
            return b""
        named = b"*" if self._any else origin
        return (
            b"access-control-allow-origin: %b\r\naccess-control-expose-headers: *\r\nvary: origin\r\n" % named
        )
