"""The exchange: the state of one admitted request, from admission to its record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.core.refusal import Refusal

if TYPE_CHECKING:
    from proxy.core.call import Call
    from proxy.core.caller import Caller
    from proxy.core.forms import FormReader
    from proxy.core.meter import Meter
    from proxy.core.objects import Owner
    from proxy.core.record import Outcome
    from proxy.core.shares import Reservation
    from proxy.gateway.request import Request
    from proxy.gateway.tunnel import Tunnel
    from proxy.gateway.upstreams import Upstream


class Exchange:
    """What the pass knows of one request. Written by the pass and the relay, read once more by the record."""

    __slots__ = (
        "body",
        "bytes_out",
        "call",
        "caller",
        "client_status",
        "ended",
        "form",
        "forwarded",
        "head",
        "id",
        "issued",
        "location",
        "meter",
        "named",
        "outcome",
        "owner",
        "refusal",
        "request",
        "reservation",
        "spliced",
        "status",
        "streamed",
        "ttfb",
        "tunnel",
        "upstream",
        "upstream_request_id",
    )

    def __init__(
        self, exchange_id: str, caller: Caller | None, call: Call, request: Request, upstream: Upstream
    ) -> None:
        self.id = exchange_id
        self.caller = caller
        """None: a CORS preflight, which is passed on but belongs to nobody."""
        self.call = call
        self.upstream = upstream
        self.request = request
        self.reservation: Reservation | None = None
        self.body: bytes | None = None
        """The request's body, kept for the tokenizer where there is one; never stored."""
        self.form: FormReader | None = None
        """Reads the form that is being streamed on."""
        self.spliced = False
        """include_usage was added to the request, so what it adds to the answer is taken out."""
        self.forwarded = 0.0
        """Monotonic time at which the request was handed to an upstream connection; 0: it never was."""
        self.ttfb = 0.0
        """Monotonic time of the answer's first byte; 0: none came."""
        self.status = 0
        """The upstream's status; 0: no answer."""
        self.client_status = 0
        """The status that the client was sent; 0: none."""
        self.streamed = False
        self.meter: Meter | None = None
        self.tunnel: Tunnel | None = None
        self.bytes_out = 0
        self.upstream_request_id: str | None = None
        self.named: tuple[tuple[str, str], ...] = ()
        """Objects that the request names; see owners.py."""
        self.owner: Owner | None = None
        """Who made the object in the path."""
        self.location: str | None = None
        """Where the answer says that what it made is to be found."""
        self.issued: str | None = None
        """What the client secret in the answer is remembered by."""
        self.head = b""
        """The request's head as it went upstream; only where the answer is held, see holding.py."""
        self.refusal: Refusal | None = None
        """Our own answer instead of the upstream's."""
        self.outcome: Outcome = "success"
        self.ended = False

    @property
    def provider(self) -> str:
        """The id that prices go by."""
        return self.upstream.provider
