-- Statistics over usage. Parameters of the statements over _facts:
--   $1 filters as a JSON object, each value a list joined by the character U+001F
--   $2, $3 the period; $4, $5 the whole hours within it, which sums answer; $6 whether what lies outside these hours is
--     counted from the records: everything is, when a filter is of something that is not summed
--   $7 the cut of folds (migration 0012) that is read; $8, $9, $10 its pieces: grains, starts, ends; $11, $12 starts and
--     ends of the pieces that the hourly sums answer; $13 the grain of those pieces whose rows know their number of users,
--     'window' (migration 0015) for rows that know nothing else
--   $14 the cut that other users are counted in, '' for none; $15 to $19 its pieces in the same way; $20 whether it is usage_spans
--     that is read instead, where the period reaches up to now
--   $21 the moments at which some currency's rate changes; no piece reaches across one
--   $22, $23 of each piece of $15: the hours of a day (UTC) that count, as bits, 0 for all; and how many hours into the day they
--     are, which tells their day in another zone
-- Pieces are made by proxy/store/stats_plan.py. Each is looked up by itself (`offset 0`), since the planner, which does not know
-- how short they are, would read whole tables.

-- name: _facts
details as (
    select
        d.started_at as at, d.user_id, d.key_id, coalesce(d.group_id, '') as group_id, d.provider,
        left(coalesce(d.served_model, d.requested_model, ''), 200) as model, d.endpoint,
        left(coalesce(d.operation, ''), 128) as operation, d.status, d.tags,
        (d.part is null)::integer as requests,
        (d.part is null and d.outcome not in ('success', 'client_gone'))::integer as errors,
        d.input_tokens, d.cached_input_tokens, d.cache_write_tokens, d.output_tokens, d.reasoning_tokens, d.total_tokens,
        coalesce(d.cost_nanousd, 0) as cost_nanousd, d.cache_saved_nanousd, (d.cost_nanousd is null)::integer as unpriced,
        d.duration_ms, coalesce(d.ttfb_ms, 0) as ttfb_ms, (d.ttfb_ms is not null)::integer as ttfb_count,
        d.started_at as first_at, d.started_at as last_at
    from usage_records d
    where $6::boolean
      and ((d.started_at >= $2::timestamptz and d.started_at < $4::timestamptz)
           or (d.started_at >= $5::timestamptz and d.started_at < $3::timestamptz))
-- include: _detail_filters
),
facts as (
    select
        r.at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags,
        r.requests, r.errors, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.output_tokens,
        r.reasoning_tokens, r.total_tokens, r.cost_nanousd, r.cache_saved_nanousd, r.unpriced, r.duration_ms,
        r.ttfb_ms, r.ttfb_count, r.first_at, r.last_at,
        case when r.grain = $13::text then r.users end as users
    from unnest($8::text[], $9::timestamptz[], $10::timestamptz[]) as piece (grain, starts, ends)
    cross join lateral (
        select r.* from usage_folds r
        where r.cut = $7::text and r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
-- include: _summed_filters
        offset 0
    ) r
    union all
    select
        r.hour, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags,
        r.requests, r.errors, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.output_tokens,
        r.reasoning_tokens, r.total_tokens, r.cost_nanousd, r.cache_saved_nanousd, r.unpriced, r.duration_ms,
        r.ttfb_ms, r.ttfb_count, r.first_at, r.last_at,
        null
    from unnest($11::timestamptz[], $12::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
-- include: _summed_filters
        offset 0
    ) r
    union all
    select r.*, null from details r
),
people as (
    select
        r.at + piece.shift * interval '1 hour' as at,
        r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from unnest($15::text[], $16::timestamptz[], $17::timestamptz[], $22::integer[], $23::integer[])
        as piece (grain, starts, ends, hours, shift)
    cross join lateral (
        select r.* from usage_folds r
        where r.cut = $14::text and r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
          and $14::text <> '' and (piece.hours = 0 or r.hours & piece.hours <> 0)
-- include: _summed_filters
        offset 0
    ) r
    union all
    select
        r.hour, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from unnest($18::timestamptz[], $19::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
          and $14::text <> ''
-- include: _summed_filters
        offset 0
    ) r
    union all
    select
        r.last_at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from usage_spans r
    where $20::boolean and r.cut = $14 and r.last_at >= $2 and r.first_at < $3
-- include: _summed_filters
    union all
    select
        r.at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from details r
    where $14::text <> ''
)

-- name: _summed_filters
      and ($1::jsonb ->> 'user' is null or r.user_id = any (string_to_array($1::jsonb ->> 'user', E'\x1f')))
      and ($1::jsonb ->> 'group' is null or r.group_id = any (string_to_array($1::jsonb ->> 'group', E'\x1f')))
      and ($1::jsonb ->> 'key' is null or r.key_id = any (string_to_array($1::jsonb ->> 'key', E'\x1f')))
      and ($1::jsonb ->> 'model' is null or r.model = any (string_to_array($1::jsonb ->> 'model', E'\x1f')))
      and ($1::jsonb ->> 'endpoint' is null or r.endpoint = any (string_to_array($1::jsonb ->> 'endpoint', E'\x1f')))
      and ($1::jsonb ->> 'operation' is null or r.operation = any (string_to_array($1::jsonb ->> 'operation', E'\x1f')))
      and ($1::jsonb ->> 'provider' is null or r.provider = any (string_to_array($1::jsonb ->> 'provider', E'\x1f')))
      and ($1::jsonb ->> 'status' is null
           or r.status = any (string_to_array($1::jsonb ->> 'status', E'\x1f')::smallint[]))
      and ($1::jsonb -> 'tags' is null or r.tags @> ($1::jsonb -> 'tags'))
      and ($1::jsonb ->> 'user_active' is null
           or r.user_id in (select u.id from users u where u.active = ($1::jsonb ->> 'user_active')::boolean))

-- name: _detail_filters
-- Voided records are left out unless they are asked for.
      and case $1::jsonb ->> 'active' when 'all' then true when 'false' then d.voided_at is not null else d.voided_at is null end
      and ($1::jsonb ->> 'user' is null or d.user_id = any (string_to_array($1::jsonb ->> 'user', E'\x1f')))
      and ($1::jsonb ->> 'group' is null or d.group_id = any (string_to_array($1::jsonb ->> 'group', E'\x1f')))
      and ($1::jsonb ->> 'key' is null or d.key_id = any (string_to_array($1::jsonb ->> 'key', E'\x1f')))
      and ($1::jsonb ->> 'model' is null
           or left(coalesce(d.served_model, d.requested_model, ''), 200) = any (string_to_array($1::jsonb ->> 'model', E'\x1f')))
      and ($1::jsonb ->> 'endpoint' is null or d.endpoint = any (string_to_array($1::jsonb ->> 'endpoint', E'\x1f')))
      and ($1::jsonb ->> 'operation' is null
           or d.operation = any (string_to_array($1::jsonb ->> 'operation', E'\x1f')))
      and ($1::jsonb ->> 'provider' is null or d.provider = any (string_to_array($1::jsonb ->> 'provider', E'\x1f')))
      and ($1::jsonb ->> 'status' is null
           or d.status = any (string_to_array($1::jsonb ->> 'status', E'\x1f')::smallint[]))
      and ($1::jsonb -> 'tags' is null or (d.tags <> '{}' and d.tags @> ($1::jsonb -> 'tags')))
      and ($1::jsonb ->> 'user_active' is null
           or d.user_id in (select u.id from users u where u.active = ($1::jsonb ->> 'user_active')::boolean))
      and ($1::jsonb ->> 'end_user' is null or d.end_user = any (string_to_array($1::jsonb ->> 'end_user', E'\x1f')))
      and ($1::jsonb ->> 'streamed' is null or d.streamed = ($1::jsonb ->> 'streamed')::boolean)
      and ($1::jsonb ->> 'finish_reason' is null
           or d.finish_reason = any (string_to_array($1::jsonb ->> 'finish_reason', E'\x1f')))
      and ($1::jsonb ->> 'service_tier' is null
           or d.service_tier = any (string_to_array($1::jsonb ->> 'service_tier', E'\x1f')))
      and ($1::jsonb ->> 'usage_source' is null
           or d.usage_source = any (string_to_array($1::jsonb ->> 'usage_source', E'\x1f')))
      and ($1::jsonb ->> 'outcome' is null or d.outcome = any (string_to_array($1::jsonb ->> 'outcome', E'\x1f')))
      and ($1::jsonb ->> 'failed' is null or d.status >= 400 or d.status = 0)

-- name: _sums
    coalesce(sum(f.requests), 0)::bigint as requests,
    coalesce(sum(f.errors), 0)::bigint as errors,
    coalesce(sum(f.input_tokens), 0)::bigint as input_tokens,
    coalesce(sum(f.cached_input_tokens), 0)::bigint as cached_input_tokens,
    coalesce(sum(f.cache_write_tokens), 0)::bigint as cache_write_tokens,
    coalesce(sum(f.output_tokens), 0)::bigint as output_tokens,
    coalesce(sum(f.reasoning_tokens), 0)::bigint as reasoning_tokens,
    coalesce(sum(f.total_tokens), 0)::bigint as total_tokens,
    coalesce(sum(f.cost_nanousd), 0)::bigint as cost_nanousd,
    coalesce(sum(f.cache_saved_nanousd), 0)::bigint as cache_saved_nanousd,
    coalesce(sum(f.unpriced), 0)::bigint as unpriced,
    coalesce(sum(f.duration_ms), 0)::bigint as duration_ms,
    coalesce(sum(f.ttfb_ms), 0)::bigint as ttfb_ms,
    coalesce(sum(f.ttfb_count), 0)::bigint as ttfb_count,
    min(f.first_at) as first_at,
    max(f.last_at) as last_at

-- name: _rates
-- The days from which rates of currencies hold, each with the cost and what the cache saved until the next; null where no rate
-- changes within the period. Numbers of users without sums, which have no first time, are of no rate.
    jsonb_object_agg(
        to_char(coalesce(($21::timestamptz[])[f.rate], $2) at time zone 'UTC', 'YYYY-MM-DD'),
        jsonb_build_array(f.cost_nanousd, f.cache_saved_nanousd)
    ) filter (where cardinality($21::timestamptz[]) > 0 and f.rate is not null and isfinite(f.first_at)) as rates

-- name: _by_rate
-- The same, whole.
    coalesce(
        t.rates,
        jsonb_build_object(
            to_char($2::timestamptz at time zone 'UTC', 'YYYY-MM-DD'),
            jsonb_build_array(t.cost_nanousd, t.cache_saved_nanousd)
        )
    ) as by_rate

-- name: totals
with
-- include: _facts
, rated as (
    select
        width_bucket(f.at, $21::timestamptz[]) as rate,
-- include: _sums
        , sum(f.users) as users
    from facts f
    group by 1
)
select
    t.*,
-- include: _by_rate
from (
    select
-- include: _sums
        ,
-- include: _rates
        , (coalesce(sum(f.users), 0) + (select count(distinct p.user_id) from people p))::bigint as users
    from rated f
) t;

-- name: by
-- $24, $25 the dimensions ($25 null: one); $26 the zone of days; $27, $28 the names of the tags when a dimension is "tag";
-- $29 what to sort by; $30 true: ascending; $31, $32 limit and offset; $33 the least of the sorted sum that is shown.
with
-- include: _facts
, rated as (
    select
-- include: _labels
        , width_bucket(f.at, $21::timestamptz[]) as rate,
-- include: _sums
        , sum(f.users) as users
    from facts f
    group by 1, 2, 3
), summed as (
    select
        f.first, f.other,
-- include: _sums
        ,
-- include: _rates
        , coalesce(sum(f.users), 0) as known_users
    from rated f
    group by 1, 2
), each_user as (
    select distinct
-- include: _labels
        , f.user_id
    from people f
), counted as (
    select u.first, u.other, count(*) as users from each_user u group by 1, 2
), sorted as (
    select
        s.*,
        case when $25 = 'user' then 1 else (s.known_users + coalesce(c.users, 0))::bigint end as users,
        case $29::text
            when 'cost' then s.cost_nanousd when 'requests' then s.requests when 'tokens' then s.total_tokens
            when 'input_tokens' then s.input_tokens when 'output_tokens' then s.output_tokens
            when 'errors' then s.errors when 'users' then s.known_users + coalesce(c.users, 0)
            when 'duration' then s.duration_ms / nullif(s.requests, 0)
            when 'last_at' then (extract(epoch from s.last_at) * 1000)::bigint
        end as sorted_by
    from summed s
    left join counted c on c.first = s.first and c.other = s.other
)
select
    t.*, case when $25::text is not null then t.other end as second, count(*) over () as rows_total,
-- include: _by_rate
from sorted t
where $33::bigint is null or t.sorted_by >= $33
order by
    case when $30::boolean then t.sorted_by else -t.sorted_by end nulls last,
    case when $30::boolean and $29::text = 'name' then t.first end,
    case when not $30::boolean and $29::text = 'name' then t.first end desc,
    t.first, t.other
limit $31 offset $32;

-- name: _labels
        case $24::text
            when 'user' then f.user_id when 'group' then f.group_id when 'key' then f.key_id when 'model' then f.model
            when 'endpoint' then f.endpoint when 'operation' then f.operation when 'provider' then f.provider
            when 'status' then f.status::text
            when 'year' then to_char(f.at at time zone $26::text, 'YYYY')
            when 'month' then to_char(f.at at time zone $26::text, 'YYYY-MM')
            when 'day' then to_char(f.at at time zone $26::text, 'YYYY-MM-DD')
            when 'hour' then to_char(f.at at time zone $26::text, 'YYYY-MM-DD"T"HH24:00')
            when 'tag' then coalesce(f.tags ->> $27::text, '')
            else ''
        end as first,
        case $25::text
            when 'user' then f.user_id when 'group' then f.group_id when 'key' then f.key_id when 'model' then f.model
            when 'endpoint' then f.endpoint when 'operation' then f.operation when 'provider' then f.provider
            when 'status' then f.status::text
            when 'year' then to_char(f.at at time zone $26::text, 'YYYY')
            when 'month' then to_char(f.at at time zone $26::text, 'YYYY-MM')
            when 'day' then to_char(f.at at time zone $26::text, 'YYYY-MM-DD')
            when 'hour' then to_char(f.at at time zone $26::text, 'YYYY-MM-DD"T"HH24:00')
            when 'tag' then coalesce(f.tags ->> $28::text, '')
            else ''
        end as other

-- name: user_summaries
with
-- include: _facts
, rated as (
    select
        f.user_id as first, width_bucket(f.at, $21::timestamptz[]) as rate,
-- include: _sums
    from facts f
    group by 1, 2
), summed as (
    select
        f.first,
-- include: _sums
        ,
-- include: _rates
    from rated f
    group by 1
)
select
    t.*, u.name as user_name, u.email as user_email, g.name as group_name,
-- include: _by_rate
from summed t
left join users u on u.id = t.first
left join groups g on g.id = u.group_id
order by t.cost_nanousd desc, t.first;

-- name: users_seen
-- Of the users with a request in the period: how many had none before it, and how many had.
with
-- include: _facts
, seen as (select distinct f.user_id from people f)
select
    count(*) as active,
    count(*) filter (where old.earlier) as returning,
    count(*) filter (where not old.earlier) as new
from seen s
cross join lateral (
    select
        exists (select from usage_spans w where w.cut = 'who' and w.user_id = s.user_id and w.first_at < $2)
        or exists (
            select from usage_hourly h where h.user_id = s.user_id and h.hour < $2::timestamptz and h.first_at < $2::timestamptz
        ) as earlier
) old
where $21::timestamptz[] is not null;

-- name: names
-- What ids of users, groups and keys are called; ids that name nothing any more have no row. $3: only this user's own.
select 'user' as kind, u.id, u.name, u.email
from users u
where $1::text = 'user' and u.id = any ($2::text[]) and ($3::text is null or u.id = $3)
union all
select 'group', g.id, g.name, null
from groups g
where $1::text = 'group' and g.id = any ($2::text[])
  and ($3::text is null or g.id = (select u.group_id from users u where u.id = $3))
union all
select 'key', k.id, coalesce(k.name, k.masked), null
from keys k
where $1::text = 'key' and k.id = any ($2::text[]) and ($3::text is null or k.user_id = $3);

-- name: latencies
-- Histograms of duration and time to first byte by model; see proxy/core/histogram.py. What was refused or lost took no time.
-- $1 to $6 as above; $7 the cut; $8, $9, $10 its pieces; $11, $12 the hours that have none.
select h.model, h.measure, h.bucket, sum(h.requests)::bigint as requests
from (
    select l.model, l.measure, l.bucket, l.requests
    from unnest($8::text[], $9::timestamptz[], $10::timestamptz[]) as piece (grain, starts, ends)
    cross join lateral (
        select l.* from usage_latency_folds l
        where l.cut = $7::text and l.grain = piece.grain and l.at >= piece.starts and l.at < piece.ends
          and ($1::jsonb ->> 'provider' is null or l.provider = any (string_to_array($1::jsonb ->> 'provider', E'\x1f')))
          and ($1::jsonb ->> 'model' is null or l.model = any (string_to_array($1::jsonb ->> 'model', E'\x1f')))
          and ($1::jsonb ->> 'endpoint' is null or l.endpoint = any (string_to_array($1::jsonb ->> 'endpoint', E'\x1f')))
        offset 0
    ) l
    union all
    select l.model, l.measure, l.bucket, l.requests
    from unnest($11::timestamptz[], $12::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select l.* from usage_latency_hourly l
        where l.hour >= piece.starts and l.hour < piece.ends
          and ($1::jsonb ->> 'group' is null or l.group_id = any (string_to_array($1::jsonb ->> 'group', E'\x1f')))
          and ($1::jsonb ->> 'provider' is null or l.provider = any (string_to_array($1::jsonb ->> 'provider', E'\x1f')))
          and ($1::jsonb ->> 'model' is null or l.model = any (string_to_array($1::jsonb ->> 'model', E'\x1f')))
          and ($1::jsonb ->> 'endpoint' is null or l.endpoint = any (string_to_array($1::jsonb ->> 'endpoint', E'\x1f')))
        offset 0
    ) l
    union all
    select
        left(coalesce(d.served_model, d.requested_model, ''), 200), took.measure,
        ceil(ln(greatest(took.ms, 1)) / ln(1.1::float8))::smallint, 1
    from usage_records d
    cross join lateral (values ('duration', d.duration_ms), ('ttfb', d.ttfb_ms::bigint)) as took (measure, ms)
    where $6::boolean
      and ((d.started_at >= $2::timestamptz and d.started_at < $4::timestamptz)
           or (d.started_at >= $5::timestamptz and d.started_at < $3::timestamptz))
      and took.ms is not null
      and d.outcome not in ('refused', 'lost')
      and d.parent_id is null
-- include: _detail_filters
) h
group by 1, 2, 3
having sum(h.requests) > 0;

-- name: outcomes
-- How exchanges ended, by model: status, outcome, error code, finish reason, tier. Parameters as of latencies.
select
    o.model, o.status, o.outcome, o.error_code, o.finish_reason, o.service_tier, sum(o.requests)::bigint as requests
from (
    select r.model, r.status, r.outcome, r.error_code, r.finish_reason, r.service_tier, r.requests
    from unnest($8::text[], $9::timestamptz[], $10::timestamptz[]) as piece (grain, starts, ends)
    cross join lateral (
        select r.* from usage_outcomes_folds r
        where r.cut = $7::text and r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
-- include: _outcome_filters
        offset 0
    ) r
    union all
    select r.model, r.status, r.outcome, r.error_code, r.finish_reason, r.service_tier, r.requests
    from unnest($11::timestamptz[], $12::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_outcomes_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
-- include: _outcome_filters
        offset 0
    ) r
    union all
    select
        left(coalesce(d.served_model, d.requested_model, ''), 200), d.status, d.outcome,
        left(coalesce(d.error_code, ''), 128), left(coalesce(d.finish_reason, ''), 128),
        left(coalesce(d.service_tier, ''), 128), (d.part is null)::integer
    from usage_records d
    where $6::boolean
      and ((d.started_at >= $2::timestamptz and d.started_at < $4::timestamptz)
           or (d.started_at >= $5::timestamptz and d.started_at < $3::timestamptz))
-- include: _detail_filters
) o
group by 1, 2, 3, 4, 5, 6
having sum(o.requests) > 0;

-- name: _outcome_filters
      and ($1::jsonb ->> 'group' is null or r.group_id = any (string_to_array($1::jsonb ->> 'group', E'\x1f')))
      and ($1::jsonb ->> 'provider' is null or r.provider = any (string_to_array($1::jsonb ->> 'provider', E'\x1f')))
      and ($1::jsonb ->> 'model' is null or r.model = any (string_to_array($1::jsonb ->> 'model', E'\x1f')))
      and ($1::jsonb ->> 'endpoint' is null or r.endpoint = any (string_to_array($1::jsonb ->> 'endpoint', E'\x1f')))
      and ($1::jsonb ->> 'status' is null
           or r.status = any (string_to_array($1::jsonb ->> 'status', E'\x1f')::smallint[]))
      and ($1::jsonb ->> 'streamed' is null or r.streamed = ($1::jsonb ->> 'streamed')::boolean)
      and ($1::jsonb ->> 'outcome' is null or r.outcome = any (string_to_array($1::jsonb ->> 'outcome', E'\x1f')))
      and ($1::jsonb ->> 'finish_reason' is null
           or r.finish_reason = any (string_to_array($1::jsonb ->> 'finish_reason', E'\x1f')))
      and ($1::jsonb ->> 'service_tier' is null
           or r.service_tier = any (string_to_array($1::jsonb ->> 'service_tier', E'\x1f')))
      and ($1::jsonb ->> 'usage_source' is null
           or r.usage_source = any (string_to_array($1::jsonb ->> 'usage_source', E'\x1f')))
