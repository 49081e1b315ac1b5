"""Marks: what is folded, as reports and folding read it; see proxy/store/folds.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeAlias, TypeVar

from proxy.core.stretches import LARGE, Grain, Stretch, block, joined
from proxy.store.postgres import Connection, statements

_SQL = statements("marks")
_Told = TypeVar("_Told")
Folded: TypeAlias = Mapping[Grain, Sequence[Stretch]]
"""Of each grain what is folded, ordered: each block of LARGE ones, of others stretches."""


async def folded(connection: Connection, start: datetime, end: datetime) -> Folded:
    """What is folded, as far as it may matter to a period."""
    found: defaultdict[Grain, list[Stretch]] = defaultdict(list)
    for row in await connection.fetch(_SQL["folded"], start, end, LARGE):
        grain, first = row["grain"], row["start"]
        if grain in LARGE:
            each = block(grain, first)
            found[grain].append((each.start, each.end))
        else:
            found[grain].append((first, row["end"]))
    found["hour"] = joined(found["hour"] + found["day"])
    return found


async def windows(connection: Connection, start: datetime, end: datetime) -> Sequence[Stretch]:
    """Stretches of days, as far as they may matter to a period, of which each 24 hours are folded that end at one of their hours, up to
    midnight after them.
    """
    return joined((row["start"], row["end"]) for row in await connection.fetch(_SQL["windows"], start, end))


class Marks:
    """What is folded, read once for all questions of one transaction that sees one moment (repeatable read). What is told may be of more
    than the period that is asked about.
    """

    def __init__(self) -> None:
        self.folded = _Once(folded)
        self.windows = _Once(windows)


@dataclass(slots=True)
class _Once(Generic[_Told]):
    """Reads, and reads again only for what lies beyond."""

    read: Callable[[Connection, datetime, datetime], Awaitable[_Told]]
    known: tuple[datetime, datetime, _Told] | None = None

    async def __call__(self, connection: Connection, start: datetime, end: datetime) -> _Told:
        known = self.known
        if known is None or start < known[0] or end > known[1]:
            if known is not None:
                start, end = min(start, known[0]), max(end, known[1])
            self.known = known = (start, end, await self.read(connection, start, end))
        return known[2]
