-- The audit log: who did what to what, when and from where. Rows are only ever added (a trigger refuses the rest).

-- name: write
insert into audit_log (actor, address, action, subject, before, after) values ($1, $2, $3, $4, $5, $6);

-- name: list
-- $1 actor; $2 action, or a prefix of it that ends with a dot; $3 subject; $4 from; $5 to.
select *
from audit_log
where ($1::text is null or actor = $1)
  and ($2::text is null or action = $2 or ($2 like '%.' and starts_with(action, $2)))
  and ($3::text is null or subject = $3)
  and ($4::timestamptz is null or at >= $4)
  and ($5::timestamptz is null or at < $5)
order by at desc, id desc
limit $6 offset $7;

-- name: count
select count(*)
from audit_log
where ($1::text is null or actor = $1)
  and ($2::text is null or action = $2 or ($2 like '%.' and starts_with(action, $2)))
  and ($3::text is null or subject = $3)
  and ($4::timestamptz is null or at >= $4)
  and ($5::timestamptz is null or at < $5);
