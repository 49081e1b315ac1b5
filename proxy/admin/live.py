"""Live history: new records as server-sent events, as they are stored."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator
from datetime import timedelta
from uuid import UUID

from aiohttp import web

from proxy.admin import wire
from proxy.admin.auth import database_away
from proxy.admin.filters import UsageQuery, question
from proxy.admin.records import record_view
from proxy.admin.route import Ask, Route
from proxy.admin.stat_shapes import Money
from proxy.admin.stream import Slots, gone, send
from proxy.core.period import Period
from proxy.store import audit, records_read
from proxy.store.rows import Row
from proxy.store.session import transaction
from proxy.store.stats import Question

OPEN_MAX = 20
POLL_S = 1.0
LOOK_S = 0.25
"""How soon it is seen that the reader has left, or that the server stops."""
SILENCE_S = 15.0
DURATION_MAX_S = 3600.0
LOOK_BACK = timedelta(minutes=15)
"""A record appears when its exchange ends: one that took longer than this is not shown live."""
BATCH_MAX = 200
SEEN_MAX = 10_000


async def _events(ask: Ask, asked: Question, slots: Slots) -> AsyncGenerator[bytes, None]:
    """Comments keep the connection alive through proxies while nothing happens."""
    loop = asyncio.get_running_loop()
    ends, spoke = loop.time() + DURATION_MAX_S, loop.time()
    seen: OrderedDict[UUID, None] = OrderedDict()
    money = Money.of(ask)
    for row in await _fresh(ask, asked, seen):
        seen[row["id"]] = None
    yield b"retry: 2000\n\n"
    while loop.time() < ends and not slots.closing.is_set() and not gone(ask):
        rows = await _fresh(ask, asked, seen)
        for row in rows:
            seen[row["id"]] = None
            text = wire.dump(record_view(row, money))
            yield b"id: %b\nevent: record\ndata: %b\n\n" % (str(row["id"]).encode(), text)
            spoke = loop.time()
        while len(seen) > SEEN_MAX:
            seen.popitem(last=False)
        if loop.time() - spoke > SILENCE_S:
            yield b": nothing new\n\n"
            spoke = loop.time()
        if len(rows) < BATCH_MAX:
            await _pause(ask, slots)


async def _fresh(ask: Ask, asked: Question, seen: OrderedDict[UUID, None]) -> list[Row]:
    pool = ask.context.pool()
    if pool is None:
        raise database_away()
    now = ask.context.now()
    recent = asked.over(Period(now - LOOK_BACK, now + timedelta(minutes=1), asked.period.zone))
    timeout_s = ask.context.settings.admin_statement_timeout_s
    async with transaction(pool, statement_timeout_s=timeout_s) as connection:
        limit = BATCH_MAX if seen else SEEN_MAX
        return await records_read.since(connection, recent, seen=list(seen), limit=limit)


async def _pause(ask: Ask, slots: Slots) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + POLL_S
    # Looked at, since nobody is told that the connection was lost.
    while loop.time() < ends and not slots.closing.is_set() and not gone(ask):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)


def route(slots: Slots) -> Route:
    """The live route; `slots` bounds how many are open."""

    async def live_records(ask: Ask) -> web.StreamResponse:
        """New records as `record` events, for an hour; a browser's EventSource connects again by itself."""
        pool = ask.context.pool()
        if pool is None:
            raise database_away()
        with slots.take():
            timeout_s = ask.context.settings.admin_statement_timeout_s
            async with transaction(pool, statement_timeout_s=timeout_s) as connection:
                ask.connection = connection
                asked = await question(ask, ask.query)
                ask.audit("records.live", "all", after=ask.query.model_dump(mode="json", exclude_unset=True))
                await audit.write(connection, ask.audited)
            return await send(ask, _events(ask, asked, slots), {"content-type": "text/event-stream"})

    return Route(
        method="GET",
        path="/admin/records/live",
        handler=live_records,
        summary="New records as they come",
        access="read",
        query=UsageQuery,
        transaction=False,
        media_types=("text/event-stream",),
        tag="records",
    )
