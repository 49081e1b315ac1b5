"""Which request headers cross the proxy, and how they look on the other side.

Names keep their case and order, duplicates stay duplicates. What does not cross: credentials (replaced by the
upstream's), hop-by-hop headers (RFC 9110, 7.6.1), and our own (design section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

RawHeaders = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
OURS = frozenset({b"x-usage-operation", b"x-usage-tags", b"x-usage-end-user", b"x-usage-user"})
CREDENTIALS = frozenset({b"authorization", b"api-key"})
SUBPROTOCOL_KEY = b"openai-insecure-api-key."
_NOT_PLAIN = HOP_BY_HOP | OURS | CREDENTIALS | {b"host", b"expect", b"accept-encoding", b"content-length", b"openai-organization", b"openai-project", b"sec-websocket-protocol"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeaderPolicy:
    """What the upstream is told, compiled once per upstream. Values are bytes as they go on the wire."""

    host: bytes
    authorization: bytes | None
    """Value of the Authorization header; None: an upstream that needs no key."""
    key: bytes
    """The bare upstream key, for the WebSocket subprotocol."""
    organization: bytes | None = None
    """None: the client's header is kept; b"": it is taken off; anything else replaces it."""
    project: bytes | None = None


def policy_value(setting: str) -> bytes | None:
    """`keep`, `strip` or a value, as HeaderPolicy wants it."""
    return None if setting == "keep" else b"" if setting == "strip" else setting.encode("latin-1")


def token_of(fields: dict[bytes, bytes]) -> bytes:
    """The credential a client sent: Bearer, api-key, or the browser WebSocket subprotocol; b"" when there is none.

    `fields` maps lower-case names to values.
    """
    authorization = fields.get(b"authorization")
    if authorization is not None:
        scheme, _, token = authorization.partition(b" ")
        return token.strip() if scheme.lower() == b"bearer" else b""
    key = fields.get(b"api-key")
    if key is not None:
        return key
    for offered in fields.get(b"sec-websocket-protocol", b"").split(b","):
        name = offered.strip()
        if name.startswith(SUBPROTOCOL_KEY):
            return name[len(SUBPROTOCOL_KEY) :]
    return b""


def request_head(
    method: bytes,
    target: bytes,
    headers: RawHeaders,
    policy: HeaderPolicy,
    *,
    length: int | None = None,
    chunked: bool = False,
    identity: bool = False,
    websocket: bool = False,
    expect: bool = False,
) -> bytes:
    """The head that goes upstream, final CRLF included.

    `length` replaces the client's Content-Length (a spliced body is longer); `chunked` frames the body in chunks;
    `identity` asks for an uncompressed answer, which a spliced stream needs; `websocket` passes the upgrade on;
    `expect` passes `Expect: 100-continue` on.
    """
    out = [b"%b %b HTTP/1.1\r\n" % (method, target)]
    append = out.append
    named: frozenset[bytes] = frozenset()
    has_authorization = policy.authorization is None
    has_host = False
    for name, value in headers:
        lower = name.lower()
        if lower not in _NOT_PLAIN:
            if lower in named:
                continue
            append(b"%b: %b\r\n" % (name, value))
        elif lower == b"host":
            if not has_host:
                append(b"%b: %b\r\n" % (name, policy.host))
                has_host = True
        elif lower in CREDENTIALS:
            if not has_authorization and policy.authorization is not None:
                name = b"Authorization" if lower == b"api-key" else name  # noqa: PLW2901
                append(b"%b: %b\r\n" % (name, policy.authorization))
                has_authorization = True
        elif lower == b"content-length":
            if not chunked:
                append(b"%b: %b\r\n" % (name, value if length is None else b"%d" % length))
        elif lower == b"accept-encoding":
            append(b"%b: %b\r\n" % (name, b"identity" if identity else value))
        elif lower == b"connection":
            if named := _named_by_connection(headers):
                out[1:] = [line for line in out[1:] if line.partition(b":")[0].lower() not in named]
        elif lower == b"expect":
            if expect:
                append(b"%b: %b\r\n" % (name, value))
        elif lower == b"sec-websocket-protocol":
            append(b"%b: %b\r\n" % (name, _swap_subprotocol_key(value, policy.key)))
            has_authorization = has_authorization or SUBPROTOCOL_KEY in value
        elif _keeps_account_header(lower, policy):
            append(b"%b: %b\r\n" % (name, value))
    if not has_host:
        out.insert(1, b"Host: %b\r\n" % policy.host)
    if not has_authorization and policy.authorization is not None:
        append(b"Authorization: %b\r\n" % policy.authorization)
    append(_added(policy, chunked=chunked, websocket=websocket))
    return b"".join(out)


def _keeps_account_header(lower: bytes, policy: HeaderPolicy) -> bool:
    """Whether the client's own OpenAI-Organization or OpenAI-Project crosses; nothing else that is left here does."""
    if lower == b"openai-organization":
        return policy.organization is None
    return lower == b"openai-project" and policy.project is None


def _added(policy: HeaderPolicy, *, chunked: bool, websocket: bool) -> bytes:
    """The lines that end the head: what the policy sets, how the body is framed, and the empty line."""
    lines = b""
    if policy.organization:
        lines += b"OpenAI-Organization: %b\r\n" % policy.organization
    if policy.project:
        lines += b"OpenAI-Project: %b\r\n" % policy.project
    if chunked:
        lines += b"Transfer-Encoding: chunked\r\n"
    if websocket:
        lines += b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    return lines + b"\r\n"


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    """Header names that the client declared hop-by-hop; never ones that HTTP itself or authentication needs."""
    named = {
        option.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for option in value.split(b",")
    }
    return frozenset(named - _NOT_PLAIN - {b"close", b"content-type", b"content-encoding", b""})


def _swap_subprotocol_key(value: bytes, key: bytes) -> bytes:
    """The offered subprotocols with the proxy key replaced by the upstream's."""
    offered = [name.strip() for name in value.split(b",")]
    return b", ".join(SUBPROTOCOL_KEY + key if name.startswith(SUBPROTOCOL_KEY) else name for name in offered)
