-- How old rows are found: along btree indexes of their times. Run once, in schema tidings. sql/fn_groups.sql says why.

-- How far the walks along these indexes are.
create table trims (
  name     text primary key,                       -- the table
  reached  timestamptz not null default '-infinity', -- rows that are older than this have been looked at
  begun_at timestamptz not null default now()      -- the walk, at the oldest row
);
insert into trims (name) values ('handled'), ('webhook_deliveries');

drop index handled_at;
create index handled_at on handled (at);
drop index webhook_deliveries_age;
create index webhook_deliveries_age on webhook_deliveries (created_at);
