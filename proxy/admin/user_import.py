"""Users from a CSV file: all of them or none, with a dry run that says what would happen."""

from __future__ import annotations

import csv
import io
from typing import Any

from pydantic import Field, TypeAdapter

from proxy.admin import wire
from proxy.admin.route import Ask, Route, bad_request
from proxy.admin.shapes import Input, View
from proxy.admin.users import UserInput, columns
from proxy.core.refusal import Refusal
from proxy.store import people
from proxy.store.conflicts import MissingError, TakenError

ROWS_MAX = 10_000
FAULTS_MAX = 100
COLUMNS = ("name", "email", "external_id", "group", "plan")
_TAG = "tag."
_EXAMPLE = "name,email,external_id,group,tag.grade\nAna,ana@school.example,42,5A,9\n"
_USER: TypeAdapter[UserInput] = TypeAdapter(UserInput)


class ImportQuery(Input):
    """Whether to do it."""

    dry_run: bool = Field(default=False, description="Check everything and create nothing.")


class Fault(View):
    """What is wrong with a line."""

    line: int
    field: str | None
    message: str


class ImportView(View):
    """What was done, or would be. With any fault nothing is created."""

    dry_run: bool
    rows: int
    created: int
    faults: list[Fault] = Field(description=f"At most the first {FAULTS_MAX}.")


async def import_users(ask: Ask) -> ImportView:
    """Create users from CSV with the columns name, email, external_id (each line has one of these), group, plan, tag.NAME."""
    rows = _read(ask.body)
    faults: list[Fault] = []
    # A savepoint around all: it is undone for a dry run, and when one line is wrong.
    savepoint = ask.connection.transaction()
    await savepoint.start()
    for line, row in rows:
        try:
            async with ask.connection.transaction():
                await _create(ask, row)
        except Refusal as refusal:
            faults.append(Fault(line=line, field=refusal.param, message=refusal.message))
        except (MissingError, TakenError) as error:
            faults.append(Fault(line=line, field=error.field, message=str(error)))
        if len(faults) >= FAULTS_MAX:
            break
    undone = bool(faults) or ask.query.dry_run
    if undone:
        await savepoint.rollback()
    else:
        await savepoint.commit()
        ask.audit("users.import", "all", after={"created": len(rows)})
    return ImportView(
        dry_run=ask.query.dry_run, rows=len(rows), created=0 if undone else len(rows), faults=faults
    )


async def _create(ask: Ask, row: dict[str, Any]) -> None:
    user = wire.validated(_USER, row)
    if not (user.name or user.email or user.external_id):
        raise bad_request("name", "name, email or external_id: one of them is required.")
    values = await columns(ask, dict(user))
    if ask.group_limit is not None:
        values["group_id"] = values.get("group_id") or ask.group_limit
        ask.must_see_group(values["group_id"], "group", row.get("group", ""))
    await people.create_user(ask.connection, **values)


def _read(text: bytes) -> list[tuple[int, dict[str, Any]]]:
    """(line number, fields of a user) of each row; empty cells say nothing. Raises 400."""
    try:
        reader = csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline=""), strict=True)
        head = reader.fieldnames or ()
    except (UnicodeDecodeError, csv.Error) as error:
        raise bad_request(None, f"The body is not CSV in UTF-8: {error}.") from None
    for name in head:
        if name not in COLUMNS and not name.startswith(_TAG):
            raise bad_request(name, f"Unknown column {name!r}.", "unknown_field")
    if len(set(head)) < len(head) or not set(head) & {"name", "email", "external_id"}:
        raise bad_request(
            "name", "The first line must name the columns, each once; name, email or external_id among them."
        )
    rows: list[tuple[int, dict[str, Any]]] = []
    try:
        for row in reader:
            if None in row or len(rows) >= ROWS_MAX:
                problem = "too many cells" if None in row else f"more than {ROWS_MAX} rows"
                raise bad_request(None, f"Line {reader.line_num}: {problem}.")
            given = {
                name: value.strip() for name, value in row.items() if value is not None and value.strip()
            }
            wire.refuse_nul(given)
            tags = {name.removeprefix(_TAG): given.pop(name) for name in list(given) if name.startswith(_TAG)}
            rows.append((reader.line_num, given | ({"tags": tags} if tags else {})))
    except csv.Error as error:
        raise bad_request(None, f"Line {reader.line_num}: {error}.") from None
    return rows


ROUTES = (
    Route(
        method="POST",
        path="/admin/users/import",
        handler=import_users,
        summary="Create users from CSV",
        access="write",
        query=ImportQuery,
        body=bytes,
        answer=ImportView,
        tag="users",
        example=_EXAMPLE,
    ),
)
