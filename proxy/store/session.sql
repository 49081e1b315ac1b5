-- What a transaction of the control plane begins with.

-- name: begin
-- Until its end: no statement runs longer than $1 ms, and each is planned for its own parameters, since one text serves
-- every combination of filters and an unused filter must cost nothing.
select set_config('statement_timeout', $1::text, true), set_config('plan_cache_mode', 'force_custom_plan', true);
