-- Exchanges under way, where there is no disk to note them on (spool = "postgres").

-- name: seen
-- This worker lives.
insert into spool_workers (id) values ($1)
on conflict (id) do update set seen_at = now();

-- name: insert
-- $1 worker, $2 a JSON array of open lines as proxy/core/spoolformat.py writes them.
insert into open_exchanges (id, worker, line)
select (line ->> 0)::uuid, $1, line
from jsonb_array_elements($2::text::jsonb) as line
on conflict do nothing;

-- name: delete
delete from open_exchanges where id = any ($1::text[]::uuid[]);

-- name: abandoned
-- At most $2 exchanges of workers that were not heard of for $1 seconds, or that have ended; locked for whoever asks first.
select o.id::text as id, o.line::text as line
from open_exchanges o
left join spool_workers w on w.id = o.worker
where w.id is null or w.seen_at < now() - make_interval(secs => $1)
order by o.id
limit $2
for update of o skip locked;

-- name: forget_workers
-- Workers that were not heard of for a day and left nothing.
delete from spool_workers w
where seen_at < now() - interval '1 day' and not exists (select from open_exchanges o where o.worker = w.id);

-- name: ended
delete from spool_workers where id = $1;
