"""Generated usage over several months, and sums of it computed without the database."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tests.admin.conftest import NOW, record

OUTCOMES = (
    (200, "success", None, "stop"),
    (200, "success", None, "length"),
    (200, "client_gone", None, None),
    (429, "refused", "insufficient_quota", None),
    (500, "upstream_error", "server_error", None),
    (200, "upstream_cut", None, None),
    (0, "client_gone", None, None),
    (0, "upstream_unreachable", None, None),
)


def generate(people: list[dict[str, str]], count: int = 400, seed: int = 7) -> list[dict[str, Any]]:
    """Records of 100 days up to NOW, none in the days of July 10 to 19, with everything that can differ differing."""
    draw = random.Random(seed)
    lines = []
    while len(lines) < count:
        started_at = NOW - timedelta(
            seconds=draw.randrange(1, 100 * 86_400), microseconds=draw.randrange(10**6)
        )
        if datetime(2026, 7, 10, tzinfo=UTC) <= started_at < datetime(2026, 7, 20, tzinfo=UTC):
            continue
        status, outcome, code, finish = draw.choice(OUTCOMES)
        input_tokens = draw.randrange(1, 5000)
        lines.append(
            record(
                started_at,
                **draw.choice(people),
                served_model=draw.choice(["gpt-5.1", "gpt-5.1-mini", "o4", None]),
                endpoint=draw.choice(["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]),
                operation=draw.choice(["rag_answer", "summary", None]),
                provider=draw.choice(["openai", "openai-eu"]),
                tags={"grade": draw.choice("789"), "session": str(draw.randrange(5))},
                end_user=draw.choice(["1", "2", None]),
                streamed=draw.random() < 0.5,
                service_tier=draw.choice(["default", "flex"]),
                status=status,
                outcome=outcome,
                error_code=code,
                finish_reason=finish,
                input_tokens=input_tokens,
                cached_input_tokens=draw.randrange(input_tokens),
                output_tokens=draw.randrange(2000),
                cost_nanousd=draw.choice([None, draw.randrange(10**9)]),
                cache_saved_nanousd=draw.randrange(10**8),
                duration_ms=draw.randrange(1, 60_000),
                ttfb_ms=draw.choice([None, draw.randrange(1, 3000)]),
            )
        )
    return lines


def at(line: dict[str, Any]) -> datetime:
    """When it began."""
    return datetime.fromtimestamp(line["started_at_us"] // 10**6, UTC).replace(
        microsecond=line["started_at_us"] % 10**6
    )


def model(line: dict[str, Any]) -> str:
    """What statistics call its model."""
    return line["served_model"] or line["requested_model"] or ""


def failed(line: dict[str, Any]) -> bool:
    """Whether statistics count it as an error."""
    return line["outcome"] not in {"success", "client_gone"}


def between(lines: Iterable[dict[str, Any]], start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Those that began from start up to but not including end."""
    return [line for line in lines if start <= at(line) < end]


def sums(lines: list[dict[str, Any]]) -> dict[str, int]:
    """The plain sums."""
    return {
        "requests": len(lines),
        "errors": sum(failed(line) for line in lines),
        "input_tokens": sum(line["input_tokens"] for line in lines),
        "cached_input_tokens": sum(line["cached_input_tokens"] for line in lines),
        "output_tokens": sum(line["output_tokens"] for line in lines),
        "total_tokens": sum(line["total_tokens"] for line in lines),
        "cost_nanousd": sum(line["cost_nanousd"] or 0 for line in lines),
        "cache_saved_nanousd": sum(line["cache_saved_nanousd"] for line in lines),
        "unpriced_requests": sum(line["cost_nanousd"] is None for line in lines),
    }


def grouped(
    lines: Iterable[dict[str, Any]], key: Callable[[dict[str, Any]], Any]
) -> dict[Any, dict[str, int]]:
    """Sums by a key."""
    groups = defaultdict(list)
    for line in lines:
        groups[key(line)].append(line)
    return {value: sums(members) for value, members in groups.items()}


def shown(answer: dict[str, Any]) -> dict[str, int]:
    """The plain sums of an answer, money read back to nano-dollars."""
    found = {name: answer[name] for name in sums([]) if not name.endswith("_nanousd")}
    amounts = {
        name: answer[name.replace("_nanousd", "_usd")] for name in ("cost_nanousd", "cache_saved_nanousd")
    }
    return found | {name: nanousd(amount) for name, amount in amounts.items()}


def nanousd(text: str) -> int:
    """A decimal string of dollars in nano-dollars."""
    whole, _, decimals = text.partition(".")
    return int(whole) * 10**9 + int(decimals.ljust(9, "0"))


def day(tz: str) -> Callable[[dict[str, Any]], str]:
    """The day of a record in a zone."""
    return lambda line: at(line).astimezone(ZoneInfo(tz)).strftime("%Y-%m-%d")
