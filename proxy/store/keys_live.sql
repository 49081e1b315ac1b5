-- What the keyring holds: live rows as JSON text, kept as they come and read when a key is used first.
-- All of one load are run in one repeatable-read transaction, so that they and the horizon are one snapshot.

-- name: horizon
-- Where this snapshot ends: changes of transactions from here on may not be in it.
select pg_snapshot_xmin(pg_current_snapshot())::text as xid;

-- name: changes_since
-- Rows changed by transactions from horizon $1 on, at most $2.
select kind, id
from live_changes
where xid >= $1::text::xid8
group by kind, id
limit $2;

-- name: live_keys
-- Every key with its user. Order of the fields: proxy/core/keyrow.py, read_key_row.
select
    k.digest,
    json_build_array(
        k.id, k.user_id, u.group_id, u.plan_id, u.active, k.service, k.creates_users,
        extract(epoch from k.expires_at)::float8, extract(epoch from k.revoked_at)::float8,
        k.default_operation, nullif(k.default_tags, '{}'), nullif(k.settings, '{}'), nullif(u.settings, '{}')
    )::text as row
from keys k
join users u on u.id = k.user_id;

-- name: live_keys_changed
-- The same for keys with a digest in $1 (hexadecimal) or of a user in $2.
select
    k.digest,
    json_build_array(
        k.id, k.user_id, u.group_id, u.plan_id, u.active, k.service, k.creates_users,
        extract(epoch from k.expires_at)::float8, extract(epoch from k.revoked_at)::float8,
        k.default_operation, nullif(k.default_tags, '{}'), nullif(k.settings, '{}'), nullif(u.settings, '{}')
    )::text as row
from keys k
join users u on u.id = k.user_id
where k.digest = any (array(select decode(hex, 'hex') from unnest($1::text[]) as hex))
   or k.user_id = any ($2::text[]);

-- name: live_groups
-- $1: ids, null for all.
select id, json_build_array(plan_id, active, nullif(settings, '{}'))::text as row
from groups
where $1::text[] is null or id = any ($1);

-- name: live_plans
-- Each entry with its plan's version: a limit that was changed and changed back is not the same as before.
select
    id,
    (
        select coalesce(jsonb_agg(quota || jsonb_build_object('version', extract(epoch from updated_at)) order by n), '[]')
        from jsonb_array_elements(quotas) with ordinality as entry (quota, n)
    )::text as row
from plans
where $1::text[] is null or id = any ($1);

-- name: live_quotas
-- All quotas of each subject, `scope:scope_id`; $1: subjects, null for all.
select
    scope || ':' || coalesce(scope_id, '') as subject,
    json_agg(
        json_build_object(
            'id', id, 'scope', scope, 'scope_id', scope_id, 'unit', unit, 'window', "window",
            'limit_amount', limit_amount, 'billing_day', billing_day, 'model', model, 'operation', operation,
            'tag', tag, 'soft', soft, 'raised_amount', raised_amount,
            'raised_until', extract(epoch from raised_until)::float8,
            'average_percent', average_percent, 'version', extract(epoch from updated_at)::float8
        ) order by id
    )::text as row
from quotas
where $1::text[] is null or (scope, coalesce(scope_id, '')) in (
    select split_part(subject, ':', 1), substr(subject, strpos(subject, ':') + 1) from unnest($1::text[]) as subject
)
group by 1;

-- name: set_last_used
-- $1 key ids, $2 when each was last used, in Unix seconds. Never goes back.
update keys
set last_used_at = to_timestamp(used.at)
from unnest($1::text[], $2::float8[]) as used (id, at)
where keys.id = used.id and (last_used_at is null or last_used_at < to_timestamp(used.at));

-- name: prune_changes
delete from live_changes where at < now() - interval '1 day';
