-- Parts: what another model, or a tool with a fee, used inside an answer has a record of its own below the answer's.

alter table usage_records add column part text; -- what it is: container, image_gen, svg, grader, eval, turn
create index usage_records_parts on usage_records (parent_id) where part is not null;

-- What one record counts under a rule; null when the rule does not bind it. A rule is
-- {"scope", "unit", "model", "operation", "tag_name", "tag"} with patterns as regular expressions.
create or replace function quota_counts(rule jsonb, subject text, r usage_records) returns bigint language sql immutable as $$
    select case rule ->> 'unit'
        when 'tokens' then r.input_tokens + r.output_tokens
        when 'cost' then coalesce(r.cost_nanousd, 0)
        -- a forwarded POST or one response on a WebSocket; not a part of an answer
        else ((r.method = 'POST') = (r.parent_id is null)
              and r.part is null
              and r.outcome in ('success', 'client_gone', 'upstream_cut', 'lost'))::int
    end
    where r.voided_at is null
      and r.outcome <> 'refused'
      and case rule ->> 'scope'
              when 'user' then r.user_id = subject
              when 'key' then r.key_id = subject
              when 'group' then r.group_id = subject
              when 'end_user' then r.end_user = subject
              else true
          end
      and (rule ->> 'model' is null or r.requested_model ~ (rule ->> 'model'))
      and (rule ->> 'operation' is null or coalesce(r.operation, '') ~ (rule ->> 'operation'))
      and (rule ->> 'tag' is null or coalesce(r.tags ->> (rule ->> 'tag_name'), '') ~ (rule ->> 'tag'))
$$;
