-- People, keys, quotas, usage. Names are the glossary's. Amounts of money are whole nano-US-dollars in bigint;
-- times are timestamptz in UTC; ids are text with a prefix that says what they name.

create table groups (
    id          text primary key,
    name        text not null,
    external_id text unique,
    plan_id     text,
    tags        jsonb not null default '{}',
    settings    jsonb not null default '{}', -- allowed_models, allowed_endpoints, allowed_operations, max_concurrent …
    active      boolean not null default true,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);

create table users (
    id          text primary key,
    name        text,
    email       text,
    external_id text unique,
    group_id    text references groups (id),
    plan_id     text,
    tags        jsonb not null default '{}',
    settings    jsonb not null default '{}',
    active      boolean not null default true,
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
create unique index users_email on users (lower(email)) where email is not null;
create index users_group on users (group_id);

create table keys (
    id                text primary key,
    user_id           text not null references users (id),
    name              text,
    digest            bytea not null unique, -- SHA-256 of the key; the key itself is shown once and never stored
    masked            text not null,         -- sk-proxy-ab…yz
    service           boolean not null default false,
    creates_users     boolean not null default false,
    default_operation text,
    default_tags      jsonb not null default '{}',
    settings          jsonb not null default '{}', -- allowed_models, allowed_endpoints, allowed_addresses, max_concurrent …
    expires_at        timestamptz,
    revoked_at        timestamptz,
    last_used_at      timestamptz,
    created_at        timestamptz not null default now()
);
create index keys_user on keys (user_id);

create table admin_keys (
    id         text primary key,
    name       text not null,
    digest     bytea not null unique,
    masked     text not null,
    scope      text not null default 'write' check (scope in ('read', 'write')),
    group_id   text references groups (id), -- set: this admin sees and changes only that group
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null default now()
);

create table plans (
    id          text primary key,
    name        text not null unique,
    quotas      jsonb not null default '[]', -- [{"id", "unit", "window", "limit_amount", "billing_day", "model", "operation", "tag", "soft"}], as the columns of quotas
    created_at  timestamptz not null default now(),
    updated_at  timestamptz not null default now()
);
alter table users add foreign key (plan_id) references plans (id);
alter table groups add foreign key (plan_id) references plans (id);

create table quotas (
    id            text primary key,
    scope         text not null check (scope in ('key', 'user', 'end_user', 'group', 'everyone')),
    scope_id      text, -- null: everyone, or each end user
    unit          text not null check (unit in ('requests', 'tokens', 'cost')),
    "window"      text not null check ("window" in ('minute', 'hour', 'day', 'month', 'total')),
    limit_amount  bigint not null check (limit_amount >= 0), -- requests, tokens or nano-US-dollars
    billing_day   smallint not null default 1 check (billing_day between 1 and 28),
    model         text,
    operation     text,
    tag           text, -- name=value
    soft          boolean not null default false,
    raised_amount bigint,      -- a temporary raise: this limit instead …
    raised_until  timestamptz, -- … until then
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);
create index quotas_scope on quotas (scope, scope_id);

-- One row per quota, counted subject and window; a new window is a new row, so nothing is ever reset by a job.
create table quota_windows (
    quota_id     text not null,
    scope_id     text not null, -- the counted subject: key, user, end user or group; '' for everyone
    window_start timestamptz not null,
    settled      bigint not null default 0 check (settled >= 0),
    held         bigint not null default 0 check (held >= 0), -- sum of the shares that workers hold
    primary key (quota_id, scope_id, window_start)
);

create table usage_records (
    id                     uuid not null,
    parent_id              uuid,
    started_at             timestamptz not null,
    key_id                 text not null,
    user_id                text not null,
    group_id               text,
    provider               text not null,
    endpoint               text not null,
    method                 text not null,
    requested_model        text,
    served_model           text,
    operation              text,
    tags                   jsonb not null default '{}',
    end_user               text,
    streamed               boolean not null,
    status                 smallint not null,
    outcome                text not null,
    error_type             text,
    error_code             text,
    error_message          text,
    finish_reason          text,
    service_tier           text,
    input_tokens           bigint not null default 0,
    output_tokens          bigint not null default 0,
    total_tokens           bigint not null default 0,
    cached_input_tokens    bigint not null default 0,
    cache_write_tokens     bigint not null default 0,
    cache_write_12h_tokens bigint not null default 0,
    input_audio_tokens     bigint not null default 0,
    cached_audio_tokens    bigint not null default 0,
    input_image_tokens     bigint not null default 0,
    cached_image_tokens    bigint not null default 0,
    reasoning_tokens       bigint not null default 0,
    output_audio_tokens    bigint not null default 0,
    output_image_tokens    bigint not null default 0,
    units                  jsonb not null default '{}',
    usage_source           text not null check (usage_source in ('reported', 'estimated', 'none')),
    cost_nanousd           bigint check (cost_nanousd >= 0), -- null: the price is unknown
    price_id               text,
    object_id              text,
    upstream_request_id    text,
    client_request_id      text,
    ttfb_ms                integer,
    duration_ms            bigint not null,
    bytes_in               bigint not null default 0,
    bytes_out              bigint not null default 0,
    voided_at              timestamptz,
    voided_reason          text,
    primary key (started_at, id)
) partition by range (started_at);

-- Records always find a place: monthly partitions are made ahead of time, this one takes what none covers.
create table usage_records_default partition of usage_records default;

create index usage_records_id on usage_records (id);
create index usage_records_user on usage_records (user_id, started_at desc);
create index usage_records_key on usage_records (key_id, started_at desc);

-- Sums by hour and dimension; what statistics read, so that their time does not grow with the number of records.
create table usage_hourly (
    hour                timestamptz not null,
    user_id             text not null,
    key_id              text not null,
    group_id            text not null default '',
    provider            text not null,
    model               text not null default '', -- served, else requested
    endpoint            text not null,
    operation           text not null default '',
    status              smallint not null,
    tags                jsonb not null default '{}', -- only the declared rollup_tags
    requests            bigint not null default 0,
    errors              bigint not null default 0,
    input_tokens        bigint not null default 0,
    cached_input_tokens bigint not null default 0,
    cache_write_tokens  bigint not null default 0,
    output_tokens       bigint not null default 0,
    reasoning_tokens    bigint not null default 0,
    total_tokens        bigint not null default 0,
    cost_nanousd        bigint not null default 0,
    unpriced            bigint not null default 0, -- records whose cost is unknown
    duration_ms         bigint not null default 0,
    ttfb_ms             bigint not null default 0,
    ttfb_count          bigint not null default 0,
    first_at            timestamptz not null,
    last_at             timestamptz not null,
    primary key (hour, user_id, key_id, group_id, provider, model, endpoint, operation, status, tags)
);
create index usage_hourly_user on usage_hourly (user_id, hour);

-- Who made which object of the shared upstream account.
create table objects (
    id         text primary key,
    kind       text not null,
    user_id    text not null,
    key_id     text not null,
    group_id   text,
    record_id  uuid,        -- the exchange that made it
    billed     boolean not null default false,
    follow     jsonb,       -- what the follower needs to poll it; null: nothing to follow
    created_at timestamptz not null default now()
);
create index objects_follow on objects (created_at) where follow is not null;

create table prices (
    id         text primary key,
    provider   text not null default 'openai',
    model      text not null,
    tier       text not null default 'default',
    starts_at  timestamptz not null,
    rates      jsonb not null, -- unit -> decimal USD per million (tokens, characters) or per unit
    created_at timestamptz not null default now(),
    unique (provider, model, tier, starts_at)
);

-- A newer data file of genai-prices than the installed one, loaded by `openai-proxy prices update`; at most one row.
create table price_data (
    version   text primary key,
    data      bytea not null, -- JSON, compressed with zlib
    loaded_at timestamptz not null default now()
);

create table audit_log (
    id         bigint generated always as identity primary key,
    at         timestamptz not null default now(),
    actor      text not null,
    address    text,
    action     text not null,
    subject    text not null,
    before     jsonb,
    after      jsonb
);
create index audit_log_at on audit_log (at desc);

-- Writers of keys, users, groups, quotas, plans and prices tell every worker at once; a periodic reload stands behind it.
create function notify_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('openai_proxy_changed', coalesce(tg_argv[0], tg_table_name));
    return null;
end
$$;
create trigger keys_changed after insert or update or delete on keys for each statement execute function notify_changed();
create trigger users_changed after insert or update or delete on users for each statement execute function notify_changed();
create trigger groups_changed after insert or update or delete on groups for each statement execute function notify_changed();
create trigger quotas_changed after insert or update or delete on quotas for each statement execute function notify_changed();
create trigger plans_changed after insert or update or delete on plans for each statement execute function notify_changed();
create trigger prices_changed after insert or update or delete on prices for each statement execute function notify_changed();
create trigger price_data_changed after insert or update or delete on price_data
    for each statement execute function notify_changed('prices');
