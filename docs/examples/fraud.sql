-- What fraud-workers count. In a real consumer this is the next numbered file in sql/.
create table fraud_counts (
  referrer_id uuid not null,
  hour        timestamptz not null,
  campaign_id uuid not null,
  referrals   bigint not null,
  primary key (referrer_id, hour)
);
