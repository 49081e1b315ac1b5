-- Read-only views for analysts' SQL, over the hourly sums, and a role that sees them and nothing else.

create view user_usage_summary as
select
    h.user_id,
    u.name as user_name,
    u.email as user_email,
    g.name as group_name,
    sum(h.requests)::bigint as requests,
    sum(h.errors)::bigint as errors,
    sum(h.input_tokens)::bigint as input_tokens,
    sum(h.cached_input_tokens)::bigint as cached_input_tokens,
    sum(h.output_tokens)::bigint as output_tokens,
    sum(h.reasoning_tokens)::bigint as reasoning_tokens,
    sum(h.total_tokens)::bigint as total_tokens,
    sum(h.cost_nanousd) / 1e9 as cost_usd,
    sum(h.unpriced)::bigint as unpriced_requests,
    min(h.first_at) as first_request_at,
    max(h.last_at) as last_request_at
from usage_hourly h
left join users u on u.id = h.user_id
left join groups g on g.id = u.group_id
group by h.user_id, u.name, u.email, g.name;

create view monthly_usage_summary as
select
    date_trunc('month', h.hour at time zone 'UTC')::date as month,
    h.user_id,
    h.group_id,
    h.provider,
    h.model,
    h.operation,
    sum(h.requests)::bigint as requests,
    sum(h.errors)::bigint as errors,
    sum(h.input_tokens)::bigint as input_tokens,
    sum(h.cached_input_tokens)::bigint as cached_input_tokens,
    sum(h.output_tokens)::bigint as output_tokens,
    sum(h.reasoning_tokens)::bigint as reasoning_tokens,
    sum(h.total_tokens)::bigint as total_tokens,
    sum(h.cost_nanousd) / 1e9 as cost_usd,
    sum(h.unpriced)::bigint as unpriced_requests
from usage_hourly h
group by 1, 2, 3, 4, 5, 6;

create view endpoint_usage_summary as
select
    h.endpoint,
    h.model,
    sum(h.requests)::bigint as requests,
    sum(h.errors)::bigint as errors,
    sum(h.input_tokens)::bigint as input_tokens,
    sum(h.output_tokens)::bigint as output_tokens,
    sum(h.total_tokens)::bigint as total_tokens,
    sum(h.cost_nanousd) / 1e9 as cost_usd,
    sum(h.duration_ms) / nullif(sum(h.requests), 0) as average_duration_ms,
    sum(h.ttfb_ms) / nullif(sum(h.ttfb_count), 0) as average_ttfb_ms,
    min(h.first_at) as first_request_at,
    max(h.last_at) as last_request_at
from usage_hourly h
group by 1, 2;

create view daily_usage_summary as
select
    (h.hour at time zone 'UTC')::date as day,
    count(distinct h.user_id) as users,
    sum(h.requests)::bigint as requests,
    sum(h.errors)::bigint as errors,
    sum(h.input_tokens)::bigint as input_tokens,
    sum(h.cached_input_tokens)::bigint as cached_input_tokens,
    sum(h.output_tokens)::bigint as output_tokens,
    sum(h.reasoning_tokens)::bigint as reasoning_tokens,
    sum(h.total_tokens)::bigint as total_tokens,
    sum(h.cost_nanousd) / 1e9 as cost_usd,
    sum(h.unpriced)::bigint as unpriced_requests
from usage_hourly h
group by 1;

-- Give it to people with: grant openai_proxy_reader to ana. Roles belong to the whole server, so another database of it
-- may have made this one; where we may not make roles, the views are there and the grants are the operator's.
do $$
begin
    if not exists (select from pg_roles where rolname = 'openai_proxy_reader') then
        create role openai_proxy_reader nologin;
    end if;
    execute format('grant usage on schema %I to openai_proxy_reader', current_schema());
    grant select on user_usage_summary, monthly_usage_summary, endpoint_usage_summary, daily_usage_summary
        to openai_proxy_reader;
exception
    when insufficient_privilege or duplicate_object or unique_violation then
        raise notice 'the role openai_proxy_reader was not made or not granted: %', sqlerrm;
end
$$;
