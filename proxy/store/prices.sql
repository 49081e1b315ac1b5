-- Local prices and loaded price data. Writing either tells every worker (trigger notify_changed).

-- name: fetch_all
-- Every local price: there are as many as operators type.
select id, provider, model, tier, extract(epoch from starts_at)::float8 as starts_at, rates
from prices
order by starts_at, id
limit $1;

-- name: version
select version from price_data order by loaded_at desc limit 1;

-- name: data
select data from price_data where version = $1;

-- name: list
-- $1 provider; $2 model, a pattern for `like`.
select *
from prices
where ($1::text is null or provider = $1)
  and ($2::text is null or model like $2)
order by provider, model, tier, starts_at
limit $3 offset $4;

-- name: count
select count(*)
from prices
where ($1::text is null or provider = $1)
  and ($2::text is null or model like $2);

-- name: fetch
select * from prices where id = $1;

-- name: fetch_same
-- The price that a new one with the same start would stand in for.
select * from prices
where provider = $1 and model = $2 and tier = $3 and starts_at = to_timestamp($4::float8)
for update;

-- name: put
insert into prices (id, provider, model, tier, starts_at, rates)
values ($1, $2, $3, $4, to_timestamp($5::float8), $6)
on conflict (provider, model, tier, starts_at) do update set rates = excluded.rates
returning *;

-- name: remove
delete from prices where id = $1 returning *;

-- name: drop_other_data
delete from price_data where version <> $1;

-- name: put_data
insert into price_data (version, data) values ($1, $2)
on conflict (version) do update set data = excluded.data, loaded_at = now();

-- name: drop_data
delete from price_data returning version;
