"""Does a gateway let more through than its quota? Against any OpenAI-compatible gateway, with nothing but its URL and a key.

    python overspend.py http://127.0.0.1:8080 sk-proxy-… --quota-requests 100
    python overspend.py http://a:8080,http://b:8080 sk-… --quota-tokens 20000 --max-tokens 200

Give the key a quota first (that much requests, tokens or dollars of budget), and name it here. Many clients then ask for chat
completions at the same moment, spread over all URLs, each with `max_tokens` set. Counted is what was answered with 200 and
what those answers say they used. A quota that holds ends at or below its limit; what lies above it is overspend, and the
script ends with code 1.

Bounded: at most --requests requests, of --clients clients, within --seconds. Needs aiohttp.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp

REQUESTS_MAX = 100_000
CLIENTS_MAX = 1_000
REQUEST_TIMEOUT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send, and what the key may use."""

    urls: Sequence[str]
    key: str
    model: str = "gpt-4o-mini"
    requests: int = 500
    clients: int = 50
    max_tokens: int = 16
    seconds: float = 120.0
    prompt: str = "Say something."
    quota_requests: int | None = None
    quota_tokens: int | None = None


@dataclass
class Outcome:
    """What came of it. `statuses` counts answers by status and error code; tokens are those of answers with 200."""

    statuses: Counter[str] = field(default_factory=Counter)
    admitted: int = 0
    tokens: int = 0
    unmetered: int = 0
    """Answers with 200 that said nothing of what they used."""
    seconds: float = 0.0

    def overspend(self, plan: Plan) -> dict[str, int]:
        """By unit, how much was used beyond the quota: nothing, or a negative number, where it holds."""
        over = {}
        if plan.quota_requests is not None:
            over["requests"] = self.admitted - plan.quota_requests
        if plan.quota_tokens is not None:
            over["tokens"] = self.tokens - plan.quota_tokens
        return over


async def run(plan: Plan) -> Outcome:
    """Let all clients loose at once."""
    outcome = Outcome()
    numbers = iter(range(min(plan.requests, REQUESTS_MAX)))
    began = time.monotonic()
    count = min(plan.clients, CLIENTS_MAX)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=False),
        headers={"Authorization": f"Bearer {plan.key}"},
        timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
    ) as session:
        urls = itertools.cycle(plan.urls)
        clients = [_client(session, next(urls), plan, numbers, outcome, began) for _ in range(count)]
        await asyncio.gather(*clients)
    outcome.seconds = time.monotonic() - began
    return outcome


async def _client(
    session: aiohttp.ClientSession,
    url: str,
    plan: Plan,
    numbers: Iterator[int],
    outcome: Outcome,
    began: float,
) -> None:
    for _ in numbers:
        if time.monotonic() - began > plan.seconds:
            return
        try:
            await _ask(session, url, plan, outcome)
        except (aiohttp.ClientError, TimeoutError) as error:
            outcome.statuses[f"no answer ({type(error).__name__})"] += 1


async def _ask(session: aiohttp.ClientSession, url: str, plan: Plan, outcome: Outcome) -> None:
    body = {
        "model": plan.model,
        "max_tokens": plan.max_tokens,
        "messages": [{"role": "user", "content": plan.prompt}],
    }
    async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
        text = await answer.text()
    try:
        said = json.loads(text)
    except ValueError:
        said = {}
    if answer.status != 200:
        error = said.get("error") if isinstance(said, dict) else None
        code = error.get("code") if isinstance(error, dict) else None
        outcome.statuses[f"{answer.status} {code or ''}".strip()] += 1
        return
    outcome.statuses["200"] += 1
    outcome.admitted += 1
    usage = said.get("usage") if isinstance(said, dict) else None
    if isinstance(usage, dict) and isinstance(usage.get("total_tokens"), int):
        outcome.tokens += usage["total_tokens"]
    else:
        outcome.unmetered += 1


def report(plan: Plan, outcome: Outcome) -> str:
    """The outcome for people."""
    sent = sum(outcome.statuses.values())
    lines = [
        f"{sent} requests of {plan.clients} clients on {len(plan.urls)} URL(s) in {outcome.seconds:.1f} s",
        *[f"  {count:6}  {status}" for status, count in sorted(outcome.statuses.items())],
        f"admitted: {outcome.admitted} requests, {outcome.tokens} tokens"
        + (f" ({outcome.unmetered} answers said no usage)" if outcome.unmetered else ""),
    ]
    for unit, over in outcome.overspend(plan).items():
        limit = plan.quota_requests if unit == "requests" else plan.quota_tokens
        verdict = f"OVERSPENT by {over}" if over > 0 else f"held, {-over} left"
        lines.append(f"quota of {limit} {unit}: {verdict}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 held, 1 overspent, 2 nothing was answered."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "url", help="the gateway's address without /v1; several, for its replicas, with commas"
    )
    parser.add_argument("key")
    parser.add_argument("--model", default="gpt-4o-mini")
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--max-tokens", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--quota-requests", type=int)
    parser.add_argument("--quota-tokens", type=int)
    given = vars(parser.parse_args(arguments))
    urls = [url.rstrip("/").removesuffix("/v1") for url in given.pop("url").split(",")]
    plan = Plan(urls=urls, **given)
    outcome = asyncio.run(run(plan))
    print(report(plan, outcome))
    if not outcome.admitted and not any(status[0] in "45" for status in outcome.statuses):
        return 2
    return int(any(over > 0 for over in outcome.overspend(plan).values()))


if __name__ == "__main__":
    sys.exit(main())
