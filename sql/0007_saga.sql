-- The saga of an earned reward: reserved, delivered, confirmed or released. Run once, in schema tidings.

-- One row per earned reward, entered by the lane with it. reward-workers move it while they deliver, a lane's action ends it;
-- sql/fn_sagas.sql has both. It also is the memory of what was done: each step finds the state that it goes out from, in its own
-- transaction. Rewards that were delivered before there were sagas have none.
create table sagas (
  user_reward_id uuid primary key,
  campaign       int not null,                     -- campaigns.no
  reward         int not null,                     -- rewards.no
  n              int not null,                     -- user_rewards.n
  place          int not null,                     -- users.place
  event_id       uuid not null,                    -- reward.earned
  state          text not null check (state in ('reserved', 'delivering', 'delivered', 'confirmed', 'compensating', 'released')),
  calling_until  timestamptz,                      -- an attempt was begun, and ends by then; null: how the last one ended is known
  reason         text,                             -- why it was not delivered
  end_event_id   uuid,                             -- reward.delivered or reward.released
  earned_at      timestamptz not null,
  changed_at     timestamptz not null              -- of the state
) with (fillfactor = 70);
create unique index sagas_earned on sagas (campaign, reward, n);
-- Both hold what is under way alone.
create index sagas_due on sagas (campaign, changed_at) where state in ('delivered', 'compensating');
create index sagas_open on sagas (earned_at) where state in ('reserved', 'delivering');

-- Units that came back: the last m is how many, as user_rewards' last n is how many were given. So a release is an insert too,
-- and what is left of a stock is stock - n + m.
create table reward_releases (
  campaign    int not null,
  reward      int not null,                        -- rewards.no
  m           int not null,                        -- 1, 2, 3, … of the reward
  n           int not null,                        -- user_rewards.n
  place       int not null,                        -- users.place
  released_at timestamptz not null,
  primary key (campaign, reward, m)
);
create unique index reward_releases_earned on reward_releases (campaign, place, reward, n);

-- A user can earn a reward again when it was released.
drop index user_rewards_user;
create unique index user_rewards_user on user_rewards (campaign, place, reward, n);

-- Functions whose parameters or rows change; the files fn_* make them anew.
drop function if exists earn(campaigns, rewards, uuid, int, int, uuid, int, uuid, int);
drop function if exists earned_before(rewards, int);
drop function if exists delivery_begin(uuid[], uuid[], int[], int[], bigint[], text[], text[]);
drop function if exists delivery_settle(uuid[], text[], int[], text[]);
drop function if exists delivery_give_up(uuid[], text[]);
drop function if exists read_user_rewards(int, uuid, uuid, int, int, boolean);
