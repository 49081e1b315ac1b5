"""What is made of a request's head: the call that it asks for, and the head that goes upstream. For a head that came before
on the same connection both are known already.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from proxy.core.call import Call, read_call_behind
from proxy.core.callhead import read_call_head
from proxy.core.headers import OnwardHead, request_head
from proxy.core.lightbody import NOTHING_TAKEN
from proxy.gateway.request import Request
from proxy.gateway.upstreams import Upstream


def call_of(request: Request, body: bytes | None, taken: Mapping[int, int] = NOTHING_TAKEN) -> Call:
    """What a request asks for; `body` None: it has none, or it is streamed on; `taken`: what was taken out of it (lightbody.py).
    Raises Refusal (400).
    """
    header, known = request.fields.get, request.known
    head = known.call if known is not None else None
    if head is None:
        head = read_call_head(request.method.decode("latin-1"), request.target, header)
        if known is not None:
            known.call = head
    bytes_in = request.received if request.complete else request.length or request.received
    return read_call_behind(head, header, body, bytes_in, taken)


def onward_head(request: Request, upstream: Upstream, sent: bytes | None, *, identity: bool) -> bytes:
    """The head that goes upstream before `sent`, or before a body that is streamed on; `identity`: ask for no coding."""
    known, policy = request.known, upstream.policy
    length = request.length if sent is None or request.length is None else len(sent)
    if known is not None and length is not None and not request.secret:
        onward = known.onward
        if onward is not None and onward.fits(policy, identity=identity):
            return onward.render(length)
    if request.secret:
        policy = replace(policy, authorization=b"Bearer " + request.secret, key=request.secret)
    head = request_head(
        request.method,
        upstream.prefix + request.target if upstream.prefix else request.target,
        request.headers,
        policy,
        names=request.names(),
        length=length,
        chunked=request.chunked,
        identity=identity,
        websocket=request.websocket,
        expect=sent is None and request.expects_continue,
    )
    if known is not None and not request.secret:
        with contextlib.suppress(ValueError):  # it has no length
            known.onward = OnwardHead(head, _name_of_length(request), policy, identity=identity)
    return head


def _name_of_length(request: Request) -> bytes:
    """How the client spells Content-Length."""
    return next((name for name, _ in request.headers if name.lower() == b"content-length"), b"Content-Length")
