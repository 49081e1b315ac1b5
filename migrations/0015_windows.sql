-- Folds also know the number of distinct users of each 24 hours that begin at a whole hour, which is a day in some zone: rows of
-- usage_folds of grain 'window' whose sums are nothing, `at` their beginning. The mark 'window' of a day (UTC) in usage_folded
-- stands for the 24 that end in it, at midnight after it the last; they hold while neither it nor the day before changes.

create or replace function unfold() returns trigger language plpgsql as $$
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
    -- Windows reach into the day after. All go first and in order, lest two changes of neighbouring days wait for each other.
    for changed_day in
        select distinct date_trunc('day', hour, 'UTC') + days * interval '24 hours'
        from unnest(changed_hours) as hour cross join generate_series(0, 1) as days
        order by 1
    loop
        delete from usage_folded where grain = 'window' and at = changed_day;
    end loop;
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
