"""Usage records read back: one, a page of history or of an export, and what is new.

A page costs what it shows, not what there is: a filter of many values (ORDERED) has an index in the order of a page, by which
each value is looked up. Those of few values (FACETS) share one that knows no order. Whether a value is common or rare, and since when, no
statistic tells well enough, so a page by such a filter is looked for in stretches of time, one after the other, each wider
than the one before: the first by reading it through, which finds what is common, the others by the index, which finds what
is rare. Each takes in about as many records as all before it took FACTOR times, so nothing is read for long that wasn't
worth it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from proxy.core.period import Period
from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row
from proxy.store.stats import Filters, Question
from proxy.store.templates import fill

_SQL = statements("records_read")
_SEPARATOR = "\x1f"
FACETS = frozenset(
    {
        "provider", "endpoint", "model", "operation", "status", "streamed", "service_tier", "finish_reason",
        "usage_source", "outcome",
    }
)  # fmt: skip
"""Filters that the index over record_facets serves; it keeps their values as `name=value`."""
ORDERED = {"end_user": "end_user", "key": "key_id", "user": "user_id", "group": "group_id"}
"""Filters that have an index in the order of pages, and their columns; those that tell most records apart first."""
FACET_CHARS_MAX = 200
"""As record_facets cuts them."""
READ_THROUGH = 2_000
"""Records of the first stretch, or four times as many as are wanted."""
FACTOR = 8
_WORDS = {"history": {"side": "older", "way": "desc"}, "export": {"side": "younger", "way": "asc"}}
_STRETCH_MIN = timedelta(seconds=1)
_STRETCHES_MAX = 20
Place = tuple[datetime, UUID]
"""Where a record stands: when it began, and its id."""
_Order = Literal["history", "export"]


async def fetch_record(connection: Connection, record_id: UUID) -> Row | None:
    """One record with `user_name`, `user_email` and `group_name`; None when there is none (yet)."""
    row: Row | None = await connection.fetchrow(_SQL["record"], record_id)
    return row


async def history(
    connection: Connection, question: Question, *, limit: int, after: Place | None = None
) -> list[Row]:
    """Records of the period, newest first; `after` is the last one of the page before."""
    return await _page(connection, "history", question, limit, after)


async def export(
    connection: Connection, question: Question, *, limit: int, after: Place | None = None
) -> list[Row]:
    """Records of the period, oldest first; `after` is the last one of the page before."""
    return await _page(connection, "export", question, limit, after)


async def since(connection: Connection, question: Question, *, seen: Sequence[UUID], limit: int) -> list[Row]:
    """Records of the period that are not among `seen`, in the order in which they ended."""
    period = question.period
    rows: list[Row] = await connection.fetch(
        _SQL["since"], parameter(question.filters), period.start, period.end, limit, list(seen)
    )
    return rows


def parameter(filters: Filters) -> dict[str, Any]:
    """The parameter $1 of the statements."""
    document: dict[str, Any] = {}
    for name, values in filters.where.items():
        kept = [f"{name}={value[:FACET_CHARS_MAX]}" for value in values] if name in FACETS else values
        document[name] = _SEPARATOR.join(kept)
    if filters.tags:
        document["tags"] = dict(filters.tags)
    return document


async def _page(
    connection: Connection, order: _Order, question: Question, limit: int, after: Place | None
) -> list[Row]:
    place = after if after is not None else (None, None)
    period = question.period
    if (name := _ordered(question.filters)) is not None:
        statement = fill("records_read", "_of_values", _WORDS[order] | {"column": ORDERED[name]})
        where = dict(question.filters.where)
        values = list(dict.fromkeys(where.pop(name)))
        return list(
            await connection.fetch(
                statement.text, parameter(Filters(where)), period.start, period.end, limit, *place, values
            )
        )
    edge = None
    if question.filters.where.keys() & (FACETS | {"user_active"}):
        count = max(READ_THROUGH, 4 * limit)
        edge = await connection.fetchval(_SQL[f"{order}_edge"], count, period.start, period.end, *place)
    document = parameter(question.filters)
    rows: list[Row] = []
    for number, (start, end) in enumerate(_stretches(order, period, edge, place[0])):
        name = order if number == 0 else f"{order}_wide"
        rows += await connection.fetch(_SQL[name], document, start, end, limit - len(rows), *place)
        if len(rows) >= limit:
            break
    return rows


def _ordered(filters: Filters) -> str | None:
    """The filter whose values are looked up one by one; None: others may tell more records apart."""
    if filters.tags or not filters.where.keys() <= {*ORDERED, "active"}:
        return None
    return next((name for name in ORDERED if name in filters.where), None)


def _stretches(
    order: _Order, period: Period, edge: datetime | None, begins: datetime | None
) -> Iterator[tuple[datetime, datetime]]:
    """From the newest to the oldest, or, of an export, the other way round. Without an edge the period is one."""
    if edge is None:
        yield period.start, period.end
        return
    back = order == "history"
    origin = begins or (period.end if back else period.start)
    width = max(abs(origin - edge), _STRETCH_MIN)
    if back:
        yield edge, period.end
    else:
        # The record at the edge is in the first stretch: an end is not included.
        edge += datetime.resolution
        yield period.start, edge
    for number in range(1, _STRETCHES_MAX):
        width *= FACTOR
        last = number == _STRETCHES_MAX - 1 or width > period.end - period.start
        if back:
            further = period.start if last else max(edge - width, period.start)
            yield further, edge
        else:
            further = period.end if last else min(edge + width, period.end)
            yield edge, further
        if further in (period.start, period.end):
            return
        edge = further
