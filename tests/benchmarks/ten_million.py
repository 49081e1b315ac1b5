"""Years of records: ingest rate, size on disk, every report, retention. `python -m tests.benchmarks.ten_million --records 10000000`

A Postgres of its own takes them, with its defaults but fsync as it comes. A part is stored as the recorder stores records, which
measures the ingest rate; the rest is made in SQL, spread over 400 days, with the hourly sums that storing them would have made.
They are folded as upkeep does. Then every report of the admin API is asked over 30 and 365 days, seven times each; the
median counts. Prints Markdown; how far it is goes to standard error.

Most users have one model, some two or three, and one or two operations; a few ask for most. With `--thin` everybody uses everything
alike, so that nearly each record is alone in its hour and day.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
from aiohttp.test_utils import TestClient, TestServer

from proxy.admin.context import AdminContext
from proxy.admin.site import all_routes, build_app
from proxy.core.spoolformat import encode_record
from proxy.metrics import Metrics
from proxy.settings import Settings
from proxy.store import folds, partitions, people, postgres, records
from tests.exchanges import make_record
from tests.stoppable_postgres import StoppablePostgres

DAYS = 400
USERS = 2_000
MONTH_TIMEOUT_S = 7_200.0
BATCH = 2_000
ASKED = 7
TIMEOUT_S = 120.0
SLOW_S = 2.0
"""What takes longer is asked once."""
FILL = """
insert into {table} (
    id, started_at, key_id, user_id, group_id, provider, endpoint, method, requested_model, served_model, operation, tags,
    end_user, streamed, status, outcome, error_code, finish_reason, input_tokens, output_tokens, total_tokens,
    cached_input_tokens, usage_source, cost_nanousd, cache_saved_nanousd, ttfb_ms, duration_ms, bytes_in, bytes_out,
    upstream_request_id
)
select
    -- time first, as ids are made, so that the index grows at its end
    (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text || $1::text), 1, 3)
     || '8' || substr(md5(n::text), 1, 15))::uuid,
    at, 'key_' || who, 'user_' || who, 'group_' || (who % 40), 'openai',
    (array['/v1/chat/completions', '/v1/responses', '/v1/embeddings'])[1 + place], 'POST',
    'model-' || model, 'model-' || model || '-2026-01-01',
    (array['rag_answer', 'summary', 'grading', null])[1 + work],
    jsonb_build_object('session', 's' || n % 100000, 'course', 'c' || who % 30),
    case when n % 3 = 0 then 'end_' || n % 5000 end, streamed,
    case when n % 50 = 0 then 500 else 200 end, case when n % 50 = 0 then 'upstream_error' else 'success' end,
    case when n % 50 = 0 then 'server_error' end, case when n % 50 = 0 then null else 'stop' end,
    100 + n % 3000, 20 + n % 900, 120 + n % 3000 + n % 900, n % 100, 'reported', 1000 + (n % 100000) * 100, n % 100 * 75,
    greatest(1, took / 8)::int, greatest(1, took)::bigint, 600, 1200, 'req_' || md5(n::text)
from (
    select
        n, $1::timestamptz + random() * ($2::timestamptz - $1::timestamptz) as thin_at,
        floor($4 * random() ^ 3)::int as who, random() as chance, n % 2 = 0 as streamed,
        600 * exp(0.7 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) as took
    from generate_series(1, $3::bigint) as n
) drawn
cross join lateral (select {chosen}) as chosen (at, model, work, place)
where at >= $1 and at < $2
order by at
"""
USUAL = """
    -- most is asked around noon
    date_trunc('day', thin_at) + (random() + random()) * interval '12 hours',
    -- a user has a model, sometimes another, rarely a third; the first models have most users
    floor(12 * (((who * 7919) % 1000) / 1000.0) ^ 2)::int * (chance < 0.85)::int + (who % 5) * (chance >= 0.85)::int
        + 7 * (chance >= 0.97)::int,
    -- and one thing to do, sometimes two
    (who + ((chance * 1000)::int % 10 < 2)::int) % 4,
    case (who + ((chance * 1000)::int % 10 < 2)::int) % 4 when 0 then 0 when 1 then 1 when 2 then (who % 2) else 2 * (who % 2) end
"""
THIN = """
    thin_at, n * 7 % 12, n % 4, (n % 7 > 3)::int + (n % 29 = 0)::int
"""
"""Everybody uses everything alike, so that nearly each record is alone in its hour and day: the worst case for sums."""
PEOPLE = """
with g as (
    insert into groups (id, name) select 'group_' || n, 'Group ' || n from generate_series(0, 39) as n
), u as (
    insert into users (id, name, email, group_id)
    select 'user_' || n, 'User ' || n, 'user' || n || '@school.example', 'group_' || (n % 40) from generate_series(0, $1 - 1) as n
)
insert into keys (id, user_id, name, digest, masked)
select 'key_' || n, 'user_' || n, 'Key', sha256(n::text::bytea), 'sk-proxy-…' from generate_series(0, $1 - 1) as n
"""
HOURLY = """
insert into usage_hourly (
    hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, requests, errors, input_tokens,
    cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_nanousd, unpriced,
    duration_ms, ttfb_ms, ttfb_count, first_at, last_at, cache_saved_nanousd
)
select
    date_trunc('hour', started_at, 'UTC'), user_id, key_id, coalesce(group_id, ''), provider,
    coalesce(served_model, requested_model, ''), endpoint, coalesce(operation, ''), status,
    jsonb_build_object('course', tags ->> 'course'), count(*),
    count(*) filter (where outcome not in ('success', 'client_gone')), sum(input_tokens), sum(cached_input_tokens),
    sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), sum(total_tokens), coalesce(sum(cost_nanousd), 0),
    count(*) filter (where cost_nanousd is null), sum(duration_ms), coalesce(sum(ttfb_ms), 0), count(ttfb_ms),
    min(started_at), max(started_at), sum(cache_saved_nanousd)
from usage_records where started_at >= $1 and started_at < $2
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
"""
LATENCY = """
insert into usage_latency_hourly
select
    date_trunc('hour', started_at, 'UTC'), coalesce(group_id, ''), provider, coalesce(served_model, requested_model, ''),
    endpoint, measure, ceil(ln(greatest(ms, 1)) / ln(1.1::float8))::smallint, count(*)
from usage_records
cross join lateral (values ('duration', duration_ms), ('ttfb', ttfb_ms::bigint)) as took (measure, ms)
where started_at >= $1 and started_at < $2 and ms is not null
group by 1, 2, 3, 4, 5, 6, 7
"""
OUTCOMES = """
insert into usage_outcomes_hourly
select
    date_trunc('hour', started_at, 'UTC'), coalesce(group_id, ''), provider, coalesce(served_model, requested_model, ''),
    endpoint, streamed, status, outcome, coalesce(error_code, ''), coalesce(finish_reason, ''), '', usage_source, count(*)
from usage_records where started_at >= $1 and started_at < $2
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
"""
SIZES = """
with tables as (
    select pg_total_relation_size(c.oid) as bytes,
        case
            when c.relname like 'usage_folds%' or c.relname in ('usage_folded', 'usage_spans', 'usage_outcomes_folds', 'usage_latency_folds')
            then 'folds'
            when c.relname in ('usage_latency_hourly', 'usage_outcomes_hourly') then 'others' else c.relname
        end as kind
    from pg_class c where c.relkind = 'r'
)
select
    (select sum(bytes) from usage_partitions)::bigint as records,
    (select sum(pg_relation_size(inhrelid)) from pg_inherits where inhparent = 'usage_records'::regclass)::bigint as heap,
    (select bytes from tables where kind = 'usage_hourly') as hourly,
    (select sum(bytes) from tables where kind = 'folds')::bigint as folds,
    (select sum(bytes) from tables where kind = 'others')::bigint as others,
    (select count(*) from usage_hourly) as hourly_rows, (select count(*) from usage_folds) as fold_rows
"""
# What a person opens; routes with parts, and those that are no reports, are left out or filled in.
PARTS = {"{user}": "user_7", "{group}": "group_7", "{tag}": "course"}
# As the dashboard's first page asks: one bulk query, and what its chart and its list of requests ask beside it.
TOP_MODELS = "model-0-2026-01-01,model-1-2026-01-01,model-2-2026-01-01,model-3-2026-01-01,model-4-2026-01-01"


def first_view(tz: str, days: int) -> list[tuple[str, Any]]:
    """(path, body of a POST) of what the dashboard's first page asks for."""
    asked = f"days={days}&tz={tz}"
    bulk = {
        "overview": f"/admin/stats/overview?{asked}",
        "ever": "/admin/stats",
        "users": f"/admin/stats/top/users?{asked}&limit=6",
        "models": f"/admin/stats/models?{asked}&limit=6",
        "operations": f"/admin/stats/operations?{asked}&limit=6",
        "trends": f"/admin/stats/trends?days=7&tz={tz}",
        "errors": f"/admin/stats/errors?{asked}",
    }
    return [
        ("/admin/stats/bulk", {"queries": [{"name": name, "path": path} for name, path in bulk.items()]}),
        (f"/admin/stats/by?{asked}&group_by=day&limit=1000", None),
        (f"/admin/stats/by?{asked}&group_by=model&sort=cost&limit=8", None),
        (f"/admin/stats/by?{asked}&group_by=day,model&limit=1000&model={TOP_MODELS}", None),
        ("/admin/records?days=30&limit=12", None),
    ]


async def fill(pool: asyncpg.Pool, count: int, now: datetime, *, thin: bool) -> float:
    """Make `count` records before `now`; returns the seconds that took."""
    began = time.perf_counter()
    start = now - timedelta(days=DAYS)
    await pool.execute(PEOPLE, USERS)
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month < now:
        following = (month + timedelta(days=32)).replace(day=1)
        first, last = max(month, start), min(following, now)
        part = round(count * (last - first) / timedelta(days=DAYS))
        # Indexes are made when all rows are there, which takes a tenth of the time.
        table = f"usage_records_{month:%Y_%m}"
        await pool.execute(
            f"create table {table} (like usage_records including defaults including constraints)"
        )
        chosen = FILL.replace("{table}", table).replace("{chosen}", THIN if thin else USUAL)
        await pool.execute(chosen, first, last, part, USERS, timeout=MONTH_TIMEOUT_S)
        await pool.execute(
            f"alter table usage_records attach partition {table} for values from ('{month}') to ('{following}')",
            timeout=MONTH_TIMEOUT_S,
        )
        for sql in (HOURLY, LATENCY, OUTCOMES):
            await pool.execute(sql, first, last, timeout=MONTH_TIMEOUT_S)
        print(f"{month:%Y-%m} {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        month = following
    await partitions.make_ahead(pool, now, start)
    return time.perf_counter() - began


async def ingest(pool: asyncpg.Pool, count: int) -> float:
    """Store records as the recorder does, one batch after the other; returns records per second."""
    now_us = time.time_ns() // 1000
    batches = []
    for first in range(0, count, BATCH):
        batch = []
        for number in range(first, first + BATCH):
            at = now_us - count * 10 + number * 10
            record = make_record(
                number,
                id=str(UUID(int=(at // 1000 << 80) + (7 << 76) + (2 << 62) + number)),
                started_at_us=at,
                user_id=f"user_{number % USERS}",
                key_id=f"key_{number % USERS}",
                group_id=f"group_{number % 40}",
            )
            batch.append(encode_record(record))
        batches.append(batch)
    began = time.perf_counter()
    for batch in batches:
        assert await records.store(pool, batch, timeout_s=600) == BATCH
    return count / (time.perf_counter() - began)


@dataclass(slots=True)
class Client:
    """Asks as an administrator, and keeps the times of statistics."""

    client: TestClient[Any, Any]
    key: str
    times: list[float] = field(default_factory=list)

    async def ask(self, path: str, body: Any = None, *, first_row: bool = False) -> float | None:
        """The seconds until the answer was read, or the first of it; None: it ran into its time limit."""
        began = time.perf_counter()
        method = "GET" if body is None else "POST"
        headers = {"authorization": f"Bearer {self.key}"}
        async with self.client.request(method, path, json=body, headers=headers) as answer:
            if first_row:
                await answer.content.readline()
                await answer.content.readline()
                answer.close()
            else:
                await answer.read()
            return time.perf_counter() - began if answer.status == 200 else None

    async def median(self, path: str, *, counts: bool = False, **more: Any) -> float | None:
        """The median of several; `counts`: it is a statistic over rollup dimensions."""
        times: list[float] = []
        for _ in range(ASKED):
            took = await self.ask(path, **more)
            if took is None:
                return None
            times.append(took)
            if took > SLOW_S:
                break
        if counts:
            self.times += times
        return statistics.median(times)

    async def page(self, asked: list[tuple[str, Any]]) -> float | None:
        """The median of a page's calls, one after the other."""
        times = []
        for _ in range(ASKED):
            each = [await self.ask(path, body) for path, body in asked]
            if None in each:
                return None
            times.append(sum(took for took in each if took is not None))
        return statistics.median(times)


async def reports(pool: asyncpg.Pool) -> list[str]:
    """Tables of the median times of every report over 30 and over 365 days."""
    settings = Settings(
        admin_requests_per_minute=10**6,
        admin_statement_timeout_s=TIMEOUT_S,
        demo=False,
        rollup_tags=("course",),
    )
    context = AdminContext(settings=settings, metrics=Metrics(), pool=lambda: pool)
    _, key = await people.create_admin_key(pool, name="benchmark")
    paths = [
        route.path
        for route in all_routes(settings)
        if route.method == "GET" and route.tag == "stats" and not route.path.endswith("/live")
    ]
    statistics_ = []
    for template in [*paths, "/admin/users/{user}/usage", "/admin/groups/{group}/usage"]:
        path = template
        for part, value in PARTS.items():
            path = path.replace(part, value)
        statistics_.append(path + ("?group_by=model&group_by=day" if path.endswith("/by") else ""))
    by = "/admin/stats/by?group_by="
    statistics_ += [
        f"{by}user&group_by=model",
        f"{by}group&group_by=operation",
        "/admin/stats/users?tz=America/Sao_Paulo",
        f"{by}day&tz=Europe/Berlin",
        f"{by}model&group_by=day&tz=Europe/Berlin",
    ]
    statistics_ += [
        "/admin/stats/models?group=group_7",
        "/admin/stats/days?user=user_7",
        "/admin/stats/models?operation=summary",
    ]
    statistics_ += ["/admin/stats/days?model=model-1-2026-01-01", "/admin/stats/trends?tz=America/Sao_Paulo"]
    history = ["/admin/records?limit=50"]
    history += [
        f"/admin/records?{each}"
        for each in ("user=user_7", "end_user=end_42", "failed=true", "tag.session=s77")
    ]
    lines = ["", "| report, ms | 30 days | 365 days |", "|---|---:|---:|"]
    async with TestClient(TestServer(build_app(context))) as client:
        asking = Client(client, key)
        for path in [
            *statistics_,
            *history,
            "/admin/stats/tags/session",
            "/admin/stats/models?streamed=true",
        ]:
            asked = path + ("&" if "?" in path else "?")
            counts = path in statistics_
            if path == "/admin/stats":
                cells = [_ms(await asking.median(path, counts=True)), ""]
            else:
                cells = [_ms(await asking.median(f"{asked}days={days}", counts=counts)) for days in (30, 365)]
            lines.append(f"| `{path}` | {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
        for tz in ("UTC", "America/Sao_Paulo"):
            cells = [_ms(await asking.page(first_view(tz, days))) for days in (30, 365)]
            lines.append(
                f"| the dashboard's first page, all its calls one after the other, {tz} | {' | '.join(cells)} |"
            )
        cells = [
            _ms(await asking.median(f"/admin/export/records?days={days}", first_row=True))
            for days in (30, 365)
        ]
        lines.append(f"| `/admin/export/records`, its first row | {' | '.join(cells)} |")
        ordered = sorted(asking.times)
        p95, within = ordered[int(len(ordered) * 0.95)], sum(took < 0.05 for took in ordered) / len(ordered)
        summary = (
            f"Of all these statistics over what is summed, half took {_ms(statistics.median(ordered))} ms at most, 95 %"
            f" {_ms(p95)} ms; {within:.0%} took less than 50 ms."
        )
    return [*lines, "", summary]


def _ms(seconds: float | None) -> str:
    return f"> {TIMEOUT_S * 1000:,.0f}" if seconds is None else f"{seconds * 1000:,.0f}"


async def run(url: str, count: int, ingested: int, *, thin: bool) -> list[str]:
    """The report's lines."""
    pool = await postgres.open_pool(url, size_max=4, timeout_s=TIMEOUT_S)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    filled_s = await fill(pool, count, now, thin=thin)
    began = time.perf_counter()
    days = await folds.make_due(pool, now)
    folded_s = time.perf_counter() - began
    print(f"folded {folded_s:.0f} s", file=sys.stderr, flush=True)
    await pool.execute("vacuum analyze", timeout=MONTH_TIMEOUT_S)
    kind = "spread as thin as can be" if thin else "of which each uses one to three models"
    took = f"{filled_s:,.0f} s to make them in SQL, {folded_s:,.0f} s to fold {days} days"
    lines = await measured(pool, f"{kind}, over {DAYS} days ({took})", ingested)
    await pool.close()
    return lines


async def measured(pool: asyncpg.Pool, what: str, ingested: int) -> list[str]:
    """The report's lines about a database that is full. `what` says of what."""
    rate = await ingest(pool, ingested)
    total = await pool.fetchval("select count(*) from usage_records", timeout=MONTH_TIMEOUT_S)
    sizes = await pool.fetchrow(SIZES, timeout=MONTH_TIMEOUT_S)
    version = await pool.fetchval("show server_version")
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, PostgreSQL {version} with its"
        f" default settings; load average: {os.getloadavg()[2]:.1f}. {total:,} records of {USERS:,} users, {what}."
    )
    lines = [
        head,
        "",
        "| | |",
        "|---|---:|",
        f"| ingest into the full database, one flusher | {rate:,.0f} records/s |",
        f"| size of a record, indexes included | {sizes['records'] / total:,.0f} bytes |",
        f"| … without indexes | {sizes['heap'] / total:,.0f} bytes |",
        f"| hourly sums | {sizes['hourly_rows']:,} rows, {sizes['hourly'] / 2**20:,.0f} MiB |",
        f"| hourly latencies and outcomes | {sizes['others'] / 2**20:,.0f} MiB |",
        f"| folds of all of these | {sizes['fold_rows']:,} rows of sums, {sizes['folds'] / 2**20:,.0f} MiB |",
    ]
    answered = await reports(pool)
    (oldest, *_) = await partitions.all_of(pool)
    began = time.perf_counter()
    assert await partitions.drop(pool, oldest.name, oldest.ends)
    dropped_ms = (time.perf_counter() - began) * 1000
    lines.append(
        f"| retention: dropping a month of {oldest.rows_estimate:,} records | {dropped_ms:,.0f} ms |"
    )
    return [*lines, *answered]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument(
        "--ingest", type=int, default=100_000, help="how many of them are stored as the recorder does"
    )
    parser.add_argument(
        "--thin", action="store_true", help="spread as thin as can be: everybody uses everything"
    )
    given = parser.parse_args()
    with StoppablePostgres.running() as server:
        ingested = given.ingest // BATCH * BATCH
        print("\n".join(asyncio.run(run(server.url, given.records, ingested, thin=given.thin))))


if __name__ == "__main__":
    main()
