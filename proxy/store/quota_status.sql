-- Which quotas bind a user, as the keyring reads them, and where they stand.

-- name: plan_of
-- A user's own plan stands in for its group's.
select u.group_id, coalesce(u.plan_id, g.plan_id) as plan_id
from users u
left join groups g on g.id = u.group_id
where u.id = $1;

-- name: windows
-- The sums of windows by (quota, counted subject, start); one that was never used has no row.
select w.quota_id, w.scope_id, w.window_start, w.settled, w.held
from unnest($1::text[], $2::text[], $3::timestamptz[]) as wanted (quota_id, scope_id, window_start)
join quota_windows w using (quota_id, scope_id, window_start);
