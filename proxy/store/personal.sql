-- Everything about one user, as JSON objects with their `kind`. $1: the user's id.

-- name: user
select jsonb_build_object('kind', 'user') || to_jsonb(u) as line from users u where u.id = $1;

-- name: keys
-- Never the digest.
select jsonb_build_object('kind', 'key') || (to_jsonb(k) - 'digest') as line from keys k where k.user_id = $1 order by k.created_at;

-- name: quotas
select jsonb_build_object('kind', 'quota') || to_jsonb(q) as line
from quotas q
where (q.scope = 'user' and q.scope_id = $1)
   or (q.scope = 'key' and q.scope_id in (select k.id from keys k where k.user_id = $1))
order by q.id;

-- name: quota_windows
select
    jsonb_build_object('kind', 'quota_window', 'quota_id', w.quota_id, 'scope_id', w.scope_id,
                       'window_start', w.window_start, 'used', w.settled) as line
from quota_windows w
where w.scope_id = $1 or w.scope_id in (select k.id from keys k where k.user_id = $1)
order by w.window_start, w.quota_id;

-- name: objects
select (to_jsonb(o) - 'follow') || jsonb_build_object('kind', 'object', 'object_kind', o.kind) as line
from objects o where o.user_id = $1 order by o.created_at;

-- name: records
select jsonb_build_object('kind', 'record') || to_jsonb(r) as line
from usage_records r where r.user_id = $1 order by r.started_at, r.id;

-- name: sign_ins
select
    jsonb_build_object('kind', 'sign_in', 'created_at', s.created_at, 'used_at', s.used_at, 'ends_at', s.ends_at) as line
from sign_ins s where s.kind = 'user' and s.subject = $1 order by s.created_at;

-- name: audit
-- What was done to them, and what they did.
select jsonb_build_object('kind', 'audit') || to_jsonb(a) as line
from audit_log a
where a.subject = $1 or a.actor = 'user:' || $1 or a.subject in (select k.id from keys k where k.user_id = $1)
order by a.id;
