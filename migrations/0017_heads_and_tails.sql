-- Folds by people also have heads and tails: from the beginning of a month to the end of its fives and of the last day there is, or of a
-- year to the end of its months, and from there to the end (proxy/core/stretches.py). So a report that begins and ends on any
-- day reads at most two blocks of each month and year it touches, and some days. Thirds of months are not read any more.

delete from usage_folded where grain = 'third';
delete from usage_folds where grain = 'third';
delete from usage_latency_folds where grain = 'third';
delete from usage_outcomes_folds where grain = 'third';

-- The marks of all blocks that hold any of some hours, folded or not.
create function folds_holding(hours timestamptz[]) returns table (grain text, at timestamptz) language sql immutable parallel safe as $$
    with days as (
        select distinct
            date_trunc('day', hour, 'UTC') as day, date_trunc('month', hour, 'UTC') as month, date_trunc('year', hour, 'UTC') as year
        from unnest(hours) as hour
    )
    select 'hour', hour from unnest(hours) as hour
    union select 'six', block_of('six', hour) from unnest(hours) as hour
    union select each, block_of(each, day) from days cross join unnest(array['day', 'five', 'third', 'month', 'quarter']) as each
    -- Windows reach into the day after.
    union select 'window', day + next * interval '24 hours' from days cross join generate_series(0, 1) as next
    union
    select 'month_head', later
    from days cross join generate_series(day, block_end('month', month) - interval '24 hours', interval '24 hours') as later
    union select 'month_tail', earlier from days cross join generate_series(month, day, interval '24 hours') as earlier
    union
    select 'year_head', (month at time zone 'UTC' + each * interval '1 month') at time zone 'UTC'
    from days cross join generate_series(0, 12 - extract(month from month at time zone 'UTC')::integer) as each
    union
    select 'year_tail', (year at time zone 'UTC' + each * interval '1 month') at time zone 'UTC'
    from days cross join generate_series(0, extract(month from month at time zone 'UTC')::integer - 1) as each
$$;

create or replace function unfold() returns trigger language plpgsql as $$
declare
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
    with held as (
        -- In one order, lest two changes wait for each other.
        select made.grain, made.at
        from usage_folded made
        where (made.grain, made.at) in (select holding.grain, holding.at from folds_holding(changed_hours) as holding)
        order by made.grain, made.at
        for update
    ),
    gone as (
        delete from usage_folded made using held where made.grain = held.grain and made.at = held.at
        returning made.grain, made.at
    )
    -- The hours of a day that is no longer folded are, but for those that changed.
    insert into usage_folded (grain, at)
    select 'hour', hour
    from gone
    cross join lateral generate_series(gone.at, gone.at + interval '23 hours', interval '1 hour') as hour
    where gone.grain = 'day' and hour <> all (changed_hours)
    order by 2
    on conflict do nothing;
    return null;
end
$$;
