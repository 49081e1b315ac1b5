"""The follower: asks upstream for unfinished batches, background responses, videos, runs and jobs until their use is known.

Work that nobody asks for again is billed all the same, to its maker. One worker of all servers follows: it holds an
advisory lock for as long as its connection lives, and another takes over when that ends. What is followed stands in
Postgres, so a restart forgets nothing. A client may ask as well: whichever record is stored first bills the object.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from proxy.core.call import read_call
from proxy.core.claims import owner_of_row
from proxy.core.headers import request_head
from proxy.core.meter import kind_of, open_meter
from proxy.core.usage import Reading
from proxy.gateway.clocks import Clocks
from proxy.gateway.exchange import Exchange
from proxy.gateway.fetch import Fetched, FetchError, fetch
from proxy.gateway.ledger import Ledger
from proxy.gateway.request import Request
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import objects
from proxy.store.postgres import RETRYABLE, UNAVAILABLE, Connection, Pool, PostgresError, connect

if TYPE_CHECKING:
    from proxy.core.caller import Caller
    from proxy.core.objects import Owner
    from proxy.core.record import Outcome
    from proxy.gateway.owners import Owners
    from proxy.gateway.upstreams import Upstreams

log = logging.getLogger(__name__)
LEAD_AGAIN_S = 10.0
TICK_MAX_S = 5.0
AT_ONCE = 8
DUE_MAX = 200
ANSWER_MAX_BYTES = 64 * 2**20
ANSWER_TIMEOUT_S = 60.0
DATABASE_TIMEOUT_S = 10.0
AGE_PART = 10
"""The older an object, the longer the pauses: a tenth of its age."""
GONE = frozenset({404, 410})
_FAILED = (*UNAVAILABLE, *RETRYABLE, PostgresError)


class Follower:
    """One per worker; at most one of them follows."""

    def __init__(
        self,
        pool: Pool,
        settings: Settings,
        *,
        listen_url: str,
        clocks: Clocks,
        upstreams: Upstreams,
        owners: Owners,
        ledger: Ledger,
        caller_of: Callable[[Owner], Caller],
        metrics: Metrics,
    ) -> None:
        """`listen_url`: a direct URL of the database, since the lock belongs to a session."""
        self._pool = pool
        self._settings = settings
        self._listen_url = listen_url
        self._clocks = clocks
        self._upstreams = upstreams
        self._owners = owners
        self._ledger = ledger
        self._caller_of = caller_of
        self._metrics = metrics
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background, where the settings want it."""
        assert self._task is None, "a follower starts once"
        if self._settings.follow:
            self._task = asyncio.get_running_loop().create_task(self._forever(), name="follower")

    async def stop(self) -> None:
        """End; another worker takes over."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _forever(self) -> None:
        while True:
            try:
                connection = await connect(self._listen_url, application="openai-proxy follower")
                try:
                    if await objects.try_lead(connection):
                        await self._lead(connection)
                finally:
                    connection.terminate()
            except _FAILED as error:
                log.info("following is tried again later", extra={"error": repr(error)})
            except Exception:
                log.exception("following failed, tried again later")
            self._metrics.followed.set((), 0)
            await asyncio.sleep(LEAD_AGAIN_S)

    async def _lead(self, connection: Connection) -> None:
        """Follow, until the connection that holds the lock fails."""
        log.info("this worker follows unfinished objects")
        pause = min(TICK_MAX_S, self._settings.follow_first_s)
        while True:
            await connection.execute("select 1", timeout=DATABASE_TIMEOUT_S)
            more = await self.follow_due()
            if not more:
                await asyncio.sleep(pause)

    async def follow_due(self) -> bool:
        """Ask once for everything that is due. True: there may be more. Raises what Postgres raises."""
        rows = await objects.fetch_due(
            self._pool, DUE_MAX, self._settings.follow_first_s, timeout_s=DATABASE_TIMEOUT_S
        )
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(row: Mapping[str, Any]) -> None:
            async with gate:
                await self._follow(row)

        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(one(row))
        self._metrics.followed.set((), await objects.count_followed(self._pool, timeout_s=DATABASE_TIMEOUT_S))
        return len(rows) == DUE_MAX

    async def _follow(self, row: Mapping[str, Any]) -> None:
        """Ask for one object, and record it when it has come to its end."""
        settings, age_s = self._settings, row["age_s"]
        result = "failed"
        with contextlib.suppress(FetchError):
            result = await self._ask(row)
        if result in {"pending", "failed"} and age_s > settings.follow_give_up_s:
            self._record(row, _given_up(row["id"]), "upstream_timeout", 0)
            log.warning("an object is not followed any more", extra={"object": row["id"], "age_s": age_s})
            result = "given_up"
        self._metrics.follow_polls.inc((result,))
        # What is recorded is not asked for again before its record is stored, which ends the following.
        pause = min(settings.follow_max_s, max(settings.follow_first_s, age_s / AGE_PART))
        await objects.postpone(self._pool, row["id"], pause, timeout_s=DATABASE_TIMEOUT_S)

    async def _ask(self, row: Mapping[str, Any]) -> str:
        follow = row["follow"]
        upstream = self._upstreams.named(row["upstream"])
        headers = [(name.encode(), value.encode("latin-1")) for name, value in follow["headers"].items()]
        target = upstream.prefix + follow["path"].encode()
        request = request_head(b"GET", target, headers, upstream.policy)
        found = await fetch(upstream.pool, request, max_bytes=ANSWER_MAX_BYTES, timeout_s=ANSWER_TIMEOUT_S)
        status = found.head.status
        if status in GONE:
            gone = Reading(object_id=row["id"], finish_reason="gone", error_code="object_gone")
            self._record(row, gone, "upstream_error", status)
            return "gone"
        if status != 200:
            return "failed"
        reading = self._read(row, found)
        if reading.usage is None and reading.finish_reason is None and not reading.unknown:
            return "pending"
        self._record(row, reading, "success", status)
        return "finished"

    def _read(self, row: Mapping[str, Any], found: Fetched) -> Reading:
        fields = found.head.fields
        meter = open_meter(
            read_call(
                method="GET",
                target=row["follow"]["path"].encode(),
                header=lambda _: None,
                body=None,
                body_bytes=0,
            ),
            kind_of(fields.get(b"content-type", b""), fields.get(b"content-encoding", b"")),
            status=found.head.status,
        )
        meter.feed(found.content)
        return meter.finish(True)

    def _record(self, row: Mapping[str, Any], reading: Reading, outcome: Outcome, status: int) -> None:
        """A record of its own, of the object's maker."""
        owner = owner_of_row(row)
        self._owners.remember(row["id"], owner)
        target = row["follow"]["path"].encode()
        started_us = self._clocks.now_us()
        request = Request(b"GET", target, [], {}, self._clocks.now(), started_us)
        call = replace(
            read_call(method="GET", target=target, header=request.fields.get, body=None, body_bytes=0),
            model=owner.model,
            operation=owner.operation,
            tags=owner.tags,
            end_user=owner.end_user,
        )
        exchange = Exchange(
            self._clocks.new_id(started_us),
            self._caller_of(owner),
            call,
            request,
            self._upstreams.named(row["upstream"]),
        )
        exchange.owner = owner
        exchange.status = exchange.client_status = status
        self._ledger.end_read(exchange, outcome, reading)


def _given_up(object_id: str) -> Reading:
    return Reading(
        object_id=object_id,
        finish_reason="given_up",
        error_code="follow_given_up",
        error_message="The object did not come to an end in the time it is followed for.",
    )
