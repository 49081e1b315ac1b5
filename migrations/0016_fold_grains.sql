-- Folds read fewer rows: fives of a month and quarters beside days, thirds and months, so that a year that ends on any day is made
-- of twelve blocks on average instead of twenty-two; cuts by tags and by people and model or operation; windows (migration 0015) with their
-- sums, so that a day of another zone is one row instead of twenty-four; of the last weeks the people of every six hours, for the
-- part of a day at either end of a report; a histogram of latencies in one row. All is folded anew.

create table usage_folds_tags partition of usage_folds for values in ('tags');
create table usage_folds_who_model partition of usage_folds for values in ('who_model'); -- user, key, group, model
create index usage_folds_who_model_user on usage_folds_who_model (user_id, grain, at);
create index usage_folds_who_model_group on usage_folds_who_model (group_id, grain, at);
create index usage_folds_who_model_key on usage_folds_who_model (key_id, grain, at);
create table usage_folds_who_operation partition of usage_folds for values in ('who_operation'); -- user, key, group, operation
create index usage_folds_who_operation_user on usage_folds_who_operation (user_id, grain, at);
create index usage_folds_who_operation_group on usage_folds_who_operation (group_id, grain, at);
create index usage_folds_who_operation_key on usage_folds_who_operation (key_id, grain, at);
truncate usage_folds;
delete from usage_folded;

-- `requests[i]` took as long as `buckets[i]` says.
drop table usage_latency_folds;
create table usage_latency_folds (
    cut      text not null, -- model, what (with provider and endpoint)
    grain    text not null, -- day, five, third, month, quarter
    at       timestamptz not null,
    provider text not null default '',
    model    text not null,
    endpoint text not null default '',
    measure  text not null,
    buckets  smallint[] not null,
    requests bigint[] not null
);
create index usage_latency_folds_at on usage_latency_folds (cut, grain, at);
truncate usage_outcomes_folds;

-- sum() of bigint is made in numeric, which takes most of a report's time; this is exact too, and says so when it isn't ("bigint
-- out of range").
create aggregate bigint_sum(bigint) (sfunc = int8pl, stype = bigint, combinefunc = int8pl, parallel = safe);

-- The block of a grain that holds a moment, and where a block ends; see proxy/core/stretches.py.
create function block_of(grain text, moment timestamptz) returns timestamptz language sql immutable parallel safe as $$
    select case grain
        when 'six' then date_trunc('day', moment, 'UTC')
            + extract(hour from moment at time zone 'UTC')::integer / 6 * interval '6 hours'
        when 'five' then date_trunc('month', moment, 'UTC')
            + least(5, (extract(day from moment at time zone 'UTC')::integer - 1) / 5) * interval '120 hours'
        when 'third' then date_trunc('month', moment, 'UTC')
            + least(2, (extract(day from moment at time zone 'UTC')::integer - 1) / 10) * interval '240 hours'
        else date_trunc(grain, moment, 'UTC')
    end
$$;

create function block_end(grain text, start timestamptz) returns timestamptz language sql immutable parallel safe as $$
    select case
        when grain = 'hour' then start + interval '1 hour'
        when grain = 'six' then start + interval '6 hours'
        when grain = 'day' then start + interval '24 hours'
        when grain = 'five' and extract(day from start at time zone 'UTC') < 26 then start + interval '120 hours'
        when grain = 'third' and extract(day from start at time zone 'UTC') < 21 then start + interval '240 hours'
        when grain = 'quarter' then (start at time zone 'UTC' + interval '3 months') at time zone 'UTC'
        else (date_trunc('month', start at time zone 'UTC') + interval '1 month') at time zone 'UTC'
    end
$$;

create or replace function unfold() returns trigger language plpgsql as $$
declare
    changed_day timestamptz;
    changed_hours timestamptz[];
    larger text;
begin
    -- Younger hours are not folded: three hours is the least age, one of them for transactions that last long.
    changed_hours := array(
        select distinct changed.hour from changed where changed.hour < clock_timestamp() - interval '2 hours'
    );
    if cardinality(changed_hours) = 0 then
        return null;
    end if;
    perform pg_advisory_xact_lock_shared(folds_lock());
    delete from usage_folded where grain = 'six' and at = any (array(select block_of('six', hour) from unnest(changed_hours) as hour));
    -- Windows reach into the day after. All go first and in order, lest two changes of neighbouring days wait for each other.
    for changed_day in
        select distinct date_trunc('day', hour, 'UTC') + days * interval '24 hours'
        from unnest(changed_hours) as hour cross join generate_series(0, 1) as days
        order by 1
    loop
        delete from usage_folded where grain = 'window' and at = changed_day;
    end loop;
    for changed_day in select distinct date_trunc('day', hour, 'UTC') from unnest(changed_hours) as hour order by 1 loop
        foreach larger in array array['quarter', 'month', 'third', 'five'] loop
            delete from usage_folded where grain = larger and at = block_of(larger, changed_day);
        end loop;
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
drop function third_of(timestamptz);
