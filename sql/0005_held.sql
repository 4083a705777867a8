-- Records that a group holds: tried again later, or behind one of their key, across restarts. Run once, in schema tidings.

alter table dead_letters
  add column order_key    bytea,                   -- the handler's key for it; null: it could not be read
  add column next_at      timestamptz,             -- retry: not before this; while somebody tries it, when that counts as lost
  add column leased_until timestamptz,             -- somebody is trying it, at most until then
  add column failed_at    timestamptz,             -- the first failure; null: it has not been tried yet
  add column tried_at     timestamptz,             -- the last one
  add column mirrored_at  timestamptz,             -- dead: when its copy went to Kafka, with DEAD_LETTER_TOPICS
  add column blocked_at   timestamptz;             -- when it last could not be tried, since what all records need was away

-- Each is empty, one page, while nothing of its kind is held.
create index dead_letters_due on dead_letters (grp, next_at) where state = 'retry';
create index dead_letters_order on dead_letters (grp, order_key, id) where state <> 'dead';
create index dead_letters_parked on dead_letters (grp, order_key, id) where state = 'parked';
create index dead_letters_unmirrored on dead_letters (grp, id) where state = 'dead' and mirrored_at is null;
create index dead_letters_dead on dead_letters (grp, order_key, id) where state = 'dead';
