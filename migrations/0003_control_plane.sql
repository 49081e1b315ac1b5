-- What the admin API needs besides the tables it manages.

-- Creations that were asked for with an Idempotency-Key, and what was answered, without the secrets shown once.
create table idempotency_keys (
    actor      text not null,
    key        text not null,
    route      text not null,
    request    bytea not null, -- SHA-256 of path and body: the same key with another request is a mistake
    answer     jsonb,
    created_at timestamptz not null default now(),
    primary key (actor, key)
);
create index idempotency_keys_created_at on idempotency_keys (created_at);

-- The audit log only grows.
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;
create trigger audit_log_append_only before update or delete on audit_log for each row execute function refuse_change();
create trigger audit_log_no_truncate before truncate on audit_log for each statement execute function refuse_change();
create index audit_log_subject on audit_log (subject, at desc);
create index audit_log_actor on audit_log (actor, at desc);

-- Latencies as mergeable logarithmic histograms: bucket i counts what took (1.1^(i-1), 1.1^i] ms, so that any quantile of any
-- sum of rows is right within 5 %. bucket = ceil(ln(greatest(ms, 1)) / ln(1.1)); what it stands for: 1.1^i * 2 / 2.1 ms.
create table usage_latency_hourly (
    hour     timestamptz not null,
    group_id text not null default '',
    provider text not null,
    model    text not null default '', -- served, else requested
    endpoint text not null,
    measure  text not null check (measure in ('duration', 'ttfb')),
    bucket   smallint not null,
    requests bigint not null,
    primary key (hour, group_id, provider, model, endpoint, measure, bucket)
);

-- How exchanges ended, for statistics of errors, finish reasons and tiers.
create table usage_outcomes_hourly (
    hour          timestamptz not null,
    group_id      text not null default '',
    provider      text not null,
    model         text not null default '', -- served, else requested
    endpoint      text not null,
    streamed      boolean not null,
    status        smallint not null,
    outcome       text not null,
    error_code    text not null default '',
    finish_reason text not null default '',
    service_tier  text not null default '',
    usage_source  text not null,
    requests      bigint not null,
    primary key (
        hour, group_id, provider, model, endpoint, streamed, status, outcome, error_code, finish_reason, service_tier,
        usage_source
    )
);

-- History by each filter of the admin API, newest first.
create index usage_records_group on usage_records (group_id, started_at desc);
create index usage_records_model on usage_records (left(coalesce(served_model, requested_model, ''), 200), started_at desc);
create index usage_records_endpoint on usage_records (endpoint, started_at desc);
create index usage_records_operation on usage_records (operation, started_at desc) where operation is not null;
create index usage_records_end_user on usage_records (end_user, started_at desc) where end_user is not null;
create index usage_records_failed on usage_records (started_at desc, status) where status >= 400 or status = 0;
create index usage_records_tags on usage_records using gin (tags jsonb_path_ops) where tags <> '{}';
