-- The recorder's flush, and what undoes it.

-- name: _add_to_the_hour
-- Sums of an hour that are there already grow.
on conflict (hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags) do update set
    requests = known.requests + excluded.requests,
    errors = known.errors + excluded.errors,
    input_tokens = known.input_tokens + excluded.input_tokens,
    cached_input_tokens = known.cached_input_tokens + excluded.cached_input_tokens,
    cache_write_tokens = known.cache_write_tokens + excluded.cache_write_tokens,
    output_tokens = known.output_tokens + excluded.output_tokens,
    reasoning_tokens = known.reasoning_tokens + excluded.reasoning_tokens,
    total_tokens = known.total_tokens + excluded.total_tokens,
    cost_nanousd = known.cost_nanousd + excluded.cost_nanousd,
    cache_saved_nanousd = known.cache_saved_nanousd + excluded.cache_saved_nanousd,
    unpriced = known.unpriced + excluded.unpriced,
    duration_ms = known.duration_ms + excluded.duration_ms,
    ttfb_ms = known.ttfb_ms + excluded.ttfb_ms,
    ttfb_count = known.ttfb_count + excluded.ttfb_count,
    first_at = least(known.first_at, excluded.first_at),
    last_at = greatest(known.last_at, excluded.last_at)

-- name: store_records
-- A batch of records: the rows and every rollup. Only rows that are really inserted count anywhere, so a batch may be sent
-- again as often as need be.
-- $1: in UTF-8, a JSON array of records, each an array of values in the order of RECORD_FIELDS (proxy/core/spoolformat.py), to
-- which fields are only ever added at the end; $2: the declared rollup tags.
-- Every insert is in the order of its key, so that workers wait for each other but never in a circle.
-- What belongs to a user who was erased is stored as nobody's (proxy/store/erasures.py).
-- Returns how many were inserted, as text of arrays their ids and charges, for settle_records, and the erased users.
with sent as materialized (
    select distinct on ((e ->> 0)::uuid)
        (e ->> 0)::uuid as id, (e ->> 1)::uuid as parent_id, to_timestamp((e ->> 2)::bigint / 1e6::float8) as started_at,
        e ->> 3 as key_id, e ->> 4 as user_id, e ->> 5 as group_id, e ->> 6 as provider, e ->> 7 as endpoint,
        e ->> 8 as method, e ->> 9 as requested_model, e ->> 10 as served_model, e ->> 11 as operation,
        coalesce(nullif(e -> 12, 'null'), '{}') as tags, e ->> 13 as end_user,
        coalesce((e ->> 14)::boolean, false) as streamed, coalesce((e ->> 15)::smallint, 0) as status,
        e ->> 16 as outcome, e ->> 17 as error_type, e ->> 18 as error_code, e ->> 19 as error_message,
        e ->> 20 as finish_reason, e ->> 21 as service_tier, e ->> 22 as usage_source, (e ->> 23)::bigint as cost_nanousd,
        e ->> 24 as price_id, e ->> 25 as object_id, e ->> 26 as upstream_request_id, e ->> 27 as client_request_id,
        (e ->> 28)::integer as ttfb_ms, coalesce((e ->> 29)::bigint, 0) as duration_ms,
        coalesce((e ->> 30)::bigint, 0) as bytes_in, coalesce((e ->> 31)::bigint, 0) as bytes_out,
        coalesce((e ->> 32)::bigint, 0) as input_tokens, coalesce((e ->> 33)::bigint, 0) as output_tokens,
        coalesce((e ->> 34)::bigint, 0) as total_tokens, coalesce((e ->> 35)::bigint, 0) as cached_input_tokens,
        coalesce((e ->> 36)::bigint, 0) as cache_write_tokens, coalesce((e ->> 37)::bigint, 0) as cache_write_12h_tokens,
        coalesce((e ->> 38)::bigint, 0) as input_audio_tokens, coalesce((e ->> 39)::bigint, 0) as cached_audio_tokens,
        coalesce((e ->> 40)::bigint, 0) as input_image_tokens, coalesce((e ->> 41)::bigint, 0) as cached_image_tokens,
        coalesce((e ->> 42)::bigint, 0) as reasoning_tokens, coalesce((e ->> 43)::bigint, 0) as output_audio_tokens,
        coalesce((e ->> 44)::bigint, 0) as output_image_tokens, coalesce(nullif(e -> 45, 'null'), '{}') as units,
        nullif(e -> 46, 'null') as charges, e ->> 47 as part,
        coalesce((e ->> 49)::bigint, 0) as cache_saved_nanousd
    from jsonb_array_elements(convert_from($1::bytea, 'UTF8')::jsonb) as e
    order by (e ->> 0)::uuid
),
gone as materialized (
    select distinct on (user_id) user_id, key_ids from erasures where user_id in (select user_id from sent)
),
line as (
    select
        id, parent_id, started_at, case when key_id = any (gone.key_ids) then 'erased' else key_id end as key_id,
        case when gone.user_id is null then sent.user_id else 'erased' end as user_id, group_id, provider, endpoint, method,
        requested_model, served_model, operation, case when gone.user_id is null then tags else '{}' end as tags,
        case when gone.user_id is null then end_user end as end_user, streamed, status, outcome, error_type, error_code,
        case when gone.user_id is null then error_message end as error_message, finish_reason, service_tier,
        usage_source, cost_nanousd, price_id, case when gone.user_id is null then object_id end as object_id,
        case when gone.user_id is null then upstream_request_id end as upstream_request_id,
        case when gone.user_id is null then client_request_id end as client_request_id, ttfb_ms, duration_ms, bytes_in,
        bytes_out, input_tokens, output_tokens, total_tokens, cached_input_tokens, cache_write_tokens,
        cache_write_12h_tokens, input_audio_tokens, cached_audio_tokens, input_image_tokens, cached_image_tokens,
        reasoning_tokens, output_audio_tokens, output_image_tokens, units,
        case when gone.user_id is null then charges else charges_without(charges, gone.user_id || gone.key_ids) end as charges, part,
        cache_saved_nanousd
    from sent
    left join gone on gone.user_id = sent.user_id
),
inserted as (
    insert into usage_records (
        id, parent_id, started_at, key_id, user_id, group_id, provider, endpoint, method, requested_model, served_model,
        operation, tags, end_user, streamed, status, outcome, error_type, error_code, error_message, finish_reason,
        service_tier, input_tokens, output_tokens, total_tokens, cached_input_tokens, cache_write_tokens,
        cache_write_12h_tokens, input_audio_tokens, cached_audio_tokens, input_image_tokens, cached_image_tokens,
        reasoning_tokens, output_audio_tokens, output_image_tokens, units, usage_source, cost_nanousd, price_id,
        object_id, upstream_request_id, client_request_id, ttfb_ms, duration_ms, bytes_in, bytes_out, charges, part,
        cache_saved_nanousd
    )
    select
        id, parent_id, started_at, key_id, user_id, group_id, provider, endpoint, method, requested_model, served_model,
        operation, tags, end_user, streamed, status, outcome, error_type, error_code, error_message, finish_reason,
        service_tier, input_tokens, output_tokens, total_tokens, cached_input_tokens, cache_write_tokens,
        cache_write_12h_tokens, input_audio_tokens, cached_audio_tokens, input_image_tokens, cached_image_tokens,
        reasoning_tokens, output_audio_tokens, output_image_tokens, units, usage_source, cost_nanousd, price_id,
        object_id, upstream_request_id, client_request_id, ttfb_ms, duration_ms, bytes_in, bytes_out, charges, part,
        cache_saved_nanousd
    from line
    -- a lost exchange is one of which nothing else is known
    where outcome <> 'lost' or not exists (select from usage_records known where known.id = line.id)
    order by started_at, id
    on conflict do nothing
    returning
        *,
        date_trunc('hour', started_at, 'UTC') as hour,
        left(coalesce(served_model, requested_model, ''), 200) as model,
        (part is null)::int as request,
        (part is null and outcome not in ('success', 'client_gone'))::int as failed
),
hourly as (
    insert into usage_hourly as known (
        hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, requests, errors,
        input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens,
        cost_nanousd, cache_saved_nanousd, unpriced, duration_ms, ttfb_ms, ttfb_count, first_at, last_at
    )
    select
        hour, user_id, key_id, coalesce(group_id, ''), provider, model, endpoint, left(coalesce(operation, ''), 128),
        status, case when $2::text[] = '{}' or tags = '{}' then '{}' else rollup_tags(tags, $2) end,
        sum(request), sum(failed), sum(input_tokens), sum(cached_input_tokens), sum(cache_write_tokens), sum(output_tokens),
        sum(reasoning_tokens), sum(total_tokens), coalesce(sum(cost_nanousd), 0), sum(cache_saved_nanousd),
        count(*) filter (where cost_nanousd is null), sum(duration_ms), coalesce(sum(ttfb_ms), 0), count(ttfb_ms),
        min(started_at), max(started_at)
    from inserted
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    order by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
-- include: _add_to_the_hour
),
latency as (
    insert into usage_latency_hourly as known (hour, group_id, provider, model, endpoint, measure, bucket, requests)
    select
        hour, coalesce(group_id, ''), provider, model, endpoint, measure,
        ceil(ln(greatest(ms, 1)) / ln(1.1::float8))::smallint, count(*)
    from inserted
    cross join lateral (values ('duration', duration_ms), ('ttfb', ttfb_ms::bigint)) as took (measure, ms)
    -- what was refused or lost took no time that would tell anything; what is below another record has none of its own
    where ms is not null and outcome not in ('refused', 'lost') and parent_id is null
    group by 1, 2, 3, 4, 5, 6, 7
    order by 1, 2, 3, 4, 5, 6, 7
    on conflict (hour, group_id, provider, model, endpoint, measure, bucket) do update set
        requests = known.requests + excluded.requests
),
outcomes as (
    insert into usage_outcomes_hourly as known (
        hour, group_id, provider, model, endpoint, streamed, status, outcome, error_code, finish_reason, service_tier,
        usage_source, requests
    )
    select
        hour, coalesce(group_id, ''), provider, model, endpoint, streamed, status, outcome,
        left(coalesce(error_code, ''), 128), left(coalesce(finish_reason, ''), 128), left(coalesce(service_tier, ''), 128),
        usage_source, count(*)
    from inserted
    where part is null
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    order by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
    on conflict (
        hour, group_id, provider, model, endpoint, streamed, status, outcome, error_code, finish_reason, service_tier,
        usage_source
    ) do update set requests = known.requests + excluded.requests
)
select
    count(*) as inserted, array_agg(id)::text as ids, array_agg(charges)::text as charges,
    (select array_agg(user_id) from gone) as erased
from inserted;

-- name: settle_records
-- What the inserted records settle against quotas, shares included; the last step of the transaction that stores them.
select quota_settle($1::text::jsonb[], $2::text::uuid[]);

-- name: void_record
-- Take one record out of every sum and quota; the row stays, marked. $1 id, $2 reason, $3 the declared rollup tags.
-- The rollup's row is found even where the declared tags have changed since.
with voided as (
    update usage_records set voided_at = now(), voided_reason = $2
    where id = $1 and voided_at is null
    returning
        *,
        date_trunc('hour', started_at, 'UTC') as hour,
        left(coalesce(served_model, requested_model, ''), 200) as model,
        (part is null)::int as request,
        (part is null and outcome not in ('success', 'client_gone'))::int as failed
),
found as (
    select rollup.*
    from voided v
    cross join lateral (
        select h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status, h.tags
        from usage_hourly h
        where (h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status) = (
            v.hour, v.user_id, v.key_id, coalesce(v.group_id, ''), v.provider, v.model, v.endpoint,
            left(coalesce(v.operation, ''), 128), v.status
        )
        order by h.tags = rollup_tags(v.tags, $3) desc, v.tags @> h.tags desc
        limit 1
    ) rollup
),
hourly as (
    update usage_hourly h set
        requests = h.requests - v.request,
        errors = h.errors - v.failed,
        input_tokens = h.input_tokens - v.input_tokens,
        cached_input_tokens = h.cached_input_tokens - v.cached_input_tokens,
        cache_write_tokens = h.cache_write_tokens - v.cache_write_tokens,
        output_tokens = h.output_tokens - v.output_tokens,
        reasoning_tokens = h.reasoning_tokens - v.reasoning_tokens,
        total_tokens = h.total_tokens - v.total_tokens,
        cost_nanousd = h.cost_nanousd - coalesce(v.cost_nanousd, 0),
        cache_saved_nanousd = h.cache_saved_nanousd - v.cache_saved_nanousd,
        unpriced = h.unpriced - (v.cost_nanousd is null)::int,
        duration_ms = h.duration_ms - v.duration_ms,
        ttfb_ms = h.ttfb_ms - coalesce(v.ttfb_ms, 0),
        ttfb_count = h.ttfb_count - (v.ttfb_ms is not null)::int
    from voided v, found f
    where (h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status, h.tags)
        = (f.hour, f.user_id, f.key_id, f.group_id, f.provider, f.model, f.endpoint, f.operation, f.status, f.tags)
),
latency as (
    update usage_latency_hourly l set requests = l.requests - 1
    from voided v
    cross join lateral (values ('duration', v.duration_ms), ('ttfb', v.ttfb_ms::bigint)) as took (measure, ms)
    where took.ms is not null and v.outcome not in ('refused', 'lost') and v.parent_id is null
      and (l.hour, l.group_id, l.provider, l.model, l.endpoint, l.measure, l.bucket) = (
          v.hour, coalesce(v.group_id, ''), v.provider, v.model, v.endpoint, took.measure,
          ceil(ln(greatest(took.ms, 1)) / ln(1.1::float8))::smallint
      )
),
outcomes as (
    update usage_outcomes_hourly o set requests = o.requests - 1
    from voided v
    where v.part is null and (
        o.hour, o.group_id, o.provider, o.model, o.endpoint, o.streamed, o.status, o.outcome, o.error_code,
        o.finish_reason, o.service_tier, o.usage_source
    ) = (
        v.hour, coalesce(v.group_id, ''), v.provider, v.model, v.endpoint, v.streamed, v.status, v.outcome,
        left(coalesce(v.error_code, ''), 128), left(coalesce(v.finish_reason, ''), 128),
        left(coalesce(v.service_tier, ''), 128), v.usage_source
    )
),
settled as (
    update quota_windows w set settled = greatest(0, w.settled - charge.amount)
    from (
        select
            entry ->> 0 as quota_id, entry ->> 2 as scope_id, to_timestamp((entry ->> 1)::float8) as window_start,
            sum((entry ->> 3)::bigint)::bigint as amount
        from voided
        cross join lateral jsonb_array_elements(charges) as entry
        where charges is not null
        group by 1, 2, 3
    ) charge
    where (w.quota_id, w.scope_id, w.window_start) = (charge.quota_id, charge.scope_id, charge.window_start)
)
select count(*) as voided from voided;

-- name: fetch_parts
-- The parts of a record that are not void.
select id from usage_records where parent_id = $1 and part is not null and voided_at is null;
