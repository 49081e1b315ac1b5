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
