"""Usage records read back: one, a page of history, what is new, and everything for an export."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from uuid import UUID

from proxy.store.postgres import Connection, statements
from proxy.store.rows import Row
from proxy.store.stats import Question

_SQL = statements("stats")
EXPORT_BATCH = 500


async def fetch_record(connection: Connection, record_id: UUID) -> Row | None:
    """One record with `user_name`, `user_email` and `group_name`; None when there is none (yet)."""
    row: Row | None = await connection.fetchrow(_SQL["record"], record_id)
    return row


async def history(
    connection: Connection, question: Question, *, limit: int, after: tuple[datetime, UUID] | None = None
) -> list[Row]:
    """Records of the period, newest first; `after` is the last one of the page before."""
    started_at, record_id = after if after is not None else (None, None)
    filters = question.filters.as_json()
    rows: list[Row] = await connection.fetch(
        _SQL["history"], filters, question.period.start, question.period.end, limit, started_at, record_id
    )
    return rows


async def since(connection: Connection, question: Question, *, seen: Sequence[UUID], limit: int) -> list[Row]:
    """Records of the period that are not among `seen`, in the order in which they ended."""
    filters = question.filters.as_json()
    rows: list[Row] = await connection.fetch(
        _SQL["since"], filters, question.period.start, question.period.end, limit, list(seen)
    )
    return rows


async def export(connection: Connection, question: Question) -> AsyncIterator[Sequence[Row]]:
    """All records of the period, oldest first, in batches, within the caller's transaction and constant memory."""
    filters = question.filters.as_json()
    cursor = await connection.cursor(_SQL["export"], filters, question.period.start, question.period.end)
    while rows := await cursor.fetch(EXPORT_BATCH):
        yield rows
