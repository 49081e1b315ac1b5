"""Three believable months of usage: a company's working days, its growth, a bad afternoon, and every kind of end.

Pure: the same seed, end and people give the same records. Costs come from the price book that is given, so they are what
the same calls would have cost.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from proxy.cli.demo_world import ENDPOINTS, TEAMS, Team, Work
from proxy.core.ids import uuid7
from proxy.core.price import PriceBook
from proxy.core.record import UsageRecord
from proxy.core.usage import Usage

GROWTH = 1.9
"""How many times as much the last day sees as the first."""
OUTAGE = (0.71, timedelta(hours=3))
"""One bad afternoon: where in the period it lies, and how long it takes."""
RUNAWAY = ("Omar Haddad", 0.86, 260)
"""Somebody's script in a loop: who, on which day, and how many requests."""
LATEST = timedelta(minutes=2)
"""The newest record is about this old."""


@dataclass(frozen=True, slots=True)
class Person:
    """A user with their keys, as stored."""

    user_id: str
    group_id: str
    name: str
    key_ids: tuple[str, ...]
    active: bool


def records(
    people: Mapping[str, Person], book: PriceBook, *, seed: int, days: int, end: datetime
) -> Iterator[UsageRecord]:
    """Records of the `days` days before `end`, oldest first. `people` are by name."""
    draw = random.Random(seed)  # noqa: S311
    first = (
        (end - timedelta(days=days - 1)).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    )
    for number in range(days):
        day = first + timedelta(days=number)
        rows = []
        for team in TEAMS:
            level = GROWTH ** (number / max(1, days - 1)) / math.sqrt(GROWTH)
            level *= team.weekend if day.weekday() >= 5 else 1.0
            count = round(team.requests_a_day * level * draw.lognormvariate(0, 0.12))
            rows += [_one(draw, team, people, day, number / days) for _ in range(count)]
        name, when, times = RUNAWAY
        if number == int(when * days) and name in people:
            rows += [_runaway(draw, people[name], day) for _ in range(times)]
        outage = first + timedelta(days=int(OUTAGE[0] * days), hours=13)
        ended = [_touched(draw, row, outage) for row in rows if row.started < end - LATEST]
        yield from (each.record(draw, book) for each in sorted(ended, key=lambda row: row.started))


@dataclass(slots=True, kw_only=True)
class _Request:
    """What is known of a request before its end is decided."""

    started: datetime
    person: Person
    key_id: str
    work: Work
    model: str
    usage: Usage
    tags: dict[str, str]
    end_user: str | None
    outcome: str = "success"
    status: int = 200
    error: tuple[str, str, str] | None = None

    def record(self, draw: random.Random, book: PriceBook) -> UsageRecord:
        """The record, priced."""
        work, usage, at = self.work, self.usage, self.started.timestamp()
        answered = self.outcome in {"success", "client_gone"}
        if not answered:
            usage = Usage()
        source = "none"
        if usage.total_tokens:
            source = "estimated" if self.outcome == "client_gone" else "reported"
        cost = book.cost("openai", self.model, work.tier, usage if answered else None, at)
        ttfb_ms = int(work.wait_ms * draw.lognormvariate(0, 0.35))
        duration_ms = ttfb_ms + int(usage.output_tokens / work.speed * 1000 * draw.lognormvariate(0, 0.2))
        if not work.streamed:
            ttfb_ms = duration_ms
        timed_out = self.outcome == "upstream_timeout"
        kind, code, message = self.error or (None, None, None)
        return UsageRecord(
            id=uuid7(round(at * 1e6), draw.getrandbits(64)),
            started_at_us=round(at * 1e6),
            key_id=self.key_id,
            user_id=self.person.user_id,
            group_id=self.person.group_id,
            provider="openai",
            endpoint=ENDPOINTS[work.kind],
            method="POST",
            requested_model=self.model,
            served_model=self.model if answered else None,
            operation=work.operation,
            tags=self.tags,
            end_user=self.end_user,
            streamed=work.streamed,
            status=self.status,
            outcome=self.outcome,  # type: ignore[arg-type]
            error_type=kind,
            error_code=code,
            error_message=message,
            finish_reason=_finish(draw, work) if answered else None,
            service_tier=work.tier if answered and work.kind in {"chat", "responses"} else None,
            usage=usage,
            usage_source=source,
            cost_nanousd=cost.nanousd,
            price_id=cost.price_id,
            cache_saved_nanousd=cost.cache_saved_nanousd,
            object_id=f"{'resp' if work.kind == 'responses' else 'chatcmpl'}_{draw.getrandbits(96):024x}"
            if answered and work.kind in {"chat", "responses"}
            else None,
            upstream_request_id=f"req_{draw.getrandbits(128):032x}" if self.outcome != "refused" else None,
            ttfb_ms=None if timed_out or self.outcome == "refused" else ttfb_ms,
            duration_ms=600_000 if timed_out else 1 if self.outcome == "refused" else duration_ms,
            bytes_in=600 + usage.input_tokens * 4,
            bytes_out=900 + usage.output_tokens * (210 if work.streamed else 5),
        )


def _one(
    draw: random.Random, team: Team, people: Mapping[str, Person], day: datetime, progress: float
) -> _Request:
    name = draw.choices(
        [f"{f} {last}" for f, last, _ in team.people], [share for _, _, share in team.people]
    )[0]
    person = people[name]
    if not person.active and progress > 0.6:
        person = people[" ".join(team.people[0][:2])]
    work = draw.choices(team.work, [each.share for each in team.work])[0]
    model = work.model
    if work.replaced_by and draw.random() < 1 / (1 + math.exp(-14 * (progress - 0.55))):
        model = work.replaced_by
    opens, closes = team.hours
    hour = draw.triangular(opens, closes, opens + (closes - opens) * 0.4)
    if draw.random() < 0.07:
        hour = draw.uniform(0, 24)
    return _Request(
        started=day + timedelta(hours=hour),
        person=person,
        key_id=draw.choices(person.key_ids, [3] + [1] * (len(person.key_ids) - 1))[0],
        work=work,
        model=model,
        usage=_usage(draw, work),
        tags={tag: draw.choice(values) for tag, values in team.tags.items() if draw.random() < 0.85},
        end_user=f"{team.external_id}-{int(draw.paretovariate(1.1)) % team.end_users:04d}"
        if team.end_users
        else None,
    )


def _usage(draw: random.Random, work: Work) -> Usage:
    given = round(work.input_tokens * draw.lognormvariate(0, 0.5))
    written = round(work.output_tokens * draw.lognormvariate(0, 0.45))
    cached = 0
    if work.cached and given >= 1024 and draw.random() < 0.85:
        cached = int(given * min(0.95, max(0.0, draw.gauss(work.cached, 0.12)))) // 128 * 128
    image = work.kind == "images"
    audio = work.kind == "transcription"
    return Usage(
        input_tokens=given,
        output_tokens=written,
        total_tokens=given + written,
        cached_input_tokens=cached,
        reasoning_tokens=round(written * min(0.95, max(0.0, draw.gauss(work.reasoning, 0.1))))
        if work.reasoning
        else 0,
        input_audio_tokens=given if audio else 0,
        output_image_tokens=written if image else 0,
    )


def _finish(draw: random.Random, work: Work) -> str | None:
    if work.kind == "responses":
        return "completed" if draw.random() < 0.985 else "max_output_tokens"
    if work.kind != "chat":
        return None
    return draw.choices(("stop", "length", "tool_calls", "content_filter"), (90, 5, 4.6, 0.4))[0]


_ENDS: tuple[tuple[float, str, int, tuple[str, str, str] | None], ...] = (
    (0.010, "client_gone", 200, None),
    (0.006, "upstream_error", 429, ("requests", "rate_limit_exceeded", "Rate limit reached for requests per min.")),
    (0.004, "upstream_error", 400, ("invalid_request_error", "context_length_exceeded", "This model's maximum context length was exceeded.")),
    (0.003, "upstream_error", 500, ("server_error", "server_error", "The server had an error while processing your request.")),
    (0.004, "refused", 429, ("insufficient_quota", "insufficient_quota", "The quota of the plan Starter is used up: 10.00 USD a month.")),
    (0.001, "upstream_timeout", 504, ("server_error", "upstream_timeout", "The upstream did not answer in time.")),
    (0.0006, "upstream_unreachable", 502, ("server_error", "upstream_unreachable", "The upstream can't be reached.")),
)  # fmt: skip


def _touched(draw: random.Random, request: _Request, outage: datetime) -> _Request:
    """Decide how the request ends."""
    if outage <= request.started < outage + OUTAGE[1] and draw.random() < 0.45:
        request.outcome, request.status = "upstream_error", 503
        request.error = (
            "server_error",
            "server_overloaded",
            "The engine is currently overloaded, please try again later.",
        )
        return request
    chance = draw.random()
    for share, outcome, status, error in _ENDS:
        if chance < share:
            request.outcome, request.status, request.error = outcome, status, error
            return request
        chance -= share
    return request


def _runaway(draw: random.Random, person: Person, day: datetime) -> _Request:
    work = TEAMS[1].work[2]
    return _Request(
        started=day + timedelta(hours=draw.uniform(21, 23.5)),
        person=person,
        key_id=person.key_ids[0],
        work=work,
        model=work.model,
        usage=_usage(draw, work),
        tags={"project": "atlas"},
        end_user=None,
    )
