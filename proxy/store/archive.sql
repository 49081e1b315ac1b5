-- Everything in files, and back: tables as COPY reads and writes them.

-- name: columns
-- The columns of a table that can be written, in their order.
select array_agg(attname::text order by attnum) from pg_attribute
where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = '';

-- name: tables
-- Partitions are parts of their tables.
select relname::text as table_name from pg_class
where relnamespace = current_schema()::regnamespace and relkind in ('r', 'p') and not relispartition
order by 1;

-- name: is_empty
-- Whether there is nothing yet but what migrations made.
select not (
    exists (select from users) or exists (select from groups) or exists (select from keys)
    or exists (select from quotas) or exists (select from admin_keys) or exists (select from usage_records)
    or exists (select from audit_log) or exists (select from prices) or exists (select from erasures)
);

-- name: delete_plans
delete from plans;

-- name: schema
select number, name, checksum from schema_migrations order by number;

-- name: months
-- Months that have partitions of their own.
select starts from usage_partitions where starts is not null order by starts;

-- name: make_month
select make_usage_partition($1);

-- name: continue_numbers
-- Numbers go on behind those that were brought in. $1 table, whose identity column is `id`.
select setval(pg_get_serial_sequence($1, 'id'), $2::bigint);
