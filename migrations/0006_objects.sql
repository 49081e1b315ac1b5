-- Objects of the shared upstream account: more about who made them, and which of them are billed.

alter table objects
    add column operation   text,
    add column tags        jsonb not null default '{}',
    add column end_user    text,
    add column model       text,        -- as it was asked for
    add column upstream    text not null default '', -- the name of the upstream that holds it
    add column expires_at  timestamptz, -- client secrets
    add column follow_at   timestamptz, -- when the follower asks next
    add column follow_tries integer not null default 0,
    drop column billed;

drop index objects_follow;
create index objects_follow on objects (follow_at) where follow is not null;

-- Objects whose usage a record bills. The first claim wins, whichever worker stores it.
create table billed_objects (
    object_id  text primary key,
    record_id  uuid not null,
    started_at timestamptz not null, -- of that record's exchange
    made       boolean not null      -- that exchange made the object; false: it read it
);
