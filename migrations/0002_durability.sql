-- What live keys and the recorder need besides the tables themselves.

-- Which live rows changed, and in which transaction: a worker that has read everything up to a snapshot asks for the
-- changes of transactions that this snapshot did not hold (xid >= its xmin), so that nothing is missed whatever the order
-- of commits, and a million keys need not be read again because one changed. Pruned after a day.
create table live_changes (
    kind text not null, -- key, user, group, plan, quota
    id   text not null, -- key: its digest in hex; quota: scope:scope_id; else the row's id
    xid  xid8 not null default pg_current_xact_id(),
    at   timestamptz not null default now()
);
create index live_changes_xid on live_changes (xid);

create function log_live_key() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        insert into live_changes (kind, id) values ('key', encode(old.digest, 'hex'));
    end if;
    if tg_op <> 'DELETE' then
        insert into live_changes (kind, id) values ('key', encode(new.digest, 'hex'));
    end if;
    return null;
end
$$;

create function log_live_quota() returns trigger language plpgsql as $$
begin
    if tg_op <> 'INSERT' then
        insert into live_changes (kind, id) values ('quota', old.scope || ':' || coalesce(old.scope_id, ''));
    end if;
    if tg_op <> 'DELETE' then
        insert into live_changes (kind, id) values ('quota', new.scope || ':' || coalesce(new.scope_id, ''));
    end if;
    return null;
end
$$;

create function log_live_row() returns trigger language plpgsql as $$
begin
    insert into live_changes (kind, id) values (tg_argv[0], coalesce(new.id, old.id));
    return null;
end
$$;

-- Columns that say nothing about what a key may do (its name, when it was used last) tell nobody.
drop trigger keys_changed on keys;
create trigger keys_changed
    after insert or delete or update of
        digest, user_id, service, creates_users, default_operation, default_tags, settings, expires_at, revoked_at
    on keys for each statement execute function notify_changed();
create trigger keys_logged
    after insert or delete or update of
        digest, user_id, service, creates_users, default_operation, default_tags, settings, expires_at, revoked_at
    on keys for each row execute function log_live_key();
create trigger quotas_logged after insert or update or delete on quotas for each row execute function log_live_quota();
create trigger users_logged after insert or update or delete on users for each row execute function log_live_row('user');
create trigger groups_logged after insert or update or delete on groups for each row execute function log_live_row('group');
create trigger plans_logged after insert or update or delete on plans for each row execute function log_live_row('plan');

-- What a record settled, [[quota_id, window_start, scope_id, amount, share_id, held], …], so that voiding it can take that
-- back.
alter table usage_records add column charges jsonb;

-- spool = "postgres": exchanges under way, for servers without a durable disk. A row goes when its record is stored;
-- rows of a worker that is not heard of any more become records with outcome "lost".
create table spool_workers (
    id      text primary key,
    seen_at timestamptz not null default now()
);
create table open_exchanges (
    id     uuid primary key,
    worker text not null,
    line   jsonb not null
);
create index open_exchanges_worker on open_exchanges (worker);

-- The tags of a record that rollups are made over: those declared, values cut so that they always fit into the index.
create function rollup_tags(tags jsonb, declared text[]) returns jsonb language sql immutable parallel safe as $$
    select coalesce(jsonb_object_agg(key, left(value, 128)), '{}')
    from jsonb_each_text(tags)
    where key = any (declared)
$$;

-- Every partition with its bounds; the default one has none.
create view usage_partitions as
select
    child.relname::text as name,
    (substring(pg_get_expr(child.relpartbound, child.oid) from $$FROM \('([^']+)'\)$$))::timestamptz as starts,
    (substring(pg_get_expr(child.relpartbound, child.oid) from $$TO \('([^']+)'\)$$))::timestamptz as ends,
    greatest(child.reltuples, 0)::bigint as rows_estimate,
    pg_total_relation_size(child.oid) as bytes
from pg_inherits
join pg_class child on child.oid = pg_inherits.inhrelid
where pg_inherits.inhparent = 'usage_records'::regclass;

-- Monthly partitions of usage_records, made ahead of time by whoever comes first. Records that came before their
-- partition lie in the default one and are moved. Locks are waited for briefly only: a long report may hold them, and
-- everybody else would queue behind us; the caller tries again later. Returns false when the partition is there.
create function make_usage_partition(month timestamptz) returns boolean language plpgsql as $$
declare
    first timestamptz := date_trunc('month', month, 'UTC');
    next timestamptz := date_trunc('month', first + interval '32 days', 'UTC');
    fresh text := 'usage_records_' || to_char(first at time zone 'UTC', 'YYYY_MM');
begin
    if exists (select from usage_partitions p where p.starts = first) then
        return false;
    end if;
    perform set_config('lock_timeout', '3s', true);
    perform pg_advisory_xact_lock(hashtextextended('openai_proxy_usage_partitions', 0));
    -- once more: another worker may have made it while this one waited
    if exists (select from usage_partitions p where p.starts = first) then
        return false;
    end if;
    execute format('create table %I (like usage_records including all)', fresh);
    lock table usage_records_default in access exclusive mode;
    execute format(
        'with moved as (delete from usage_records_default where started_at >= %L and started_at < %L returning *)'
        ' insert into %I select * from moved', first, next, fresh
    );
    execute format('alter table usage_records attach partition %I for values from (%L) to (%L)', fresh, first, next);
    return true;
end
$$;

-- Drop a partition all of whose records began before `cutoff`; false when there is none of this name, or it is younger.
create function drop_usage_partition(partition_name text, cutoff timestamptz) returns boolean language plpgsql as $$
begin
    perform set_config('lock_timeout', '3s', true);
    perform pg_advisory_xact_lock(hashtextextended('openai_proxy_usage_partitions', 0));
    perform from usage_partitions where name = partition_name and ends <= cutoff;
    if not found then
        return false;
    end if;
    execute format('drop table %I', partition_name);
    return true;
end
$$;

-- Users who were erased, for the servers to take out of their own files: daily logs and what was set aside. Whoever erases
-- a user adds a row; each server remembers in its data dir how far it has read.
create table erasures (
    id      bigint generated always as identity primary key,
    user_id text not null,
    at      timestamptz not null default now()
);
create trigger erasures_changed after insert on erasures for each statement execute function notify_changed();
