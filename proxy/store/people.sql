-- Users, groups and their keys. A change is a JSON object of the columns to set: a column it doesn't name stays as it is.

-- name: create_user
insert into users (id, name, email, external_id, group_id, plan_id, tags, settings, active)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
returning *;

-- name: change_user
update users set
    name = case when $2::jsonb ? 'name' then $2::jsonb ->> 'name' else name end,
    email = case when $2::jsonb ? 'email' then $2::jsonb ->> 'email' else email end,
    external_id = case when $2::jsonb ? 'external_id' then $2::jsonb ->> 'external_id' else external_id end,
    group_id = case when $2::jsonb ? 'group_id' then $2::jsonb ->> 'group_id' else group_id end,
    plan_id = case when $2::jsonb ? 'plan_id' then $2::jsonb ->> 'plan_id' else plan_id end,
    tags = case when $2::jsonb ? 'tags' then $2::jsonb -> 'tags' else tags end,
    settings = case when $2::jsonb ? 'settings' then $2::jsonb -> 'settings' else settings end,
    active = case when $2::jsonb ? 'active' then ($2::jsonb ->> 'active')::boolean else active end,
    updated_at = now()
where id = $1
returning *;

-- name: fetch_user
select u.*, g.name as group_name, p.name as plan_name
from users u
left join groups g on g.id = u.group_id
left join plans p on p.id = u.plan_id
where u.id = $1;

-- name: find_user
-- By id, external id or e-mail address; an id wins over an external id that looks like it. $2: only within this group.
select u.*, g.name as group_name, p.name as plan_name
from users u
left join groups g on g.id = u.group_id
left join plans p on p.id = u.plan_id
where (u.id = $1 or u.external_id = $1 or lower(u.email) = lower($1))
  and ($2::text is null or u.group_id = $2)
order by (u.id = $1) desc, (u.external_id = $1) desc nulls last
limit 1;

-- name: list_users
-- $1 words to look for in id, name, e-mail and external id (as a like pattern); $2 group; $3 plan; $4 active; $5 tags.
select u.*, g.name as group_name, p.name as plan_name
from users u
left join groups g on g.id = u.group_id
left join plans p on p.id = u.plan_id
where ($1::text is null or u.id ilike $1 or u.name ilike $1 or u.email ilike $1 or u.external_id ilike $1)
  and ($2::text is null or u.group_id = $2)
  and ($3::text is null or u.plan_id = $3)
  and ($4::boolean is null or u.active = $4)
  and ($5::jsonb is null or u.tags @> $5)
order by u.created_at, u.id
limit $6 offset $7;

-- name: count_users
select count(*)
from users u
where ($1::text is null or u.id ilike $1 or u.name ilike $1 or u.email ilike $1 or u.external_id ilike $1)
  and ($2::text is null or u.group_id = $2)
  and ($3::text is null or u.plan_id = $3)
  and ($4::boolean is null or u.active = $4)
  and ($5::jsonb is null or u.tags @> $5);

-- name: create_group
insert into groups (id, name, external_id, plan_id, tags, settings, active)
values ($1, $2, $3, $4, $5, $6, $7)
returning *;

-- name: change_group
update groups set
    name = case when $2::jsonb ? 'name' then $2::jsonb ->> 'name' else name end,
    external_id = case when $2::jsonb ? 'external_id' then $2::jsonb ->> 'external_id' else external_id end,
    plan_id = case when $2::jsonb ? 'plan_id' then $2::jsonb ->> 'plan_id' else plan_id end,
    tags = case when $2::jsonb ? 'tags' then $2::jsonb -> 'tags' else tags end,
    settings = case when $2::jsonb ? 'settings' then $2::jsonb -> 'settings' else settings end,
    active = case when $2::jsonb ? 'active' then ($2::jsonb ->> 'active')::boolean else active end,
    updated_at = now()
where id = $1
returning *;

-- name: fetch_group
select g.*, p.name as plan_name, (select count(*) from users u where u.group_id = g.id) as users
from groups g
left join plans p on p.id = g.plan_id
where g.id = $1;

-- name: find_groups
-- By id or external id, else by name; names need not be unique, so up to two are returned and two is an ambiguity.
select g.*, p.name as plan_name, (select count(*) from users u where u.group_id = g.id) as users
from groups g
left join plans p on p.id = g.plan_id
where g.id = $1 or g.external_id = $1 or g.name = $1
order by (g.id = $1) desc, (g.external_id = $1) desc nulls last, g.id
limit 2;

-- name: list_groups
select g.*, p.name as plan_name, (select count(*) from users u where u.group_id = g.id) as users
from groups g
left join plans p on p.id = g.plan_id
where ($1::text is null or g.id ilike $1 or g.name ilike $1 or g.external_id ilike $1)
  and ($2::text is null or g.id = $2)
  and ($3::boolean is null or g.active = $3)
order by g.created_at, g.id
limit $4 offset $5;

-- name: count_groups
select count(*)
from groups g
where ($1::text is null or g.id ilike $1 or g.name ilike $1 or g.external_id ilike $1)
  and ($2::text is null or g.id = $2)
  and ($3::boolean is null or g.active = $3);

-- name: create_key
insert into keys (
    id, user_id, name, digest, masked, service, creates_users, default_operation, default_tags, settings, expires_at
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
returning *;

-- name: change_key
update keys set
    name = case when $2::jsonb ? 'name' then $2::jsonb ->> 'name' else name end,
    service = case when $2::jsonb ? 'service' then ($2::jsonb ->> 'service')::boolean else service end,
    creates_users = case when $2::jsonb ? 'creates_users' then ($2::jsonb ->> 'creates_users')::boolean else creates_users end,
    default_operation = case when $2::jsonb ? 'default_operation' then $2::jsonb ->> 'default_operation' else default_operation end,
    default_tags = case when $2::jsonb ? 'default_tags' then $2::jsonb -> 'default_tags' else default_tags end,
    settings = case when $2::jsonb ? 'settings' then $2::jsonb -> 'settings' else settings end,
    expires_at = case when $2::jsonb ? 'expires_at' then ($2::jsonb ->> 'expires_at')::timestamptz else expires_at end
where id = $1
returning *;

-- name: fetch_key
select k.*, u.group_id from keys k join users u on u.id = k.user_id where k.id = $1;

-- name: lock_key
-- Two rotations of one key at once must not both succeed from the same state.
select k.*, u.group_id from keys k join users u on u.id = k.user_id where k.id = $1 for update of k;

-- name: list_keys
-- $1 user; $2 group; $3 like pattern over id, name and masked key; $4 live (not revoked, not expired).
select k.*, u.group_id, u.name as user_name
from keys k
join users u on u.id = k.user_id
where ($1::text is null or k.user_id = $1)
  and ($2::text is null or u.group_id = $2)
  and ($3::text is null or k.id ilike $3 or k.name ilike $3 or k.masked ilike $3)
  and ($4::boolean is null
       or $4 = (k.revoked_at is null and (k.expires_at is null or k.expires_at > now())))
order by k.created_at, k.id
limit $5 offset $6;

-- name: count_keys
select count(*)
from keys k
join users u on u.id = k.user_id
where ($1::text is null or k.user_id = $1)
  and ($2::text is null or u.group_id = $2)
  and ($3::text is null or k.id ilike $3 or k.name ilike $3 or k.masked ilike $3)
  and ($4::boolean is null
       or $4 = (k.revoked_at is null and (k.expires_at is null or k.expires_at > now())));

-- name: revoke_key
-- The first revocation's time stays.
update keys set revoked_at = coalesce(revoked_at, now()) where id = $1 returning *;

-- name: expire_key
-- The old key of a rotation lives on for a grace period, but never longer than it would have.
update keys set expires_at = least(expires_at, now() + $2::interval) where id = $1 returning *;

-- name: live_key
-- Who a proxy key belongs to, for /me: only while the key, its user and its group are live.
select k.id as key_id, k.user_id, u.group_id, u.name, u.email, k.masked, k.settings
from keys k
join users u on u.id = k.user_id
left join groups g on g.id = u.group_id
where k.digest = $1
  and (k.revoked_at is null or k.revoked_at > now())
  and (k.expires_at is null or k.expires_at > now())
  and u.active
  and coalesce(g.active, true);
