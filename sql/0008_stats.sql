-- What analytics-workers keep. Run once, in schema tidings.

-- How many events of a type a campaign had in a minute, by the events' own times. Counted once: in the transaction that claims
-- the events in `handled`.
create table campaign_stats (
  campaign int not null,                           -- campaigns.no
  minute   timestamptz not null,
  type     smallint not null,                      -- number in the contract table
  count    bigint not null,
  primary key (campaign, minute, type)
) with (fillfactor = 70);                          -- the present minute's rows change in place
