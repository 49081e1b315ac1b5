"""Marks: what is folded, as reports and folding read it; see proxy/store/folds.py."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from proxy.core.stretches import LARGE, Grain, Stretch, block, joined
from proxy.store.postgres import Connection, statements

_SQL = statements("marks")
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


@dataclass(slots=True)
class Marks:
    """What is folded, read once for all questions of one transaction that sees one moment (repeatable read)."""

    _folded: tuple[datetime, datetime, Folded] | None = None
    _windows: tuple[datetime, datetime, Sequence[Stretch]] | None = None

    async def folded(self, connection: Connection, start: datetime, end: datetime) -> Folded:
        """As `folded` tells, and maybe of more than the period."""
        known = self._folded
        if known is None or start < known[0] or end > known[1]:
            start, end = (start, end) if known is None else (min(start, known[0]), max(end, known[1]))
            self._folded = known = (start, end, await folded(connection, start, end))
        return known[2]

    async def windows(self, connection: Connection, start: datetime, end: datetime) -> Sequence[Stretch]:
        """As `windows` tells, and maybe of more than the period."""
        known = self._windows
        if known is None or start < known[0] or end > known[1]:
            start, end = (start, end) if known is None else (min(start, known[0]), max(end, known[1]))
            self._windows = known = (start, end, await windows(connection, start, end))
        return known[2]
