-- Monthly partitions of usage_records: made ahead, and dropped when their time is over.

-- name: not_ahead
select least($1::timestamptz, now());

-- name: strays
-- Months that have records in the default partition, from $1 to before $2, which should have partitions of their own.
select distinct date_trunc('month', started_at, 'UTC') as month
from usage_records_default
where started_at >= $1 and started_at < $2
order by 1;

-- name: make
select make_usage_partition($1);

-- name: list
select name, starts, ends, rows_estimate, bytes
from usage_partitions
where starts is not null
order by starts;

-- name: drop
select drop_usage_partition($1, $2);

-- name: count_strays_before
select count(*) from usage_records_default where started_at < $1;

-- name: delete_strays_before
-- The default partition holds next to nothing; what is too old there goes in small steps.
with gone as (
    delete from usage_records_default
    where ctid = any (array(select ctid from usage_records_default where started_at < $1 limit 10000))
    returning 1
)
select count(*) from gone;
