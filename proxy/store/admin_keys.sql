-- Keys of administrators: hashed like proxy keys, with a scope and, optionally, one group they are confined to.

-- name: create
insert into admin_keys (id, name, digest, masked, scope, group_id, expires_at)
values ($1, $2, $3, $4, $5, $6, $7)
returning *;

-- name: exists_any
-- Live, unconfined and able to write: with none of these nobody could let anybody in.
select exists (
    select from admin_keys
    where revoked_at is null and (expires_at is null or expires_at > now()) and scope = 'write' and group_id is null
);

-- name: live
select id, name, scope, group_id, masked
from admin_keys
where digest = $1 and revoked_at is null and (expires_at is null or expires_at > now());

-- name: by_digest
select * from admin_keys where digest = $1;

-- name: fetch
select * from admin_keys where id = $1;

-- name: list
select * from admin_keys order by created_at, id limit $1 offset $2;

-- name: count
select count(*) from admin_keys;

-- name: revoke
update admin_keys set revoked_at = coalesce(revoked_at, now()) where id = $1 returning *;
