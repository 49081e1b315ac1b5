"""Exports: records, the summary of users, and the audit log, as CSV, JSON or Parquet, in constant memory.

They have connections of their own, so that readers, however slow or many, take none from the rest of the worker. Records are
read page by page, each in a transaction of its own: a reader who stops in the middle holds no connection, no lock, and no
snapshot that would keep Postgres from cleaning up. So an export shows each record as it is when its page is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from proxy.admin.audit_log import AuditQuery
from proxy.admin.auth import database_away
from proxy.admin.export_forms import MEDIA_TYPES, Form, FormName, form
from proxy.admin.export_tables import USER_COLUMNS, Column, audit_columns, record_columns, user_columns
from proxy.admin.filters import OwnRecordsQuery, UsageQuery, question
from proxy.admin.route import Ask, Route
from proxy.admin.stream import Slots, send
from proxy.store import audit, records_read, stats
from proxy.store.postgres import Pool
from proxy.store.records_read import Place
from proxy.store.rows import Row
from proxy.store.session import transaction

FIRST_PAGE = 200
"""Records of the first page: whoever waits sees soon that something comes."""
PAGE = 2_000
SLICE = 250
"""Rows made into text at once: what else the worker does waits no longer than that."""

Pages = Callable[[Ask, Pool, Any], AsyncGenerator[Sequence[Row], None]]
Format = Annotated[
    FormName, Field(description="`parquet` needs the extra `openai-usage-proxy[parquet]` on the server.")
]


class RecordExportQuery(OwnRecordsQuery, UsageQuery):
    """Which records, as what, with which columns."""

    format: Format = "csv"
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Default: all common ones; also any `tag.NAME`.",
    )


class UserExportQuery(UsageQuery):
    """Whose usage, as what, with which columns."""

    format: Format = "csv"
    columns: list[Literal[USER_COLUMNS]] | None = Field(default=None, min_length=1, max_length=100)  # type: ignore[valid-type]


class AuditExportQuery(AuditQuery):
    """Which entries, as what. Pages don't apply."""

    format: Format = "csv"


async def _chunks(made: Form, pages: AsyncGenerator[Sequence[Row], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(pages):
        async for page in pages:
            for start in range(0, len(page), SLICE):
                if chunk := made.rows(page[start : start + SLICE]):
                    yield chunk
                await asyncio.sleep(0)
    if chunk := made.end():
        yield chunk


async def _records(ask: Ask, pool: Pool, asked: Any) -> AsyncGenerator[Sequence[Row], None]:
    timeout_s = ask.context.settings.admin_statement_timeout_s
    after: Place | None = None
    limit = FIRST_PAGE
    while True:
        async with transaction(pool, statement_timeout_s=timeout_s) as connection:
            rows = await records_read.export(connection, asked, limit=limit, after=after)
        yield rows
        if len(rows) < limit:
            return
        after, limit = (rows[-1]["started_at"], rows[-1]["id"]), PAGE


async def _users(ask: Ask, pool: Pool, asked: Any) -> AsyncGenerator[Sequence[Row], None]:
    timeout_s = ask.context.settings.admin_statement_timeout_s
    async with transaction(pool, statement_timeout_s=timeout_s) as connection:
        async for rows in stats.user_summaries(connection, asked):
            yield rows


async def _entries(ask: Ask, pool: Pool, _: Any) -> AsyncGenerator[Sequence[Row], None]:
    query, timeout_s = ask.query, ask.context.settings.admin_statement_timeout_s
    where = {name: getattr(query, name) for name in ("actor", "action", "subject", "start", "end")}
    async with transaction(pool, statement_timeout_s=timeout_s) as connection:
        async for rows in audit.export_audit(connection, **where):
            yield rows


def routes(slots: Slots) -> tuple[Route, ...]:
    """The export routes; `slots` bounds how many run at once."""

    async def export_records(ask: Ask) -> web.StreamResponse:
        """Records of the period, oldest first. A dollar amount is exact; other currencies are at the day's own rate."""
        currencies = ask.context.currencies
        return await run(ask, "records", record_columns(ask.query.columns, currencies), _records)

    async def export_users(ask: Ask) -> web.StreamResponse:
        """One line for each user with usage in the period."""
        return await run(ask, "users", user_columns(ask.query.columns), _users)

    async def export_audit(ask: Ask) -> web.StreamResponse:
        """The audit log, newest first."""
        return await run(ask, "audit", audit_columns(), _entries)

    async def run(ask: Ask, what: str, columns: tuple[Column, ...], pages: Pages) -> web.StreamResponse:
        pool = ask.context.export_pool()
        if pool is None:
            raise database_away()
        made = form(ask.query.format, columns)
        with slots.take():
            timeout_s = ask.context.settings.admin_statement_timeout_s
            async with transaction(pool, statement_timeout_s=timeout_s) as connection:
                ask.connection = connection
                asked = await question(ask, ask.query) if isinstance(ask.query, UsageQuery) else None
                ask.audit(
                    f"{what}.export", "all", after=ask.query.model_dump(mode="json", exclude_unset=True)
                )
                await audit.write(connection, ask.audited)
            headers = {
                "content-type": made.media_type,
                "content-disposition": f'attachment; filename="{what}-{ask.now:%Y-%m-%d}.{ask.query.format}"',
            }
            return await send(ask, _chunks(made, pages(ask, pool, asked)), headers)

    return (
        _export("/admin/export/records", export_records, "Export records", RecordExportQuery),
        _export("/admin/export/users", export_users, "Export the summary of users", UserExportQuery),
        _export(
            "/admin/export/audit", export_audit, "Export the audit log", AuditExportQuery, everywhere=True
        ),
    )


def _export(path: str, handler: Any, summary: str, query: Any, *, everywhere: bool = False) -> Route:
    return Route(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        access="read",
        everywhere=everywhere,
        query=query,
        transaction=False,
        media_types=MEDIA_TYPES,
        tag="export",
    )
