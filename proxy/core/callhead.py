"""CallHead: what a request's head says of the call: where it goes, and our own headers. The body's part is in call.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.core import endpoints, labels
from proxy.core.endpoints import Endpoint

WORD_CHARS_MAX: Final = 256
_AUTHORITY: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")
_NOTHING: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True, slots=True)  # no named tuple: to read a field of one takes three times as long
class CallHead:
    """None is "not said"."""

    method: str
    path: str
    """As it came, without the query."""
    query: str
    endpoint: Endpoint
    object_id: str | None
    """The first id in the path."""
    model: str | None
    """Of a WebSocket's query: nobody else reads it there, so that it must not stand for a body's."""
    operation: str | None
    tags: Mapping[str, str]
    end_user: str | None
    on_behalf_of: str | None
    client_request_id: str | None


def read_call_head(method: str, target: bytes, header: Callable[[bytes], bytes | None]) -> CallHead:
    """Read a head. `header` gives the first value of a lower-case name.

    Raises Refusal (400) for one of our own headers that can't be understood, and nothing else.
    """
    path, query = _split_target(target)
    endpoint, object_id = endpoints.match(method, path)
    operation = header(b"x-usage-operation")
    tags = header(b"x-usage-tags")
    end_user = header(b"x-usage-end-user")
    user = header(b"x-usage-user")
    request_id = header(b"x-client-request-id")
    return CallHead(
        method,
        path,
        query,
        endpoint,
        object_id,
        _model_of_query(query) if query and endpoint.websocket else None,
        None if operation is None else labels.operation_of(operation),
        _NOTHING if tags is None else labels.tags_of(tags),
        None if end_user is None else labels.end_user_of(end_user),
        None if user is None else labels.on_behalf_of(user),
        None if request_id is None else labels.client_request_id_of(request_id),
    )


def origin_form(target: bytes) -> bytes:
    """A request target without scheme and authority, where it came in absolute form (RFC 9112, 3.2.2)."""
    found = None if target.startswith(b"/") else _AUTHORITY.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def _split_target(target: bytes) -> tuple[str, str]:
    """Path and query of a request target in either form."""
    path, _, query = origin_form(target).decode("latin-1").partition("?")
    return path, query


def _model_of_query(query: str) -> str | None:
    """`model` of a WebSocket's query (`/v1/realtime?model=…`); of two different ones nobody knows which one counts."""
    from urllib.parse import parse_qs

    if "model" not in query:
        return None
    try:
        found = parse_qs(query, max_num_fields=64).get("model")
    except ValueError:
        return None
    return found[0][:WORD_CHARS_MAX] if found and len(set(found)) == 1 else None
