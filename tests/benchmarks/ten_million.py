"""Years of records: ingest rate, size on disk, every report, retention. `python -m tests.benchmarks.ten_million --records 10000000`

A Postgres of its own takes them, with its defaults but fsync as it comes. A part is stored as the recorder stores records, which
measures the ingest rate; the rest is made in SQL, spread over 400 days, with the rollups that storing them would have made. Then
every report of the admin API is asked over 30 and 365 days, three times each; the median counts. Prints Markdown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import time
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
from proxy.store import daily, partitions, people, postgres, records
from tests.exchanges import make_record
from tests.stoppable_postgres import StoppablePostgres

DAYS = 400
USERS = 2_000
MONTH_TIMEOUT_S = 7_200.0
BATCH = 2_000
ASKED = 3
TIMEOUT_S = 120.0
FILL = """
insert into usage_records (
    id, started_at, key_id, user_id, group_id, provider, endpoint, method, requested_model, served_model, operation, tags,
    end_user, streamed, status, outcome, error_code, finish_reason, input_tokens, output_tokens, total_tokens,
    cached_input_tokens, usage_source, cost_nanousd, ttfb_ms, duration_ms, bytes_in, bytes_out, upstream_request_id
)
select
    -- time first, as ids are made, so that the index grows at its end
    (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text || $1::text), 1, 3)
     || '8' || substr(md5(n::text), 1, 15))::uuid,
    at, 'key_' || who, 'user_' || who, 'group_' || (who % 40), 'openai',
    (array['/v1/chat/completions', '/v1/responses', '/v1/embeddings'])[1 + (n % 7 > 3)::int + (n % 29 = 0)::int], 'POST',
    model, model || '-2026-01-01', (array['rag_answer', 'summary', 'grading', null])[1 + n % 4],
    jsonb_build_object('session', 's' || n % 100000), case when n % 3 = 0 then 'end_' || n % 5000 end, n % 2 = 0,
    case when n % 50 = 0 then 500 else 200 end, case when n % 50 = 0 then 'upstream_error' else 'success' end,
    case when n % 50 = 0 then 'server_error' end, case when n % 50 = 0 then null else 'stop' end,
    100 + n % 3000, 20 + n % 900, 120 + n % 3000 + n % 900, n % 100, 'reported', 1000 + (n % 100000) * 100,
    40 + n % 700, 200 + n % 9000, 600, 1200, 'req_' || md5(n::text)
from (
    select
        n, $1::timestamptz + random() * ($2::timestamptz - $1::timestamptz) as at,
        floor($4 * random() ^ 3)::int as who, 'model-' || (n * 7 % 12) as model
    from generate_series(1, $3::bigint) as n
) made
order by at
"""
HOURLY = """
insert into usage_hourly
select
    date_trunc('hour', started_at, 'UTC'), user_id, key_id, coalesce(group_id, ''), provider,
    coalesce(served_model, requested_model, ''), endpoint, coalesce(operation, ''), status, '{}'::jsonb, count(*),
    count(*) filter (where outcome not in ('success', 'client_gone')), sum(input_tokens), sum(cached_input_tokens),
    sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), sum(total_tokens), coalesce(sum(cost_nanousd), 0),
    count(*) filter (where cost_nanousd is null), sum(duration_ms), coalesce(sum(ttfb_ms), 0), count(ttfb_ms),
    min(started_at), max(started_at)
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
select
    (select sum(bytes) from usage_partitions)::bigint as records,
    (select sum(pg_relation_size(inhrelid)) from pg_inherits where inhparent = 'usage_records'::regclass)::bigint as heap,
    pg_total_relation_size('usage_hourly') as hourly, pg_total_relation_size('usage_daily') as daily,
    pg_total_relation_size('usage_latency_hourly') + pg_total_relation_size('usage_outcomes_hourly') as others,
    (select count(*) from usage_hourly) as hourly_rows, (select count(*) from usage_daily) as daily_rows
"""
# What a person opens; routes with parts, and those that are no reports, are left out or filled in.
PARTS = {"{user}": "user_7", "{group}": "group_7", "{tag}": "session"}


async def fill(pool: asyncpg.Pool, count: int, now: datetime) -> float:
    """Make `count` records before `now`; returns the seconds that took."""
    began = time.perf_counter()
    start = now - timedelta(days=DAYS)
    await partitions.make_ahead(pool, now, start)
    month = start.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    while month < now:
        following = (month + timedelta(days=32)).replace(day=1)
        await pool.execute("select make_usage_partition($1)", month)
        first, last = max(month, start), min(following, now)
        part = round(count * (last - first) / timedelta(days=DAYS))
        for sql, arguments in (
            (FILL, (first, last, part, USERS)),
            (HOURLY, (first, last)),
            (LATENCY, (first, last)),
            (OUTCOMES, (first, last)),
        ):
            await pool.execute(sql, *arguments, timeout=MONTH_TIMEOUT_S)
        month = following
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


async def reports(pool: asyncpg.Pool) -> list[tuple[str, list[float | None]]]:
    """(path, median seconds over 30 and over 365 days) of each; None: it ran into its time limit."""
    settings = Settings(admin_requests_per_minute=10**6, admin_statement_timeout_s=TIMEOUT_S, demo=False)
    context = AdminContext(settings=settings, metrics=Metrics(), pool=lambda: pool)
    _, key = await people.create_admin_key(pool, name="benchmark")
    paths = ["/admin/stats", "/admin/records?limit=50", "/admin/records/recent"]
    paths += [
        f"/admin/records?{each}"
        for each in ("user=user_7", "end_user=end_42", "failed=true", "tag.session=s77")
    ]
    for route in all_routes(settings):
        if (
            route.method == "GET"
            and route.tag == "stats"
            and route.path not in ("/admin/stats", "/admin/records/live")
        ):
            path = route.path
            for part, value in PARTS.items():
                path = path.replace(part, value)
            paths.append(path + ("?group_by=model&group_by=day" if path.endswith("/by") else ""))
    found: list[tuple[str, list[float | None]]] = []
    async with TestClient(TestServer(build_app(context))) as client:
        for path in paths:
            asked = path + ("&" if "?" in path else "?")
            periods = (
                [path]
                if path in ("/admin/stats", "/admin/records/recent")
                else [f"{asked}days=30", f"{asked}days=365"]
            )
            found.append((path, [await _median(client, each, key) for each in periods]))
    return found


async def _median(client: TestClient[Any, Any], path: str, key: str) -> float | None:
    times = []
    for _ in range(ASKED):
        began = time.perf_counter()
        async with client.get(path, headers={"authorization": f"Bearer {key}"}) as answer:
            await answer.read()
            if answer.status != 200:
                return None
        times.append(time.perf_counter() - began)
    return statistics.median(times)


async def run(url: str, count: int, ingested: int) -> list[str]:
    """The report's lines."""
    pool = await postgres.open_pool(url, size_max=4, timeout_s=TIMEOUT_S)
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    filled_s = await fill(pool, count, now)
    began = time.perf_counter()
    days = await daily.make_due(pool, now)
    daily_s = time.perf_counter() - began
    await pool.execute("vacuum analyze", timeout=MONTH_TIMEOUT_S)
    rate = await ingest(pool, ingested)
    total = await pool.fetchval("select count(*) from usage_records", timeout=MONTH_TIMEOUT_S)
    sizes = await pool.fetchrow(SIZES, timeout=MONTH_TIMEOUT_S)
    version = await pool.fetchval("show server_version")
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, Linux {platform.release()}, PostgreSQL {version} with its"
        f" default settings; load average: {os.getloadavg()[2]:.1f}. {total:,} records of {USERS:,} users over {DAYS} days"
        f" ({filled_s:.0f} s to make them in SQL, {daily_s:.1f} s for the sums of {days} days)."
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
        f"| daily sums | {sizes['daily_rows']:,} rows, {sizes['daily'] / 2**20:,.0f} MiB |",
        f"| hourly latencies and outcomes | {sizes['others'] / 2**20:,.0f} MiB |",
    ]
    answered = await reports(pool)
    (oldest, *_) = await partitions.all_of(pool)
    began = time.perf_counter()
    assert await partitions.drop(pool, oldest.name, oldest.ends)
    dropped_ms = (time.perf_counter() - began) * 1000
    lines += [
        f"| retention: dropping a month of {oldest.rows_estimate:,} records | {dropped_ms:,.0f} ms |",
        "",
        "| report, ms | 30 days | 365 days |",
        "|---|---:|---:|",
    ]
    for path, times in answered:
        cells = " | ".join(
            f"> {TIMEOUT_S * 1000:,.0f}" if each is None else f"{each * 1000:,.0f}" for each in times
        )
        lines.append(f"| `{path}` | {cells} |" + (" |" if len(times) == 1 else ""))
    await pool.close()
    return lines


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument(
        "--ingest", type=int, default=100_000, help="how many of them are stored as the recorder does"
    )
    given = parser.parse_args()
    with StoppablePostgres.running() as server:
        print("\n".join(asyncio.run(run(server.url, given.records, given.ingest // BATCH * BATCH))))


if __name__ == "__main__":
    main()
