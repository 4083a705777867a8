-- Accounts' webhooks and what is sent to them. Run once, in schema tidings.

-- An endpoint of an account's. Not a lane table: HTTP writes it, and webhook-workers what they find out about it.
create table webhooks (
  no              int primary key generated always as identity, -- the small key that deliveries use
  id              uuid not null unique,
  account         int not null,                    -- accounts.no
  url             text not null,
  types           text[],                          -- of events; null: all
  description     text,
  secret          text not null,                   -- signs, "whsec_" and base64
  old_secret      text,                            -- signs too, until old_until
  old_until       timestamptz,
  enabled         boolean not null default true,
  since           timestamptz not null,            -- enabled since then: older events are not sent
  types_at        timestamptz not null,            -- when types last changed
  disabled_at     timestamptz,
  disabled_reason text,
  failing_since   timestamptz,                     -- no delivery has got through since; null: the last one has
  failed_at       timestamptz,                     -- the last that did not
  created_at      timestamptz not null,
  updated_at      timestamptz not null,
  deleted_at      timestamptz                      -- gone for the account; the row goes when its deliveries have
);
create index webhooks_account on webhooks (account, no) where deleted_at is null;
create index webhooks_deleted on webhooks (no) where deleted_at is not null;

-- One event to one endpoint, and what became of it. What is sent is made from the event's row, so it is the same each time.
create table webhook_deliveries (
  webhook      int not null,                       -- webhooks.no
  event_id     uuid not null,                      -- of a test: an id of its own
  aggregate    int,                                -- the event's, as in events; null: a test
  version      bigint,
  type         text not null,
  status       text not null default 'pending' check (status in ('pending', 'delivered', 'failed', 'cancelled')),
  attempts     int not null default 0,
  tries        int not null default 0,             -- attempts since it was last begun anew: the place in the schedule
  next_at      timestamptz,                        -- pending: not before this; while somebody tries it, when that counts as lost
  leased_until timestamptz,                        -- somebody is trying it, at most until then
  http_status  int,                                -- of the last answer
  error        text,                               -- of the last attempt that failed
  response     text,                               -- how the last answer's body began
  created_at   timestamptz not null default clock_timestamp(),
  begun_at     timestamptz not null default clock_timestamp(), -- entered, or begun anew: what waited when its endpoint was disabled stays unsent
  tried_at     timestamptz,
  ended_at     timestamptz,
  primary key (webhook, event_id)
) with (fillfactor = 85);
create index webhook_deliveries_due on webhook_deliveries (webhook, next_at) where status = 'pending';
create index webhook_deliveries_leased on webhook_deliveries (webhook, leased_until) where leased_until is not null;
create index webhook_deliveries_age on webhook_deliveries using brin (created_at) with (autosummarize = on);

-- Answers that were given under an Idempotency-Key; hashes, as in idempotency_keys.
create table webhook_keys (
  account    int not null,
  key        uuid not null,
  request    uuid not null,
  item       text,
  fault      text,
  created_at timestamptz not null,
  primary key (account, key)
);
create index webhook_keys_age on webhook_keys (created_at);
