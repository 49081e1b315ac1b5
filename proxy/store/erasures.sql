-- Users who were erased, as the servers must learn it.

-- name: add
insert into erasures (user_id) values ($1);

-- name: after
select id, user_id from erasures where id > $1 order by id limit 1000;
