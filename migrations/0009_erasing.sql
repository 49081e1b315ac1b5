-- Erasing users, so that nothing of them comes back with what is stored later, and the audit log forgets them by name.

alter table erasures
    add column key_ids  text[] not null default '{}', -- the keys they had
    add column ended_at timestamptz;                  -- nothing of them is left in this database
create index erasures_user on erasures (user_id);
create index erasures_open on erasures (id) where ended_at is null;

-- The audit log only grows. Erasing a user may take what an entry says about that user, never who did what and when.
create or replace function refuse_change() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and current_setting('openai_proxy.erasing', true) = 'on' then
        if (new.id, new.at, new.actor, new.action) is not distinct from (old.id, old.at, old.actor, old.action) then
            return new;
        end if;
    end if;
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;

-- Whether a JSON document has one of these texts as a value, whole, in any case.
create function json_mentions(document jsonb, texts text[]) returns boolean language sql immutable parallel safe as $$
    select exists (
        select from jsonb_path_query(document, 'strict $.**') as value
        where jsonb_typeof(value) = 'string' and lower(value #>> '{}') = any (texts)
    )
$$;

-- The charges of a record without those of a user's own quotas.
create function charges_without(charges jsonb, subjects text[]) returns jsonb language sql immutable parallel safe as $$
    select jsonb_agg(charge order by position)
    from jsonb_array_elements(nullif(charges, 'null')) with ordinality as each (charge, position)
    where not (charge ->> 2 = any (subjects))
$$;
