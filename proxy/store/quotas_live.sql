-- The ledger of live quotas. What takes locks in an order is a function of migration 0004.

-- name: take_lease
-- $1 worker; $2 time to live in seconds.
insert into quota_leases (worker, expires_at)
values ($1, now() + make_interval(secs => $2))
returning id, extract(epoch from clock_timestamp())::float8 as at;

-- name: renew_lease
-- $1 lease; $2 time to live in seconds. No row: the lease is gone.
update quota_leases l
set expires_at = now() + make_interval(secs => $2)
where id = $1
returning
    extract(epoch from clock_timestamp())::float8 as at,
    exists (
        select from quota_leases other
        where other.expires_at < now() and pg_postmaster_start_time() < now() - make_interval(secs => $2)
    ) as expired;

-- name: leave
-- A lease with nothing under it. What is not settled yet stays held until it is, or the lease expires.
delete from quota_leases l
where id = $1 and not exists (select from quota_shares s where s.lease_id = l.id);

-- name: grant
-- $1 lease, $2 time to live in seconds, then by window: quota, subject, start, limit, least, demand, rule.
select *
from quota_grant(
    $1, make_interval(secs => $2), $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[],
    $9::jsonb[]
);

-- name: look
-- Windows as they are now, and what lease $1 holds of them.
select
    k.quota_id, k.scope_id, k.start, coalesce(s.id, 0) as share_id, coalesce(s.granted, 0) as granted,
    coalesce(s.returned, 0) as returned, coalesce(s.settled, 0) as share_settled, w.settled, w.held, w.limit_amount
from unnest($2::text[], $3::text[], $4::bigint[]) as k (quota_id, scope_id, start)
join quota_windows w
    on w.quota_id = k.quota_id and w.scope_id = k.scope_id and w.window_start = to_timestamp(k.start)
left join quota_shares s
    on s.quota_id = w.quota_id and s.scope_id = w.scope_id and s.window_start = w.window_start and s.lease_id = $1;

-- name: give_back
-- $1 shares, $2 the sums given back, $3-$5 the windows of answered recalls, $6 lease. Shares that are gone.
select quota_give_back($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6) as id;

-- name: reap
select quota_reap(make_interval(secs => $1), $2);

-- name: settle
-- $1 a JSON array of the charges of each record, $2 the records' ids.
select * from quota_settle(array(select jsonb_array_elements($1::jsonb)), $2::uuid[]);

-- name: reset_window
-- Begin a window anew: what was used in it no longer counts. Returns what had been settled; null when nothing had.
with old as materialized (
    select settled from quota_windows
    where quota_id = $1 and scope_id = $2 and window_start = to_timestamp($3::bigint)
    for update
), reset as (
    insert into quota_windows (quota_id, scope_id, window_start, reset_at)
    values ($1, $2, to_timestamp($3::bigint), now())
    on conflict (quota_id, scope_id, window_start) do update set
        settled = 0, opened = true, opened_at = now(), reset_at = now(), rule = null, late_until = null
)
select pg_notify('openai_proxy_quota', json_build_array('reset', 0, $1::text, $2::text, $3::bigint)::text),
    (select settled from old) as settled;

-- name: sums
-- What counts in windows now; one that nobody has touched counts what was used before its quota existed.
-- By window: quota, subject, start, rule.
select
    k.quota_id, k.scope_id, k.start, coalesce(w.held, 0) as held, w.limit_amount,
    case
        when not quota_looks_back(k.quota_id, k.scope_id, to_timestamp(k.start), k.rule) then coalesce(w.settled, 0)
        else greatest(
            case when w.opened then w.settled end,
            quota_history(k.rule, k.scope_id, greatest(to_timestamp(k.start), w.reset_at), 'infinity')
        )
    end as settled
from unnest($1::text[], $2::text[], $3::bigint[], $4::jsonb[]) as k (quota_id, scope_id, start, rule)
left join quota_windows w
    on w.quota_id = k.quota_id and w.scope_id = k.scope_id and w.window_start = to_timestamp(k.start);
