-- Creations that may be asked for twice.

-- name: claim
-- Waits for a transaction that claims the same key now; no row when somebody did before.
insert into idempotency_keys (actor, key, route, request) values ($1, $2, $3, $4)
on conflict do nothing
returning key;

-- name: claimed
select route, request, answer from idempotency_keys where actor = $1 and key = $2;

-- name: finish
update idempotency_keys set answer = $3 where actor = $1 and key = $2;

-- name: forget
delete from idempotency_keys
where ctid = any (array(select ctid from idempotency_keys where created_at < now() - interval '1 day' limit 100));
