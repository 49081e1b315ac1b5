"""The forms of an export: CSV, JSON lines, one JSON array, and Parquet. Each turns rows into bytes as they come."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal, Protocol

import orjson

from proxy.admin.export_tables import Column
from proxy.admin.route import bad_request
from proxy.core.table import csv_row, json_line
from proxy.store.rows import Row

FormName = Literal["csv", "jsonl", "json", "parquet"]
MEDIA_TYPES = ("text/csv", "application/jsonl", "application/json", "application/vnd.apache.parquet")
ROW_GROUP_ROWS = 10_000
"""Of Parquet: what is held in memory until it is written."""
_MONEY_DIGITS, _MONEY_DECIMALS = 28, 9


class Form(Protocol):
    """One export in the making: `rows` as often as there are some, then `end`."""

    media_type: str

    def rows(self, rows: Sequence[Row]) -> bytes:
        """What these rows add; nothing when they are kept for later."""
        ...

    def end(self) -> bytes:
        """What is left."""
        ...


def form(name: FormName, columns: tuple[Column, ...]) -> Form:
    """A form of this name. Raises 400 where Parquet's library is not installed."""
    if name == "csv":
        return _Csv(columns)
    if name == "parquet":
        if importlib.util.find_spec("pyarrow") is None:
            raise bad_request(
                "format",
                "format: this server can't write Parquet. Install its extra: pip install 'openai-usage-proxy[parquet]'.",
                "extra_missing",
            )
        return _Parquet(columns)
    return _Json(columns, lines=name == "jsonl")


class _Csv:
    media_type = "text/csv; charset=utf-8; header=present"

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self._columns = columns
        self._head = csv_row(column.name for column in columns).encode()

    def rows(self, rows: Sequence[Row]) -> bytes:
        head, self._head = self._head, b""
        lines = (csv_row([column.plain(row) for column in self._columns]) for row in rows)
        return head + "".join(lines).encode()

    def end(self) -> bytes:
        return self._head


class _Json:
    """JSON lines, or the same as one array."""

    def __init__(self, columns: tuple[Column, ...], *, lines: bool) -> None:
        self._columns = columns
        self._names = [column.name for column in columns]
        self._lines = lines
        self._before = b"["
        self.media_type = MEDIA_TYPES[1] if lines else MEDIA_TYPES[2]

    def rows(self, rows: Sequence[Row]) -> bytes:
        made = [json_line(self._names, [column.plain(row) for column in self._columns]) for row in rows]
        if self._lines or not made:
            return b"".join(made)
        before, self._before = self._before, b","
        return before + b",".join(made)

    def end(self) -> bytes:
        if self._lines:
            return b""
        return b"]\n" if self._before == b"," else b"[]\n"


class _Parquet:
    """Row groups of ROW_GROUP_ROWS; amounts as decimals, times in UTC, tags and ids as text."""

    media_type = MEDIA_TYPES[3]

    def __init__(self, columns: tuple[Column, ...]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        kinds = {
            "text": pa.string(),
            "json": pa.string(),
            "integer": pa.int64(),
            "boolean": pa.bool_(),
            "time": pa.timestamp("us", tz="UTC"),
            "money": pa.decimal128(_MONEY_DIGITS, _MONEY_DECIMALS),
        }
        self._pa = pa
        self._columns = columns
        self._schema = pa.schema([(column.name, kinds[column.kind]) for column in columns])
        self._made = io.BytesIO()
        self._writer = parquet.ParquetWriter(_Onward(self._made), self._schema, compression="zstd")
        self._kept: list[list[Any]] = [[] for _ in columns]

    def rows(self, rows: Sequence[Row]) -> bytes:
        for column, kept in zip(self._columns, self._kept, strict=True):
            kept.extend(_cell(column, row) for row in rows)
        if len(self._kept[0]) >= ROW_GROUP_ROWS:
            self._write()
        return self._taken()

    def end(self) -> bytes:
        if self._kept[0]:
            self._write()
        self._writer.close()
        return self._taken()

    def _write(self) -> None:
        arrays = [
            self._pa.array(kept, field.type) for kept, field in zip(self._kept, self._schema, strict=True)
        ]
        self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))
        self._kept = [[] for _ in self._columns]

    def _taken(self) -> bytes:
        made = self._made.getvalue()
        self._made.seek(0)
        self._made.truncate()
        return made


class _Onward(io.RawIOBase):
    """A file that is only written on; its beginning may be gone already."""

    def __init__(self, to: io.BytesIO) -> None:
        super().__init__()
        self._to = to
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        count = self._to.write(data)
        self._at += count
        return count


def _cell(column: Column, row: Row) -> Any:
    value = column.value(row)
    if value is None:
        return None
    if column.kind == "money":
        return Decimal(value).scaleb(-_MONEY_DECIMALS)
    if column.kind == "json":
        return orjson.dumps(value).decode()
    return value
