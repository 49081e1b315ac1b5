-- Signed-in browsers.

-- name: create
-- $1 digest of the cookie, $2 kind, $3 digest of the credential, $4-$7 subject, name, scope, group, $8 the longest it lasts,
-- $9 when the credential itself ends, if that is known.
insert into sign_ins (digest, kind, credential, subject, name, scope, group_id, ends_at)
values ($1, $2, $3, $4, $5, $6, $7, least(now() + $8::interval, $9::timestamptz))
returning *;

-- name: live
-- The sign-in of a cookie, unless it ended or was idle for $2.
select *, used_at < now() - $2::interval / 10 as worn
from sign_ins
where digest = $1 and ends_at > now() and used_at > now() - $2::interval;

-- name: touch
update sign_ins set used_at = now() where digest = $1;

-- name: end
delete from sign_ins where digest = $1 returning subject;

-- name: prune
-- Rows that stand for nothing any more.
delete from sign_ins where ends_at < now() or used_at < now() - $1::interval;
