-- Shares of quotas held by workers. The algorithm and its invariants: docs/explanation/quotas.md.
--
-- These functions are here and not in statements, because each must take its locks in one order, see what was committed
-- while it waited for them, and still cost one round trip. The order: history lock, own lease, windows by key. Leases of
-- others are only ever locked with SKIP LOCKED. A window's row lock guards its shares.

-- One row for each worker process. A share belongs to a lease and is good until the lease expires; a worker renews one row,
-- however many shares it holds. A lease that was deleted never comes back: its worker takes a new one.
create table quota_leases (
    id         bigint generated always as identity primary key,
    worker     text not null,
    expires_at timestamptz not null
);
create index quota_leases_expiry on quota_leases (expires_at);

alter table quota_windows
    add column opened       boolean not null default true, -- use before the quota existed has been counted …
    add column opened_at    timestamptz not null default now(), -- … as of then
    add column reset_at     timestamptz, -- what was used before no longer counts
    add column limit_amount bigint,      -- of a limit that follows an average: what it is in this window
    add column rule         jsonb,       -- of a quota that is younger than the window: what it counts …
    add column late_until   timestamptz, -- … and until when records admitted before it existed may still come
    add column keep_until   timestamptz default now() + interval '40 days'; -- null: for ever
create index quota_windows_keep on quota_windows (keep_until);
create index quota_windows_late on quota_windows (late_until) where late_until is not null;

-- Of a soft quota: its limit is this many percent of what the subject used in an average window of the 28 days before, and
-- limit_amount the least it can be.
alter table quotas add column average_percent integer check (average_percent is null or (soft and average_percent > 0));

create table quota_shares (
    id           bigint generated always as identity primary key,
    lease_id     bigint not null, -- no foreign key: a share outlives its lease until somebody takes it back
    quota_id     text not null,
    scope_id     text not null,
    window_start timestamptz not null,
    granted      bigint not null default 0, -- sums since the row began, so that what is sent twice counts once
    returned     bigint not null default 0,
    settled      bigint not null default 0,
    amount       bigint not null generated always as (granted - returned - settled) stored check (amount >= 0),
    unique (quota_id, scope_id, window_start, lease_id),
    foreign key (quota_id, scope_id, window_start) references quota_windows on delete cascade
);
create index quota_shares_lease on quota_shares (lease_id);

-- What one record counts under a rule; null when the rule does not bind it. A rule is
-- {"scope", "unit", "model", "operation", "tag_name", "tag"} with patterns as regular expressions.
create function quota_counts(rule jsonb, subject text, r usage_records) returns bigint language sql immutable as $$
    select case rule ->> 'unit'
        when 'tokens' then r.input_tokens + r.output_tokens
        when 'cost' then coalesce(r.cost_nanousd, 0)
        -- a forwarded POST or one response on a WebSocket; not a second model's part of an answer
        else ((r.method = 'POST') = (r.parent_id is null)
              and r.outcome in ('success', 'client_gone', 'upstream_cut', 'lost'))::int
    end
    where r.voided_at is null
      and r.outcome <> 'refused'
      and case rule ->> 'scope'
              when 'user' then r.user_id = subject
              when 'key' then r.key_id = subject
              when 'group' then r.group_id = subject
              when 'end_user' then r.end_user = subject
              else true
          end
      and (rule ->> 'model' is null or r.requested_model ~ (rule ->> 'model'))
      and (rule ->> 'operation' is null or coalesce(r.operation, '') ~ (rule ->> 'operation'))
      and (rule ->> 'tag' is null or coalesce(r.tags ->> (rule ->> 'tag_name'), '') ~ (rule ->> 'tag'))
$$;

-- What was used under a rule between two moments, from the records, or from the hourly sums where they can tell.
create function quota_history(rule jsonb, subject text, since timestamptz, until timestamptz)
returns bigint language plpgsql stable as $$
declare
    scope text := rule ->> 'scope';
    unit text := rule ->> 'unit';
    used bigint;
begin
    if unit <> 'requests' and scope <> 'end_user' and coalesce(rule ->> 'model', rule ->> 'operation', rule ->> 'tag') is null
        and since = date_trunc('day', since, 'UTC')
    then
        if scope = 'user' then
            select sum(case unit when 'tokens' then input_tokens + output_tokens else cost_nanousd end) into used
            from usage_hourly where user_id = subject and hour >= since and hour < until;
        else
            select sum(case unit when 'tokens' then input_tokens + output_tokens else cost_nanousd end) into used
            from usage_hourly
            where hour >= since and hour < until
              and case scope when 'key' then key_id = subject when 'group' then group_id = subject else true end;
        end if;
    elsif scope = 'user' then
        select sum(quota_counts(rule, subject, r)) into used
        from usage_records r where user_id = subject and started_at >= since and started_at < until;
    elsif scope = 'key' then
        select sum(quota_counts(rule, subject, r)) into used
        from usage_records r where key_id = subject and started_at >= since and started_at < until;
    else
        select sum(quota_counts(rule, subject, r)) into used
        from usage_records r where started_at >= since and started_at < until;
    end if;
    return coalesce(used, 0);
end
$$;

-- Since when a quota surely binds its subject: when it was made, or its plan or who is on it was changed last. There may be use
-- before that, in windows that began earlier, that was never charged to it. A prepaid balance begins with its quota.
create function quota_bound_since(quota text, subject text, rule jsonb) returns timestamptz language sql stable as $$
    select case
        when not rule ? 'ends_at' then null
        when quota like 'plan:%' then greatest(
            (select updated_at from plans where id = split_part(quota, ':', 2)),
            (
                select greatest(u.updated_at, g.updated_at)
                from users u left join groups g on g.id = u.group_id
                where u.id = subject
            )
        )
        else (select created_at from quotas where id = quota)
    end
$$;

-- Whether a window has use to look back for: its quota is younger than it, and it was not opened since.
create function quota_looks_back(quota text, subject text, start timestamptz, rule jsonb)
returns boolean language sql stable as $$
    select coalesce(since > start and not exists (
        select from quota_windows w
        where w.quota_id = quota and w.scope_id = subject and w.window_start = start and w.opened and w.opened_at >= since
    ), false)
    from quota_bound_since(quota, subject, rule) as since
$$;

-- Flushes hold this shared from their look at young windows to their commit; whoever opens a window with a look back holds it
-- alone. So each record is either in the sum that opens the window, or is charged late, and never both.
create function quota_history_lock() returns bigint language sql immutable as
$$ select hashtextextended('openai_proxy_quota_history', 0) $$;

-- Make a window's row, with what was used before. The caller holds the history lock when the quota looks back.
create function quota_open(quota text, subject text, start timestamptz, rule jsonb) returns void language plpgsql as $$
declare
    back boolean := quota_looks_back(quota, subject, start, rule);
    used bigint := 0;
    since timestamptz;
    ends timestamptz := to_timestamp((rule ->> 'ends_at')::float8);
    average bigint;
begin
    if not back then
        perform from quota_windows w
        where w.quota_id = quota and w.scope_id = subject and w.window_start = start and w.opened;
        if found then
            return;
        end if;
    else
        select greatest(start, max(w.reset_at)) into since
        from quota_windows w
        where w.quota_id = quota and w.scope_id = subject and w.window_start = start;
        used := quota_history(rule, subject, since, 'infinity');
    end if;
    if rule ? 'average_percent' and ends is not null then
        average := round(
            quota_history(rule, subject, start - interval '28 days', start)
            * (rule ->> 'average_percent')::numeric / 100
            * (extract(epoch from ends - start) / extract(epoch from interval '28 days'))::numeric
        );
    end if;
    insert into quota_windows as w
        (quota_id, scope_id, window_start, settled, opened, limit_amount, rule, late_until, keep_until)
    values (
        quota, subject, start, used, true, average,
        case when back then rule end,
        case when back then least(ends, now() + interval '1 day') end,
        ends + greatest(interval '1 day', (ends - start) * 12)
    )
    on conflict (quota_id, scope_id, window_start) do update set
        opened = true,
        opened_at = excluded.opened_at,
        settled = case
            when not back then w.settled
            when w.opened then greatest(w.settled, excluded.settled)
            else excluded.settled
        end,
        limit_amount = excluded.limit_amount,
        rule = excluded.rule,
        late_until = excluded.late_until,
        keep_until = excluded.keep_until
    where back or not w.opened;
end
$$;

-- Give a worker shares of windows: all of the demand where the remainder allows, and an eighth of what is left then; less
-- where it does not, but nothing below `least`, which would help nobody. What falls short calls back idle shares of others.
-- No row at all: the lease is gone. One row for each window otherwise.
create function quota_grant(
    p_lease bigint, p_ttl interval, p_quota text[], p_scope text[], p_start bigint[],
    p_limit bigint[], p_least bigint[], p_demand bigint[], p_rule jsonb[]
) returns table (
    o_quota_id text, o_scope_id text, o_start bigint, o_share_id bigint, o_granted bigint, o_returned bigint,
    o_share_settled bigint, o_settled bigint, o_held bigint, o_short boolean, o_others integer, o_limit bigint
) language plpgsql as $$
declare
    a record;
    w quota_windows%rowtype;
    s quota_shares%rowtype;
    start timestamptz;
    spare bigint;
    give bigint;
    freed bigint;
begin
    if exists (
        select from unnest(p_quota, p_scope, p_start, p_rule) as t (quota, scope, start, rule)
        where t.rule is not null
          and quota_looks_back(t.quota, t.scope, to_timestamp(t.start), t.rule)
    ) then
        perform pg_advisory_xact_lock(quota_history_lock());
    end if;
    perform from quota_leases where id = p_lease for key share;
    if not found then
        return;
    end if;
    for a in
        select * from unnest(p_quota, p_scope, p_start, p_limit, p_least, p_demand, p_rule)
            as t (quota, scope, start, "limit", least, demand, rule)
        order by 1, 2, 3
    loop
        start := to_timestamp(a.start);
        perform quota_open(a.quota, a.scope, start, coalesce(a.rule, '{}'));
        select * into strict w from quota_windows x
        where x.quota_id = a.quota and x.scope_id = a.scope and x.window_start = start
        for update;
        if a."limit" - w.settled - w.held < a.demand and w.held > 0 then
            freed := quota_take_back(a.quota, a.scope, start, p_lease, p_ttl);
            w.held := w.held - freed;
        end if;
        spare := a."limit" - w.settled - w.held;
        give := case
            when spare <= 0 or spare < a.least then 0
            when spare < a.demand then spare
            else a.demand + (spare - a.demand) / 8
        end;
        if give > 0 then
            insert into quota_shares as x (lease_id, quota_id, scope_id, window_start, granted)
            values (p_lease, a.quota, a.scope, start, give)
            on conflict (quota_id, scope_id, window_start, lease_id) do update set granted = x.granted + give;
            update quota_windows x set held = held + give
            where x.quota_id = a.quota and x.scope_id = a.scope and x.window_start = start
              and x.settled + x.held + give <= a."limit";
            assert found, 'a grant beyond the limit';
        end if;
        select * into s from quota_shares x
        where x.quota_id = a.quota and x.scope_id = a.scope and x.window_start = start and x.lease_id = p_lease;
        o_others := 0;
        if give < a.demand then
            select count(*) into o_others from quota_shares x
            where x.quota_id = a.quota and x.scope_id = a.scope and x.window_start = start
              and x.lease_id <> p_lease and x.amount > 0;
            if o_others > 0 then
                perform pg_notify(
                    'openai_proxy_quota', json_build_array('recall', p_lease, a.quota, a.scope, a.start)::text
                );
            end if;
        end if;
        o_quota_id := a.quota;
        o_scope_id := a.scope;
        o_start := a.start;
        o_share_id := coalesce(s.id, 0);
        o_granted := coalesce(s.granted, 0);
        o_returned := coalesce(s.returned, 0);
        o_share_settled := coalesce(s.settled, 0);
        o_settled := w.settled;
        o_held := w.held + give;
        o_short := give < a.demand;
        o_limit := w.limit_amount;
        return next;
    end loop;
end
$$;

-- Shares of one window whose lease is gone, or has expired and goes with this. The caller has locked the window. Returns
-- how much became free. After a restart of Postgres, when nobody could renew, leases get their time once more.
create function quota_take_back(quota text, subject text, start timestamptz, own bigint, ttl interval)
returns bigint language plpgsql as $$
declare
    freed bigint;
begin
    delete from quota_leases where id in (
        select l.id from quota_leases l
        where l.expires_at < now()
          and pg_postmaster_start_time() < now() - ttl
          and l.id <> own
          and exists (
              select from quota_shares s
              where s.lease_id = l.id and s.quota_id = quota and s.scope_id = subject and s.window_start = start
          )
        for update skip locked
    );
    with gone as (
        delete from quota_shares s
        where s.quota_id = quota and s.scope_id = subject and s.window_start = start
          and not exists (select from quota_leases l where l.id = s.lease_id)
        returning s.amount
    )
    select coalesce(sum(amount), 0) into freed from gone;
    update quota_windows w set held = held - freed
    where w.quota_id = quota and w.scope_id = subject and w.window_start = start and freed > 0;
    return freed;
end
$$;

-- Take back parts of a worker's shares: $1 ids, $2 the sums of all that was given back of each. Returns the ids of those that
-- are gone, because nothing was left in them. $3-$5: windows whose recall this answers.
create function quota_give_back(
    p_share bigint[], p_total bigint[], p_quota text[], p_scope text[], p_start bigint[], p_lease bigint
) returns setof bigint language plpgsql as $$
declare
    a record;
    back bigint;
begin
    for a in
        select s.id, s.quota_id, s.scope_id, s.window_start, t.total
        from unnest(p_share, p_total) as t (id, total)
        join quota_shares s on s.id = t.id
        order by 2, 3, 4
    loop
        perform from quota_windows w
        where w.quota_id = a.quota_id and w.scope_id = a.scope_id and w.window_start = a.window_start
        for update;
        select least(a.total - s.returned, s.amount) into back from quota_shares s where s.id = a.id;
        if back > 0 then
            update quota_shares s set returned = returned + back where s.id = a.id;
            update quota_windows w set held = held - back
            where w.quota_id = a.quota_id and w.scope_id = a.scope_id and w.window_start = a.window_start;
        end if;
        delete from quota_shares s where s.id = a.id and s.amount = 0;
    end loop;
    perform pg_notify('openai_proxy_quota', json_build_array('returned', p_lease, quota, scope, start)::text)
    from unnest(p_quota, p_scope, p_start) as t (quota, scope, start);
    return query
        select t.id from unnest(p_share) as t (id) where not exists (select from quota_shares s where s.id = t.id);
end
$$;

-- Settle what records used, in the transaction that stores them, as its last step before the commit. $1: the `charges` of
-- each record, [[quota id, window start, subject, amount, share id, held], …] or null; $2: the ids of the same records.
-- Call it with records that were really inserted: that makes it happen once. Returns what each window settled, and has in all.
create function quota_settle(p_charges jsonb[], p_ids uuid[])
returns table (o_quota_id text, o_scope_id text, o_start bigint, o_amount bigint, o_settled bigint) language plpgsql as $$
declare
    a record;
    k_quota text[];
    k_scope text[];
    k_start timestamptz[];
    k_amount bigint[];
    h_share bigint[];
    h_held bigint[];
begin
    perform pg_advisory_xact_lock_shared(quota_history_lock());
    with charged as (
        select
            c ->> 0 as quota, to_timestamp((c ->> 1)::bigint) as start, c ->> 2 as scope, (c ->> 3)::bigint as amount,
            coalesce((c ->> 5)::bigint, 0) > 0 as holds
        from unnest(p_charges) as r (charges), jsonb_array_elements(nullif(r.charges, 'null')) as c
    ), late as (
        select w.quota_id, w.window_start, w.scope_id, quota_counts(w.rule, w.scope_id, r) as amount, false as holds
        from quota_windows w
        join usage_records r on r.id = any (p_ids)
            and r.started_at >= w.window_start and r.started_at < to_timestamp((w.rule ->> 'ends_at')::float8)
        where w.late_until > now()
          and not exists (
              select from jsonb_array_elements(coalesce(r.charges, '[]')) as c where c ->> 0 = w.quota_id
          )
    ), summed as (
        select quota, scope, start, sum(amount)::bigint as amount
        from (table charged union all table late) as each (quota, start, scope, amount, holds)
        group by 1, 2, 3
        having sum(amount) > 0 or bool_or(holds) -- nothing used, but something to give back
    )
    select array_agg(quota), array_agg(scope), array_agg(start), array_agg(amount)
    into k_quota, k_scope, k_start, k_amount
    from (select * from summed order by 1, 2, 3) as sorted;
    if k_quota is null then
        return;
    end if;
    for a in
        select t.* from unnest(k_quota, k_scope, k_start) as t (quota, scope, start) order by 1, 2, 3
    loop
        perform from quota_windows w where w.quota_id = a.quota and w.scope_id = a.scope and w.window_start = a.start for update;
        if not found and (a.quota like 'plan:%' or exists (select from quotas where id = a.quota)) then
            insert into quota_windows (quota_id, scope_id, window_start, opened) values (a.quota, a.scope, a.start, false)
            on conflict do nothing;
            perform from quota_windows w
            where w.quota_id = a.quota and w.scope_id = a.scope and w.window_start = a.start for update;
        end if;
    end loop;
    select array_agg(share), array_agg(held) into h_share, h_held
    from (
        select (c ->> 4)::bigint as share, sum((c ->> 5)::bigint)::bigint as held
        from unnest(p_charges) as r (charges), jsonb_array_elements(nullif(r.charges, 'null')) as c
        where (c ->> 4)::bigint > 0
        group by 1
    ) as covered;
    return query
    with taken as materialized (
        select s.id, s.quota_id, s.scope_id, s.window_start, least(h.held, s.amount) as amount
        from unnest(h_share, h_held) as h (share, held)
        join quota_shares s on s.id = h.share
    ), lowered as (
        update quota_shares s set settled = s.settled + taken.amount from taken where s.id = taken.id
    ), window_taken as (
        select quota_id, scope_id, window_start, sum(amount) as amount from taken group by 1, 2, 3
    )
    update quota_windows w
    set settled = w.settled + k.amount, held = w.held - coalesce(t.amount, 0)
    from unnest(k_quota, k_scope, k_start, k_amount) as k (quota, scope, start, amount)
    left join window_taken t on t.quota_id = k.quota and t.scope_id = k.scope and t.window_start = k.start
    where w.quota_id = k.quota and w.scope_id = k.scope and w.window_start = k.start
    returning w.quota_id, w.scope_id, extract(epoch from w.window_start)::bigint, k.amount, w.settled;
    delete from quota_shares where id = any (h_share) and amount = 0;
end
$$;

-- Take back what dead workers held, and forget windows that are long over.
create function quota_reap(ttl interval, most integer) returns void language plpgsql as $$
declare
    a record;
begin
    delete from quota_leases where id in (
        select id from quota_leases
        where expires_at < now() and pg_postmaster_start_time() < now() - ttl
        limit most
        for update skip locked
    );
    for a in
        select distinct s.quota_id, s.scope_id, s.window_start from quota_shares s
        where not exists (select from quota_leases l where l.id = s.lease_id)
        order by 1, 2, 3
        limit most
    loop
        perform from quota_windows w
        where w.quota_id = a.quota_id and w.scope_id = a.scope_id and w.window_start = a.window_start for update;
        perform quota_take_back(a.quota_id, a.scope_id, a.window_start, 0, ttl);
    end loop;
    delete from quota_windows where ctid = any (
        array(select ctid from quota_windows where keep_until < now() limit most for update skip locked)
    );
end
$$;

-- Plans to begin with; an administrator may change them or remove them.
insert into plans (id, name, quotas) values
('plan_free', 'Free', '[
    {"id": "tokens", "unit": "tokens", "window": "month", "limit_amount": 100000},
    {"id": "cost", "unit": "cost", "window": "month", "limit_amount": 500000000},
    {"id": "requests", "unit": "requests", "window": "month", "limit_amount": 50}
]'),
('plan_basic', 'Basic', '[
    {"id": "tokens", "unit": "tokens", "window": "month", "limit_amount": 500000},
    {"id": "cost", "unit": "cost", "window": "month", "limit_amount": 2500000000},
    {"id": "requests", "unit": "requests", "window": "month", "limit_amount": 250}
]'),
('plan_pro', 'Pro', '[
    {"id": "tokens", "unit": "tokens", "window": "month", "limit_amount": 2000000},
    {"id": "cost", "unit": "cost", "window": "month", "limit_amount": 10000000000},
    {"id": "requests", "unit": "requests", "window": "month", "limit_amount": 1000}
]'),
('plan_unlimited', 'Unlimited', '[]')
on conflict do nothing;
