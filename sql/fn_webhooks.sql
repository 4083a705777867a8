-- Webhooks: what HTTP does with them, and what webhook-workers do.
--
-- A delivery is 'pending' until it is delivered, given up ('failed'), or there is no more reason for it ('cancelled': its
-- endpoint was disabled, its campaign deleted). Whoever tries it has it under a lease, of which next_at is the end, too: what a
-- process had when it died is due again then. Look-ups are pinned to the indexes: plans must not depend on statistics that
-- were taken when the tables were empty.

-- --- how things look ---

-- An endpoint as the API shows it, JSON text. p_secret: with its secret, which is shown where it is made.
create or replace function webhook_item(w webhooks, p_secret boolean) returns text language sql stable as $$
  select case when p_secret then left(x.item, -1) || ',"secret":' || to_json(w.secret)::text || '}' else x.item end
  from (select row_to_json(y)::text as item
        from (select w.id as webhook_id, w.url, coalesce(w.types, '{*}') as event_types, w.description,
                     case when w.enabled then 'enabled' else 'disabled' end as status, w.disabled_reason,
                     rfc3339(w.disabled_at) as disabled_at, rfc3339(w.failing_since) as failing_since,
                     rfc3339(case when w.old_until > now() then w.old_until end) as old_secret_until,
                     rfc3339(w.created_at) as created_at, rfc3339(w.updated_at) as updated_at) y) x
$$;

create or replace function webhook_delivery_item(d webhook_deliveries) returns text language sql stable as $$
  select row_to_json(x)::text
  from (select d.event_id as delivery_id, case when d.aggregate is not null then d.event_id end as event_id, d.type, d.status,
               d.attempts, d.http_status, d.error, d.response, coalesce(d.leased_until > now(), false) as being_tried,
               rfc3339(d.created_at) as created_at, rfc3339(d.tried_at) as tried_at,
               rfc3339(case when d.status = 'pending' then d.next_at end) as next_attempt_at, rfc3339(d.ended_at) as ended_at) x
$$;

-- What is sent: the event, in the bytes that it was committed with.
create or replace function webhook_body(p_type text, p_at timestamptz, p_event uuid, p_account uuid, p_campaign uuid,
                                        p_version bigint, p_data text)
returns text language sql stable as $$
  select '{"type":' || to_json(p_type)::text || ',"timestamp":"' || rfc3339(p_at) || '","event_id":"' || p_event
         || '","account_id":"' || p_account || '","campaign_id":' || coalesce('"' || p_campaign || '"', 'null')
         || ',"version":' || coalesce(p_version::text, 'null') || ',"data":' || p_data || '}'
$$;

-- --- for HTTP, as sql/fn_reads.sql has its functions; no row: no such endpoint ---

create or replace function read_webhook(p_account int, p_id uuid) returns table (item text) language sql stable as $$
  select webhook_item(w, false) from webhooks w where w.id = p_id and w.account = p_account and w.deleted_at is null
$$;

create or replace function read_webhooks(p_account int, p_limit int, p_before int)
returns table (item text, cursor text, rest text, known boolean) language sql stable as $$
  select case when (f.w).no is not null then webhook_item(f.w, false) end, (f.w).no::text, null, true
  from (select 1) one
  left join lateral (select w from webhooks w
                     where w.account = p_account and w.deleted_at is null and w.no < coalesce(p_before, 2147483647)
                     order by w.account desc, w.no desc limit p_limit + 1) f on true
$$;

create or replace function read_webhook_delivery(p_account int, p_id uuid, p_delivery uuid)
returns table (item text) language sql stable as $$
  select case when d.webhook is not null then webhook_delivery_item(d) end
  from webhooks w left join webhook_deliveries d on d.webhook = w.no and d.event_id = p_delivery
  where w.id = p_id and w.account = p_account and w.deleted_at is null
$$;

-- An endpoint's deliveries, newest event first. The cursor is the event's id.
create or replace function read_webhook_deliveries(p_account int, p_id uuid, p_limit int, p_before uuid, p_status text)
returns table (item text, cursor text, rest text, known boolean) language plpgsql stable as $$
#variable_conflict use_column
declare
  v_no constant int := (select w.no from webhooks w where w.id = p_id and w.account = p_account and w.deleted_at is null);
begin
  if v_no is null then
    return;
  end if;
  return query
  with looked_at as materialized (
    select d from webhook_deliveries d
    where d.webhook = v_no and d.event_id < coalesce(p_before, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    order by d.webhook desc, d.event_id desc limit 1000),
  found as materialized (
    select l.d from looked_at l where p_status is null or (l.d).status = p_status limit p_limit + 1)
  select case when (f.d).webhook is not null then webhook_delivery_item(f.d) end, (f.d).event_id::text,
         case when (select count(*) from found) <= p_limit then (select (l.d).event_id::text from looked_at l offset 999 limit 1) end,
         true
  from (select 1) one left join found f on true;
end $$;

create or replace function webhook_disable(p_no int, p_reason text) returns void language sql as $$
  update webhooks w
  set enabled = false, disabled_at = clock_timestamp(), updated_at = clock_timestamp(), disabled_reason = p_reason
  where w.no = p_no and w.enabled
$$;

create or replace function webhook_update(p_no int, p_args jsonb) returns void
language plpgsql as $$
begin
  update webhooks w
  set url = coalesce(p_args ->> 'url', w.url),
      description = case when p_args ? 'description' then p_args ->> 'description' else w.description end,
      -- Another URL has another past.
      failing_since = case when p_args ->> 'url' <> w.url then null else w.failing_since end,
      failed_at = case when p_args ->> 'url' <> w.url then null else w.failed_at end,
      updated_at = clock_timestamp()
  where w.no = p_no;
  if p_args ? 'event_types' then
    update webhooks w set types = webhook_types(p_args -> 'event_types'), types_at = clock_timestamp() where w.no = p_no;
  end if;
  if p_args ->> 'status' = 'disabled' then
    perform webhook_disable(p_no, 'disabled by the account');
  elsif p_args ->> 'status' = 'enabled' then
    update webhooks w
    set enabled = true, since = clock_timestamp(), disabled_at = null, disabled_reason = null, failing_since = null, failed_at = null
    where w.no = p_no and not w.enabled;
  end if;
end $$;

-- null: all.
create or replace function webhook_types(p_types jsonb) returns text[] language sql immutable as $$
  select case when p_types ? '*' then null else array(select t from jsonb_array_elements_text(p_types) t) end
$$;

-- One change, of an account that has the lock. fault: the slug of what is in its way. The endpoint's row is not locked before a
-- delivery's: webhook_settle takes them the other way round.
create or replace function webhook_apply(p_account int, p_kind text, p_id uuid, p_delivery uuid, p_args jsonb)
returns table (item text, fault text)
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  w webhooks;
  d webhook_deliveries;
  v_now constant timestamptz := clock_timestamp();
begin
  if p_kind = 'create' then
    if (select count(*) from webhooks x where x.account = p_account and x.deleted_at is null) >= (p_args ->> 'max')::int then
      return query select null::text, 'limit-reached'::text;
      return;
    end if;
    insert into webhooks (id, account, url, types, description, secret, since, types_at, created_at, updated_at)
    values (p_id, p_account, p_args ->> 'url', webhook_types(p_args -> 'event_types'), p_args ->> 'description',
            p_args ->> 'secret', v_now, v_now, v_now, v_now)
    returning * into w;
    return query select webhook_item(w, true), null::text;
    return;
  end if;

  select * into w from webhooks x where x.id = p_id and x.account = p_account and x.deleted_at is null;
  if not found then
    return query select null::text, 'no-webhook'::text;
    return;
  end if;
  if p_kind in ('test', 'redeliver') then
    if p_kind = 'redeliver' then
      select * into d from webhook_deliveries x where x.webhook = w.no and x.event_id = p_delivery for update skip locked;
      if not found then -- whoever has it locked is trying it just now, or takes it away
        select * into d from webhook_deliveries x where x.webhook = w.no and x.event_id = p_delivery;
        return query select case when found then webhook_delivery_item(d) end, case when not found then 'no-delivery' end;
        return;
      end if;
    end if;
    if not w.enabled then
      return query select null::text, 'webhook-disabled'::text;
      return;
    end if;
    if p_kind = 'test' then
      insert into webhook_deliveries (webhook, event_id, type, next_at) values (w.no, p_delivery, 'webhook.test', v_now)
      returning * into d;
    elsif d.leased_until is null or d.leased_until <= v_now then -- else it is being tried just now
      update webhook_deliveries x
      set status = 'pending', tries = 0, next_at = v_now, leased_until = null, ended_at = null, begun_at = v_now
      where x.webhook = w.no and x.event_id = p_delivery
      returning * into d;
    end if;
    return query select webhook_delivery_item(d), null::text;
    return;
  end if;

  if p_kind = 'update' then
    perform webhook_update(w.no, p_args);
  elsif p_kind = 'rotate' then
    update webhooks x
    set old_secret = x.secret, old_until = v_now + (p_args ->> 'grace_s')::int * interval '1 s', secret = p_args ->> 'secret',
        updated_at = v_now
    where x.no = w.no;
  elsif p_kind = 'delete' then
    update webhooks x set deleted_at = v_now, secret = '', old_secret = null, old_until = null where x.no = w.no;
    delete from webhook_keys k where k.account = p_account and position(p_id::text in k.item) > 0; -- answers that show the secret
    return query select webhook_item(w, false), null::text;
    return;
  end if;
  select * into w from webhooks x where x.no = w.no;
  return query select webhook_item(w, p_kind = 'rotate'), null::text;
end $$;

-- The same for HTTP. p_key, p_request: of an Idempotency-Key, or null; then replayed says whether this is the first answer again.
-- An account's changes come one after the other.
create or replace function change_webhook(p_account int, p_kind text, p_id uuid, p_delivery uuid, p_args jsonb, p_key uuid,
                                          p_request uuid)
returns table (item text, fault text, replayed boolean)
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  k webhook_keys;
begin
  perform pg_advisory_xact_lock(1953064038, p_account);
  if p_key is not null then
    select * into k from webhook_keys x
    where x.account = p_account and x.key = p_key
      and x.created_at > clock_timestamp() - (p_args ->> 'keep_s')::int * interval '1 s';
    if found and k.request = p_request then
      return query select k.item, k.fault, true;
      return;
    elsif found then
      return query select null::text, 'idempotency-key-reused'::text, false;
      return;
    end if;
  end if;
  select a.item, a.fault into item, fault from webhook_apply(p_account, p_kind, p_id, p_delivery, p_args) a;
  if p_key is not null then
    insert into webhook_keys (account, key, request, item, fault, created_at)
    values (p_account, p_key, p_request, item, fault, clock_timestamp())
    on conflict (account, key) do update
    set request = excluded.request, item = excluded.item, fault = excluded.fault, created_at = excluded.created_at;
  end if;
  replayed := false;
  return next;
end $$;

-- --- for webhook-workers ---

-- Which of these accounts have endpoints that something could be sent to.
create or replace function webhook_subscribers(p_accounts uuid[]) returns setof uuid
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  return query
    select a.id
    from (select distinct u from unnest(p_accounts) u) g join accounts a on a.id = g.u
    where (select w.no from webhooks w where w.account = a.no and w.deleted_at is null and w.enabled
           order by w.account, w.no limit 1) is not null;
end $$;

-- Enters the deliveries that events make: one per endpoint that wants the type, once. What is older than p_keep_days may have
-- been entered and trimmed. Rows go in by key, so that two processes cannot deadlock.
create or replace function webhook_fan_out(p_events uuid[], p_accounts uuid[], p_campaigns uuid[], p_versions bigint[],
                                           p_types text[], p_ats timestamptz[], p_keep_days int)
returns int
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_count int;
begin
  insert into webhook_deliveries (webhook, event_id, aggregate, version, type, next_at)
  select w.no, g.event, coalesce(c.no, -a.no), g.version, g.type, clock_timestamp()
  from unnest(p_events, p_accounts, p_campaigns, p_versions, p_types, p_ats) as g (event, account, campaign, version, type, at)
  join accounts a on a.id = g.account
  join webhooks w on w.account = a.no and w.deleted_at is null
  left join campaigns c on c.id = g.campaign
  where w.enabled and (w.types is null or g.type = any (w.types)) and g.at >= w.since
    and g.at > now() - p_keep_days * interval '1 day'
    and (g.campaign is null or c.no is not null and (c.deleted_at is null or g.type = 'campaign.deleted'))
  order by w.no, g.event
  on conflict (webhook, event_id) do nothing;
  get diagnostics v_count = row_count;
  return v_count;
end $$;

-- Ends what waits for an endpoint that gets nothing any more, or was begun before p_before: a page of it, the rest comes with the next
-- looks.
create or replace function webhook_cancel(p_no int, p_reason text, p_before timestamptz) returns void
language sql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  with page as (
    select d.event_id from webhook_deliveries d
    where d.webhook = p_no and d.status = 'pending' and (d.leased_until is null or d.leased_until <= clock_timestamp())
      and d.begun_at < p_before
    order by d.webhook, d.next_at limit 500
    for update of d skip locked)
  update webhook_deliveries d
  set status = 'cancelled', error = p_reason, next_at = null, leased_until = null, ended_at = clock_timestamp()
  from page p where d.webhook = p_no and d.event_id = p.event_id
$$;

-- Takes at most p_limit deliveries that are due, for p_lease_ms: of one endpoint after the other, from the one after p_after on
-- and round, and of each no more than p_calls at a time, in all processes together; of one that fails only one; of an account's no
-- more than p_share. body null: there is no such event any more. The time that things are due by is fixed first: only so does the
-- index end a scan there.
create or replace function webhook_claim(p_after int, p_limit int, p_calls int, p_share int, p_lease_ms bigint)
returns table (webhook int, event_id uuid, lease bigint, type text, tries int, url text, secret text, old_secret text, body text)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  w webhooks;
  v_first webhook_deliveries;                       -- of the endpoint's pending ones
  v_no int := p_after;
  v_now timestamptz;
  v_round boolean := p_after = 0;
  v_left int := p_limit;
  v_room int;
  v_count int;
  v_lease timestamptz;
begin
  while v_left > 0 loop
    select x.webhook, x.next_at, x.begun_at into v_first.webhook, v_first.next_at, v_first.begun_at from webhook_deliveries x
    where x.status = 'pending' and x.webhook > v_no order by x.webhook, x.next_at limit 1;
    if not found or (v_round and p_after > 0 and v_first.webhook > p_after) then
      exit when v_round;
      v_round := true;
      v_no := 0;
      continue;
    end if;
    v_no := v_first.webhook;
    select * into w from webhooks x where x.no = v_no;
    if not found or w.deleted_at is not null or not w.enabled then
      perform webhook_cancel(v_no, case when w.deleted_at is null then 'the webhook was disabled' else 'the webhook was deleted' end,
                             'infinity');
      continue;
    elsif v_first.begun_at < w.since then
      perform webhook_cancel(v_no, 'the webhook was disabled', w.since);
    end if;
    continue when v_first.next_at > clock_timestamp();
    continue when not pg_try_advisory_xact_lock(1953064039, v_no); -- another process is at it
    v_now := clock_timestamp();
    v_room := least(
      v_left,
      case when w.failing_since is null then p_calls else 1 end
      - (select count(*) from webhook_deliveries x where x.webhook = v_no and x.leased_until > v_now),
      p_share - (select sum((select count(*) from webhook_deliveries x where x.webhook = y.no and x.leased_until > v_now))
                 from webhooks y where y.account = w.account and y.deleted_at is null));
    continue when v_room <= 0;
    v_lease := v_now + p_lease_ms * interval '1 ms';
    return query
    with due as (
      select d.event_id from webhook_deliveries d
      where d.webhook = v_no and d.status = 'pending' and d.next_at <= v_now and d.begun_at >= w.since
      order by d.webhook, d.next_at limit v_room
      for update of d skip locked)
    update webhook_deliveries d
    set next_at = v_lease, leased_until = v_lease
    from due where d.webhook = v_no and d.event_id = due.event_id
    returning d.webhook, d.event_id, (extract(epoch from v_lease) * 1000000)::bigint, d.type, d.tries, w.url, w.secret,
              case when w.old_until > now() then w.old_secret end, webhook_content(d, w.account);
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
  end loop;
end $$;

-- The body of a delivery; null when its campaign was deleted, but for the event that says so.
create or replace function webhook_content(d webhook_deliveries, p_account int) returns text
language plpgsql stable
set enable_seqscan = off
as $$
declare
  v_account constant uuid := (select a.id from accounts a where a.no = p_account);
begin
  if d.aggregate is null then
    return webhook_body(d.type, d.created_at, d.event_id, v_account, null, null, '{}');
  end if;
  return (
    select webhook_body(d.type, e.at, e.id, v_account, c.id, e.version, e.data)
    from events e left join campaigns c on c.no = e.aggregate
    where e.aggregate = d.aggregate and e.version = d.version and e.id = d.event_id
      and (c.deleted_at is null or d.type = 'campaign.deleted'));
end $$;

-- Records what became of a delivery that was claimed. p_end: 'delivered', 'retry' (in p_wait_ms), 'failed', 'gone' (failed, and the
-- endpoint wants no more), 'cancelled', or 'released' (it was not tried). p_disable_s: an endpoint that has failed for so long
-- is disabled. False: it was not ours any more. A test says nothing of the endpoint, nor does the URL that it had before (p_url: the
-- one that was called).
create or replace function webhook_settle(p_webhook int, p_event uuid, p_lease bigint, p_url text, p_end text, p_http_status int,
                                          p_error text, p_response text, p_wait_ms bigint, p_disable_s bigint)
returns boolean
language plpgsql
set enable_seqscan = off
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_tried constant int := (p_end not in ('released', 'cancelled'))::int;
  v_type text;
begin
  update webhook_deliveries d
  set status = case p_end when 'delivered' then 'delivered' when 'cancelled' then 'cancelled' when 'failed' then 'failed'
                          when 'gone' then 'failed' else 'pending' end,
      attempts = d.attempts + v_tried, tries = d.tries + v_tried, leased_until = null,
      next_at = case p_end when 'retry' then v_now + p_wait_ms * interval '1 ms' when 'released' then v_now end,
      tried_at = case when v_tried = 1 then v_now else d.tried_at end,
      ended_at = case when p_end not in ('retry', 'released') then v_now end,
      http_status = case when v_tried = 1 then p_http_status else d.http_status end,
      response = case when v_tried = 1 then p_response else d.response end,
      error = case when p_end = 'released' then d.error else p_error end
  where d.webhook = p_webhook and d.event_id = p_event
    and d.status || '' = 'pending' -- so written, the index of what is due is of no use to the planner, whatever its statistics say
    and (p_end = 'delivered' or (extract(epoch from d.leased_until) * 1000000)::bigint = p_lease)
  returning d.type into v_type;
  if v_type is null or v_tried = 0 or v_type = 'webhook.test' then
    return v_type is not null;
  end if;
  if p_end = 'delivered' then
    update webhooks w set failing_since = null, failed_at = null where w.no = p_webhook and w.failing_since is not null;
    return true;
  end if;
  if p_url is distinct from (select w.url from webhooks w where w.no = p_webhook) then
    return true;
  end if;
  -- Two failures with nothing between them for longer than a wait can be do not say that it was down all the time.
  update webhooks w
  set failing_since = case when w.failed_at > v_now - interval '2 days' then coalesce(w.failing_since, v_now) else v_now end,
      failed_at = v_now
  where w.no = p_webhook;
  if p_end = 'gone' then
    perform webhook_disable(p_webhook, 'it answered 410 Gone');
  elsif (select w.failing_since from webhooks w where w.no = p_webhook) <= v_now - p_disable_s * interval '1 s' then
    perform webhook_disable(p_webhook, 'nothing has got through since ' || rfc3339((select w.failing_since from webhooks w
                                                                                    where w.no = p_webhook)));
  end if;
  return true;
end $$;

-- Takes away what is not needed any more, p_rows of each kind at most: old deliveries, those of deleted endpoints, then those
-- endpoints, and old Idempotency-Keys. An endpoint that is too slow for what it has subscribed does not let the table grow for ever:
-- old ones go even if they still wait. Returns how many rows went. How old ones are found, and why so: trim_begin, in
-- sql/fn_groups.sql; here the index costs about 200 bytes of WAL and 37 on disk for each delivery, of 950 and 360.
create or replace function webhook_trim(p_keep_days int, p_key_s bigint, p_rows int)
returns bigint
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off -- it would gather all that is old, for each batch
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_before constant timestamptz := now() - p_keep_days * interval '1 day';
  v_from constant timestamptz := trim_begin('webhook_deliveries');
  v_last timestamptz;
  v_count bigint;
  v_total bigint := 0;
begin
  if v_from is not null then
    with old as (select d.ctid from webhook_deliveries d
                 where d.created_at >= v_from and d.created_at < v_before and (d.leased_until is null or d.leased_until < now())
                 order by d.created_at limit p_rows for update skip locked),
         gone as (delete from webhook_deliveries where ctid = any (array(select ctid from old)) returning created_at)
    select count(*), max(created_at) into v_count, v_last from gone;
    perform trim_end('webhook_deliveries', v_from, case when v_count < p_rows then v_before else v_last end);
    v_total := v_total + v_count;
  end if;
  delete from webhook_deliveries where ctid = any (array(
    select d.ctid from webhooks w join webhook_deliveries d on d.webhook = w.no
    where w.deleted_at is not null limit p_rows for update of d skip locked));
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from webhooks w
  where w.deleted_at < now() - interval '1 day' -- by then nobody enters a delivery that began before
    and not exists (select from webhook_deliveries d where d.webhook = w.no);
  delete from webhook_keys where ctid = any (array(
    select k.ctid from webhook_keys k where k.created_at < now() - p_key_s * interval '1 s'
    order by k.created_at limit p_rows for update skip locked));
  get diagnostics v_count = row_count;
  return v_total + v_count;
end $$;

-- --- for `tidings verify`, as sql/fn_verify.sql has its functions ---

-- As verify_effects, for webhook-workers: events of which an endpoint that wanted them, and has not been changed since, has no
-- delivery.
create or replace function verify_webhooks(p_group text, p_events uuid[], p_versions bigint[], p_aggregates int[], p_topic text,
                                           p_partitions int[], p_offsets bigint[], p_types text[])
returns table (ord int, state text)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  select g.ord::int,
         case when exists (select from dead_letters d where d.grp = p_group and d.topic = p_topic
                                                        and d.partition = g.partition and d."offset" = g."offset"
                                                        and dead_letter_is_of(d, g.event)) then 'dead'
              when exists (select from campaigns c where c.no = g.aggregate and c.deleted_at is not null) then 'excused'
              when exists (select from dead_letters d where d.grp = p_group and d.event_id = g.event) then 'dead'
              else 'missing' end
  from unnest(p_events, p_versions, p_aggregates, p_partitions, p_offsets, p_types) with ordinality
       as g (event, version, aggregate, partition, "offset", type, ord)
  where exists (
    select from events e
    join webhooks w on w.account = case when e.aggregate < 0 then -e.aggregate
                                        else (select c.account from campaigns c where c.no = e.aggregate) end
    where e.aggregate = g.aggregate and e.version = g.version and w.deleted_at is null and w.enabled
      and e.at >= greatest(w.since, w.types_at) and (w.types is null or g.type = any (w.types))
      and not exists (select from webhook_deliveries d where d.webhook = w.no and d.event_id = e.id))
  order by g.ord;
end $$;

-- The next page of deliveries of events not older than p_since, and those of it that are of no event of their account.
create or replace function verify_webhook_deliveries(p_webhook int, p_event uuid, p_limit int, p_campaign int, p_since uuid)
returns table (last_webhook int, last_event uuid, deliveries int, strays uuid[])
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select d.webhook, d.event_id, d.aggregate, d.version from webhook_deliveries d
    where (d.webhook, d.event_id) > (p_webhook, p_event)
    order by d.webhook, d.event_id limit p_limit),
  strays as materialized (
    select p.event_id from page p
    where p.aggregate is not null and p.event_id >= p_since and (p_campaign is null or p.aggregate = p_campaign)
      and not exists (
        select from events e
        where e.aggregate = p.aggregate and e.version = p.version and e.id = p.event_id
          and (select w.account from webhooks w where w.no = p.webhook)
              = case when e.aggregate < 0 then -e.aggregate else (select c.account from campaigns c where c.no = e.aggregate) end)
      and not exists (select from campaigns c where c.no = p.aggregate and c.deleted_at is not null)
      and exists (select from webhooks w where w.no = p.webhook and w.deleted_at is null))
  select coalesce(z.webhook, p_webhook), coalesce(z.event_id, p_event), (select count(*)::int from page),
         array(select s.event_id from strays s)
  from (select 1) one
  left join (select p.webhook, p.event_id from page p order by p.webhook desc, p.event_id desc limit 1) z on true;
end $$;
