"""Refusals: our own answers, in OpenAI's error shape, made before anything was sent upstream (or instead of an answer)."""

from __future__ import annotations

import orjson

_OVERLOAD_RETRY_S = 1


class Refusal(Exception):  # noqa: N818  a refusal is a decision, not a fault
    """An answer of our own. Raised by a step of the pass, written by the handler.

    A `code` of "" is null on the wire. `headers` are extra response headers, e.g. `retry-after`; `reason` is the bounded label of the refusals metric.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        type: str = "invalid_request_error",  # noqa: A002  as OpenAI names it
        param: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        reason: str = "",
    ) -> None:
        super().__init__(status, code, message)
        self.status = status
        self.code = code
        self.message = message
        self.type = type
        self.param = param
        self.headers = headers
        self.reason = reason

    def body(self) -> bytes:
        """The JSON body: {"error": {"message", "type", "param", "code"}}."""
        return orjson.dumps(
            {
                "error": {
                    "message": self.message,
                    "type": self.type,
                    "param": self.param,
                    "code": self.code or None,
                }
            }
        )

    def answer(self, extra: bytes = b"", *, with_body: bool = True) -> bytes:
        """The whole HTTP/1.1 answer; `extra` are further header lines, each with CRLF. `with_body` False: to a HEAD."""
        body = self.body()
        head = [b"HTTP/1.1 %d %b\r\n" % (self.status, REASONS.get(self.status, b"Error"))]
        head.append(b"content-type: application/json\r\ncontent-length: %d\r\n" % len(body))
        head.extend(f"{name}: {value}\r\n".encode("latin-1", "replace") for name, value in self.headers)
        head += [extra, b"\r\n", body if with_body else b""]
        return b"".join(head)


REASONS = {
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    415: b"Unsupported Media Type",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}
"""Reason phrases of RFC 9110."""


def invalid_key(message: str, reason: str) -> Refusal:
    """401: the key is missing, malformed, unknown, revoked or expired. The SDKs raise AuthenticationError."""
    return Refusal(401, "invalid_api_key", message, reason=reason)


def unavailable(code: str, message: str, retry_after_s: int, reason: str) -> Refusal:
    """503 with Retry-After: the proxy itself can't take the request now."""
    return Refusal(
        503, code, message, "server_error", headers=(("retry-after", str(retry_after_s)),), reason=reason
    )


def overloaded(message: str, reason: str) -> Refusal:
    """503 with Retry-After: more than the proxy can do at once."""
    return unavailable("overloaded", message, _OVERLOAD_RETRY_S, reason)


def bad_gateway(code: str, message: str) -> Refusal:
    """502: no usable answer from the upstream."""
    return Refusal(502, code, message, "upstream_error", reason=code)


def gateway_timeout(code: str, message: str) -> Refusal:
    """504: the upstream did not answer in time."""
    return Refusal(504, code, message, "upstream_error", reason=code)


def media_refused() -> Refusal:
    """403: a call whose sound and picture would go past the proxy, where the setting has none of these."""
    return Refusal(
        403,
        "realtime_calls_refused",
        "Calls whose sound does not pass the proxy are not allowed here; use a WebSocket.",
        reason="realtime_calls",
    )
