-- Statistics over usage: parts that templates.py puts together as a question needs them. Which sources answer it is decided in
-- stats_plan.py, the words are chosen in stats.py.
--   :start, :end the period; :first_hour, :last_hour the whole hours within it, which sums answer
--   {cut} the cut of folds (migrations 0012, 0016) that is read; :grains, :starts, :ends its pieces; :hour_starts, :hour_ends the
--     pieces that the hourly sums answer; :known_grain the grain of those pieces whose rows know their number of users
--   {people_cut}, :people_… the same for the cut that other users are counted in; :part_… stretches of whole folded days of which
--     some hours (UTC) count, as bits, and how many hours into the day they are, which tells their day in another zone
--   :changes the moments at which some currency's rate changes; no piece reaches across one
-- Each piece is looked up by itself (`offset 0`), since the planner, which does not know how short they are, would read whole tables.

-- name: _details
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
-- include: _outside_hours
-- each: detail_filters
),

-- name: _outside_hours
    where ((d.started_at >= :start::timestamptz and d.started_at < :first_hour::timestamptz)
           or (d.started_at >= :last_hour::timestamptz and d.started_at < :end::timestamptz))

-- name: _facts
facts as (
-- union: facts
)

-- name: _folded_facts
    select
        r.at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags,
        r.requests, r.errors, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.output_tokens,
        r.reasoning_tokens, r.total_tokens, r.cost_nanousd, r.cache_saved_nanousd, r.unpriced, r.duration_ms,
        r.ttfb_ms, r.ttfb_count, r.first_at, r.last_at,
        case when r.grain = :known_grain::text then r.users end as users
    from unnest(:grains::text[], :starts::timestamptz[], :ends::timestamptz[]) as piece (grain, starts, ends)
    cross join lateral (
        select r.* from usage_folds_{cut} r
        where r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
-- each: filters
        offset 0
    ) r

-- name: _hourly_facts
    select
        r.hour as at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags,
        r.requests, r.errors, r.input_tokens, r.cached_input_tokens, r.cache_write_tokens, r.output_tokens,
        r.reasoning_tokens, r.total_tokens, r.cost_nanousd, r.cache_saved_nanousd, r.unpriced, r.duration_ms,
        r.ttfb_ms, r.ttfb_count, r.first_at, r.last_at,
        null::bigint as users
    from unnest(:hour_starts::timestamptz[], :hour_ends::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
-- each: filters
        offset 0
    ) r

-- name: _recorded_facts
    select r.*, null::bigint as users from details r

-- name: _people
, people as (
-- union: people_sources
)

-- name: _folded_people
    select
        r.at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from unnest(:people_grains::text[], :people_starts::timestamptz[], :people_ends::timestamptz[])
        as piece (grain, starts, ends)
    cross join lateral (
        select r.* from usage_folds_{people_cut} r
        where r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
-- each: filters
        offset 0
    ) r

-- name: _people_of_parts
    select
        r.at + piece.shift * interval '1 hour' as at,
        r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from unnest(:part_starts::timestamptz[], :part_ends::timestamptz[], :part_hours::integer[], :part_shifts::integer[])
        as piece (starts, ends, hours, shift)
    cross join lateral (
        select r.* from usage_folds_{people_cut} r
        where r.grain = 'day' and r.at >= piece.starts and r.at < piece.ends and r.hours & piece.hours <> 0
-- each: filters
        offset 0
    ) r

-- name: _hourly_people
    select
        r.hour as at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from unnest(:people_hour_starts::timestamptz[], :people_hour_ends::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
-- each: filters
        offset 0
    ) r

-- name: _people_since
    select
        r.last_at as at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from usage_spans r
    where r.cut = :people_cut::text and r.last_at >= :start and r.first_at < :end
-- each: filters

-- name: _recorded_people
    select
        r.at, r.user_id, r.key_id, r.group_id, r.provider, r.model, r.endpoint, r.operation, r.status, r.tags
    from details r

-- name: _where_user
          and r.user_id = any (:user::text[])

-- name: _where_group
          and r.group_id = any (:group::text[])

-- name: _where_key
          and r.key_id = any (:key::text[])

-- name: _where_model
          and r.model = any (:model::text[])

-- name: _where_endpoint
          and r.endpoint = any (:endpoint::text[])

-- name: _where_operation
          and r.operation = any (:operation::text[])

-- name: _where_provider
          and r.provider = any (:provider::text[])

-- name: _where_status
          and r.status = any (:status::smallint[])

-- name: _where_tags
          and r.tags @> :tags::jsonb

-- name: _where_user_active
          and r.user_id in (select u.id from users u where u.active = any (:user_active::boolean[]))

-- name: _detail_user
      and d.user_id = any (:user::text[])

-- name: _detail_group
      and d.group_id = any (:group::text[])

-- name: _detail_key
      and d.key_id = any (:key::text[])

-- name: _detail_model
      and left(coalesce(d.served_model, d.requested_model, ''), 200) = any (:model::text[])

-- name: _detail_endpoint
      and d.endpoint = any (:endpoint::text[])

-- name: _detail_operation
      and d.operation = any (:operation::text[])

-- name: _detail_provider
      and d.provider = any (:provider::text[])

-- name: _detail_end_user
      and d.end_user = any (:end_user::text[])

-- name: _detail_finish_reason
      and d.finish_reason = any (:finish_reason::text[])

-- name: _detail_service_tier
      and d.service_tier = any (:service_tier::text[])

-- name: _detail_usage_source
      and d.usage_source = any (:usage_source::text[])

-- name: _detail_outcome
      and d.outcome = any (:outcome::text[])

-- name: _detail_status
      and d.status = any (:status::smallint[])

-- name: _detail_streamed
      and d.streamed = any (:streamed::boolean[])

-- name: _detail_tags
      and d.tags <> '{}' and d.tags @> :tags::jsonb

-- name: _detail_user_active
      and d.user_id in (select u.id from users u where u.active = any (:user_active::boolean[]))

-- name: _detail_standing
-- Voided records are left out unless they are asked for.
      and d.voided_at is null

-- name: _detail_voided
      and d.voided_at is not null

-- name: _sums
    coalesce(bigint_sum(f.requests), 0) as requests,
    coalesce(bigint_sum(f.errors), 0) as errors,
    coalesce(bigint_sum(f.input_tokens), 0) as input_tokens,
    coalesce(bigint_sum(f.cached_input_tokens), 0) as cached_input_tokens,
    coalesce(bigint_sum(f.cache_write_tokens), 0) as cache_write_tokens,
    coalesce(bigint_sum(f.output_tokens), 0) as output_tokens,
    coalesce(bigint_sum(f.reasoning_tokens), 0) as reasoning_tokens,
    coalesce(bigint_sum(f.total_tokens), 0) as total_tokens,
    coalesce(bigint_sum(f.cost_nanousd), 0) as cost_nanousd,
    coalesce(bigint_sum(f.cache_saved_nanousd), 0) as cache_saved_nanousd,
    coalesce(bigint_sum(f.unpriced), 0) as unpriced,
    coalesce(bigint_sum(f.duration_ms), 0) as duration_ms,
    coalesce(bigint_sum(f.ttfb_ms), 0) as ttfb_ms,
    coalesce(bigint_sum(f.ttfb_count), 0) as ttfb_count,
    min(f.first_at) as first_at,
    max(f.last_at) as last_at

-- name: _rated
-- Sums by rate, so that each counts at its own.
rated as (
    select
-- include: _labels
        width_bucket(f.at, :changes::timestamptz[]) as rate,
-- include: _sums
        , bigint_sum(f.users) as users
    from facts f
    group by one, two, rate
),
summed as (
    select
        f.one, f.two,
-- include: _sums
        ,
        -- The days from which rates of currencies hold, each with the cost and what the cache saved until the next.
        jsonb_object_agg(
            to_char(coalesce((:changes::timestamptz[])[f.rate], :start) at time zone 'UTC', 'YYYY-MM-DD'),
            jsonb_build_array(f.cost_nanousd, f.cache_saved_nanousd)
        ) as rates,
        coalesce(bigint_sum(f.users), 0) as known_users
    from rated f
    group by f.one, f.two
)

-- name: _summed
summed as (
    select
-- include: _labels
-- include: _sums
        , null::jsonb as rates,
        coalesce(bigint_sum(f.users), 0) as known_users
    from facts f
    group by one, two
)

-- name: _by_rate
    coalesce(
        t.rates,
        jsonb_build_object(
            to_char(:start::timestamptz at time zone 'UTC', 'YYYY-MM-DD'),
            jsonb_build_array(t.cost_nanousd, t.cache_saved_nanousd)
        )
    ) as by_rate

-- name: totals
with
-- each: details
-- include: _facts
-- each: people
,
-- include: {summed}
select
    t.*,
-- include: _by_rate
from (
    select
-- include: _sums
        ,
        (array_agg(f.rates))[1] as rates,
        (coalesce(bigint_sum(f.known_users), 0)
-- each: seen
        )::bigint as users
    from summed f
) t;

-- name: _seen
        + (select count(distinct p.user_id) from people p)

-- name: by
-- :zone that of days; :first_format, :second_format how times are told (only those of the page, since telling takes as long as
-- adding up); :first_tag, :other_tag the names of tags that are grouped by; :at_least the least of the sorted sum that
-- is shown.
with
-- each: details
-- include: _facts
-- each: people
,
-- include: {summed}
-- each: counted
, sorted as (
    select
        s.*,
-- include: _users_{users}
        as users,
-- include: _sort_{sort}
        as sorted_by
    from summed s
-- each: joined
)
select
    t.*,
-- include: _first_{first_shown}
    as first,
-- include: _second_{second_shown}
    as second,
-- include: _by_rate
from (
    select t.*, count(*) over () as rows_total
    from sorted t
    where :at_least::bigint is null or t.sorted_by >= :at_least
    order by t.sorted_by {direction} nulls last, t.one {name_direction}, t.two
    limit :limit offset :offset
) t
order by t.sorted_by {direction} nulls last, t.one {name_direction}, t.two;

-- name: _counted
, each_user as (
    select distinct
-- include: _labels
        f.user_id
    from people f
), counted as (
    select u.one, u.two, count(*) as users from each_user u group by 1, 2
)

-- name: _joined
    left join counted c on c.one = s.one and c.two = s.two

-- name: _first_text
    t.one

-- name: _first_time
    to_char(t.one, :first_format::text)

-- name: _second_text
    t.two

-- name: _second_time
    to_char(t.two, :second_format::text)

-- name: _second_none
    null::text

-- name: _users_one
        1::bigint

-- name: _users_none
        null::bigint

-- name: _users_known
        s.known_users

-- name: _users_counted
        s.known_users + coalesce(c.users, 0)

-- name: _sort_cost
        s.cost_nanousd

-- name: _sort_requests
        s.requests

-- name: _sort_tokens
        s.total_tokens

-- name: _sort_input_tokens
        s.input_tokens

-- name: _sort_output_tokens
        s.output_tokens

-- name: _sort_errors
        s.errors

-- name: _sort_users
-- include: _users_{users}

-- name: _sort_duration
        s.duration_ms / nullif(s.requests, 0)

-- name: _sort_last_at
        (extract(epoch from s.last_at) * 1000)::bigint

-- name: _sort_name
        null::bigint

-- name: _labels
-- include: _label_{first}
        as one,
-- include: _label_{other}
        as two,

-- name: _label_none
        ''

-- name: _label_user
        f.user_id

-- name: _label_group
        f.group_id

-- name: _label_key
        f.key_id

-- name: _label_model
        f.model

-- name: _label_endpoint
        f.endpoint

-- name: _label_operation
        f.operation

-- name: _label_provider
        f.provider

-- name: _label_status
        f.status::text

-- name: _label_year
        date_trunc('year', f.at at time zone :zone::text)

-- name: _label_month
        date_trunc('month', f.at at time zone :zone::text)

-- name: _label_day
        date_trunc('day', f.at at time zone :zone::text)

-- name: _label_hour
        date_trunc('hour', f.at at time zone :zone::text)

-- name: _label_first_tag
        coalesce(f.tags ->> :first_tag::text, '')

-- name: _label_other_tag
        coalesce(f.tags ->> :other_tag::text, '')

-- name: user_summaries
with
-- each: details
-- include: _facts
,
-- include: {summed}
select
    t.*, t.one as first, u.name as user_name, u.email as user_email, g.name as group_name,
-- include: _by_rate
from summed t
left join users u on u.id = t.one
left join groups g on g.id = u.group_id
order by t.cost_nanousd desc, t.one;

-- name: users_seen
-- Of the users with a request in the period: how many had none before it, and how many had.
with
-- each: details
people as (
-- union: people_sources
)
, seen as (select distinct f.user_id from people f)
select
    count(*) as active,
    count(*) filter (where old.earlier) as returning,
    count(*) filter (where not old.earlier) as new
from seen s
cross join lateral (
    select
        exists (select from usage_spans w where w.cut = 'who' and w.user_id = s.user_id and w.first_at < :start)
        or exists (
            select from usage_hourly h
            where h.user_id = s.user_id and h.hour < :start::timestamptz and h.first_at < :start::timestamptz
        ) as earlier
) old;

-- name: names
-- What ids of users, groups and keys are called; ids that name nothing any more have no row. :own: only this user's own.
select 'user' as kind, u.id, u.name, u.email
from users u
where :kind::text = 'user' and u.id = any (:ids::text[]) and (:own::text is null or u.id = :own)
union all
select 'group', g.id, g.name, null
from groups g
where :kind::text = 'group' and g.id = any (:ids::text[])
  and (:own::text is null or g.id = (select u.group_id from users u where u.id = :own))
union all
select 'key', k.id, coalesce(k.name, k.masked), null
from keys k
where :kind::text = 'key' and k.id = any (:ids::text[]) and (:own::text is null or k.user_id = :own);

-- name: latencies
-- Histograms of duration and time to first byte by model; see proxy/core/histogram.py. What was refused or lost took no time.
-- union: latencies

-- name: _folded_latencies
select r.model, r.measure, r.buckets, r.requests
from unnest(:grains::text[], :starts::timestamptz[], :ends::timestamptz[]) as piece (grain, starts, ends)
cross join lateral (
    select r.* from usage_latency_folds r
    where r.cut = :cut::text and r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
-- each: filters
    offset 0
) r

-- name: _hourly_latencies
select h.model, h.measure, array_agg(h.bucket) as buckets, array_agg(h.requests) as requests
from (
    select r.model, r.measure, r.bucket, bigint_sum(r.requests) as requests
    from unnest(:hour_starts::timestamptz[], :hour_ends::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_latency_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
-- each: filters
        offset 0
    ) r
    group by 1, 2, 3
) h
group by 1, 2

-- name: _recorded_latencies
select h.model, h.measure, array_agg(h.bucket) as buckets, array_agg(h.requests) as requests
from (
    select
        left(coalesce(d.served_model, d.requested_model, ''), 200) as model, took.measure,
        ceil(ln(greatest(took.ms, 1)) / ln(1.1::float8))::smallint as bucket, count(*) as requests
    from usage_records d
    cross join lateral (values ('duration', d.duration_ms), ('ttfb', d.ttfb_ms::bigint)) as took (measure, ms)
-- include: _outside_hours
      and took.ms is not null
      and d.outcome not in ('refused', 'lost')
      and d.parent_id is null
-- each: detail_filters
    group by 1, 2, 3
) h
group by 1, 2

-- name: outcomes
-- How exchanges ended, by model: status, outcome, error code, finish reason, tier.
select
    o.model, o.status, o.outcome, o.error_code, o.finish_reason, o.service_tier, bigint_sum(o.requests) as requests
from (
-- union: outcomes
) o
group by 1, 2, 3, 4, 5, 6
having bigint_sum(o.requests) > 0;

-- name: _folded_outcomes
    select r.model, r.status, r.outcome, r.error_code, r.finish_reason, r.service_tier, r.requests
    from unnest(:grains::text[], :starts::timestamptz[], :ends::timestamptz[]) as piece (grain, starts, ends)
    cross join lateral (
        select r.* from usage_outcomes_folds r
        where r.cut = :cut::text and r.grain = piece.grain and r.at >= piece.starts and r.at < piece.ends
-- each: filters
        offset 0
    ) r

-- name: _hourly_outcomes
    select r.model, r.status, r.outcome, r.error_code, r.finish_reason, r.service_tier, r.requests
    from unnest(:hour_starts::timestamptz[], :hour_ends::timestamptz[]) as piece (starts, ends)
    cross join lateral (
        select r.* from usage_outcomes_hourly r
        where r.hour >= piece.starts and r.hour < piece.ends
-- each: filters
        offset 0
    ) r

-- name: _recorded_outcomes
    select
        left(coalesce(d.served_model, d.requested_model, ''), 200) as model, d.status, d.outcome,
        left(coalesce(d.error_code, ''), 128) as error_code, left(coalesce(d.finish_reason, ''), 128) as finish_reason,
        left(coalesce(d.service_tier, ''), 128) as service_tier, (d.part is null)::integer as requests
    from usage_records d
-- include: _outside_hours
-- each: detail_filters

-- name: _where_outcome
          and r.outcome = any (:outcome::text[])

-- name: _where_finish_reason
          and r.finish_reason = any (:finish_reason::text[])

-- name: _where_service_tier
          and r.service_tier = any (:service_tier::text[])

-- name: _where_usage_source
          and r.usage_source = any (:usage_source::text[])

-- name: _where_streamed
          and r.streamed = any (:streamed::boolean[])
