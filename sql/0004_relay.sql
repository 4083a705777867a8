-- How often a shard's cursor was moved back by a command. Run once, in schema tidings.

-- A relay may know more of a shard than the saved cursor says (what was acknowledged since), and goes on from there; when this
-- number is not the one that it knows, it starts at the saved cursor instead.
alter table relay_cursors add column rewinds int not null default 0;

-- Events that Kafka has and that the database lost when it went back in time, as somebody has accepted (`tidings relay accept`).
create table relay_lost (
  id          uuid primary key,
  aggregate   uuid not null,                       -- a campaign's id, or an account's
  version     bigint not null,
  accepted_at timestamptz not null default now()
);
