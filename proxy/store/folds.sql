-- Folds: sums of the hourly sums; see migration 0012. What is made of a stretch of time is made in one transaction that holds
-- the lock of folds alone.

-- name: try_lock
-- Another worker may be folding: then there is nothing to do. Held to the end of the transaction.
select pg_try_advisory_xact_lock(folds_lock());

-- name: plan_for_values
select set_config('plan_cache_mode', 'force_custom_plan', true), set_config('jit', 'off', true);

-- name: foldable
-- Of what is long over, what has no folds, oldest first. $1 now, $2 how many days. `hours` of a day: those to be folded first;
-- `whole`: then the day itself. Days without usage are made too, so that a report over them has one stretch of days to read.
with limits as (
    select
        date_trunc('day', (select min(hour) from usage_hourly), 'UTC') as first_day,
        date_trunc('hour', least($1::timestamptz, now()), 'UTC') - interval '3 hours' as until
)
select
    day, day + interval '1 day' <= until as whole,
    array(
        select hour
        from generate_series(day, least(day + interval '23 hours', until - interval '1 hour'), interval '1 hour') as hour
        where not exists (select from usage_folded made where made.grain = 'hour' and made.at = hour)
        order by 1
    ) as hours
from limits
cross join lateral generate_series(first_day, until - interval '1 hour', interval '1 day') as day
where not exists (select from usage_folded made where made.grain = 'day' and made.at = day)
order by day
limit $2;

-- name: is_folded
select exists (select from usage_folded where grain = $1 and at = $2);

-- name: first_folded
select min(at) from usage_folded where grain = 'day';

-- name: foldable_sixes
-- Six hours that are long over, of the last days and of some older ones, and that are not folded, oldest first. $1 now, $2 how many
-- days, $3 the older ones.
select block.at as start, block_end('six', block.at) as end
from (
    select recent.at
    from generate_series(
        date_trunc('day', $1::timestamptz, 'UTC') - $2::integer * interval '24 hours',
        least($1::timestamptz, now()) - interval '9 hours',
        interval '6 hours'
    ) as recent (at)
    union
    select day + number * interval '6 hours' from unnest($3::timestamptz[]) as day cross join generate_series(0, 3) as number
) block
where block.at >= block_of('six', (select min(hour) from usage_hourly))
  and not exists (select from usage_folded made where made.grain = 'six' and made.at = block.at)
order by 1;

-- name: forget_sixes
-- Those of other days: reports that begin or end there read hours. $1, $2, $3 as above, $4 the cuts.
with old as (
    delete from usage_folded
    where grain = 'six' and at < date_trunc('day', $1::timestamptz, 'UTC') - $2::integer * interval '24 hours'
      and date_trunc('day', at, 'UTC') <> all ($3::timestamptz[])
    returning at
)
delete from usage_folds r using old where r.cut = any ($4::text[]) and r.grain = 'six' and r.at = old.at;

-- name: forget_ends
-- Heads and tails of months that there need not be any more. $1 the cuts, $2 where the heads stand that stay, $3 the tails.
with old as (
    delete from usage_folded
    where (grain = 'month_head' and at <> all ($2::timestamptz[])) or (grain = 'month_tail' and at <> all ($3::timestamptz[]))
    returning grain, at
)
delete from usage_folds r using old where r.cut = any ($1::text[]) and r.grain = old.grain and r.at = old.at;

-- name: clear
-- $1 grain, $2, $3 the stretch.
delete from usage_folds where grain = $1 and at >= $2 and at < $3;

-- name: clear_latency
delete from usage_latency_folds where grain = $1 and at >= $2 and at < $3;

-- name: clear_outcomes
delete from usage_outcomes_folds where grain = $1 and at >= $2 and at < $3;

-- name: _into
insert into usage_folds (
    cut, grain, at, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags,
    requests, errors, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, total_tokens, cost_nanousd, cache_saved_nanousd, unpriced, duration_ms,
    ttfb_ms, ttfb_count, first_at, last_at, hours, users
)

-- name: _dimensions
    case when 'user' = any ($2::text[]) then r.user_id else '' end,
    case when 'key' = any ($2::text[]) then r.key_id else '' end,
    case when 'group' = any ($2::text[]) then r.group_id else '' end,
    case when 'provider' = any ($2::text[]) then r.provider else '' end,
    case when 'model' = any ($2::text[]) then r.model else '' end,
    case when 'endpoint' = any ($2::text[]) then r.endpoint else '' end,
    case when 'operation' = any ($2::text[]) then r.operation else '' end,
    case when 'status' = any ($2::text[]) then r.status else -1 end,
    case when 'tags' = any ($2::text[]) then r.tags else '{}' end,

-- name: _sums
    bigint_sum(r.requests), bigint_sum(r.errors), bigint_sum(r.input_tokens), bigint_sum(r.cached_input_tokens),
    bigint_sum(r.cache_write_tokens), bigint_sum(r.output_tokens), bigint_sum(r.reasoning_tokens), bigint_sum(r.total_tokens),
    bigint_sum(r.cost_nanousd), bigint_sum(r.cache_saved_nanousd), bigint_sum(r.unpriced), bigint_sum(r.duration_ms), bigint_sum(r.ttfb_ms),
    bigint_sum(r.ttfb_count), min(r.first_at), max(r.last_at),

-- name: _from_hours
from usage_hourly r
where r.hour >= $4::timestamptz and r.hour < $5::timestamptz
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- name: _from_folds
from unnest($5::text[], $6::timestamptz[], $7::timestamptz[]) as piece (grain, starts, ends)
cross join lateral (
    select f.* from usage_folds_full f
    where f.grain = piece.grain and f.at >= piece.starts and f.at < piece.ends
    offset 0
) r
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- name: _from_windows
from generate_series(1, 24) as window_end
cross join lateral (
    select h.* from usage_folds h
    where h.cut = $1::text and h.grain = 'hour'
      and h.at >= $3::timestamptz + (window_end - 24) * interval '1 hour'
      and h.at < $3 + window_end * interval '1 hour'
    offset 0
) r
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

-- name: fold_hours
-- Hours, six of them or one day of a cut, from hourly sums. $1 the cut, $2 its dimensions, $3 the grain, $4, $5 the stretch.
-- include: _into
select
    $1::text, $3::text, case when $3 = 'hour' then r.hour else $4::timestamptz end,
-- include: _dimensions
-- include: _sums
    bit_or(1 << extract(hour from r.hour at time zone 'UTC')::integer),
    null::bigint
-- include: _from_hours

-- name: fold_hours_counted
-- The same with the number of distinct users.
-- include: _into
select
    $1::text, $3::text, case when $3 = 'hour' then r.hour else $4::timestamptz end,
-- include: _dimensions
-- include: _sums
    bit_or(1 << extract(hour from r.hour at time zone 'UTC')::integer),
    count(distinct r.user_id)
-- include: _from_hours

-- name: fold_up
-- A block of a cut that stands at $4, from blocks of the fullest: $5 their grains, $6, $7 where they stand.
-- include: _into
select
    $1::text, $3::text, $4::timestamptz,
-- include: _dimensions
-- include: _sums
    bit_or(r.hours),
    null::bigint
-- include: _from_folds

-- name: fold_up_counted
-- include: _into
select
    $1::text, $3::text, $4::timestamptz,
-- include: _dimensions
-- include: _sums
    bit_or(r.hours),
    count(distinct r.user_id)
-- include: _from_folds

-- name: foldable_windows
-- Days whose windows can be made and are not, oldest first: those that are folded, as is the day before. $1: only this one; null: any.
select day.at
from usage_folded day
join usage_folded before on before.grain = 'day' and before.at = day.at - interval '24 hours'
where day.grain = 'day'
  and ($1::timestamptz is null or day.at = $1)
  and not exists (select from usage_folded made where made.grain = 'window' and made.at = day.at)
order by 1;

-- name: fold_windows
-- The 24 stretches of 24 hours that end in a day, at whole hours: the days of any zone. They are made of the hours of the same cut.
-- $1 the cut, $3 the day.
-- include: _into
select
    $1::text, 'window', $3::timestamptz + (window_end - 24) * interval '1 hour',
-- include: _dimensions
-- include: _sums
    0, null::bigint
-- include: _from_windows

-- name: fold_windows_counted
-- The same with the numbers of distinct users, which the fullest cut knows.
-- include: _into
select
    summed.cut, summed.grain, summed.at, '', '', summed.group_id, summed.provider, summed.model, summed.endpoint,
    summed.operation, summed.status, '{}',
    summed.requests, summed.errors, summed.input_tokens, summed.cached_input_tokens, summed.cache_write_tokens,
    summed.output_tokens, summed.reasoning_tokens, summed.total_tokens, summed.cost_nanousd, summed.cache_saved_nanousd,
    summed.unpriced, summed.duration_ms, summed.ttfb_ms, summed.ttfb_count, summed.first_at, summed.last_at, 0, seen.users
from (
    select
        $1::text, 'window', $3::timestamptz + (window_end - 24) * interval '1 hour',
-- include: _dimensions
-- include: _sums
        0
-- include: _from_windows
) summed (
    cut, grain, at, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags,
    requests, errors, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, total_tokens, cost_nanousd, cache_saved_nanousd, unpriced, duration_ms,
    ttfb_ms, ttfb_count, first_at, last_at, hours
)
join (
    select
        r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status,
        $3::timestamptz + (window_end - 24) * interval '1 hour' as at, count(*) as users
    from (
        select
            case when 'group' = any ($2::text[]) then r.group_id else '' end as group_id,
            case when 'provider' = any ($2::text[]) then r.provider else '' end as provider,
            case when 'model' = any ($2::text[]) then r.model else '' end as model,
            case when 'endpoint' = any ($2::text[]) then r.endpoint else '' end as endpoint,
            case when 'operation' = any ($2::text[]) then r.operation else '' end as operation,
            case when 'status' = any ($2::text[]) then r.status else -1 end as status,
            r.user_id,
            -- 48 bits: the hours of the day before, then those of the day
            bit_or(case when r.at < $3::timestamptz then r.hours::bigint else r.hours::bigint << 24 end) as hours
        from usage_folds r
        where r.cut = 'full' and r.grain = 'day'
          and r.at >= $3 - interval '24 hours' and r.at < $3 + interval '24 hours'
        group by 1, 2, 3, 4, 5, 6, 7
    ) r
    cross join generate_series(1, 24) as window_end
    where r.hours >> window_end & 16777215 <> 0
    group by 1, 2, 3, 4, 5, 6, 7
) seen using (at, group_id, provider, model, endpoint, operation, status);

-- name: fold_latency
-- $1 the cut, $2 the grain (day: from hours), $3, $4 the stretch, $5 the grains of its parts, $6, $7 where they stand.
insert into usage_latency_folds (cut, grain, at, provider, model, endpoint, measure, buckets, requests)
select
    $1::text, $2::text, $3::timestamptz, summed.provider, summed.model, summed.endpoint, summed.measure,
    array_agg(summed.bucket order by summed.bucket), array_agg(summed.requests order by summed.bucket)
from (
    select
        case $1 when 'what' then r.provider else '' end as provider, r.model,
        case $1 when 'what' then r.endpoint else '' end as endpoint, r.measure, r.bucket, bigint_sum(r.requests) as requests
    from (
        select h.provider, h.model, h.endpoint, h.measure, h.bucket, h.requests
        from usage_latency_hourly h
        where $2 = 'day' and h.hour >= $3 and h.hour < $4::timestamptz
        union all
        select f.provider, f.model, f.endpoint, f.measure, each.bucket, each.requests
        from unnest($5::text[], $6::timestamptz[], $7::timestamptz[]) as piece (grain, starts, ends)
        join usage_latency_folds f
            on f.cut = $1 and f.grain = piece.grain and f.at >= piece.starts and f.at < piece.ends
        cross join lateral unnest(f.buckets, f.requests) as each (bucket, requests)
    ) r
    group by 1, 2, 3, 4, 5
) summed
group by 4, 5, 6, 7;

-- name: fold_outcomes
-- The same of outcomes.
insert into usage_outcomes_folds (
    cut, grain, at, group_id, provider, model, endpoint, streamed, status, outcome, error_code, finish_reason,
    service_tier, usage_source, requests
)
select
    $1::text, $2::text, $3::timestamptz, case $1 when 'full' then r.group_id else '' end, r.provider, r.model, r.endpoint,
    r.streamed, r.status, r.outcome, r.error_code, r.finish_reason, r.service_tier, r.usage_source, bigint_sum(r.requests)
from (
    select
        h.group_id, h.provider, h.model, h.endpoint, h.streamed, h.status, h.outcome, h.error_code, h.finish_reason,
        h.service_tier, h.usage_source, h.requests
    from usage_outcomes_hourly h
    where $2 = 'day' and h.hour >= $3 and h.hour < $4::timestamptz
    union all
    select
        f.group_id, f.provider, f.model, f.endpoint, f.streamed, f.status, f.outcome, f.error_code, f.finish_reason,
        f.service_tier, f.usage_source, f.requests
    from unnest($5::text[], $6::timestamptz[], $7::timestamptz[]) as piece (grain, starts, ends)
    join usage_outcomes_folds f
        on f.cut = $1 and f.grain = piece.grain and f.at >= piece.starts and f.at < piece.ends
) r
group by 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14;

-- name: span
-- When combinations were used, by hours from $3 to $4. $1 the cut, $2 its dimensions.
insert into usage_spans as known (
    cut, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, first_at, last_at
)
select
    $1::text,
-- include: _dimensions
    min(r.first_at), max(r.last_at)
from usage_hourly r
where r.hour >= $3::timestamptz and r.hour < $4::timestamptz
group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
on conflict (cut, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags) do update set
    first_at = least(known.first_at, excluded.first_at),
    last_at = greatest(known.last_at, excluded.last_at)
where excluded.first_at < known.first_at or excluded.last_at > known.last_at;

-- name: mark
insert into usage_folded (grain, at) select $1::text, at from unnest($2::timestamptz[]) as at
on conflict (grain, at) do update set made_at = now();

-- name: unmark_hours
-- A folded day stands for its hours.
delete from usage_folded where grain = 'hour' and at >= $1 and at < $2;
