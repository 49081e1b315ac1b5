-- What the prompt cache saved: how much more a record would have cost had none of its input come from the cache. Known when
-- the record is made; `reprice` fills it in for older ones.

alter table usage_records add column cache_saved_nanousd bigint not null default 0;
alter table usage_hourly add column cache_saved_nanousd bigint not null default 0;
alter table usage_daily add column cache_saved_nanousd bigint not null default 0;
