-- Browsers that are signed in to the dashboard. A row stands for the credential it was made with and for nothing more: when
-- that is revoked or expires, so does this. Neither the cookie nor the credential is stored, only their SHA-256.
create table sign_ins (
    digest     bytea primary key, -- of the cookie
    kind       text not null check (kind in ('admin_key', 'jwt', 'user')),
    credential bytea,             -- digest of the admin key or proxy key; null: a token, whose claims follow
    subject    text not null,
    name       text,
    scope      text check (scope in ('read', 'write')),
    group_id   text,
    created_at timestamptz not null default now(),
    used_at    timestamptz not null default now(),
    ends_at    timestamptz not null,
    check ((kind = 'jwt') = (credential is null))
);
create index sign_ins_ends_at on sign_ins (ends_at);
