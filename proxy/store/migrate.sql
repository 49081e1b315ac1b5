-- What applying migrations needs: who may, what was applied, and indexes built while others write.

-- name: make_table
create table if not exists schema_migrations (
    number     integer primary key,
    name       text not null,
    checksum   text not null,
    applied_at timestamptz not null default now()
);

-- name: applied
select number, checksum from schema_migrations;

-- name: note
insert into schema_migrations (number, name, checksum) values ($1, $2, $3);

-- name: try_lock
select pg_try_advisory_lock($1);

-- name: unlock
select pg_advisory_unlock($1);

-- name: begin
-- An index over years of records takes as long as it takes, and its build waits for old transactions without being in
-- anybody's way.
select set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false);

-- name: notice_gone_client
-- A build whose client was killed ends, and gives back the lock, rather than going on for nobody.
select set_config('client_connection_check_interval', '2s', false);

-- name: end
-- As the session was.
select count(set_config(name, reset_val, false))
from pg_settings
where name in ('statement_timeout', 'lock_timeout', 'client_connection_check_interval');

-- name: lock_timeout
select set_config('lock_timeout', $1, true);

-- name: is_partitioned
select relkind = 'p' from pg_class where oid = $1::text::regclass;

-- name: partitions_without
-- Partitions of table $2 that have no part of its index $1 yet.
select child.relname::text as name
from pg_inherits
join pg_class child on child.oid = inhrelid
where inhparent = $2::text::regclass
  and not exists (
      select from pg_index i
      join pg_inherits attached on attached.inhrelid = i.indexrelid
      where i.indrelid = child.oid and attached.inhparent = $1::text::regclass
  )
order by child.relname;

-- name: index_state
-- Whether an index is whole; no row when there is none of this name, false when its build was cut.
select i.indisvalid and i.indisready as whole from pg_index i where i.indexrelid = to_regclass($1);
