"""Refusals: our own answers, in OpenAI's error shape, made before anything was sent upstream (or instead of an answer)."""

from __future__ import annotations

from dataclasses import dataclass

import orjson


@dataclass(eq=False)
class Refusal(Exception):  # noqa: N818  a refusal is a decision, not a fault
    """An answer of our own. Raised by a step of the pass, written by the handler.

    A `code` of "" is null on the wire. `headers` are extra response headers, e.g. `retry-after`; `reason` is the bounded label of the refusals metric.
    """

    status: int
    code: str
    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    reason: str = ""

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


def invalid_key(message: str, reason: str) -> Refusal:
    """401: the key is missing, malformed, unknown, revoked or expired. The SDKs raise AuthenticationError."""
    return Refusal(401, "invalid_api_key", message, reason=reason)


def unavailable(code: str, message: str, retry_after_s: int, reason: str) -> Refusal:
    """503 with Retry-After: the proxy itself can't take the request now."""
    return Refusal(
        503, code, message, "server_error", headers=(("retry-after", str(retry_after_s)),), reason=reason
    )


def bad_gateway(code: str, message: str) -> Refusal:
    """502: no usable answer from the upstream."""
    return Refusal(502, code, message, "upstream_error", reason=code)


def gateway_timeout(code: str, message: str) -> Refusal:
    """504: the upstream did not answer in time."""
    return Refusal(504, code, message, "upstream_error", reason=code)
