-- The tables that lanes write, the relay's cursors, accounts and keys. Run once, in schema tidings.
-- Only lanes write the lane tables (campaigns, users, referrals, verifications, verified_referrals, events): every row of
-- them belongs to one shard and is written under that shard's lock, so numbers are dense and appear in order.

create table installation (                        -- one row: what is fixed at the first migrate
  only_row          boolean primary key default true check (only_row),
  shards            int not null check (shards between 1 and 1024),
  partitions        int check (partitions % shards = 0), -- of the topic; null until the first serve
  referral_code_key bytea not null check (length(referral_code_key) = 16),
  created_at        timestamptz not null default now()
);

create table accounts (
  no         int primary key generated always as identity,
  id         uuid not null unique,
  name       text not null,
  email      text not null,                        -- where milestones are announced
  created_at timestamptz not null default now()
);

create table api_keys (
  id         uuid primary key,
  account    int not null references accounts (no),
  kind       text not null check (kind in ('secret', 'publishable')),
  name       text not null default '',
  hash       bytea not null unique,                -- SHA-256 of the key; the key itself is not stored
  prefix     text not null,                        -- its first characters, to tell keys apart in a list
  created_at timestamptz not null default now(),
  revoked_at timestamptz
);

create table campaigns (
  no          int primary key generated always as identity, -- the small key that everything else uses
  id          uuid not null unique,
  account     int not null,
  account_id  uuid not null,                       -- the account's outer id, for the events' envelope
  shard       int not null,
  points_per_referral int not null,
  milestones  int[] not null,                      -- numbers of participants that are announced
  name        text not null,
  landing_url text,                                -- referral links point there; null: PUBLIC_URL
  created_at  timestamptz not null
);

-- A participant. place is the original position: 1, 2, 3, … in the campaign, never reused.
-- The id carries the place in its last four bytes, so no index on it is needed.
create table users (
  campaign   int not null,
  place      int not null,
  id         uuid not null,
  created_at timestamptz not null,
  email_key  text collate "C" not null,            -- normal form, compared by
  email      text,                                 -- as given, where that differs from email_key
  metadata   text,                                 -- JSON text as given
  primary key (campaign, place)
);
create unique index users_email on users (campaign, email_key);

-- Who referred whom; at most one referrer a user. The id carries the referred user's place.
create table referrals (
  campaign   int not null,
  referred   int not null,                         -- place
  referrer   int not null,                         -- place
  id         uuid not null,
  created_at timestamptz not null,
  primary key (campaign, referred)
);

create table verifications (
  campaign    int not null,
  place       int not null,
  verified_at timestamptz not null,
  primary key (campaign, place)
);

-- A referrer's n-th verified referral: the last n is the count, so that no counter row is ever updated.
create table verified_referrals (
  campaign    int not null,
  referrer    int not null,                        -- place
  n           int not null,
  referred    int not null,                        -- place
  verified_at timestamptz not null,
  primary key (campaign, referrer, n)
);

-- The event store and the outbox at once. aggregate: campaigns.no, or -accounts.no for an event that has no campaign.
-- data holds the bytes that are sent. format: which version of the value function wrote the row.
create table events (
  seq       bigint not null,                       -- 1, 2, 3, … in the shard
  version   bigint not null,                       -- 1, 2, 3, … in the aggregate
  at        timestamptz not null,                  -- never less than the previous event's of the shard
  shard     int not null,
  aggregate int not null,
  id        uuid not null,
  type      smallint not null,                     -- number in the contract table
  format    smallint not null,
  data      text not null,
  primary key (shard, seq)
);
create unique index events_version on events (aggregate, version);
-- Rows are short and hot; they must not be moved out of line or compressed: the relay sends their bytes.
alter table events alter column data set storage plain;

-- Per shard: everything up to seq is acknowledged by Kafka. event_id is the event at that seq: if the row there ever
-- has another id, the database went back in time.
create table relay_cursors (
  shard    int primary key,
  seq      bigint not null default 0,
  event_id uuid,
  saved_at timestamptz not null default now()
) with (fillfactor = 50);

-- What is committed and not yet known to be in Kafka.
create view outbox as
  select e.* from relay_cursors c join events e on e.shard = c.shard and e.seq > c.seq;
