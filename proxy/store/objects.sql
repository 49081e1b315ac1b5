-- Objects of the shared upstream account, and who made them.

-- name: claim
-- Claim objects for records that show their usage, in the transaction that stores those. Ordered, so that flushes wait for
-- each other but never in a circle. $1 object ids, each once, $2 record ids, $3 when their exchanges began, $4 whether they made it.
insert into billed_objects (object_id, record_id, started_at, made)
select object_id, record_id, to_timestamp(started_at_us / 1e6::float8), made
from unnest($1::text[], $2::uuid[], $3::bigint[], $4::boolean[]) as claim (object_id, record_id, started_at_us, made)
order by object_id
on conflict do nothing;

-- name: fetch_billed
-- By whom objects are billed. Read after `claim`, so that it sees what others committed meanwhile. $1 object ids.
select object_id, record_id, (extract(epoch from started_at) * 1e6)::bigint as started_at_us, made
from billed_objects
where object_id = any ($1::text[]);

-- name: insert_objects
-- Objects that records tell of. What was made last under an id is what that id names; a read adds only what nobody knows.
-- $1: a JSON array of objects as proxy/core/claims.py makes them.
insert into objects as known (
    id, kind, user_id, key_id, group_id, record_id, operation, tags, end_user, model, upstream, follow, follow_at,
    expires_at, created_at
)
select distinct on (id)
    id, kind, user_id, key_id, group_id, record_id, operation, coalesce(tags, '{}'), end_user, model,
    coalesce(upstream, ''), follow, case when follow is not null then now() end, to_timestamp(expires_at),
    to_timestamp(started_at_us / 1e6::float8)
from json_to_recordset($1::text::json) as made (
    id text, kind text, user_id text, key_id text, group_id text, record_id uuid, operation text, tags jsonb,
    end_user text, model text, upstream text, follow jsonb, expires_at float8, started_at_us bigint, again boolean
)
order by id, coalesce(again, false), started_at_us desc
on conflict (id) do update set
    kind = excluded.kind, user_id = excluded.user_id, key_id = excluded.key_id, group_id = excluded.group_id,
    record_id = excluded.record_id, operation = excluded.operation, tags = excluded.tags, end_user = excluded.end_user,
    model = excluded.model, upstream = excluded.upstream, follow = excluded.follow, follow_at = excluded.follow_at,
    follow_tries = 0, expires_at = excluded.expires_at, created_at = excluded.created_at
where known.record_id is distinct from excluded.record_id
  and known.created_at < excluded.created_at
  and not exists (
      select from json_to_recordset($1::text::json) as seen (id text, again boolean)
      where seen.id = excluded.id and seen.again
  );

-- name: end_objects
-- Objects that have come to their end, or whose usage is claimed: nobody need follow them. $1 ids.
with ended as (
    select id from objects where id = any ($1::text[]) and follow is not null order by id for update
)
update objects set follow = null, follow_at = null from ended where objects.id = ended.id;

-- name: fetch_owners
-- Who made objects. $1 ids.
select
    o.id, o.kind, o.user_id, o.key_id, o.group_id, o.operation, o.tags, o.end_user, o.model, o.upstream,
    extract(epoch from o.expires_at)::float8 as expires_at, k.digest,
    exists (select from billed_objects b where b.object_id = o.id) as billed
from objects o
left join keys k on k.id = o.key_id
where o.id = any ($1::text[]);

-- name: try_lead
-- Become the only follower, for as long as this session lasts. False: another one is.
select pg_try_advisory_lock(hashtextextended('openai_proxy_follower', 0));

-- name: fetch_due
-- Objects to ask for now, those that waited longest first. $1: at most so many, $2: seconds that each is left alone first.
select
    o.id, o.kind, o.user_id, o.key_id, o.group_id, o.operation, o.tags, o.end_user, o.model, o.upstream, o.follow,
    null::float8 as expires_at, k.digest, o.follow_tries, extract(epoch from now() - o.created_at)::float8 as age_s
from objects o
left join keys k on k.id = o.key_id
where o.follow is not null and o.follow_at <= now() and o.created_at <= now() - make_interval(secs => $2)
order by o.follow_at
limit $1;

-- name: postpone
-- Ask for an object again after a while. $1 id, $2 seconds.
update objects set follow_at = now() + make_interval(secs => $2), follow_tries = follow_tries + 1
where id = $1 and follow is not null;

-- name: count_followed
-- How many objects are followed.
select count(*) from objects where follow is not null;

-- name: prune_objects
-- Forget objects that OpenAI keeps for a month at most, secrets that have expired, and old claims. $1: made before.
with gone as (
    delete from objects
    where follow is null
      and (
          (created_at < $1 and kind in ('response', 'chat.completion', 'run', 'eval.run', 'realtime.call', 'live.session'))
          or (kind = 'client_secret' and expires_at < now() - interval '1 day')
      )
    returning id
)
delete from billed_objects where started_at < $1;
