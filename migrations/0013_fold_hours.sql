-- In which hours of a day (UTC) the combination of a fold was used, as bits: so that users can be counted by the days of another
-- zone without reading hours. Whatever was folded before is folded anew.

alter table usage_folds add column hours integer not null default 0;
delete from usage_folded;
