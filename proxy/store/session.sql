-- What a transaction of the control plane begins with.

-- name: begin
-- Until its end: no statement runs longer than $1 ms; each is planned for its own parameters, since one text serves
-- every filter of a history, where an unused one must cost nothing; and none is compiled, which takes longer than these run,
-- whatever the planner thinks of their cost.
select
    set_config('statement_timeout', $1::text, true),
    set_config('plan_cache_mode', 'force_custom_plan', true),
    set_config('jit', 'off', true);
