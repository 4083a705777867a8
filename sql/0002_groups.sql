-- What the consumer groups remember and make. Run once, in schema tidings.

-- Events that a group has handled: the row is inserted in the transaction of the effect. at is the event's own
-- timestamp; rows older than HANDLED_KEEP_DAYS are deleted in small batches.
create table handled (
  grp      text collate "C" not null,
  event_id uuid not null,
  at       timestamptz not null,
  primary key (grp, event_id)
);
-- Rows come about in the order of time, so this costs an insert nothing and finds the old ones.
create index handled_at on handled using brin (at) with (autosummarize = on);

-- Records that a group could not handle. dead: given up, with the reason; retry and parked: waiting to be run again.
create table dead_letters (
  id         bigint primary key generated always as identity,
  grp        text collate "C" not null,
  state      text not null check (state in ('retry', 'parked', 'dead')),
  topic      text not null,
  partition  int not null,
  "offset"   bigint not null,
  key        bytea,                                -- the record as Kafka has it
  value      bytea,
  event_id   uuid,                                 -- null: it could not be read
  type       text,
  reason     text not null,
  attempts   int not null,
  created_at timestamptz not null default now(),
  unique (grp, topic, partition, "offset")         -- a record that comes again adds nothing
);

-- One row per mail: one event causes at most one. It is 'sending' from before the mail is sent until the outcome is known.
create table mails (
  event_id   uuid primary key,
  campaign   int,                                  -- campaigns.no
  kind       text not null,                        -- the event's type: names the template
  recipient  text not null,
  message_id text not null,
  status     text not null check (status in ('sending', 'sent', 'failed', 'expired', 'discarded')),
  attempts   int not null default 0,
  error      text,                                 -- of the last attempt that failed
  created_at timestamptz not null default now(),
  sent_at    timestamptz
) with (fillfactor = 85);                          -- 'sending' becomes 'sent' within the page

-- Users with at least one verified referral; the others of a campaign stand at their place. Ties: by place.
-- Only position-workers write it, under pg_advisory_xact_lock(hashtext(campaigns.id::text)).
create table leaderboard (
  campaign int not null,                           -- campaigns.no
  place    int not null,                           -- users.place, the original position
  verified int not null,                           -- referrals
  position int not null,                           -- max(1, place - verified * points_per_referral)
  version  bigint not null,                        -- of the campaign's newest event that the row is known to include
  primary key (campaign, place)
);
create index leaderboard_rank on leaderboard (campaign, position, place);
