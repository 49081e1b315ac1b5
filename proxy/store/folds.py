"""Folds: sums of the hourly sums over fewer dimensions and longer stretches of time, made in the background; see migrations 0012 and 0016.

Reports read them where they can, and the hourly sums elsewhere, so that their answers don't depend on whether, or when, folds
were made. Whatever changes an hour takes the marks of all that hold it away, and `make_due` makes them again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy.core.stretches import DAY, GRAINS, HOUR, Grain, Stretch, following, joined
from proxy.store.postgres import Connection, Pool, statements

_SQL = statements("folds")
WINDOW: Final = "window"
"""The grain of 24 hours that begin at any hour, which overlap each other; see migrations 0015 and 0016."""
DAYS_MAX = 2000
"""Made in one go; the rest next time."""
SIX_DAYS = 45
"""How long the cuts by people keep their sums of six hours: for today, and for the first days of other zones in usual reports."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Sums over some dimensions. `counted`: each row also has its number of distinct users. `hours`: also made of each hour; without,
    of each six, since most users have few requests in an hour.
    """

    name: str
    dimensions: frozenset[str]
    counted: bool = True
    hours: bool = True

    @property
    def grains(self) -> tuple[Grain, ...]:
        """The largest first."""
        left_out = "six" if self.hours else "hour"
        return tuple(grain for grain in GRAINS if grain != left_out)


WHO = Cut("who", frozenset({"user", "key", "group"}), counted=False, hours=False)
WHO_MODEL = Cut("who_model", WHO.dimensions | {"model"}, counted=False, hours=False)
WHO_OPERATION = Cut("who_operation", WHO.dimensions | {"operation"}, counted=False, hours=False)
FULL = Cut(
    "full",
    WHO.dimensions | {"provider", "model", "endpoint", "operation", "status", "tags"},
    counted=False,
    hours=False,
)
CUTS = (
    Cut("total", frozenset()),
    *(
        Cut(name, frozenset({name}))
        for name in ("provider", "status", "endpoint", "operation", "model", "group")
    ),
    # Not counted: a value of one tag may stand in rows of several, and their users don't add up.
    Cut("tags", frozenset({"tags"}), counted=False),
    Cut("what", FULL.dimensions - WHO.dimensions - {"tags"}, counted=False),
    WHO,
    WHO_MODEL,
    WHO_OPERATION,
    FULL,
)
"""Those with fewer rows first."""
PEOPLE_CUTS = (WHO, WHO_MODEL, WHO_OPERATION, FULL)
"""Those that tell users apart, of which usage_spans knows when each combination was used."""
EXCHANGE_GRAINS = GRAINS[: GRAINS.index("six")]
"""Of folds of latencies and outcomes."""
LATENCY_CUTS = ("model", "what")
OUTCOME_CUTS = ("what", "full")


async def make_due(pool: Pool, now: datetime) -> int:
    """Fold every hour that is over since three hours or longer, every day of such hours, and the larger blocks
    of such days; returns how many days were made. Of many workers one does it.
    """
    made = 0
    for row in await pool.fetch(_SQL["foldable"], now, DAYS_MAX):
        async with pool.acquire() as connection, connection.transaction():
            if not await _alone(connection):
                return made
            if await connection.fetchval(_SQL["is_folded"], "day", row["day"]):
                continue
            await _fold_hours(connection, row["hours"])
            if row["whole"]:
                await _fold(connection, "day", row["day"], row["day"] + DAY)
                await connection.execute(_SQL["unmark_hours"], row["day"], row["day"] + DAY)
                made += 1
    for row in await pool.fetch(_SQL["foldable_sixes"], now, SIX_DAYS):
        async with pool.acquire() as connection, connection.transaction():
            if not await _alone(connection):
                return made
            if not await connection.fetchval(_SQL["is_folded"], "six", row["start"]):
                await _fold_six(connection, row["start"], row["end"])
    for grain in reversed(GRAINS[: GRAINS.index("day")]):
        parts = _finer(grain)
        for row in await pool.fetch(_SQL["foldable_blocks"], grain, parts):
            async with pool.acquire() as connection, connection.transaction():
                if not await _alone(connection):
                    return made
                # What it is made of may have changed since.
                still = await connection.fetch(_SQL["foldable_blocks"], grain, parts)
                if row["start"] in {each["start"] for each in still}:
                    await _fold(connection, grain, row["start"], row["end"])
    for row in await pool.fetch(_SQL["foldable_windows"], None):
        async with pool.acquire() as connection, connection.transaction():
            if not await _alone(connection):
                return made
            if await connection.fetchval(_SQL["foldable_windows"], row["at"]) is not None:
                await _fold_windows(connection, row["at"])
    await pool.execute(_SQL["forget_sixes"], now, SIX_DAYS, [cut.name for cut in PEOPLE_CUTS])
    return made


async def folded(connection: Connection, start: datetime, end: datetime) -> dict[Grain, list[Stretch]]:
    """Stretches of folded blocks of each grain, ordered, as far as they may matter to a period."""
    found: defaultdict[Grain, list[Stretch]] = defaultdict(list)
    for row in await connection.fetch(_SQL["folded"], start, end):
        grain, first = row["grain"], row["start"]
        found[grain].append((first, row["end"] or following(grain, first)))
    found["hour"] += found["day"]
    return {grain: joined(stretches) for grain, stretches in found.items()}


async def windows(connection: Connection, start: datetime, end: datetime) -> list[Stretch]:
    """Stretches of days, as far as they may matter to a period, of which each 24 hours are folded that end at one of their hours, up to
    midnight after them.
    """
    return joined((row["start"], row["end"]) for row in await connection.fetch(_SQL["windows"], start, end))


async def _alone(connection: Connection) -> bool:
    await connection.fetchval(_SQL["plan_for_values"])
    return bool(await connection.fetchval(_SQL["try_lock"]))


async def _fold_hours(connection: Connection, hours: Sequence[datetime]) -> None:
    """Fold hours of one day that are not folded."""
    for start, end in joined((hour, hour + HOUR) for hour in hours):
        await connection.execute(_SQL["clear"], "hour", start, end)
        for cut in CUTS:
            if cut.hours:
                await connection.execute(_SQL[_named("fold_hours", cut)], *_of(cut), "hour", start, end)
        for cut in PEOPLE_CUTS:
            await connection.execute(_SQL["span"], *_of(cut), start, end)
    await connection.execute(_SQL["mark"], "hour", list(hours))


async def _fold(connection: Connection, grain: Grain, start: datetime, end: datetime) -> None:
    """Fold one block of a day or longer."""
    for clear in ("clear_latency", "clear_outcomes"):
        await connection.execute(_SQL[clear], grain, start, end)
    await _fold_cuts(connection, CUTS, grain, start, end)
    for name in LATENCY_CUTS:
        await connection.execute(_SQL["fold_latency"], name, grain, start, end, _finer(grain))
    for name in OUTCOME_CUTS:
        await connection.execute(_SQL["fold_outcomes"], name, grain, start, end, _finer(grain))
    await connection.execute(_SQL["mark"], grain, [start])


async def _fold_six(connection: Connection, start: datetime, end: datetime) -> None:
    await _fold_cuts(connection, PEOPLE_CUTS, "six", start, end)
    await connection.execute(_SQL["mark"], "six", [start])


async def _fold_cuts(
    connection: Connection, cuts: Sequence[Cut], grain: Grain, start: datetime, end: datetime
) -> None:
    """Sum one block: first the fullest cut, of which the others are made."""
    await connection.execute(_SQL["clear"], grain, start, end)
    if grain in ("six", "day"):
        await connection.execute(_SQL["fold_hours"], *_of(FULL), grain, start, end)
    else:
        await connection.execute(_SQL["fold_up"], *_of(FULL), grain, start, end, _finer(grain))
    for cut in cuts:
        if cut is not FULL:
            await connection.execute(_SQL[_named("fold_up", cut)], *_of(cut), grain, start, end, grain)


async def _fold_windows(connection: Connection, day: datetime) -> None:
    await connection.execute(_SQL["clear"], WINDOW, day - DAY + HOUR, day + HOUR)
    for cut in CUTS:
        if cut.hours:
            await connection.execute(_SQL[_named("fold_windows", cut)], *_of(cut), day)
    await connection.execute(_SQL["mark"], WINDOW, [day])


def _finer(grain: Grain) -> Grain:
    """Of what blocks of a grain are made."""
    return GRAINS[GRAINS.index(grain) + 1]


def _named(statement: str, cut: Cut) -> str:
    return f"{statement}_counted" if cut.counted else statement


def _of(cut: Cut) -> tuple[str, list[str]]:
    return cut.name, sorted(cut.dimensions)
