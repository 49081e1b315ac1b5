-- Users who were erased: taking them out of the database, and telling the servers.

-- name: add
insert into erasures (user_id, key_ids) values ($1, array(select id from keys where user_id = $1)) returning id;

-- name: after
-- Erasures behind $1; `fresh` ones are asked for again, since lines about them may still be on their way into files.
select id, user_id, at > now() - interval '1 hour' as fresh from erasures where id > $1 order by id limit 1000;

-- name: fetch
select id, user_id, at, ended_at from erasures where id = $1;

-- name: open
-- Those of which something may be left in this database.
select id, user_id, key_ids from erasures where ended_at is null order by id limit 100;

-- name: key_ids
select array(select id from keys where user_id = $1);

-- name: allow_scrubbing
select set_config('openai_proxy.erasing', 'on', true), set_config('lock_timeout', '3s', true);

-- name: scrub_audit
-- What the audit log says about a user: ids stay, texts go. $1 the user's id, $2 its keys' ids, $3 name, e-mail address and
-- external id in lower case.
update audit_log set
    before = null,
    after = null,
    subject = case when lower(subject) = any ($3::text[]) then $1 else subject end,
    address = case when actor = 'user:' || $1 then null else address end
where subject = $1
   or subject = any ($2::text[])
   or actor = 'user:' || $1
   or lower(subject) = any ($3::text[])
   or json_mentions(before, $3::text[] || lower($1)) or json_mentions(after, $3::text[] || lower($1))
   or json_mentions(before, $2::text[]) or json_mentions(after, $2::text[]);

-- name: end_sign_ins
-- $1 the user's id. Before its keys go.
delete from sign_ins where subject = $1 or credential in (select digest from keys where user_id = $1);

-- name: delete_answers
-- Answers kept for repeated creations. $1 the user's id, $2 its keys' ids.
delete from idempotency_keys where json_mentions(answer, lower($1) || $2::text[]);

-- name: lock_flushes
-- Wait for the flushes under way, and hold up new ones until the commit: they will see the erasure. It also lets erasures
-- become visible in the order of their numbers.
lock table usage_hourly in share row exclusive mode;

-- name: delete_windows
delete from quota_windows where scope_id = $1 or scope_id = any ($2::text[]);

-- name: delete_quotas
delete from quotas where (scope = 'user' and scope_id = $1) or (scope = 'key' and scope_id = any ($2::text[]));

-- name: delete_keys
delete from keys where user_id = $1;

-- name: delete_user
delete from users where id = $1;

-- name: anonymise_records
-- At most $3 records of a user become nobody's: what was used stays, in every sum and in the quotas of groups and of everyone.
with batch as (
    select r.started_at, r.id from usage_records r where r.user_id = $1 limit $3
), done as (
    update usage_records r set
        user_id = 'erased',
        key_id = case when r.key_id = any ($2::text[]) then 'erased' else r.key_id end,
        tags = '{}', end_user = null, error_message = null, object_id = null, upstream_request_id = null,
        client_request_id = null, voided_reason = case when r.voided_at is not null then 'erased' end,
        charges = charges_without(r.charges, $1 || $2::text[])
    from batch
    where r.started_at = batch.started_at and r.id = batch.id and r.user_id = $1
    returning 1
)
select count(*) from done;

-- name: count_records
select count(*) from usage_records where user_id = $1;

-- name: wait_for_folds
-- Lest somebody folds meanwhile what is to be forgotten. Held to the end of the transaction.
select pg_advisory_xact_lock_shared(folds_lock());

-- name: forget_folded_tags
-- Folds by tags say nothing of users, but tags may name them. They are made anew, since their hours change. $1 the user's id;
-- before anonymise_sums.
with theirs as (
    select distinct hour, tags from usage_hourly where user_id = $1 and tags <> '{}'
),
blocks as (
    select each.grain, block_of(each.grain, theirs.hour) as first_at, block_of(each.grain, theirs.hour) as last_at, theirs.tags
    from theirs
    cross join unnest(array['hour', 'day', 'five', 'month', 'quarter']) as each (grain)
    union
    select 'window', theirs.hour - interval '23 hours', theirs.hour, theirs.tags
    from theirs
)
delete from usage_folds_tags r
using blocks
where r.grain = blocks.grain and r.at >= blocks.first_at and r.at <= blocks.last_at and r.tags = blocks.tags;

-- name: anonymise_sums
with gone as (
    delete from usage_hourly where user_id = $1 returning *
)
insert into usage_hourly as known (
    hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, requests, errors,
    input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, total_tokens,
    cost_nanousd, cache_saved_nanousd, unpriced, duration_ms, ttfb_ms, ttfb_count, first_at, last_at
)
select
    hour, 'erased', case when key_id = any ($2::text[]) then 'erased' else key_id end, group_id, provider, model, endpoint,
    operation, status, '{}', sum(requests), sum(errors), sum(input_tokens), sum(cached_input_tokens),
    sum(cache_write_tokens), sum(output_tokens), sum(reasoning_tokens), sum(total_tokens), sum(cost_nanousd), sum(cache_saved_nanousd),
    sum(unpriced), sum(duration_ms), sum(ttfb_ms), sum(ttfb_count), min(first_at), max(last_at)
from gone
group by 1, 2, 3, 4, 5, 6, 7, 8, 9
order by 1, 2, 3, 4, 5, 6, 7, 8, 9
-- include: records._add_to_the_hour;

-- name: anonymise_folds
-- They are made anew, since their hours have changed; until then they must name nobody either.
update usage_folds set
    user_id = 'erased', key_id = case when key_id = any ($2::text[]) then 'erased' else key_id end, tags = '{}'
where cut in ('who', 'who_model', 'who_operation', 'full') and user_id = $1;

-- name: anonymise_spans
with gone as (
    delete from usage_spans where user_id = $1 returning *
)
insert into usage_spans as known (
    cut, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags, first_at, last_at
)
select
    cut, 'erased', case when key_id = any ($2::text[]) then 'erased' else key_id end, group_id, provider, model, endpoint,
    operation, status, '{}', min(first_at), max(last_at)
from gone
group by 1, 2, 3, 4, 5, 6, 7, 8, 9
on conflict (cut, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags) do update set
    first_at = least(known.first_at, excluded.first_at),
    last_at = greatest(known.last_at, excluded.last_at);

-- name: disown_objects
-- They still lie in the shared account: they stay somebody's, so that they don't become everybody's. A record that came late
-- may have told of some, so this is also run for those who were erased lately.
update objects set
    user_id = 'erased', key_id = 'erased', record_id = null, operation = null, tags = '{}', end_user = null,
    follow = null, follow_at = null
where user_id = any ($1::text[]);

-- name: end
update erasures set ended_at = now() where id = $1 and ended_at is null;

-- name: sweep
-- What a worker wrote that had not heard yet: windows that it opened, objects that it told of.
with late as (
    select user_id, key_ids from erasures where at > now() - interval '7 days'
), windows as (
    delete from quota_windows w using late l where w.scope_id = l.user_id or w.scope_id = any (l.key_ids)
)
update objects o set
    user_id = 'erased', key_id = 'erased', record_id = null, operation = null, tags = '{}', end_user = null,
    follow = null, follow_at = null
from late l
where o.user_id = l.user_id;
