"""How commands print: JSON as it is, lists as tables, one thing as a list of its fields."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from proxy.cli.failure import CommandError


def as_json(value: Any) -> None:
    """Pretty JSON on stdout."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode())


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], console: Console | None = None) -> None:
    """Rows with these fields as columns; a dot reaches into objects."""
    printed = Table(
        *(column.rpartition(".")[2].replace("_", " ") for column in columns), box=None, pad_edge=False
    )
    for row in rows:
        printed.add_row(*(cell(field(row, column)) for column in columns))
    (console or Console()).print(printed)


def one(row: Mapping[str, Any], console: Console | None = None) -> None:
    """Each field on a line of its own; what is not set is left out."""
    printed = Table(box=None, show_header=False, pad_edge=False)
    for name, value in row.items():
        if value not in (None, {}, []):
            printed.add_row(name.replace("_", " "), cell(value))
    (console or Console()).print(printed)


def page(answer: Mapping[str, Any], columns: Sequence[str], *, json: bool) -> None:
    """A page of a list, and how much more there is."""
    if json:
        as_json(answer)
        return
    table(answer["data"], columns)
    if answer["total_pages"] > 1:
        print(f"page {answer['page']} of {answer['total_pages']}, {answer['total']} in all", file=sys.stderr)


def field(row: Mapping[str, Any], column: str) -> Any:
    """`rules.max_concurrent` of a row."""
    value: Any = row
    for name in column.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def cell(value: Any) -> str:
    """A value for people: numbers in thousands, times without their fraction, objects as NAME=VALUE."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={cell(each)}" for name, each in value.items() if each is not None)
    if isinstance(value, list):
        return ", ".join(map(cell, value))
    text = str(value)
    if len(text) > 19 and text[10:11] == "T" and text.endswith("Z"):
        return text[:19].replace("T", " ")
    return text


def pairs(texts: Sequence[str] | None, what: str) -> dict[str, str] | None:
    """`["a=1", "b=2"]` as a mapping; None when none were given. Raises CommandError."""
    if not texts:
        return None
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CommandError(f"{what} {text!r} is not NAME=VALUE")
        found[name] = value
    return found


def given(**fields: Any) -> dict[str, Any]:
    """The fields that were said; "" stands for null, as in --email ''."""
    return {name: None if value == "" else value for name, value in fields.items() if value is not None}
