-- no transaction

-- History by every filter of the admin API, without an index for each, whose keys would take more room than the records. What
-- has few values (provider, status, tier, outcome …) shares one inverted index: its lists of rows are compressed to a byte or
-- two for each record and value, and for all ten of them it is smaller and cheaper to keep than the index it replaces for
-- the endpoint alone. It finds values that are rare; the primary key, read from the newest on, finds those that are common,
-- since then a page is full after a few rows. The planner knows each month's values apart.
--
-- Filters of many values keep indexes of their own: user, key, group, end user, tags. So does what failed.

-- A row's values as the index has them. Whoever changes this must build the index anew. Free texts are cut: an index entry has
-- a bound, and a record must not be refused for its sake.
create or replace function record_facets(
    provider text, endpoint text, model text, operation text, status smallint, streamed boolean, service_tier text,
    finish_reason text, usage_source text, outcome text
) returns text[] language sql immutable parallel safe
return array[
    'provider=' || left(provider, 200), 'endpoint=' || left(endpoint, 200), 'model=' || left(model, 200),
    'operation=' || left(operation, 200), 'status=' || status::text,
    case when streamed then 'streamed=true' else 'streamed=false' end,
    'service_tier=' || left(service_tier, 200), 'finish_reason=' || left(finish_reason, 200),
    'usage_source=' || usage_source, 'outcome=' || outcome
];

-- New rows wait in a list before they are sorted in, which makes storing them cheap; a search reads the list, so it is short (kB).
create index if not exists usage_records_facets on usage_records using gin (
    record_facets(
        provider, endpoint, coalesce(served_model, requested_model, ''), operation, status, streamed, service_tier,
        finish_reason, usage_source, outcome
    )
) with (gin_pending_list_limit = 1024);

-- Next to nothing is voided, so this one costs next to nothing.
create index if not exists usage_records_voided on usage_records (started_at desc, id desc) where voided_at is not null;

-- What the planner knows of the values; of months that are over nobody would gather it.
analyze usage_records;

drop index if exists usage_records_endpoint;
drop index if exists usage_records_model;
drop index if exists usage_records_operation;
