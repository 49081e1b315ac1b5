-- Reprice: records whose cost is computed anew, and the sums and quotas that follow them.

-- name: _page
select
    id, started_at, key_id, user_id, group_id, provider, endpoint, requested_model, served_model, operation, tags, end_user,
    status, service_tier, input_tokens, output_tokens, total_tokens, cached_input_tokens, cache_write_tokens,
    cache_write_12h_tokens, input_audio_tokens, cached_audio_tokens, input_image_tokens, cached_image_tokens,
    reasoning_tokens, output_audio_tokens, output_image_tokens, units, cost_nanousd, cache_saved_nanousd, price_id,
    charges
from usage_records
where started_at >= $1 and started_at < $2
  and (started_at, id) > ($3::timestamptz, $4::uuid)
  and voided_at is null
  and usage_source <> 'none'
  and ($5::text is null or provider = $5)
  and ($6::text is null or coalesce(served_model, requested_model, '') like $6)
  and (not $7::boolean or cost_nanousd is null)
order by started_at, id
limit $8

-- name: page
-- Records that used something, in the order of time. $1, $2: the period; $3, $4: after this one; $5 provider; $6 model, a
-- pattern for `like`; $7 only those without a cost.
-- include: _page

-- name: page_for_update
-- include: _page
for update

-- name: set_costs
update usage_records r set
    cost_nanousd = n.cost_nanousd, price_id = n.price_id, charges = n.charges::jsonb,
    cache_saved_nanousd = n.cache_saved_nanousd
from unnest($1::timestamptz[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
    as n (started_at, id, cost_nanousd, price_id, charges, cache_saved_nanousd)
where (r.started_at, r.id) = (n.started_at, n.id);

-- name: add_to_sums
-- Each difference goes to the row that holds its record, found as void_record finds it. $12: the declared rollup tags.
-- Returns how many differences found none.
with difference as (
    select *
    from unnest(
        $1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
        $9::smallint[], $10::text[], $11::bigint[], $13::bigint[], $14::bigint[]
    ) with ordinality
        as d (
            hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, cost_nanousd, unpriced,
            cache_saved_nanousd, n
        )
),
found as (
    select d.cost_nanousd, d.unpriced, d.cache_saved_nanousd, rollup.*
    from difference d
    left join lateral (
        select h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status, h.tags
        from usage_hourly h
        where (h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status) = (
            d.hour, d.user_id, d.key_id, d.group_id, d.provider, d.model, d.endpoint, d.operation, d.status
        )
        order by h.tags = rollup_tags(d.tags::jsonb, $12) desc, d.tags::jsonb @> h.tags desc
        limit 1
    ) rollup on true
),
total as (
    select
        hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags,
        sum(cost_nanousd)::bigint as cost_nanousd, sum(unpriced)::bigint as unpriced,
        sum(cache_saved_nanousd)::bigint as cache_saved_nanousd
    from found
    where hour is not null
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
),
locked as (
    -- in the order of the recorder's inserts, so that both wait for each other but never in a circle
    select h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status, h.tags
    from usage_hourly h
    join total using (hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags)
    order by 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    for update of h
),
changed as (
    update usage_hourly h set
        cost_nanousd = h.cost_nanousd + t.cost_nanousd,
        cache_saved_nanousd = h.cache_saved_nanousd + t.cache_saved_nanousd,
        unpriced = greatest(0, h.unpriced + t.unpriced)
    from total t
    join locked using (hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags)
    where (h.hour, h.user_id, h.key_id, h.group_id, h.provider, h.model, h.endpoint, h.operation, h.status, h.tags)
        = (t.hour, t.user_id, t.key_id, t.group_id, t.provider, t.model, t.endpoint, t.operation, t.status, t.tags)
)
select count(*) filter (where hour is null) from found;

-- name: cost_quotas
-- The ids of every quota on cost, those of plans as the keyring names them.
select id from quotas where unit = 'cost'
union all
select 'plan:' || p.id || ':' || coalesce(quota ->> 'id', (number - 1)::text)
from plans p
cross join lateral jsonb_array_elements(p.quotas) with ordinality as entry (quota, number)
where quota ->> 'unit' = 'cost';

-- name: add_to_windows
-- Windows that are counted get the differences; one that nobody opened yet will count the records as they are then.
with difference as (
    select quota_id, scope_id, to_timestamp(window_start) as window_start, sum(amount)::bigint as amount
    from unnest($1::text[], $2::text[], $3::float8[], $4::bigint[]) as d (quota_id, scope_id, window_start, amount)
    group by 1, 2, 3
),
locked as (
    select w.quota_id, w.scope_id, w.window_start
    from quota_windows w
    join difference using (quota_id, scope_id, window_start)
    order by 1, 2, 3
    for update of w
)
update quota_windows w set settled = greatest(0, w.settled + d.amount)
from difference d
join locked using (quota_id, scope_id, window_start)
where (w.quota_id, w.scope_id, w.window_start) = (d.quota_id, d.scope_id, d.window_start);
