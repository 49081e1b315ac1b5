"""What belongs to one user: everything about them, to hand it over, and its erasure."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web
from pydantic import Field

from proxy.admin.auth import database_away
from proxy.admin.export_forms import MEDIA_TYPES
from proxy.admin.route import Ask, Route, not_found
from proxy.admin.shapes import View
from proxy.admin.stream import Slots, send
from proxy.admin.users import subject_user
from proxy.store import audit, erasures, personal
from proxy.store.postgres import Connection
from proxy.store.session import transaction

_BIGINT_DIGITS_MAX = 18


class ErasureView(View):
    """An erasure: under way, or at its end."""

    id: int
    user_id: str
    at: datetime
    ended_at: datetime | None = Field(
        description="When nothing was left in the database; servers' files follow within seconds."
    )


async def erase_user(ask: Ask) -> ErasureView:
    """Erase a user: at once their keys, quotas, name and tags; within moments whatever else names them.

    What they used stays in every sum, as nobody's. The audit log keeps ids only. It can't be undone.
    """
    user = await subject_user(ask)
    number, keys = await erasures.begin(ask.connection, user)
    ask.audit("user.erase", user["id"], after={"erasure": number, "keys": keys})
    return _view(await erasures.fetch(ask.connection, number))


async def show_erasure(ask: Ask) -> ErasureView:
    """How far an erasure has come."""
    named = ask.path["erasure"]
    found = None
    if named.isascii() and named.isdigit() and len(named) <= _BIGINT_DIGITS_MAX:
        found = await erasures.fetch(ask.connection, int(named))
    if found is None:
        raise not_found("erasure", named)
    return _view(found)


def _view(row: Any) -> ErasureView:
    return ErasureView(**{name: row[name] for name in ErasureView.model_fields})


async def _lines(connection: Connection, user_id: str) -> AsyncGenerator[bytes, None]:
    async for lines in personal.everything(connection, user_id):
        yield b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)


def routes(slots: Slots) -> tuple[Route, ...]:
    """These routes; `slots` bounds how many exports run at once."""

    async def export_user_data(ask: Ask) -> web.StreamResponse:
        """Everything about one user as JSON lines, each with its `kind`: user, key, quota, quota_window, object, record …"""
        pool = ask.context.export_pool()
        if pool is None:
            raise database_away()
        timeout_s = ask.context.settings.admin_statement_timeout_s
        with slots.take():
            async with transaction(pool, statement_timeout_s=timeout_s) as connection:
                ask.connection = connection
                user = await subject_user(ask)
                ask.audit("user.export", user["id"])
                await audit.write(connection, ask.audited)
                headers = {
                    "content-type": MEDIA_TYPES[1],
                    "content-disposition": f'attachment; filename="{user["id"]}.jsonl"',
                }
                return await send(ask, _lines(connection, user["id"]), headers)

    return (
        Route(
            method="GET",
            path="/admin/users/{user}/data",
            handler=export_user_data,
            summary="Everything about a user",
            access="read",
            transaction=False,
            media_types=MEDIA_TYPES[1:2],
            tag="users",
        ),
        Route(
            method="DELETE",
            path="/admin/users/{user}/data",
            handler=erase_user,
            summary="Erase a user",
            access="write",
            answer=ErasureView,
            status=202,
            tag="users",
        ),
        Route(
            method="GET",
            path="/admin/erasures/{erasure}",
            handler=show_erasure,
            summary="Show an erasure",
            access="read",
            everywhere=True,
            answer=ErasureView,
            tag="users",
        ),
    )
