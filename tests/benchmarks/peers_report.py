"""What came of the comparison: a table and a list of what was skipped, two lines for the README, and the chart's bars."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.chart import Bar, Panel
from tests.benchmarks.targets import OWN

HEAD = (
    "one worker each",
    "CPU, µs per request",
    "× nginx",
    "CPU, µs per chunk",
    "× nginx",
    "added p50, ms",
    "added p99, ms",
    "at requests/s",
    "resident, MiB",
    "what it does for that",
)
NGINX = "nginx"


@dataclass(frozen=True, slots=True)
class Row:
    """One target's figures. CPU is in microseconds, `added` (p50, p99) in milliseconds at `rate` requests per second, `postgres_us`
    what Postgres spends per request beside it.
    """

    name: str
    request_us: float
    chunk_us: float
    added: tuple[float, float]
    rate: float
    resident_mib: float
    does: str
    postgres_us: float | None = None
    errors: int = 0

    def told(self) -> str:
        """`does`, with what else there is to say."""
        parts = [self.does]
        if self.postgres_us is not None:
            parts.append(f"Postgres beside it: {us(self.postgres_us)} µs per request")
        if self.errors:
            parts.append(f"**{self.errors} requests failed**")
        return ". ".join(parts)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A peer that was not measured."""

    name: str
    why: str


def us(value: float) -> str:
    """Microseconds with as many digits as mean something."""
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def table(found: Sequence[Row | Skipped]) -> str:
    """Markdown: the rows in the order of their CPU per request, then what was skipped and why."""
    rows = ranked(found)
    nginx = next((row for row in rows if row.name == NGINX), None)

    def times(value: float, of: float | None) -> str:
        return f"{value / of:,.1f}" if of else ""

    lines = [_line(HEAD), "|---|" + "---:|" * (len(HEAD) - 2) + "---|"]
    for row in rows:
        name = f"**{row.name}**" if row.name == OWN else row.name
        cells = (
            us(row.request_us),
            times(row.request_us, nginx and nginx.request_us),
            us(row.chunk_us),
            times(row.chunk_us, nginx and nginx.chunk_us),
            *(f"{value:.2f}" for value in row.added),
            f"{row.rate:.0f}",
            f"{row.resident_mib:.0f}",
            row.told(),
        )
        lines.append(_line((name, *cells)))
    missing = [each for each in found if isinstance(each, Skipped)]
    if missing:
        lines += ["", "Not measured:", "", *(f"- {each.name}: {each.why}" for each in missing)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def ranked(found: Sequence[Row | Skipped]) -> list[Row]:
    """Cheapest request first."""
    return sorted((row for row in found if isinstance(row, Row)), key=lambda row: row.request_us)


def summary(found: Sequence[Row | Skipped]) -> str:
    """Two lines: CPU per request and per streamed chunk."""
    requests = ranked(found)
    chunks = sorted(requests, key=lambda row: row.chunk_us)
    first = "; ".join(f"{_short(row)} {us(row.request_us)}" for row in requests)
    second = "; ".join(f"{_short(row)} {us(row.chunk_us)}" for row in chunks)
    return f"CPU per request, µs: {first}.\\\nCPU per streamed chunk, µs: {second}."


def _short(row: Row) -> str:
    """Its name without the version, which the table has."""
    return f"**{row.name}**" if row.name == OWN else re.sub(r" \d[\d.]*", "", row.name)


def panels(found: Sequence[Row | Skipped]) -> tuple[Panel, Panel]:
    """What the chart shows."""
    rows = ranked(found)
    return (
        Panel("CPU per request, µs", tuple(Bar(row.name, row.request_us, row.name == OWN) for row in rows)),
        Panel(
            "CPU per streamed chunk, µs", tuple(Bar(row.name, row.chunk_us, row.name == OWN) for row in rows)
        ),
    )
