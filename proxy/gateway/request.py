"""One request as the front reads it from a client's connection."""

from __future__ import annotations

from proxy.core.callhead import CallHead
from proxy.core.headers import OnwardHead, token_of


class KnownHead:
    """What the pass has made of a head, for all requests that come with it on one connection. None: not made yet."""

    __slots__ = ("call", "digest", "onward")

    def __init__(self) -> None:
        self.digest: bytes | None = None
        """Of the proxy key."""
        self.call: CallHead | None = None
        """What it says of the call."""
        self.onward: OnwardHead | None = None
        """How it goes upstream."""


class Request:
    """A request's head, and as much of its body as has come. Bytes are as the client sent them.

    `body` collects the decoded body until the pass takes it (or streams it on); `fields` maps lower-case names to
    values, of duplicates the first. Where a head is a repeated one, both are those of its first time: the length is `length`.
    """

    __slots__ = (
        "body",
        "chunked",
        "collecting",
        "complete",
        "expects_continue",
        "fields",
        "has_body",
        "headers",
        "http_1_0",
        "is_json",
        "keep_alive",
        "key_digest",
        "known",
        "length",
        "method",
        "received",
        "secret",
        "started",
        "started_us",
        "target",
        "trailers",
        "websocket",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        fields: dict[bytes, bytes],
        started: float,
        started_us: int,
    ) -> None:
        """As if nothing were said of it but this; see `read_request`."""
        self.method = method
        self.target = target
        self.headers = headers
        self.fields = fields
        self.started = started
        """Monotonic seconds."""
        self.started_us = started_us
        """Microseconds since 1970."""
        self.http_1_0 = False
        self.keep_alive = True
        self.websocket = False
        self.length: int | None = None
        """Content-Length; llhttp has checked it."""
        self.chunked = False
        self.has_body = False
        """A body was announced."""
        self.is_json = False
        """The body says that it is JSON."""
        self.expects_continue = False
        self.body: list[bytes] = []
        self.received = 0
        """Body bytes received so far."""
        self.complete = False
        self.collecting = False
        """The body is being read whole before the request goes on."""
        self.secret = b""
        """The client secret that the request came with instead of a key; it goes upstream as it is."""
        self.key_digest: bytes | None = None
        """Of the key behind that secret."""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.known: KnownHead | None = None
        """What is known of this head, where it is remembered because it may come again."""

    def again(self, length: int, started: float, started_us: int) -> Request:
        """A request with the same head but for its length, which is not 0. See repeated.py, which says which heads it remembers. Hot path."""
        request = Request(self.method, self.target, self.headers, self.fields, started, started_us)
        request.has_body = True
        request.length = length
        request.is_json = self.is_json
        request.known = self.known
        return request

    @property
    def is_form(self) -> bool:
        """The body says that it is a form with files."""
        return self.fields.get(b"content-type", b"")[:10].lower() == b"multipart/"

    @property
    def is_encoded(self) -> bool:
        """The body is compressed."""
        return self.fields.get(b"content-encoding", b"identity").lower() != b"identity"

    @property
    def is_preflight(self) -> bool:
        """A CORS preflight, which never carries a key."""
        return (
            self.method == b"OPTIONS"
            and b"origin" in self.fields
            and b"access-control-request-method" in self.fields
        )

    def names(self) -> list[bytes] | None:
        """The names of all headers in lower case and in order; None when there are duplicates. Saves lowering them again."""
        return list(self.fields) if len(self.fields) == len(self.headers) else None

    def token(self) -> bytes:
        """The client's credential, b"" when there is none."""
        return token_of(self.fields)

    def take_body(self) -> bytes:
        """What was collected, once."""
        body = self.body[0] if len(self.body) == 1 else b"".join(self.body)
        self.body = []
        return body


def read_request(
    method: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    *,
    http_1_0: bool,
    keep_alive: bool,
    upgrade: bool,
    started: float,
    started_us: int,
) -> Request:
    """What a head says of its request."""
    fields = {name.lower(): value for name, value in headers}
    if len(fields) != len(headers):
        fields = {name.lower(): value for name, value in reversed(headers)}
    request = Request(method, target, headers, fields, started, started_us)
    request.http_1_0 = http_1_0
    request.keep_alive = keep_alive
    request.websocket = upgrade and fields.get(b"upgrade", b"").lower() == b"websocket"
    length = fields.get(b"content-length")
    request.length = int(length) if length is not None else None
    request.chunked = b"transfer-encoding" in fields
    request.has_body = request.chunked or bool(request.length)
    kind = fields.get(b"content-type", b"").lower()
    request.is_json = kind.startswith(b"application/json") or b"+json" in kind
    request.expects_continue = not http_1_0 and fields.get(b"expect", b"").lower() == b"100-continue"
    return request
