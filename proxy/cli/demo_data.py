"""`openai-proxy demo-data`: three believable months in an empty database, for trying the dashboard.

It never touches a database that holds usage. Records go the recorder's own way into Postgres, so every sum is what it
would be had the calls been made; quotas count what was used before they existed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from proxy.cli.database import actor, on_database
from proxy.cli.demo_records import Person, records
from proxy.cli.demo_world import LEFT, LIMITS, OPERATORS, PLANS, TEAMS, Limit
from proxy.cli.failure import CommandError
from proxy.core.money import parse_usd
from proxy.core.spoolformat import encode_record
from proxy.pricing.live import PriceSource
from proxy.settings import Settings
from proxy.store import audit, demo, people, plans, quotas
from proxy.store.postgres import Connection, Pool
from proxy.store.prices import fetch_stored
from proxy.store.quotas import Rule

T = TypeVar("T")
BATCH = 10_000
DAYS = 92
SEED = 20


def demo_data(
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days, today included.")] = DAYS,
    seed: Annotated[int, typer.Option(help="Another seed, other numbers.")] = SEED,
) -> None:
    """Fill an empty database with make-believe usage, to try the dashboard."""

    async def work(pool: Pool, settings: Settings) -> tuple[int, int]:
        return await fill(pool, settings, days=days, seed=seed, end=datetime.now(UTC))

    began = time.monotonic()
    users, stored = on_database("demo-data", work)
    print(f"{stored:,} requests of {users} users over {days} days, in {time.monotonic() - began:.0f} s.")
    print("Open /dashboard with your admin key, or start one with `openai-proxy serve`.")


async def fill(pool: Pool, settings: Settings, *, days: int, seed: int, end: datetime) -> tuple[int, int]:
    """Make the people and their usage up to `end`; returns how many of each. Raises CommandError if there is usage."""
    async with pool.acquire() as connection, connection.transaction():
        if not await demo.is_empty(connection):
            raise CommandError("this database holds usage; demo data goes into an empty one")
        made = await _people(connection)
        entry = audit.Entry(actor(), None, "demo_data.create", "all", None, {"days": days, "seed": seed})
        await audit.write(connection, [entry])
    prices = PriceSource.from_settings(settings, fetch_stored)
    await prices.reload(pool)
    stored = 0
    lines = (encode_record(each) for each in records(made, prices.book, seed=seed, days=days, end=end))
    for batch in _batches(lines, BATCH):
        stored += await demo.store(pool, batch, settings.rollup_tags)
    await demo.finish(pool)
    return len(made), stored


async def _people(connection: Connection) -> dict[str, Person]:
    plan_ids = {}
    for name, limits in PLANS.items():
        row = await plans.create_plan(connection, name=name, rules=[_rule(each) for each in limits])
        plan_ids[name] = row["id"]
    group_ids, made = {}, {}
    for team in TEAMS:
        group = await people.create_group(connection, name=team.name, external_id=team.external_id)
        group_ids[team.name] = group["id"]
        for number, (first, last, _) in enumerate(team.people):
            name = f"{first} {last}"
            user = await people.create_user(
                connection,
                name=name,
                email=f"{_plain(first)}.{_plain(last)}@example.com",
                external_id=f"{team.external_id}-{number + 1}",
                group_id=group["id"],
                plan_id=plan_ids[team.plan],
                active=name not in LEFT,
            )
            names = ("laptop", "application") if name in OPERATORS else ("laptop",)
            key_ids = [
                (await people.create_key(connection, user_id=user["id"], name=each))[0]["id"]
                for each in names
            ]
            made[name] = Person(user["id"], group["id"], name, tuple(key_ids), user["active"])
    for limit in LIMITS:
        subject = {"group": group_ids.get(limit.name), "everyone": None}.get(limit.scope)
        subject = made[limit.name].user_id if limit.scope == "user" else subject
        await quotas.create_quota(connection, limit.scope, subject, _rule(limit))
    return made


def _rule(limit: Limit) -> Rule:
    amount = parse_usd(limit.limit) if limit.unit == "cost" else int(limit.limit)
    return Rule(unit=limit.unit, window=limit.window, limit_amount=amount, soft=limit.soft)


def _plain(name: str) -> str:
    """A name as the part of an address: Kovač is kovac."""
    return name.lower().translate(str.maketrans("áéíóúč'", "aeiouc-")).replace("-", "")


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
