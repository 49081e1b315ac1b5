"""Which request headers cross the proxy, and how they look on the other side.

Names keep their case and order, duplicates stay duplicates. What does not cross: credentials (replaced by the
upstream's), hop-by-hop headers (RFC 9110, 7.6.1), and our own (design section 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RawHeaders = Sequence[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
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
OURS: Final = frozenset({b"x-usage-operation", b"x-usage-tags", b"x-usage-end-user", b"x-usage-user"})
CREDENTIALS: Final = frozenset({b"authorization", b"api-key"})
SUBPROTOCOL_KEY: Final = b"openai-insecure-api-key."
_NOT_PLAIN: Final = HOP_BY_HOP | OURS | CREDENTIALS | {b"host", b"expect", b"accept-encoding", b"content-length", b"openai-organization", b"openai-project", b"sec-websocket-protocol"}  # fmt: skip
_UNNAMED: Final = frozenset({b"keep-alive", b"close"})
"""What nearly every Connection header says: it names no other header."""
_END: Final = b"\r\n"


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


class OnwardHead:
    """A head that went upstream, in two pieces: the next one that is alike but for its length need not be made anew."""

    __slots__ = ("_after", "_before", "_identity", "_policy")

    def __init__(self, head: bytes, name: bytes, policy: HeaderPolicy, *, identity: bool) -> None:
        """`name`: of the header that says the length, as `head` spells it. Raises ValueError when it has none."""
        at = head.index(b"\r\n" + name + b": ") + len(name) + 4
        self._before, self._after = head[:at], head[head.index(b"\r\n", at) :]
        self._policy = policy
        self._identity = identity

    def fits(self, policy: HeaderPolicy, *, identity: bool) -> bool:
        """Whether it was made for this upstream, and asks for the same coding of the answer."""
        return self._policy is policy and self._identity is identity

    def render(self, length: int) -> bytes:
        """The head of a request whose body has this length. Hot path."""
        return b"%b%d%b" % (self._before, length, self._after)


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
    names: Sequence[bytes] | None = None,
    length: int | None = None,
    chunked: bool = False,
    identity: bool = False,
    websocket: bool = False,
    expect: bool = False,
) -> bytes:
    """The head that goes upstream, final CRLF included. Hot path.

    `names` are those of `headers` in lower case, where they are known already; `length` replaces the client's
    Content-Length (a spliced body is longer); `chunked` frames the body in chunks; `identity` asks for an uncompressed
    answer, which a spliced stream needs; `websocket` passes the upgrade on; `expect` passes `Expect: 100-continue` on.
    """
    if names is None:
        names = [name.lower() for name, _ in headers]
    # Most lines cross as they are: they are made without a step of Python each, and only the others are looked at.
    lines: list[bytes | None] = list(map(b": ".join, headers))
    named: frozenset[bytes] = frozenset()
    has_host, has_authorization = False, policy.authorization is None
    for at, lower in enumerate(names):
        if lower not in _NOT_PLAIN:
            continue
        name, value = headers[at]
        crosses = False
        if lower == b"host":
            crosses, value = not has_host, policy.host
            has_host = True
        elif lower in CREDENTIALS:
            if not has_authorization and policy.authorization is not None:
                crosses = has_authorization = True
                name = b"Authorization" if lower == b"api-key" else name
                value = policy.authorization
        elif lower == b"content-length":
            crosses, value = not chunked, value if length is None else b"%d" % length
        elif lower == b"accept-encoding":
            crosses, value = True, b"identity" if identity else value
        elif lower == b"connection":
            if value.lower() not in _UNNAMED:
                named = _named_by_connection(headers)
        elif lower == b"expect":
            crosses = expect
        elif lower == b"sec-websocket-protocol":
            crosses, value = True, _swap_subprotocol_key(value, policy.key)
            has_authorization = has_authorization or SUBPROTOCOL_KEY in headers[at][1]
        else:
            crosses = _keeps_account_header(lower, policy)
        lines[at] = name + b": " + value if crosses else None
    if named:
        lines = [line for line, name in zip(lines, names, strict=True) if name not in named]
    host = b"" if has_host else b"\r\nHost: " + policy.host
    first = method + b" " + target + b" HTTP/1.1" + host
    if not has_authorization and policy.authorization is not None:
        lines.append(b"Authorization: " + policy.authorization)
    return b"\r\n".join((first, *filter(None, lines), _added(policy, chunked=chunked, websocket=websocket)))


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
    return lines + b"\r\n" if lines else _END


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
