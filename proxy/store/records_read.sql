-- Usage records read back, each filter served by an index (migrations/0014_record_facets.sql, tests/store/test_records_read.py).
-- $1 filters as a JSON object, values joined by the character U+001F; those of _facets have their name before them, as in
-- `outcome=lost`; $2, $3 the period. Statements are planned for their own parameters (proxy/store/session.sql), so what is not
-- asked for costs nothing.

-- name: _facets
record_facets(
    d.provider, d.endpoint, coalesce(d.served_model, d.requested_model, ''), d.operation, d.status, d.streamed,
    d.service_tier, d.finish_reason, d.usage_source, d.outcome
)

-- name: _filters
-- Voided records are left out unless they are asked for.
      and case $1::jsonb ->> 'active' when 'all' then true when 'false' then d.voided_at is not null else d.voided_at is null end
      and ($1::jsonb ->> 'user' is null or d.user_id = any (string_to_array($1::jsonb ->> 'user', E'\x1f')))
      and ($1::jsonb ->> 'group' is null or d.group_id = any (string_to_array($1::jsonb ->> 'group', E'\x1f')))
      and ($1::jsonb ->> 'key' is null or d.key_id = any (string_to_array($1::jsonb ->> 'key', E'\x1f')))
      and ($1::jsonb ->> 'end_user' is null or d.end_user = any (string_to_array($1::jsonb ->> 'end_user', E'\x1f')))
      and ($1::jsonb -> 'tags' is null or (d.tags <> '{}' and d.tags @> ($1::jsonb -> 'tags')))
-- What sums count as an error (stats.sql), in the words of the index usage_records_failures.
      and ($1::jsonb ->> 'failed' is distinct from 'true' or (d.part is null and d.outcome not in ('success', 'client_gone')))
      and ($1::jsonb ->> 'failed' is distinct from 'false' or d.part is not null or d.outcome in ('success', 'client_gone'))
      and ($1::jsonb ->> 'provider' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'provider', E'\x1f'))
      and ($1::jsonb ->> 'endpoint' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'endpoint', E'\x1f'))
      and ($1::jsonb ->> 'model' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'model', E'\x1f'))
      and ($1::jsonb ->> 'operation' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'operation', E'\x1f'))
      and ($1::jsonb ->> 'status' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'status', E'\x1f'))
      and ($1::jsonb ->> 'streamed' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'streamed', E'\x1f'))
      and ($1::jsonb ->> 'service_tier' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'service_tier', E'\x1f'))
      and ($1::jsonb ->> 'finish_reason' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'finish_reason', E'\x1f'))
      and ($1::jsonb ->> 'usage_source' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'usage_source', E'\x1f'))
      and ($1::jsonb ->> 'outcome' is null or
-- include: _facets
           && string_to_array($1::jsonb ->> 'outcome', E'\x1f'))
      -- Most users are active: their records are found by time. Those of the few others are found by user.
      and ($1::jsonb ->> 'user_active' is distinct from 'true'
           or d.user_id in (select u.id from users u where u.active))
      and ($1::jsonb ->> 'user_active' is distinct from 'false'
           or d.user_id = any (array(select u.id from users u where not u.active)))

-- name: _older
    from usage_records d
    where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
      -- the first of these two tells which months can be left out
      and ($5::timestamptz is null or d.started_at <= $5)
      and ($5::timestamptz is null or (d.started_at, d.id) < ($5, $6::uuid))

-- name: _younger
    from usage_records d
    where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
      and ($5::timestamptz is null or d.started_at >= $5)
      and ($5::timestamptz is null or (d.started_at, d.id) > ($5, $6::uuid))

-- name: _called
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id

-- name: history
-- Records, newest first. $4 how many; $5, $6 the last record of the page before (null: the first page).
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from (
    select d.*
-- include: _older
-- include: _filters
    order by d.started_at desc, d.id desc
    limit $4
) d
-- include: _called
order by d.started_at desc, d.id desc;

-- name: history_wide
-- The same of a stretch in which few records are wanted ones: never by reading it from its end on, since no index has this
-- order, but by looking them up.
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from (
    select d.*
-- include: _older
-- include: _filters
    order by (d.started_at, d.id) desc
    limit $4
) d
-- include: _called
order by d.started_at desc, d.id desc;

-- name: _of_values
-- The same of some values, $7, of a column that has an index in the order of a page. The planner, which doesn't know the values here, takes
-- them for as rare as most, so each is looked up there.
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from (
    select d.*
    from unnest($7::text[]) as wanted
    cross join lateral (
        select d.*
-- include: _{side}
          and d.{column} = wanted
-- include: _filters
        order by d.started_at {way}, d.id {way}
        limit $4
    ) d
    order by d.started_at {way}, d.id {way}
    limit $4
) d
-- include: _called
order by d.started_at {way}, d.id {way};

-- name: history_edge
-- When the record began that is $1 records back from the end of the period ($2, $3), or from a record ($4, $5).
select d.started_at
from usage_records d
where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
  and ($4::timestamptz is null or d.started_at <= $4)
  and ($4::timestamptz is null or (d.started_at, d.id) < ($4, $5::uuid))
order by d.started_at desc, d.id desc
limit 1 offset $1;

-- name: export
-- The same as history, oldest first.
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from (
    select d.*
-- include: _younger
-- include: _filters
    order by d.started_at, d.id
    limit $4
) d
-- include: _called
order by d.started_at, d.id;

-- name: export_wide
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from (
    select d.*
-- include: _younger
-- include: _filters
    order by (d.started_at, d.id)
    limit $4
) d
-- include: _called
order by d.started_at, d.id;

-- name: export_edge
select d.started_at
from usage_records d
where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
  and ($4::timestamptz is null or d.started_at >= $4)
  and ($4::timestamptz is null or (d.started_at, d.id) > ($4, $5::uuid))
order by d.started_at, d.id
limit 1 offset $1;

-- name: since
-- Records stored after a moment, oldest first, for live views. Ids sort by the time the exchange began; an exchange is stored
-- when it ends, so a live view looks back $4 and leaves out what it has shown ($5).
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from usage_records d
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id
where d.started_at >= $2::timestamptz and d.started_at < $3::timestamptz
  and not (d.id = any ($5::uuid[]))
-- include: _filters
order by d.started_at + d.duration_ms * interval '1 ms', d.id
limit $4;

-- name: record
select d.*, u.name as user_name, u.email as user_email, g.name as group_name
from usage_records d
left join users u on u.id = d.user_id
left join groups g on g.id = d.group_id
where d.id = $1;
