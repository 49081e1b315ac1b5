-- Folds: sums of the hourly sums over fewer dimensions ("cuts") and longer stretches of time ("grains"), made in the background
-- when an hour is long over, so that a report reads few rows however many records there are. They replace the daily sums.
-- A fold holds while its grain and beginning stand in usage_folded. What changes an hour that was folded (a record that comes
-- late, one that is voided or priced anew) takes the marks of all that hold it away in the same transaction; upkeep makes them
-- again (proxy/store/folds.py). Reports read what no mark covers from the hourly sums.

drop trigger usage_hourly_inserted on usage_hourly;
drop trigger usage_hourly_updated on usage_hourly;
drop trigger usage_hourly_deleted on usage_hourly;
drop function drop_daily_sums();
drop function daily_sums_lock(timestamptz);
drop table usage_daily;
drop table usage_days;

-- The rows of a cut have only its own dimensions; the others say nothing. Not unique: rows that agree in everything add up.
create table usage_folds (
    cut                 text not null, -- total, model, operation, endpoint, provider, status, "group", what, who, "full"
    grain               text not null, -- hour, day, third (of a month: its days 1-10, 11-20, 21-), month; UTC
    at                  timestamptz not null,
    user_id             text not null default '',
    key_id              text not null default '',
    group_id            text not null default '',
    provider            text not null default '',
    model               text not null default '',
    endpoint            text not null default '',
    operation           text not null default '',
    status              smallint not null default -1,
    tags                jsonb not null default '{}',
    users               bigint, -- distinct ones; null: not counted
    requests            bigint not null,
    errors              bigint not null,
    input_tokens        bigint not null,
    cached_input_tokens bigint not null,
    cache_write_tokens  bigint not null,
    output_tokens       bigint not null,
    reasoning_tokens    bigint not null,
    total_tokens        bigint not null,
    cost_nanousd        bigint not null,
    cache_saved_nanousd bigint not null,
    unpriced            bigint not null,
    duration_ms         bigint not null,
    ttfb_ms             bigint not null,
    ttfb_count          bigint not null,
    first_at            timestamptz not null,
    last_at             timestamptz not null
) partition by list (cut);
create table usage_folds_total partition of usage_folds for values in ('total');
create table usage_folds_model partition of usage_folds for values in ('model');
create table usage_folds_operation partition of usage_folds for values in ('operation');
create table usage_folds_endpoint partition of usage_folds for values in ('endpoint');
create table usage_folds_provider partition of usage_folds for values in ('provider');
create table usage_folds_status partition of usage_folds for values in ('status');
create table usage_folds_group partition of usage_folds for values in ('group');
create table usage_folds_what partition of usage_folds for values in ('what'); -- all but user, key, group and tags
create table usage_folds_who partition of usage_folds for values in ('who');   -- user, key, group
create table usage_folds_full partition of usage_folds for values in ('full');
create index usage_folds_at on usage_folds (grain, at);
create index usage_folds_who_user on usage_folds_who (user_id, grain, at);
create index usage_folds_who_group on usage_folds_who (group_id, grain, at);
create index usage_folds_full_user on usage_folds_full (user_id, grain, at);
create index usage_folds_full_group on usage_folds_full (group_id, grain, at);
create index usage_folds_full_key on usage_folds_full (key_id, grain, at);

create table usage_latency_folds (
    cut      text not null, -- model, what (with provider and endpoint)
    grain    text not null, -- day, third, month
    at       timestamptz not null,
    provider text not null default '',
    model    text not null,
    endpoint text not null default '',
    measure  text not null,
    bucket   smallint not null,
    requests bigint not null
);
create index usage_latency_folds_at on usage_latency_folds (cut, grain, at);

create table usage_outcomes_folds (
    cut           text not null, -- what, "full" (with the group)
    grain         text not null, -- day, third, month
    at            timestamptz not null,
    group_id      text not null default '',
    provider      text not null,
    model         text not null,
    endpoint      text not null,
    streamed      boolean not null,
    status        smallint not null,
    outcome       text not null,
    error_code    text not null,
    finish_reason text not null,
    service_tier  text not null,
    usage_source  text not null,
    requests      bigint not null
);
create index usage_outcomes_folds_at on usage_outcomes_folds (cut, grain, at);
create index usage_outcomes_folds_group on usage_outcomes_folds (group_id, grain, at) where cut = 'full';

-- What is folded. A day stands for its hours, which have marks of their own only while the day has none.
create table usage_folded (
    grain   text not null,
    at      timestamptz not null,
    made_at timestamptz not null default now(),
    primary key (grain, at)
);

-- When each combination of dimensions was used first and last, as far as hours were folded: who was active since some
-- time can be counted here, and who was there before. It only grows, except by erasing.
create table usage_spans (
    cut       text not null, -- who, "full"
    user_id   text not null,
    key_id    text not null,
    group_id  text not null,
    provider  text not null default '',
    model     text not null default '',
    endpoint  text not null default '',
    operation text not null default '',
    status    smallint not null default -1,
    tags      jsonb not null default '{}',
    first_at  timestamptz not null,
    last_at   timestamptz not null,
    primary key (cut, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags)
);

-- Folding takes this lock alone, changing hours that may be folded takes it shared: so a change either is in the folds, or
-- finds their marks and takes them away.
create function folds_lock() returns bigint language sql immutable parallel safe as $$
    select 7165210439216003
$$;

create function third_of(moment timestamptz) returns timestamptz language sql immutable parallel safe as $$
    select date_trunc('month', moment, 'UTC')
        + least(2, (extract(day from moment at time zone 'UTC')::integer - 1) / 10) * interval '10 days'
$$;

create function unfold() returns trigger language plpgsql as $$
declare
    changed_day timestamptz;
    changed_hours timestamptz[];
begin
    -- Younger hours are not folded: three hours is the least age, one of them for transactions that last long.
    changed_hours := array(
        select distinct changed.hour from changed where changed.hour < clock_timestamp() - interval '2 hours'
    );
    if cardinality(changed_hours) = 0 then
        return null;
    end if;
    perform pg_advisory_xact_lock_shared(folds_lock());
    for changed_day in select distinct date_trunc('day', hour, 'UTC') from unnest(changed_hours) as hour order by 1 loop
        delete from usage_folded where grain = 'month' and at = date_trunc('month', changed_day, 'UTC');
        delete from usage_folded where grain = 'third' and at = third_of(changed_day);
        delete from usage_folded where grain = 'day' and at = changed_day;
        if found then
            insert into usage_folded (grain, at)
            select 'hour', hour from generate_series(changed_day, changed_day + interval '23 hours', interval '1 hour') as hour
            on conflict do nothing;
        end if;
        delete from usage_folded where grain = 'hour' and at >= changed_day and at < changed_day + interval '1 day'
            and at = any (changed_hours);
    end loop;
    return null;
end
$$;
create trigger usage_hourly_inserted after insert on usage_hourly
    referencing new table as changed for each statement execute function unfold();
create trigger usage_hourly_updated after update on usage_hourly
    referencing new table as changed for each statement execute function unfold();
create trigger usage_hourly_deleted after delete on usage_hourly
    referencing old table as changed for each statement execute function unfold();
