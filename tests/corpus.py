"""The corpus of exchanges with OpenAI under tests/fixtures/openai, and how it is read.

Each exchange is a directory:

    request.http    method and target, headers, an empty line, the body; lines of the head end in LF
    response.http   status line, headers, an empty line, the body as it comes on the wire after transfer coding
    messages.jsonl  WebSocket only: {"from": "client" | "server", "data": {…}} for each text message after the 101
    expected.json   what must be recorded: {"why", "record": {…}, "parts": […], "children": […], "visible": …}

`record`, `parts` and `children` hold only what differs from nothing: a count that is not named is 0, a text that is not named is
missing. `visible` names a file with the bytes that a client sees who did not ask for usage, where the request is one to be spliced.
All data are made up; their form is that of OpenAI's API in November 2026.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy.core.usage import COUNTS, Reading, Usage

DIRECTORY = Path(__file__).parent / "fixtures" / "openai"
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One WebSocket text message."""

    from_client: bool
    text: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request, its answer, and what must be recorded of them."""

    name: str
    method: str
    target: bytes
    request_headers: Headers
    request_body: bytes
    status: int
    response_headers: Headers
    response_body: bytes
    messages: tuple[Message, ...] = ()
    visible: bytes | None = None
    """What a client sees who did not ask for usage; None: exactly the response's body."""
    why: str = ""
    record: dict[str, Any] = field(default_factory=dict)
    """Fields of UsageRecord, and of Usage by their own names."""
    parts: tuple[dict[str, Any], ...] = ()
    children: tuple[dict[str, Any], ...] = ()
    """WebSocket: the records of its responses, in order."""

    def header(self) -> Callable[[bytes], bytes | None]:
        """First value of a request header by lower-case name, as `read_call` wants it."""
        fields = {name.lower(): value for name, value in reversed(self.request_headers)}
        return fields.get

    def answer(self, name: bytes) -> str:
        """First value of a response header, "" without one."""
        return next((value.decode() for each, value in self.response_headers if each.lower() == name), "")


def load() -> list[Exchange]:
    """All exchanges, by name."""
    return [_read(path) for path in sorted(DIRECTORY.iterdir()) if (path / "expected.json").is_file()]


def usage_fields(usage: Usage | None) -> dict[str, Any]:
    """The counts of a usage that are not zero, units as a mapping."""
    if usage is None:
        return {}
    named = {name: getattr(usage, name) for name in COUNTS}
    found = {name: count for name, count in named.items() if count}
    if usage.units:
        found["units"] = dict(usage.units)
    return found


def recorded(reading: Reading) -> dict[str, Any]:
    """A reading in the terms of `record`, without what the request says."""
    found: dict[str, Any] = {
        "served_model": reading.model,
        "service_tier": reading.service_tier,
        "finish_reason": reading.finish_reason,
        "object_id": reading.object_id,
        "error_type": reading.error_type,
        "error_code": reading.error_code,
        "error_message": reading.error_message,
    }
    return {name: value for name, value in found.items() if value is not None} | usage_fields(reading.usage)


def _read(path: Path) -> Exchange:
    request_line, request_headers, request_body = _message(path / "request.http")
    method, target, _ = request_line.split(b" ", 2)
    status_line, response_headers, response_body = _message(path / "response.http")
    expected = json.loads((path / "expected.json").read_text())
    messages: tuple[Message, ...] = ()
    if (path / "messages.jsonl").is_file():
        lines = [json.loads(line) for line in (path / "messages.jsonl").read_text().splitlines()]
        messages = tuple(
            Message(line["from"] == "client", json.dumps(line["data"], separators=(",", ":")).encode())
            for line in lines
        )
    return Exchange(
        name=path.name,
        method=method.decode(),
        target=target,
        request_headers=request_headers,
        request_body=request_body,
        status=int(status_line.split(b" ")[1]),
        response_headers=response_headers,
        response_body=response_body,
        messages=messages,
        visible=(path / expected["visible"]).read_bytes() if "visible" in expected else None,
        why=expected["why"],
        record=expected["record"],
        parts=tuple(expected.get("parts", ())),
        children=tuple(expected.get("children", ())),
    )


def _message(path: Path) -> tuple[bytes, Headers, bytes]:
    head, _, body = path.read_bytes().partition(b"\n\n")
    first, *lines = head.split(b"\n")
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in lines))
    return first, headers, body
