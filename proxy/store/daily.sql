-- Sums by day, made of the hourly ones; see migration 0008.

-- name: due
-- Days that are long over and have no sums, oldest first. $1 now, $2 how many. Days without usage are made too, so that a
-- report over them has one stretch of days to read.
select past.day
from generate_series(
    date_trunc('day', (select min(hour) from usage_hourly), 'UTC'),
    date_trunc('day', least($1::timestamptz, now()), 'UTC') - interval '4 days',
    interval '1 day'
) as past (day)
where not exists (select from usage_days made where made.day = past.day)
order by past.day
limit $2;

-- name: lock
-- Another worker may be making this day: then there is nothing to do. Held to the end of the transaction.
select pg_try_advisory_xact_lock(daily_sums_lock($1));

-- name: clear
delete from usage_daily where day = $1;

-- name: make
insert into usage_daily (
    day, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, requests, errors, input_tokens,
    cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens, cost_nanousd, cache_saved_nanousd,
    unpriced, duration_ms, ttfb_ms, ttfb_count, first_at, last_at
)
select
    $1::timestamptz, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, sum(requests),
    sum(errors), sum(input_tokens), sum(cached_input_tokens), sum(cache_write_tokens), sum(output_tokens),
    sum(reasoning_tokens), sum(total_tokens), sum(cost_nanousd), sum(cache_saved_nanousd), sum(unpriced), sum(duration_ms), sum(ttfb_ms),
    sum(ttfb_count), min(first_at), max(last_at)
from usage_hourly
where hour >= $1::timestamptz and hour < $1::timestamptz + interval '1 day'
group by user_id, key_id, group_id, provider, model, endpoint, operation, status, tags;

-- name: made
insert into usage_days (day) values ($1) on conflict (day) do update set made_at = now();

-- name: stretch
-- The longest stretch of days with sums from $1 up to but not including $2; no row when there is none.
select min(day) as first, max(day) + interval '1 day' as last
from (
    select day, day - row_number() over (order by day) * interval '1 day' as island
    from usage_days
    where day >= $1::timestamptz and day < $2::timestamptz
) numbered
group by island
order by count(*) desc
limit 1;
