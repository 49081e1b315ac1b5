"""The tables that are exported: which columns there are, of what kind, and how a row makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from proxy.admin.route import bad_request
from proxy.core.currency import Currencies
from proxy.core.money import format_nano
from proxy.store.rows import Row

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
    "output_audio_tokens", "output_image_tokens", "cache_saved_usd", "price_id", "object_id", "client_request_id",
    "bytes_in", "bytes_out", "voided_at", "voided_reason",
)  # fmt: skip
USER_COLUMNS = (
    "user_id", "user_name", "user_email", "group", "requests", "input_tokens", "output_tokens", "total_tokens", "cost_usd",
    "first_request_at", "last_request_at",
)  # fmt: skip
AUDIT_COLUMNS = ("id", "at", "actor", "address", "action", "subject", "before", "after")
_TAG, _COST = "tag.", "cost_"
_READ_FROM = {
    "key": "key_id",
    "request_id": "upstream_request_id",
    "cost_usd": "cost_nanousd",
    "cache_saved_usd": "cache_saved_nanousd",
}
_USER_READ_FROM = {
    "user_id": "first",
    "group": "group_name",
    "cost_usd": "cost_nanousd",
    "first_request_at": "first_at",
    "last_request_at": "last_at",
}
_INTEGERS = frozenset({"status", "requests"})
_IDS = frozenset({"id", "parent_id"})

Kind = Literal["text", "integer", "boolean", "time", "money", "json"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column. `value` gives str, int, bool, datetime, nano-units of money, or what JSON has, by its kind; or None."""

    name: str
    kind: Kind
    value: Callable[[Row], Any]

    def plain(self, row: Row) -> Any:
        """The value as CSV and JSON show it."""
        value = self.value(row)
        if value is None or self.kind in {"text", "integer", "boolean", "json"}:
            return value
        return format_nano(value) if self.kind == "money" else moment(value)


def moment(value: datetime) -> str:
    """ISO 8601 in UTC."""
    return value.isoformat().replace("+00:00", "Z")


def record_columns(chosen: Sequence[str] | None, currencies: Currencies) -> tuple[Column, ...]:
    """Those chosen, or the default ones. Raises 400 that names the one that does not exist."""
    costs = tuple(_COST + code.lower() for code in currencies.codes)
    known = {*RECORD_COLUMNS, *MORE_RECORD_COLUMNS, *costs}
    if chosen is None:
        place = RECORD_COLUMNS.index("cost_usd") + 1
        chosen = (*RECORD_COLUMNS[:place], *costs, *RECORD_COLUMNS[place:])
    for name in chosen:
        if name not in known and not (name.startswith(_TAG) and len(name) > len(_TAG)):
            raise bad_request("columns", f"columns: there is no column {name!r}.")
    return tuple(_record_column(name, currencies) for name in chosen)


def _record_column(name: str, currencies: Currencies) -> Column:
    if name.startswith(_TAG):
        tag = name.removeprefix(_TAG)
        return Column(name, "text", lambda row: row["tags"].get(tag))
    if name.startswith(_COST) and name != "cost_usd":
        code = name.removeprefix(_COST).upper()
        return Column(
            name,
            "money",
            lambda row: currencies.convert(row["cost_nanousd"], code, row["started_at"].date()),
        )
    if name == "group":
        return Column(name, "text", lambda row: row["group_name"] or row["group_id"])
    column = _READ_FROM.get(name, name)
    if name in _IDS:
        return Column(name, "text", lambda row: None if row[column] is None else str(row[column]))
    return Column(name, _kind(name), lambda row: row[column])


def user_columns(chosen: Sequence[str] | None) -> tuple[Column, ...]:
    """Those chosen of USER_COLUMNS, or all."""

    def column(name: str) -> Column:
        read = _USER_READ_FROM.get(name, name)
        return Column(name, _kind(name), lambda row: row[read])

    return tuple(map(column, chosen or USER_COLUMNS))


def audit_columns() -> tuple[Column, ...]:
    """All of AUDIT_COLUMNS."""
    kinds: dict[str, Kind] = {"id": "integer", "at": "time", "before": "json", "after": "json"}

    def column(name: str) -> Column:
        return Column(name, kinds.get(name, "text"), lambda row: row[name])

    return tuple(map(column, AUDIT_COLUMNS))


def _kind(name: str) -> Kind:
    if name.endswith("_usd"):
        return "money"
    if name.endswith("_at"):
        return "time"
    if name == "streamed":
        return "boolean"
    if name in _INTEGERS or name.endswith(("_tokens", "_ms")) or name.startswith("bytes_"):
        return "integer"
    return "text"
