-- Users as service keys name them: by id, external id or e-mail.

-- name: find_named_user
-- $1: the name. An id wins over an external id, that over an e-mail.
select id, group_id, plan_id, active, settings
from users
where id = $1 or external_id = $1 or lower(email) = lower($1)
order by id = $1 desc, external_id = $1 desc nulls last
limit 1;

-- name: create_named_user
-- $1 id, $2 name, $3 external id or null, $4 e-mail or null. Nothing when another replica was first.
insert into users (id, name, external_id, email)
values ($1, $2, $3, $4)
on conflict do nothing;
