"""Usage of some months for tests of folds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from proxy.core.period import Period
from proxy.store import records
from proxy.store.postgres import Pool
from tests.admin import usage
from tests.admin.conftest import payload, record

CROWD = [
    {"user_id": f"user_{number}", "key_id": f"key_{number}", "group_id": f"group_{number % 2}"}
    for number in range(3)
]
FIRST = datetime(2026, 3, 30, 12, tzinfo=UTC)
"""From here on every day is folded: the second quarter is whole."""


async def usage_of_months(pool: Pool) -> list[dict[str, Any]]:
    """Store it; returns the records."""
    lines = [record(FIRST, **CROWD[2]), *usage.generate(CROWD, count=500)]
    await records.store(pool, list(map(payload, lines)), ("grade",))
    return lines


def period(start: datetime, end: datetime, zone: str = "UTC") -> Period:
    """A period of a zone."""
    return Period(start, end, ZoneInfo(zone))


async def made(pool: Pool, grain: str) -> set[datetime]:
    """What of a grain is folded."""
    rows = await pool.fetch("select at from usage_folded where grain = $1", grain)
    return {row["at"] for row in rows}
