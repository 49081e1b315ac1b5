"""Folds: sums of the hourly sums over fewer dimensions and longer stretches of time, made in the background; see migrations 0012 and 0016.

Reports read them where they can, and the hourly sums elsewhere, so that their answers don't depend on whether, or when, folds
were made. Whatever changes an hour takes the marks of all that hold it away, and `make_due` makes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy.core.stretches import (
    DAY,
    GRAINS,
    HOUR,
    LARGE,
    OVERLAPPING,
    Grain,
    Piece,
    block,
    floor,
    joined,
    large_blocks,
    pieces,
)
from proxy.store.marks import folded
from proxy.store.postgres import Connection, Pool, statements

_SQL = statements("folds")
WINDOW: Final = "window"
"""The grain of 24 hours that begin at any hour, which overlap each other; see migrations 0015 and 0016."""
DAYS_MAX = 2000
"""Made in one go; the rest next time."""
SIX_DAYS = 45
"""How long the cuts by people keep their sums of six hours: for today, and for the first days of short reports in other zones."""
USUAL_DAYS = (30, 90, 365)
"""Lengths of reports up to today that are asked most. The cuts by people have sums of six hours of their first days, in whichever zone,
and a tail of the month from there.
"""


@dataclass(frozen=True, slots=True)
class Cut:
    """Sums over some dimensions. `counted`: each row also has its number of distinct users. `hours`: also made of each hour; without,
    of each six, since most users have few requests in an hour, and of heads and tails, since each block has many rows.
    """

    name: str
    dimensions: frozenset[str]
    counted: bool = True
    hours: bool = True

    @property
    def grains(self) -> tuple[Grain, ...]:
        """The largest first."""
        left_out = OVERLAPPING | {"six"} if self.hours else {"hour"}
        return tuple(grain for grain in GRAINS if grain not in left_out)


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
EXCHANGE_GRAINS = tuple(grain for grain in GRAINS[: GRAINS.index("six")] if grain not in OVERLAPPING)
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
                await _fold_day(connection, row["day"])
                await connection.execute(_SQL["unmark_hours"], row["day"], row["day"] + DAY)
                made += 1
    first_days = _first_days(now)
    for row in await pool.fetch(_SQL["foldable_sixes"], now, SIX_DAYS, first_days):
        async with pool.acquire() as connection, connection.transaction():
            if not await _alone(connection):
                return made
            if not await connection.fetchval(_SQL["is_folded"], "six", row["start"]):
                await _fold_six(connection, row["start"], row["end"])
    async with pool.acquire() as connection:
        due, stay = await _due_blocks(connection, now)
    for each in due:
        async with pool.acquire() as connection, connection.transaction():
            if not await _alone(connection):
                return made
            await _fold_block(connection, each)
    for row in await pool.fetch(_SQL["foldable_windows"], None):
        async with pool.acquire() as connection, connection.transaction():
            if not await _alone(connection):
                return made
            if await connection.fetchval(_SQL["foldable_windows"], row["at"]) is not None:
                await _fold_windows(connection, row["at"])
    cuts = [cut.name for cut in PEOPLE_CUTS]
    await pool.execute(_SQL["forget_sixes"], now, SIX_DAYS, first_days, cuts)
    heads, tails = (
        [each.stands[0] for each in stay if each.grain == grain] for grain in ("month_head", "month_tail")
    )
    await pool.execute(_SQL["forget_ends"], cuts, heads, tails)
    return made


def _first_days(now: datetime) -> list[datetime]:
    """The days on which the usual reports begin, for which a day of another zone may begin on the one before."""
    today = floor("day", now)
    return [today - number * DAY for days in USUAL_DAYS for number in (days, days - 1)]


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


async def _fold_day(connection: Connection, day: datetime) -> None:
    await _fold_exchanges(connection, Piece("day", day, day + DAY), [])
    await _fold_from_hours(connection, CUTS, "day", day, day + DAY)


async def _fold_six(connection: Connection, start: datetime, end: datetime) -> None:
    await _fold_from_hours(connection, PEOPLE_CUTS, "six", start, end)


async def _fold_from_hours(
    connection: Connection, cuts: Sequence[Cut], grain: Grain, start: datetime, end: datetime
) -> None:
    await connection.execute(_SQL["clear"], grain, start, end)
    await connection.execute(_SQL["fold_hours"], *_of(FULL), grain, start, end)
    await _fold_up(connection, cuts, Piece(grain, start, end))


async def _due_blocks(connection: Connection, now: datetime) -> tuple[list[Piece], list[Piece]]:
    """Of the blocks of LARGE grains that there should be, since all of their days are folded, those that are not folded, and all; those
    first that others are made of. Beside the regular ones there is the head of the last month to the end of its last day, since
    most reports end there, and tails from where the usual ones begin, or a day later.
    """
    first = await connection.fetchval(_SQL["first_folded"])
    if first is None:
        return [], []
    known = await folded(connection, first, max(first, now) + HOUR)
    blocks = [each for start, end in known["day"] for each in large_blocks(start, end)]
    bounds = {(each.start, each.end) for each in blocks}
    blocks += [
        each
        for each in dict.fromkeys(
            (
                block("month_head", known["day"][-1][1] - DAY),
                *(block("month_tail", day + DAY) for day in _first_days(now)),
            )
        )
        if (each.start, each.end) not in bounds
        and each.end - each.start > DAY
        and any(start <= each.start and each.end <= end for start, end in known["day"])
    ]
    missing = [each for each in blocks if (each.start, each.end) not in known.get(_grain(each), ())]
    return missing, blocks


async def _fold_block(connection: Connection, made: Piece) -> None:
    """Fold one block of LARGE grains of the fewest that it can be made of, unless one of its days has changed meanwhile."""
    found = await folded(connection, made.start, made.end)
    known = {grain: stretches for grain, stretches in found.items() if grain != made.grain}
    parts = pieces(made.start, made.end, known, FULL.grains)
    if any(each.grain not in (*LARGE, "day") for each in parts):
        return
    if made.grain in EXCHANGE_GRAINS:
        await _fold_exchanges(connection, made, pieces(made.start, made.end, known, EXCHANGE_GRAINS))
    await connection.execute(_SQL["clear"], made.grain, *made.stands)
    await connection.execute(_SQL["fold_up"], *_of(FULL), made.grain, made.stands[0], *_read(parts))
    await _fold_up(connection, CUTS, made)


async def _fold_exchanges(connection: Connection, made: Piece, parts: Sequence[Piece]) -> None:
    """Latencies and outcomes of one block, of its hours when it is a day, else of its parts."""
    for clear in ("clear_latency", "clear_outcomes"):
        await connection.execute(_SQL[clear], made.grain, made.start, made.end)
    for statement, cuts in (("fold_latency", LATENCY_CUTS), ("fold_outcomes", OUTCOME_CUTS)):
        for name in cuts:
            await connection.execute(_SQL[statement], name, made.grain, made.start, made.end, *_read(parts))


async def _fold_up(connection: Connection, cuts: Sequence[Cut], made: Piece) -> None:
    """Make the other cuts of a block of its fullest, and mark it."""
    for cut in cuts:
        if cut is not FULL and made.grain in cut.grains:
            statement = _SQL[_named("fold_up", cut)]
            await connection.execute(statement, *_of(cut), made.grain, made.stands[0], *_read([made]))
    await connection.execute(_SQL["mark"], made.grain, [made.stands[0]])


def _read(parts: Sequence[Piece]) -> tuple[list[Grain], list[datetime], list[datetime]]:
    """Parameters: grains, and where their blocks stand."""
    stand = [each.stands for each in parts]
    return [_grain(each) for each in parts], [one for one, _ in stand], [two for _, two in stand]


def _grain(piece: Piece) -> Grain:
    assert piece.grain is not None, "what is not folded"
    return piece.grain


async def _fold_windows(connection: Connection, day: datetime) -> None:
    await connection.execute(_SQL["clear"], WINDOW, day - DAY + HOUR, day + HOUR)
    for cut in CUTS:
        if cut.hours:
            await connection.execute(_SQL[_named("fold_windows", cut)], *_of(cut), day)
    await connection.execute(_SQL["mark"], WINDOW, [day])


def _named(statement: str, cut: Cut) -> str:
    return f"{statement}_counted" if cut.counted else statement


def _of(cut: Cut) -> tuple[str, list[str]]:
    return cut.name, sorted(cut.dimensions)
