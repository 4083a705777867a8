-- Closing and deleting campaigns, referrals by hand, rewards, idempotency keys, hosts. Run once, in schema tidings.

alter table campaigns
  add column closed_at  timestamptz,               -- no sign-ups any more
  add column deleted_at timestamptz,               -- gone for everybody; its rows are purged little by little, this one stays
  add column purged_at  timestamptz,               -- nothing is left but this row and the last event
  add column auto_rewards int not null default 0;  -- rewards with a threshold

alter table users add column source text;          -- where the sign-up came from: JSON text as given

-- A referral counts once, whoever verifies it: its user, or the account.
create unique index verified_referrals_referred on verified_referrals (campaign, referred);

-- Mails with a verification link that a user asked for again: the last n is the count.
create table verification_requests (
  campaign int not null,
  place    int not null,
  n        int not null,
  at       timestamptz not null,
  primary key (campaign, place, n)
);

-- What can be earned. The id carries no in its last four bytes.
create table rewards (
  campaign   int not null,
  no         int not null,                         -- 1, 2, 3, … in the campaign
  id         uuid not null,
  name       text not null,
  delivery   text not null check (delivery in ('email', 'webhook')),
  url        text,                                 -- webhook: its target
  secret     text,                                 -- webhook: signs, "whsec_" and base64
  message    text,                                 -- what the delivery's mail says
  stock      int,                                  -- null: unlimited
  threshold  int,                                  -- verified referrals that earn it; null: only by hand
  created_at timestamptz not null,
  primary key (campaign, no)
);

-- Who earned what: the last n is how many are gone. The id carries the user's place in its last four bytes.
create table user_rewards (
  campaign  int not null,
  reward    int not null,                          -- rewards.no
  n         int not null,
  place     int not null,
  id        uuid not null,
  earned_at timestamptz not null,
  primary key (campaign, reward, n)
);
create unique index user_rewards_user on user_rewards (campaign, place, reward);

-- Answers that were given under an Idempotency-Key. key and request are hashes: of account, kind of API key, and key; of
-- method, path and body. Rows belong to the shard, so that a key is looked up and entered under its lock.
create table idempotency_keys (
  shard      int not null,
  campaign   uuid not null,                        -- all zero: the creation of a campaign
  key        uuid not null,
  request    uuid not null,
  err        smallint not null,
  object_id  uuid,
  place      int,
  extra      text,
  version    bigint,
  events     smallint not null,
  at         timestamptz,                          -- of the events
  created_at timestamptz not null,
  primary key (shard, campaign, key)
);
create index idempotency_keys_age on idempotency_keys (shard, created_at);

-- What was purged of deleted campaigns, and how far: events of the shard between the two seqs may be missing. One row per
-- campaign: their events lie between those of others, so the exact ranges would be as many as the events.
create table purges (
  campaign  int primary key,                       -- campaigns.no
  shard     int not null,
  first_seq bigint,
  last_seq  bigint,
  events    bigint not null default 0,             -- deleted so far
  version   bigint not null default 0,             -- events up to here are gone
  place     int not null default 0,                -- and what belongs to users up to here
  places    int not null,                          -- of all its users, the last
  key       uuid                                   -- and its idempotency keys up to here
);
create index purges_shard on purges (shard, last_seq);
create index campaigns_account on campaigns (account, no); -- a look-up by no alone says so: see relay_read
create index campaigns_to_purge on campaigns (shard, no) where deleted_at is not null and purged_at is null;

-- One row per earned reward: reward-workers write it. 'sending' from before the attempt until the outcome is known.
create table deliveries (
  user_reward_id uuid primary key,
  event_id       uuid not null,
  campaign       int not null,                     -- campaigns.no
  reward         int not null,                     -- rewards.no
  place          int not null,                     -- users.place
  kind           text not null check (kind in ('email', 'webhook')),
  target         text not null,                    -- address or URL
  status         text not null check (status in ('sending', 'delivered', 'failed', 'expired', 'discarded')),
  attempts       int not null default 0,
  http_status    int,                              -- of the last answer
  error          text,                             -- of the last attempt that failed
  created_at     timestamptz not null default now(),
  delivered_at   timestamptz
) with (fillfactor = 85);

-- Processes that serve now. They tell each other which token secrets they use: hashes only.
create table hosts (
  id         uuid primary key,
  name       text not null,
  signs      uuid,                                 -- the secret that signs; null: none
  accepts    uuid[] not null,                      -- all that verify
  started_at timestamptz not null default now(),
  seen_at    timestamptz not null default now()
);

-- What lanes are asked for besides sign-ups and verifications, and what they answer (sql/fn_lanes.sql).
create type act as (
  of_action  int,                                  -- its place in the batch, from 1
  kind       int,
  shard      int,
  account    int,                                  -- 0: not checked
  account_id uuid,
  campaign   uuid,
  subject    uuid,                                 -- user, referral or reward that it is about
  event      uuid,                                 -- base id of its events
  args       jsonb
);
create type lane_row as (
  of_action  int,
  err        int,
  object_id  uuid,
  place      int,
  extra      text,
  account_id uuid,
  shard      int,
  seq        bigint,                               -- null: no event, only an outcome
  version    bigint,
  type       smallint,
  at         timestamptz,
  event_id   uuid,
  data       text,
  events     smallint                              -- not null: an answer given before, under the same Idempotency-Key
);

-- Functions whose parameters or rows change; the files fn_* make them anew.
drop function if exists lane_apply(int[], int[], uuid[], uuid[], uuid[], int[], text[], text[], text[], int[], uuid[], uuid[],
                                   int[], uuid[]);
drop function if exists lane_create_campaign(int, int, uuid, uuid, uuid, json);
drop function if exists lane_outcome(int[], bigint[], uuid[]);
drop function if exists read_campaign(int, uuid);
drop function if exists read_user(int, uuid, uuid, int);
drop function if exists mail_read(uuid[], uuid[], bigint[]);
