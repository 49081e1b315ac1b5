-- Statistics over usage. Parameters $1 to $5 are the same everywhere: $1 filters as a JSON object, each value a list joined
-- by the character U+001F; $2, $3 the period; $4, $5 the whole hours within it, which sums answer. What lies outside these
-- hours, and everything when a filter is of something that is not summed, is counted from the records. Statements over
-- _facts have $6, $7: the whole days within these hours whose daily sums hold (proxy/store/daily.py).

-- name: _facts
facts as (
    select
        r.hour as at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags,
        r.requests, r.errors, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.output_tokens,
        r.reasoning_tokens, r.total_tokens, r.cost_nanousd, r.cache_saved_nanousd, r.unpriced, r.duration_ms, r.ttfb_ms, r.ttfb_count,
        r.first_at, r.last_at
    from usage_hourly r
    where ((r.hour >= $4::timestamptz and r.hour < $6::timestamptz)
           or (r.hour >= $7::timestamptz and r.hour < $5::timestamptz))
-- include: _summed_filters
    union all
    select
        r.day, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags,
        r.requests, r.errors, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.output_tokens,
        r.reasoning_tokens, r.total_tokens, r.cost_nanousd, r.cache_saved_nanousd, r.unpriced, r.duration_ms, r.ttfb_ms, r.ttfb_count,
        r.first_at, r.last_at
    from usage_daily r
    where r.day >= $6::timestamptz and r.day < $7::timestamptz
-- include: _summed_filters
    union all
    select
        d.started_at, d.user_id, d.key_id, coalesce(d.group_id, ''), d.provider,
        left(coalesce(d.served_model, d.requested_model, ''), 200), d.endpoint, left(coalesce(d.operation, ''), 128), d.status, d.tags,
        (d.part is null)::integer, (d.part is null and d.outcome not in ('success', 'client_gone'))::integer, d.input_tokens, d.cached_input_tokens, d.cache_write_tokens,
        d.output_tokens, d.reasoning_tokens, d.total_tokens, coalesce(d.cost_nanousd, 0),
        d.cache_saved_nanousd, (d.cost_nanousd is null)::integer, d.duration_ms, coalesce(d.ttfb_ms, 0), (d.ttfb_ms is not null)::integer,
        d.started_at, d.started_at
    from usage_records d
    where ((d.started_at >= $2::timestamptz and d.started_at < $4::timestamptz)
           or (d.started_at >= $5::timestamptz and d.started_at < $3::timestamptz))
-- include: _detail_filters
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

-- name: totals
with
-- include: _facts
select
-- include: _sums
    , count(distinct f.user_id) as users
from facts f;

-- name: by
-- $8, $9 the dimensions ($9 null: one); $10 the zone of days; $11, $12 the names of the tags when a dimension is "tag";
-- $13 what to sort by; $14 true: ascending; $15, $16 limit and offset; $17 the least of the sorted sum that is shown.
with
-- include: _facts
, summed as (
    select
        case $8::text
            when 'user' then f.user_id when 'group' then f.group_id when 'key' then f.key_id when 'model' then f.model
            when 'endpoint' then f.endpoint when 'operation' then f.operation when 'provider' then f.provider
            when 'status' then f.status::text
            when 'year' then to_char(f.at at time zone $10::text, 'YYYY')
            when 'month' then to_char(f.at at time zone $10::text, 'YYYY-MM')
            when 'day' then to_char(f.at at time zone $10::text, 'YYYY-MM-DD')
            when 'hour' then to_char(f.at at time zone $10::text, 'YYYY-MM-DD"T"HH24:00')
            when 'tag' then coalesce(f.tags ->> $11::text, '')
        end as first,
        case $9::text
            when 'user' then f.user_id when 'group' then f.group_id when 'key' then f.key_id when 'model' then f.model
            when 'endpoint' then f.endpoint when 'operation' then f.operation when 'provider' then f.provider
            when 'status' then f.status::text
            when 'year' then to_char(f.at at time zone $10::text, 'YYYY')
            when 'month' then to_char(f.at at time zone $10::text, 'YYYY-MM')
            when 'day' then to_char(f.at at time zone $10::text, 'YYYY-MM-DD')
            when 'hour' then to_char(f.at at time zone $10::text, 'YYYY-MM-DD"T"HH24:00')
            when 'tag' then coalesce(f.tags ->> $12::text, '')
        end as second,
-- include: _sums
        , count(distinct f.user_id) filter (where $8::text <> 'user') as users
    from facts f
    group by 1, 2
), sorted as (
    select
        s.*,
        case $13::text
            when 'cost' then s.cost_nanousd when 'requests' then s.requests when 'tokens' then s.total_tokens
            when 'input_tokens' then s.input_tokens when 'output_tokens' then s.output_tokens
            when 'errors' then s.errors when 'users' then s.users
            when 'duration' then s.duration_ms / nullif(s.requests, 0)
            when 'last_at' then (extract(epoch from s.last_at) * 1000)::bigint
        end as sorted_by
    from summed s
)
select t.*, count(*) over () as rows_total
from sorted t
where $17::bigint is null or t.sorted_by >= $17
order by
    case when $14::boolean then t.sorted_by else -t.sorted_by end nulls last,
    case when $14::boolean and $13::text = 'name' then t.first end,
    case when not $14::boolean and $13::text = 'name' then t.first end desc,
    t.first, t.second
limit $15 offset $16;

-- name: user_summaries
with
-- include: _facts
, summed as (
    select
        f.user_id as first,
-- include: _sums
    from facts f
    group by 1
)
select s.*, u.name as user_name, u.email as user_email, g.name as group_name
from summed s
left join users u on u.id = s.first
left join groups g on g.id = u.group_id
order by s.cost_nanousd desc, s.first;

-- name: users_seen
-- Of the users with a request in the period: how many had none before it, and how many had.
with
-- include: _facts
, seen as (select distinct f.user_id from facts f)
select
    count(*) as active,
    count(*) filter (where old.earlier) as returning,
    count(*) filter (where not old.earlier) as new
from seen s
cross join lateral (
    select exists (
        select from usage_hourly h where h.user_id = s.user_id and h.first_at < $2::timestamptz
    ) as earlier
) old;

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

-- name: history
-- Records, newest first. $4 how many; $5, $6 the last record of the page before (null: the first page).
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from (
    select d.*
    from usage_records d
    where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
      and ($5::timestamptz is null or (d.started_at, d.id) < ($5, $6::uuid))
-- include: _detail_filters
    order by d.started_at desc, d.id desc
    limit $4
) d
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id
order by d.started_at desc, d.id desc;

-- name: since
-- Records stored after a moment, oldest first, for live views. Ids sort by the time the exchange began; an exchange is stored
-- when it ends, so a live view looks back $4 and leaves out what it has shown ($5).
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from usage_records d
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id
where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
  and not (d.id = any ($5::uuid[]))
-- include: _detail_filters
order by d.started_at + d.duration_ms * interval '1 ms', d.id
limit $4;

-- name: record
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from usage_records d
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id
where d.id = $1;

-- name: export
-- The same as history, oldest first and without an end; read through a cursor.
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from usage_records d
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id
where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
-- include: _detail_filters
order by d.started_at, d.id;

-- name: latencies
-- Histograms of duration and time to first byte by model; see proxy/core/histogram.py. What was refused or lost took no time.
select h.model, h.measure, h.bucket, sum(h.requests)::bigint as requests
from (
    select l.model, l.measure, l.bucket, l.requests
    from usage_latency_hourly l
    where l.hour >= $4::timestamptz and l.hour < $5::timestamptz
      and ($1::jsonb ->> 'group' is null or l.group_id = any (string_to_array($1::jsonb ->> 'group', E'\x1f')))
      and ($1::jsonb ->> 'provider' is null or l.provider = any (string_to_array($1::jsonb ->> 'provider', E'\x1f')))
      and ($1::jsonb ->> 'model' is null or l.model = any (string_to_array($1::jsonb ->> 'model', E'\x1f')))
      and ($1::jsonb ->> 'endpoint' is null or l.endpoint = any (string_to_array($1::jsonb ->> 'endpoint', E'\x1f')))
    union all
    select
        left(coalesce(d.served_model, d.requested_model, ''), 200), took.measure,
        ceil(ln(greatest(took.ms, 1)) / ln(1.1::float8))::smallint, 1
    from usage_records d
    cross join lateral (values ('duration', d.duration_ms), ('ttfb', d.ttfb_ms::bigint)) as took (measure, ms)
    where ((d.started_at >= $2::timestamptz and d.started_at < $4::timestamptz)
           or (d.started_at >= $5::timestamptz and d.started_at < $3::timestamptz))
      and took.ms is not null
      and d.outcome not in ('refused', 'lost')
      and d.parent_id is null
-- include: _detail_filters
) h
group by 1, 2, 3
having sum(h.requests) > 0;

-- name: outcomes
-- How exchanges ended, by model: status, outcome, error code, finish reason, tier.
select
    o.model, o.status, o.outcome, o.error_code, o.finish_reason, o.service_tier, sum(o.requests)::bigint as requests
from (
    select r.model, r.status, r.outcome, r.error_code, r.finish_reason, r.service_tier, r.requests
    from usage_outcomes_hourly r
    where r.hour >= $4::timestamptz and r.hour < $5::timestamptz
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
    union all
    select
        left(coalesce(d.served_model, d.requested_model, ''), 200), d.status, d.outcome,
        left(coalesce(d.error_code, ''), 128), left(coalesce(d.finish_reason, ''), 128),
        left(coalesce(d.service_tier, ''), 128), (d.part is null)::integer
    from usage_records d
    where ((d.started_at >= $2::timestamptz and d.started_at < $4::timestamptz)
           or (d.started_at >= $5::timestamptz and d.started_at < $3::timestamptz))
-- include: _detail_filters
) o
group by 1, 2, 3, 4, 5, 6
having sum(o.requests) > 0;
