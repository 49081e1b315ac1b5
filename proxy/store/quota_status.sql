-- Which quotas bind a user, as the keyring reads them, and where they stand.

-- name: plan_of
-- A user's own plan stands in for its group's.
select u.group_id, coalesce(u.plan_id, g.plan_id) as plan_id
from users u
left join groups g on g.id = u.group_id
where u.id = $1;
