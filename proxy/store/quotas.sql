-- Quotas as rules. What is used of them lies in quota_windows, keyed by the quota's id: a rule that stays keeps its id.

-- name: list
-- $1 scope; $2 scope id; $3 unit; $4 group: its own quotas and those of its users and their keys.
select q.*
from quotas q
left join users u on q.scope = 'user' and u.id = q.scope_id
left join keys k on q.scope = 'key' and k.id = q.scope_id
left join users ku on ku.id = k.user_id
where ($1::text is null or q.scope = $1)
  and ($2::text is null or q.scope_id = $2)
  and ($3::text is null or q.unit = $3)
  and ($4::text is null or u.group_id = $4 or ku.group_id = $4 or (q.scope = 'group' and q.scope_id = $4))
order by q.created_at, q.id
limit $5 offset $6;

-- name: count
select count(*)
from quotas q
left join users u on q.scope = 'user' and u.id = q.scope_id
left join keys k on q.scope = 'key' and k.id = q.scope_id
left join users ku on ku.id = k.user_id
where ($1::text is null or q.scope = $1)
  and ($2::text is null or q.scope_id = $2)
  and ($3::text is null or q.unit = $3)
  and ($4::text is null or u.group_id = $4 or ku.group_id = $4 or (q.scope = 'group' and q.scope_id = $4));

-- name: of_subject
select * from quotas where scope = $1 and scope_id is not distinct from $2 order by created_at, id;

-- name: lock_subject
-- Two lists put at once must not be mixed: the second waits for the first.
select pg_advisory_xact_lock(hashtextextended('quotas:' || $1::text || ':' || coalesce($2::text, ''), 0));

-- name: fetch
select * from quotas where id = $1;

-- name: create
insert into quotas (id, scope, scope_id, unit, "window", limit_amount, billing_day, model, operation, tag, soft, average_percent)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
returning *;

-- name: change
update quotas set
    limit_amount = case when $2::jsonb ? 'limit_amount' then ($2::jsonb ->> 'limit_amount')::bigint else limit_amount end
        + coalesce(($2::jsonb ->> 'added_amount')::bigint, 0),
    soft = case when $2::jsonb ? 'soft' then ($2::jsonb ->> 'soft')::boolean else soft end,
    average_percent = case
        when not coalesce(($2::jsonb ->> 'soft')::boolean, soft) then null
        when $2::jsonb ? 'average_percent' then ($2::jsonb ->> 'average_percent')::integer
        else average_percent
    end,
    raised_amount = case when $2::jsonb ? 'raised_amount' then ($2::jsonb ->> 'raised_amount')::bigint else raised_amount end,
    raised_until = case when $2::jsonb ? 'raised_until' then ($2::jsonb ->> 'raised_until')::timestamptz else raised_until end,
    updated_at = now()
where id = $1
returning *;

-- name: remove
-- A removed rule's sums go with it; the usage itself stays in the records.
with gone as (delete from quota_windows where quota_id = $1)
delete from quotas where id = $1 returning *;
