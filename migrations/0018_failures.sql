-- no transaction

-- Records that failed, as statistics count errors: an answer that broke off after its 200 is among them, who hung up before there was
-- a status is not. The index it replaces went by the status.
create index if not exists usage_records_failures on usage_records (started_at desc, id desc)
where part is null and outcome not in ('success', 'client_gone');

drop index if exists usage_records_failed;
