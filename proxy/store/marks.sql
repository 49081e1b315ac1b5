-- What is folded: the marks in usage_folded (migration 0012).

-- name: folded
-- What is folded from $1 to $2: of hours, sixes and days stretches of whole ones, that may begin a day before; of larger grains, $3, where
-- each block stands.
select grain, min(at) as start, max(at) + step as end
from (
    select
        grain, at, step,
        at - row_number() over (partition by grain order by at) * step as island
    from usage_folded
    cross join lateral (
        select case grain when 'hour' then interval '1 hour' when 'six' then interval '6 hours' else interval '1 day' end as step
    ) as each
    where grain in ('hour', 'six', 'day') and at >= $1::timestamptz - interval '1 day' and at < $2::timestamptz
) numbered
group by grain, island, step
union all
select grain, at, null
from usage_folded
where grain = any ($3::text[]) and at >= $1::timestamptz and at < $2::timestamptz
order by 1, 2;

-- name: windows
-- Stretches of days whose windows are known, that touch $1 to $2.
select at as start, at + interval '24 hours' as end
from usage_folded
where grain = 'window' and at >= $1::timestamptz - interval '1 day' and at < $2::timestamptz
order by 1;
