-- Plans: named sets of quotas, as JSON; each quota in it has an id of its own, by which its windows are counted.

-- name: create
insert into plans (id, name, quotas) values ($1, $2, $3) returning *;

-- name: change
update plans set
    name = case when $2::jsonb ? 'name' then $2::jsonb ->> 'name' else name end,
    quotas = case when $2::jsonb ? 'quotas' then $2::jsonb -> 'quotas' else quotas end,
    updated_at = now()
where id = $1
returning *;

-- name: lock
select * from plans where id = $1 for update;

-- name: find
select p.*,
    (select count(*) from users u where u.plan_id = p.id) as users,
    (select count(*) from groups g where g.plan_id = p.id) as groups
from plans p
where p.id = $1 or p.name = $1
order by (p.id = $1) desc
limit 1;

-- name: list
select p.*,
    (select count(*) from users u where u.plan_id = p.id) as users,
    (select count(*) from groups g where g.plan_id = p.id) as groups
from plans p
where ($1::text is null or p.id ilike $1 or p.name ilike $1)
order by p.created_at, p.id
limit $2 offset $3;

-- name: count
select count(*) from plans p where ($1::text is null or p.id ilike $1 or p.name ilike $1);

-- name: remove
delete from plans where id = $1 returning *;
