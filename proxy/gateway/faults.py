"""What a client is told when the upstream fails it."""

from __future__ import annotations

from proxy.core.refusal import Refusal, bad_gateway, gateway_timeout
from proxy.gateway.dial import DialError
from proxy.gateway.upstream import UpstreamConnection

LATE = gateway_timeout("upstream_timeout", "The upstream did not answer in time.")
UNASKED = bad_gateway("upstream_invalid", "The upstream changed protocols unasked.")
CLOSED = bad_gateway("upstream_disconnected", "The upstream closed the connection.")


def unreachable(error: DialError) -> Refusal:
    """There is no connection."""
    return (gateway_timeout if error.code.endswith("timeout") else bad_gateway)(error.code, error.message)


def disconnected(connection: UpstreamConnection | None, reason: str) -> Refusal:
    """The connection broke before an answer's head was whole. `reason`: what was wrong with what came of it."""
    message = "The upstream closed the connection without an answer."
    if connection is not None and connection.answered:
        message = f"The upstream's answer is not valid HTTP: {reason}."
    return bad_gateway("upstream_disconnected", message)
