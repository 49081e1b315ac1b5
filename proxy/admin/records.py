"""Usage records as the API shows them, and their history, newest first."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from proxy.admin.filters import OwnRecordsQuery, UsageQuery, question
from proxy.admin.route import Ask, Route, bad_request, not_found
from proxy.admin.shapes import LIMIT_MAX, Input, Usd, View
from proxy.admin.stat_shapes import Amounts, Money
from proxy.core.money import format_nano
from proxy.core.refusal import Refusal
from proxy.store import records, records_read
from proxy.store.rows import Row


class RecordView(Amounts):
    """One exchange, refusal or WebSocket response. No text of a request or answer is in it."""

    id: UUID
    parent_id: UUID | None = Field(
        description="Of a WebSocket's response: its connection's record. Of a part: its answer's."
    )
    part: str | None = Field(
        description="What inside the parent's answer this is: container, image_gen, svg, grader, eval, turn."
    )
    started_at: datetime
    user_id: str
    user_name: str | None
    user_email: str | None
    group_id: str | None
    group_name: str | None
    key_id: str
    provider: str
    endpoint: str
    method: str
    requested_model: str | None
    served_model: str | None
    operation: str | None
    tags: dict[str, str]
    end_user: str | None
    streamed: bool
    status: int
    outcome: str
    error_type: str | None
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    service_tier: str | None
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    cache_write_12h_tokens: int
    input_audio_tokens: int
    cached_audio_tokens: int
    input_image_tokens: int
    cached_image_tokens: int
    output_tokens: int
    reasoning_tokens: int
    output_audio_tokens: int
    output_image_tokens: int
    total_tokens: int
    units: dict[str, int]
    usage_source: str
    cost_usd: Usd | None = Field(description="Null: the price is unknown.")
    cache_saved_usd: Usd = Field(description="How much more it would have cost without the prompt cache.")
    price_id: str | None
    object_id: str | None
    upstream_request_id: str | None
    client_request_id: str | None
    ttfb_ms: int | None
    duration_ms: int
    bytes_in: int
    bytes_out: int
    voided_at: datetime | None
    voided_reason: str | None


class HistoryView(View):
    """Records, newest first. `next_cursor` is null on the last page."""

    data: list[RecordView]
    limit: int
    next_cursor: str | None


class OwnHistoryQuery(OwnRecordsQuery):
    """A page of one's own records."""

    limit: int = Field(default=50, ge=1, le=LIMIT_MAX)
    cursor: str | None = Field(default=None, max_length=200, description="`next_cursor` of the page before.")


class HistoryQuery(OwnHistoryQuery, UsageQuery):
    """Which records."""


class RecentQuery(Input):
    """How many of the newest records."""

    limit: int = Field(default=20, ge=1, le=LIMIT_MAX)


class VoidInput(Input):
    """Why a record is no usage."""

    reason: str = Field(min_length=1, max_length=500, examples=["test run"])


_FIELDS = tuple(name for name in RecordView.model_fields if name not in {"cost_usd", "cache_saved_usd"})


def record_view(row: Row, money: Money) -> RecordView:
    """A row with its user's and group's names as the API shows it."""
    cost = row["cost_nanousd"]
    values: dict[str, Any] = {name: row[name] for name in _FIELDS} | money.of_record(row)
    values["cost_usd"] = None if cost is None else format_nano(cost)
    values["cache_saved_usd"] = format_nano(row["cache_saved_nanousd"])
    # The database's own values need no second validation; a page of a thousand costs a third of the time.
    return RecordView.model_construct(**values)


def make_cursor(row: Row) -> str:
    """Where the next page begins."""
    micros = (row["started_at"] - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(f"{micros}:{row['id']}".encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> tuple[datetime, UUID] | None:
    """What make_cursor made. Raises 400."""
    if text is None:
        return None
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
        micros, _, record_id = plain.partition(":")
        return _EPOCH + int(micros) * _MICROSECOND, UUID(record_id)
    except (ValueError, OverflowError, binascii.Error):
        raise bad_request("cursor", "cursor is not one that we made.") from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution


async def history_page(ask: Ask, query: OwnHistoryQuery, asked: Any) -> HistoryView:
    """One page; one more row than asked for tells whether there is another."""
    rows = await records_read.history(
        ask.connection, asked, limit=query.limit + 1, after=read_cursor(query.cursor)
    )
    shown, money = rows[: query.limit], Money.of(ask)
    return HistoryView.model_construct(
        data=[record_view(row, money) for row in shown],
        limit=query.limit,
        next_cursor=make_cursor(shown[-1]) if len(rows) > query.limit else None,
    )


async def list_records(ask: Ask) -> HistoryView:
    """Records of everybody, newest first, with every field."""
    return await history_page(ask, ask.query, await question(ask, ask.query))


async def recent_records(ask: Ask) -> HistoryView:
    """The newest records of the last 30 days."""
    query = HistoryQuery(limit=ask.query.limit)
    return await history_page(ask, query, await question(ask, query))


async def show_record(ask: Ask) -> RecordView:
    """One record, by the `x-proxy-request-id` of its answer."""
    named = ask.path["record"]
    row = await records_read.fetch_record(ask.connection, record_id(named))
    if row is None:
        raise not_found("record", named)
    ask.must_see_group(row["group_id"], "record", named)
    return record_view(row, Money.of(ask))


async def void_record(ask: Ask) -> RecordView:
    """Take a record out of every sum and quota, for a reason. It stays in the history for those who ask for `active=all`."""
    named, reason = ask.path["record"], ask.body.reason
    found = record_id(named)
    row = await records_read.fetch_record(ask.connection, found)
    if row is None:
        raise not_found("record", named)
    ask.must_see_group(row["group_id"], "record", named)
    if not await records.void(ask.connection, found, reason, ask.context.settings.rollup_tags):
        raise Refusal(409, "already_voided", f"Record {named} is void already.", param="record")
    ask.audit("record.void", str(found), after={"reason": reason})
    row = await records_read.fetch_record(ask.connection, found)
    assert row is not None, "it is locked by us"
    return record_view(row, Money.of(ask))


def record_id(named: str) -> UUID:
    """A record's id; 404 for what can't be one."""
    try:
        return UUID(named)
    except ValueError:
        raise not_found("record", named) from None


ROUTES = (
    Route(
        method="GET",
        path="/admin/records",
        handler=list_records,
        summary="History, newest first",
        access="read",
        query=HistoryQuery,
        answer=HistoryView,
        reads_personal_data=True,
        tag="records",
    ),
    Route(
        method="GET",
        path="/admin/records/recent",
        handler=recent_records,
        summary="The newest records",
        access="read",
        query=RecentQuery,
        answer=HistoryView,
        reads_personal_data=True,
        tag="records",
    ),
    Route(
        method="GET",
        path="/admin/records/{record}",
        handler=show_record,
        summary="Show a record",
        access="read",
        answer=RecordView,
        reads_personal_data=True,
        tag="records",
    ),
    Route(
        method="POST",
        path="/admin/records/{record}/void",
        handler=void_record,
        summary="Void a record",
        access="write",
        body=VoidInput,
        answer=RecordView,
        tag="records",
        example={"reason": "test run"},
    ),
)
