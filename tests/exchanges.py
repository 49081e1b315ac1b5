"""Exchanges for tests of what becomes of them: numbered, each with its open line and its record."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from proxy.core.call import read_call
from proxy.core.openline import OpenLine
from proxy.core.record import UsageRecord
from proxy.core.usage import Usage
from proxy.gateway.exchange import Exchange
from proxy.gateway.request import Request
from proxy.gateway.upstreams import build
from proxy.settings import Settings

START_US = 1_760_000_000_000_000  # 2025-10-09 08:53:20 UTC
NOTHING_MORE: dict[str, Any] = {
    "group_id": None,
    "operation": None,
    "tags": {},
    "end_user": None,
    "streamed": False,
    "charges": None,
}
"""What an open line has to say and need not."""


def exchange_id(number: int) -> str:
    """The id of exchange `number`; ids sort like their numbers."""
    return str(UUID(int=(0x0199_9C1E_8000_7ABC << 64) + (0x8 << 60) + number))


def make_open(number: int, **changes: Any) -> OpenLine:
    """Its open line: 100 tokens in, up to 1,000 out, 7,000 nano-dollars."""
    line = OpenLine(
        id=exchange_id(number),
        started_at_us=START_US + number,
        key_id="key_a",
        user_id="user_a",
        provider="openai",
        endpoint="/v1/chat/completions",
        method="POST",
        requested_model="gpt-5",
        input_tokens=100,
        output_tokens=1_000,
        cost_nanousd=7_000,
        **NOTHING_MORE,
    )
    return line._replace(**changes)


def make_exchange(body: bytes | None = None, *, started: float = 0.0) -> Exchange:
    """A chat request with this body, as it stands before it is forwarded; nobody's."""
    settings = Settings()
    upstream = build(settings, settings.upstream_url, clock=lambda: 0.0).default
    target = b"/v1/chat/completions"
    call = read_call(method="POST", target=target, header={}.get, body=body, body_bytes=len(body or b""))
    return Exchange("id", None, call, Request(b"POST", target, [], {}, started, 0), upstream)


def make_record(number: int, **changes: Any) -> UsageRecord:
    """Its record: 90 tokens in, 10 out, 500 nano-dollars."""
    record = UsageRecord(
        id=exchange_id(number),
        started_at_us=START_US + number,
        key_id="key_a",
        user_id="user_a",
        provider="openai",
        endpoint="/v1/chat/completions",
        method="POST",
        requested_model="gpt-5",
        served_model="gpt-5-2025-08-07",
        status=200,
        outcome="success",
        finish_reason="stop",
        usage=Usage(input_tokens=90, output_tokens=10, total_tokens=100),
        usage_source="reported",
        cost_nanousd=500,
        ttfb_ms=40,
        duration_ms=100,
    )
    return replace(record, **changes)
