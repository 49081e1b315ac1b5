-- Around the filling of an empty database with demo data.

-- name: is_empty
-- True when there is no usage at all.
select not exists (select from usage_records) and not exists (select from usage_hourly);

-- name: last_used
-- Keys show when they were used last, as the recorder would have noted it.
update keys k set last_used_at = seen.last_at
from (select key_id, max(last_at) as last_at from usage_hourly group by 1) seen
where k.id = seen.key_id and (k.last_used_at is null or k.last_used_at < seen.last_at);
