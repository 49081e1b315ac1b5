"""Exports: records, the summary of users, and the audit log, as CSV or JSON lines, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from proxy.admin.audit_log import AuditQuery
from proxy.admin.auth import database_away
from proxy.admin.filters import UsageQuery, question
from proxy.admin.route import Ask, Route, bad_request
from proxy.admin.stream import Slots, send
from proxy.core.currency import Currencies
from proxy.core.money import format_nano
from proxy.core.table import csv_row, json_line
from proxy.store import audit, records_read, stats
from proxy.store.postgres import Connection
from proxy.store.rows import Row
from proxy.store.session import transaction
from proxy.store.stats import Question

RECORD_COLUMNS = (
    "id", "started_at", "user_id", "user_name", "user_email", "group", "key", "provider", "endpoint", "operation",
    "requested_model", "served_model", "status", "error_code", "finish_reason", "service_tier", "input_tokens",
    "cached_input_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "cost_usd", "usage_source", "duration_ms",
    "ttfb_ms", "request_id", "end_user",
)  # fmt: skip
"""The default columns of records; after cost_usd comes one for each configured currency, such as cost_brl."""
MORE_RECORD_COLUMNS = (
    "parent_id", "part", "group_id", "method", "outcome", "streamed", "error_type", "error_message", "cache_write_tokens",
    "cache_write_12h_tokens", "input_audio_tokens", "cached_audio_tokens", "input_image_tokens", "cached_image_tokens",
    "output_audio_tokens", "output_image_tokens", "price_id", "object_id", "client_request_id", "bytes_in", "bytes_out",
    "voided_at", "voided_reason",
)  # fmt: skip
USER_COLUMNS = (
    "user_id", "user_name", "user_email", "group", "requests", "input_tokens", "output_tokens", "total_tokens", "cost_usd",
    "first_request_at", "last_request_at",
)  # fmt: skip
AUDIT_COLUMNS = ("id", "at", "actor", "address", "action", "subject", "before", "after")
_TAG, _COST = "tag.", "cost_"
_RENAMED = {"key": "key_id", "request_id": "upstream_request_id"}
MEDIA_TYPES = ("text/csv", "application/jsonl")

Cell = Callable[[Row], Any]


class RecordExportQuery(UsageQuery):
    """Which records, as what, with which columns."""

    format: Literal["csv", "jsonl"] = "csv"
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="Default: all common ones; also any `tag.NAME`.",
    )
    failed: bool | None = None

    def where(self) -> dict[str, list[str]]:
        """Filters that need no look-up."""
        return super().where() | ({"failed": ["true"]} if self.failed else {})


class UserExportQuery(UsageQuery):
    """Whose usage, as what, with which columns."""

    format: Literal["csv", "jsonl"] = "csv"
    columns: list[Literal[USER_COLUMNS]] | None = Field(default=None, min_length=1, max_length=100)  # type: ignore[valid-type]


class AuditExportQuery(AuditQuery):
    """Which entries, as what. Pages don't apply."""

    format: Literal["csv", "jsonl"] = "csv"


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, each with what makes its cell from a row."""

    names: tuple[str, ...]
    cells: tuple[Cell, ...]

    def text(self, rows: Iterable[Row], form: str) -> bytes:
        """The rows as CSV or JSON lines."""
        values = ([cell(row) for cell in self.cells] for row in rows)
        if form == "csv":
            return "".join(map(csv_row, values)).encode()
        return b"".join(json_line(self.names, each) for each in values)

    def head(self, form: str) -> bytes:
        """CSV's first line; nothing for JSON lines."""
        return csv_row(self.names).encode() if form == "csv" else b""


def record_table(columns: Sequence[str] | None, currencies: Currencies, form: str) -> Table:
    """The columns of records. Raises 400 that names the one that does not exist."""
    costs = tuple(_COST + code.lower() for code in currencies.codes)
    known = {*RECORD_COLUMNS, *MORE_RECORD_COLUMNS, *costs}
    if columns is None:
        place = RECORD_COLUMNS.index("cost_usd") + 1
        columns = (*RECORD_COLUMNS[:place], *costs, *RECORD_COLUMNS[place:])
    for name in columns:
        if name not in known and not (name.startswith(_TAG) and len(name) > len(_TAG)):
            raise bad_request("columns", f"columns: there is no column {name!r}.")
    return Table(tuple(columns), tuple(_record_cell(name, currencies, form) for name in columns))


def _record_cell(name: str, currencies: Currencies, form: str) -> Cell:
    if name.startswith(_TAG):
        tag = name.removeprefix(_TAG)
        return lambda row: row["tags"].get(tag)
    if name == "cost_usd":
        return lambda row: None if row["cost_nanousd"] is None else format_nano(row["cost_nanousd"])
    if name.startswith(_COST):
        code = name.removeprefix(_COST).upper()

        def converted(row: Row) -> str | None:
            amount = currencies.convert(row["cost_nanousd"], code, row["started_at"].date())
            return None if amount is None else format_nano(amount)

        return converted
    if name == "group":
        return lambda row: row["group_name"] or row["group_id"]
    column = _RENAMED.get(name, name)
    if name.endswith("_at"):
        return lambda row: _moment(row[column])
    if name.endswith("id") and form == "jsonl":
        return lambda row: None if row[column] is None else str(row[column])
    return lambda row: row[column]


def _moment(value: Any) -> str | None:
    return None if value is None else value.isoformat().replace("+00:00", "Z")


async def _record_chunks(
    connection: Connection, asked: Question, table: Table, form: str
) -> AsyncIterator[bytes]:
    head = table.head(form)
    async for rows in records_read.export(connection, asked):
        yield head + table.text(rows, form)
        head = b""
    if head:
        yield head


_USER_TABLE: dict[str, Cell] = {
    "user_id": lambda row: row["first"],
    "user_name": lambda row: row["user_name"],
    "user_email": lambda row: row["user_email"],
    "group": lambda row: row["group_name"],
    "requests": lambda row: row["requests"],
    "input_tokens": lambda row: row["input_tokens"],
    "output_tokens": lambda row: row["output_tokens"],
    "total_tokens": lambda row: row["total_tokens"],
    "cost_usd": lambda row: format_nano(row["cost_nanousd"]),
    "first_request_at": lambda row: _moment(row["first_at"]),
    "last_request_at": lambda row: _moment(row["last_at"]),
}
_AUDIT_TABLE = Table(
    AUDIT_COLUMNS,
    (
        *(
            lambda row, name=name: _moment(row[name]) if name == "at" else row[name]
            for name in AUDIT_COLUMNS[:-2]
        ),
        *(lambda row, name=name: row[name] for name in AUDIT_COLUMNS[-2:]),
    ),
)


async def _user_chunks(
    connection: Connection, asked: Question, table: Table, form: str
) -> AsyncIterator[bytes]:
    head = table.head(form)
    async for rows in stats.user_summaries(connection, asked):
        yield head + table.text(rows, form)
        head = b""
    if head:
        yield head


async def _audit_chunks(connection: Connection, query: AuditExportQuery) -> AsyncIterator[bytes]:
    head = _AUDIT_TABLE.head(query.format)
    async for rows in audit.export_audit(
        connection,
        actor=query.actor,
        action=query.action,
        subject=query.subject,
        start=query.start,
        end=query.end,
    ):
        yield head + _AUDIT_TABLE.text(rows, query.format)
        head = b""
    if head:
        yield head


def routes(slots: Slots) -> tuple[Route, ...]:
    """The export routes; `slots` bounds how many run at once."""

    async def export_records(ask: Ask) -> web.StreamResponse:
        """Records of the period, oldest first. A dollar amount is exact; other currencies are at the day's own rate."""
        currencies = Currencies.parse(ask.context.settings.currencies)
        table = record_table(ask.query.columns, currencies, ask.query.format)
        return await run(
            ask,
            "records",
            lambda connection, asked: _record_chunks(connection, asked, table, ask.query.format),
        )

    async def export_users(ask: Ask) -> web.StreamResponse:
        """One line for each user with usage in the period."""
        names = tuple(ask.query.columns or USER_COLUMNS)
        table = Table(names, tuple(_USER_TABLE[name] for name in names))
        return await run(
            ask, "users", lambda connection, asked: _user_chunks(connection, asked, table, ask.query.format)
        )

    async def export_audit(ask: Ask) -> web.StreamResponse:
        """The audit log, newest first."""
        return await run(ask, "audit", lambda connection, _: _audit_chunks(connection, ask.query))

    async def run(
        ask: Ask, what: str, chunks: Callable[[Connection, Any], AsyncIterator[bytes]]
    ) -> web.StreamResponse:
        pool = ask.context.pool()
        if pool is None:
            raise database_away()
        timeout_s = ask.context.settings.admin_statement_timeout_s
        with slots.take():
            async with transaction(pool, statement_timeout_s=timeout_s) as connection:
                ask.connection = connection
                asked = await question(ask, ask.query) if isinstance(ask.query, UsageQuery) else None
                ask.audit(
                    f"{what}.export", "all", after=ask.query.model_dump(mode="json", exclude_unset=True)
                )
                await audit.write(connection, ask.audited)
                kind = (
                    "text/csv; charset=utf-8; header=present" if ask.query.format == "csv" else MEDIA_TYPES[1]
                )
                day = f"{ask.now:%Y-%m-%d}"
                headers = {
                    "content-type": kind,
                    "content-disposition": f'attachment; filename="{what}-{day}.{ask.query.format}"',
                }
                return await send(ask, chunks(connection, asked), headers)

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
