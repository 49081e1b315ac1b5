"""Kit of the quota tests: workers with a pool, a LISTEN connection and live quotas of their own, and records that settle."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from proxy.core.call import Call
from proxy.core.caller import Caller
from proxy.core.endpoints import Endpoint
from proxy.core.quota import Charge, Quota
from proxy.gateway.quotas import CHANNEL, Need, NeedsShare, Quotas, Reservation
from proxy.store import postgres, quotas_live

CHAT = Endpoint("/v1/chat/completions", meter="chat")
CALL = Call(method="POST", path="/v1/chat/completions", endpoint=CHAT, model="gpt-4o")


def requests_quota(limit: int, **more: Any) -> Quota:
    return Quota(
        **(
            {
                "id": "q_requests",
                "scope": "user",
                "scope_id": "user_1",
                "unit": "requests",
                "window": "month",
                "limit": limit,
            }
            | more
        )
    )


def tokens_quota(limit: int, **more: Any) -> Quota:
    return requests_quota(limit, **({"id": "q_tokens", "unit": "tokens"} | more))


def caller_with(*quotas: Quota, **more: Any) -> Caller:
    return Caller("key_1", "user_1", quotas=quotas, **more)


def call(**more: Any) -> Call:
    return replace(CALL, **more)


@dataclass
class Worker:
    """One worker: live quotas, and what came of its exchanges waiting to be recorded, as a spool would hold it."""

    quotas: Quotas
    pool: asyncpg.Pool
    ears: asyncpg.Connection
    spooled: list[tuple[Charge, ...]]
    killed: bool = False

    async def admit(self, caller: Caller, need: Need, what: Call = CALL) -> Reservation:
        try:
            return self.quotas.admit(caller, what, need)
        except NeedsShare:
            return await self.quotas.ask(caller, what, need)

    def end(self, reservation: Reservation, tokens: int = 0, cost: int = 0, *, counted: bool = True) -> None:
        self.spooled.append(
            self.quotas.settle(reservation, tokens=tokens, cost_nanousd=cost, counted=counted)
        )

    async def flush(self) -> None:
        batch, self.spooled = self.spooled, []
        if batch:
            await settle(self.pool, batch)

    async def kill(self) -> None:
        """What a SIGKILL leaves: nothing is returned, nothing more is heard."""
        self.killed = True
        clerk = self.quotas.clerk
        if clerk._task is not None:
            clerk._task.cancel()
            await asyncio.gather(clerk._task, return_exceptions=True)
            clerk._task = None
        await self.ears.close()
        self.pool.terminate()


async def settle(pool: asyncpg.Pool, batch: Iterable[tuple[Charge, ...]]) -> None:
    rows = [
        [[c.quota_id, c.window_start, c.scope_id, c.amount, c.share_id, c.held] for c in charges] or None
        for charges in batch
    ]
    async with pool.acquire() as connection, connection.transaction():
        await quotas_live.settle(connection, rows, [uuid.uuid4() for _ in rows])


@asynccontextmanager
async def worker(url: str, **options: Any) -> AsyncIterator[Worker]:
    pool = await postgres.open_pool(url, size_max=3)
    ears = await postgres.connect(url)
    made = Worker(Quotas(pool, **options), pool, ears, [])
    await ears.add_listener(CHANNEL, lambda _c, _p, channel, payload: made.quotas.on_notify(channel, payload))
    await made.quotas.start()
    try:
        yield made
    finally:
        if not made.killed:
            await made.quotas.stop()
            await made.flush()
            await ears.close()
            await pool.close()


@asynccontextmanager
async def workers(url: str, count: int, **options: Any) -> AsyncIterator[list[Worker]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(worker(url, **options)) for _ in range(count)]


async def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait until something is so; a test fails when it never is."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def window(pool: asyncpg.Pool, quota_id: str) -> tuple[int, int]:
    """(settled, held) over all windows of a quota."""
    row = await pool.fetchrow(
        "select coalesce(sum(settled), 0)::bigint, coalesce(sum(held), 0)::bigint from quota_windows where quota_id = $1",
        quota_id,
    )
    return row[0], row[1]


async def check_ledger(pool: asyncpg.Pool) -> None:
    """Every window's `held` is the sum of its shares."""
    wrong = await pool.fetch(
        "select w.* from quota_windows w where w.held <> coalesce((select sum(amount) from quota_shares s"
        " where s.quota_id = w.quota_id and s.scope_id = w.scope_id and s.window_start = w.window_start), 0)"
    )
    assert not wrong
