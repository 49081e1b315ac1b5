-- Sums by UTC day, made of the hourly ones when a day is long over, so that a report over a year reads days and not hours.
-- A day's sums hold while it stands in usage_days. What changes an hour of such a day (a record that comes late, one that is
-- voided or priced anew, an erased user) drops them in the same transaction; upkeep makes them again.

create table usage_daily (like usage_hourly including defaults);
alter table usage_daily rename column hour to day;
alter table usage_daily
    add primary key (day, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags);
create index usage_daily_user on usage_daily (user_id, day);

create table usage_days (
    day     timestamptz primary key,
    made_at timestamptz not null default now()
);

-- Making a day's sums (proxy/store/daily.sql) takes this lock alone, changing its hours takes it shared: so a change either is
-- in the sums, or finds their row in usage_days and drops it.
create function daily_sums_lock(day timestamptz) returns bigint language sql immutable parallel safe as $$
    select 7165210439216 * 1000000 + (extract(epoch from day) / 86400)::bigint
$$;

create function drop_daily_sums() returns trigger language plpgsql as $$
declare
    changed_day timestamptz;
begin
    -- Younger days have no daily sums (three days is the least age, one day of it for transactions that last long).
    for changed_day in
        select distinct date_trunc('day', changed.hour, 'UTC')
        from changed
        where changed.hour < now() - interval '2 days'
        order by 1
    loop
        perform pg_advisory_xact_lock_shared(daily_sums_lock(changed_day));
        delete from usage_days where day = changed_day;
        if found then
            delete from usage_daily where day = changed_day;
        end if;
    end loop;
    return null;
end
$$;
create trigger usage_hourly_inserted after insert on usage_hourly
    referencing new table as changed for each statement execute function drop_daily_sums();
create trigger usage_hourly_updated after update on usage_hourly
    referencing new table as changed for each statement execute function drop_daily_sums();
create trigger usage_hourly_deleted after delete on usage_hourly
    referencing old table as changed for each statement execute function drop_daily_sums();
