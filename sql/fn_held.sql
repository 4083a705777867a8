-- The records that a group holds in dead_letters.
--
--   retry    tried again when next_at has come
--   parked   ordered groups: waits until no earlier row of its key (grp, order_key) is left, then becomes retry
--   dead     given up; holds its key only in strict groups
--
-- A key's rows are in order of id: one process at a time has the key's partition and holds its records one after the
-- other. Only a key's first row is ever claimed. When it goes, whoever finishes it lets the next one follow (held_settle).
-- A record that looks (held_keys) while the first row is about to go may park itself behind nothing: held_sweep finds
-- it, as it finds what is left when rows were deleted by hand. Whoever comes after it in its key sees it and parks too.

-- Whether the group holds anything that could stand before a record: nearly always no, and that costs next to nothing.
create or replace function held_any(p_grp text, p_strict boolean)
returns boolean
language sql stable
set enable_seqscan = off
as $$
  select exists (select from dead_letters where grp = p_grp and state <> 'dead')
      or p_strict and exists (select from dead_letters where grp = p_grp and state = 'dead')
$$;

-- The places (from 1) of the keys that have rows which later records must wait for.
create or replace function held_keys(p_grp text, p_keys bytea[], p_strict boolean)
returns setof int
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  select g.place::int
  from unnest(p_keys) with ordinality as g (key, place)
  where (select d.id from dead_letters d where d.grp = p_grp and d.order_key = g.key and d.state <> 'dead' limit 1) is not null
     or p_strict and (select d.id from dead_letters d where d.grp = p_grp and d.order_key = g.key and d.state = 'dead' limit 1)
        is not null
$$;

-- Holds a record of Kafka's. One that comes again (its offset was not committed) adds nothing, but may still die. Another one
-- may have been at its coordinates, in a topic that was made anew since: see sql/0010_coordinates.sql for what tells them apart.
-- p_failed_us: how long ago it failed first; null: it has not been tried. Hosts' clocks have no say here.
create or replace function held_add(p_grp text, p_state text, p_topic text, p_partition int, p_offset bigint, p_key bytea,
                                    p_value bytea, p_event_id uuid, p_type text, p_reason text, p_attempts int,
                                    p_order_key bytea, p_failed_us bigint, p_wait_ms bigint)
returns void
language sql as $$
  insert into dead_letters as d (grp, state, topic, partition, "offset", key, value, event_id, type, reason, attempts, order_key,
                                 failed_at, tried_at, next_at)
  values (p_grp, p_state, p_topic, p_partition, p_offset, p_key, p_value, p_event_id, p_type, p_reason, p_attempts, p_order_key,
          clock_timestamp() - p_failed_us * interval '1 us', case when p_attempts > 0 then clock_timestamp() end,
          case when p_state = 'retry' then clock_timestamp() + p_wait_ms * interval '1 ms' end)
  on conflict (grp, topic, partition, "offset",
               coalesce(event_id, encode(substr(sha256(coalesce(key, '') || coalesce(value, '')), 1, 16), 'hex')::uuid)) do update
  set state = 'dead', reason = excluded.reason, attempts = excluded.attempts, tried_at = excluded.tried_at, next_at = null,
      leased_until = null, blocked_at = null
  where d.state <> 'dead' and excluded.state = 'dead'
$$;

-- Lets a key's first row be tried if it is parked.
create or replace function held_follow(p_grp text, p_keys bytea[], p_strict boolean)
returns void
language sql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  with firsts as (
    select (select d.id from dead_letters d
            where d.grp = p_grp and d.order_key = k.key and d.state <> 'dead' order by d.grp, d.order_key, d.id limit 1) as id
    from unnest(p_keys) as k (key)),
  free as (
    select d.id from firsts f join dead_letters d on d.id = f.id
    where d.state = 'parked'
      and not (p_strict and exists (select from dead_letters e where e.grp = p_grp and e.order_key = d.order_key
                                      and e.id < d.id and e.state = 'dead'))
    for update of d skip locked)
  update dead_letters d set state = 'retry', next_at = clock_timestamp()
  from free where d.id = free.id
$$;

-- The same for all keys with parked rows; see above. One step per such key.
create or replace function held_sweep(p_grp text, p_strict boolean)
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_keys bytea[];
begin
  with recursive keys as (
    (select d.order_key as key from dead_letters d where d.grp = p_grp and d.state = 'parked'
     order by d.grp, d.order_key, d.id limit 1)
    union all
    select (select d.order_key from dead_letters d where d.grp = p_grp and d.state = 'parked' and d.order_key > k.key
            order by d.grp, d.order_key, d.id limit 1)
    from keys k where k.key is not null)
  select array_agg(k.key) into v_keys from keys k
  where k.key is not null
    and (select d.state from dead_letters d where d.grp = p_grp and d.order_key = k.key and d.state <> 'dead'
         order by d.grp, d.order_key, d.id limit 1) = 'parked';
  if v_keys is not null then
    perform held_follow(p_grp, v_keys, p_strict);
  end if;
end
$$;

-- Takes at most p_limit rows that are due, for p_lease_ms. blocked_us: how long ago it could not be tried. now_us: the time by
-- the clock that made failed_us.
create or replace function held_claim(p_grp text, p_limit int, p_lease_ms bigint, p_ordered boolean, p_strict boolean)
returns table (id bigint, partition int, "offset" bigint, key bytea, value bytea, attempts int, failed_us bigint, blocked_us bigint,
               now_us bigint)
language sql volatile
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  with due as (
    select d.id from dead_letters d
    where d.grp = p_grp and d.state = 'retry' and d.next_at <= now()
      and (not p_ordered or d.order_key is null
           or not exists (select from dead_letters e where e.grp = p_grp and e.order_key = d.order_key and e.id < d.id
                            and e.state <> 'dead')
              and not (p_strict and exists (select from dead_letters e where e.grp = p_grp and e.order_key = d.order_key
                                              and e.id < d.id and e.state = 'dead')))
    order by d.grp, d.next_at limit p_limit
    for update of d skip locked)
  update dead_letters d
  set next_at = now() + p_lease_ms * interval '1 ms', leased_until = now() + p_lease_ms * interval '1 ms'
  from due where d.id = due.id
  returning d.id, d.partition, d."offset", d.key, d.value, d.attempts, (extract(epoch from d.failed_at) * 1000000)::bigint,
            (extract(epoch from now() - d.blocked_at) * 1000000)::bigint, (extract(epoch from now()) * 1000000)::bigint
$$;

-- Records what became of rows that were claimed. p_ends: 'done', 'retry' or 'dead'.
create or replace function held_settle(p_grp text, p_ids bigint[], p_ends text[], p_reasons text[], p_waits_ms bigint[],
                                       p_ordered boolean, p_strict boolean)
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_keys bytea[];
begin
  with ends as (select * from unnest(p_ids, p_ends, p_reasons, p_waits_ms) as g (id, ending, reason, wait_ms)),
       gone as (delete from dead_letters d using ends g where d.id = g.id and g.ending = 'done' returning d.order_key),
       died as (update dead_letters d
                set state = 'dead', reason = g.reason, attempts = d.attempts + 1, tried_at = clock_timestamp(),
                    failed_at = coalesce(d.failed_at, clock_timestamp()), next_at = null, leased_until = null, blocked_at = null,
                    mirrored_at = null
                from ends g where d.id = g.id and g.ending = 'dead' returning d.order_key),
       again as (update dead_letters d
                 set reason = g.reason, attempts = d.attempts + 1, tried_at = clock_timestamp(),
                     failed_at = coalesce(d.failed_at, clock_timestamp()),
                     next_at = clock_timestamp() + g.wait_ms * interval '1 ms', leased_until = null, blocked_at = null
                 from ends g where d.id = g.id and g.ending = 'retry')
  select array_agg(k.order_key) into v_keys
  from (select order_key from gone union all select order_key from died where not p_strict) k
  where k.order_key is not null;
  if p_ordered and v_keys is not null then
    perform held_follow(p_grp, v_keys, p_strict);
  end if;
end
$$;

-- Gives claimed rows back that could not be tried (p_blocked) or whose turn it was not. Costs them no attempt.
create or replace function held_release(p_ids bigint[], p_waits_ms bigint[], p_blocked boolean[])
returns void
language sql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  update dead_letters d
  set next_at = clock_timestamp() + g.wait_ms * interval '1 ms', leased_until = null,
      blocked_at = case when g.blocked then clock_timestamp() else d.blocked_at end
  from unnest(p_ids, p_waits_ms, p_blocked) as g (id, wait_ms, blocked)
  where d.id = g.id and d.state = 'retry'
$$;

-- How many a group has of each state, counted up to p_limit.
create or replace function held_counts(p_grp text, p_limit int)
returns table (retry bigint, parked bigint, dead bigint)
language sql stable
set enable_seqscan = off
as $$
  select (select count(*) from (select from dead_letters d where d.grp = p_grp and d.state = 'retry' limit p_limit) x),
         (select count(*) from (select from dead_letters d where d.grp = p_grp and d.state = 'parked' limit p_limit) x),
         (select count(*) from (select from dead_letters d where d.grp = p_grp and d.state = 'dead' limit p_limit) x)
$$;

-- --- for operators ---

-- Newest first, from the one before p_before on. Null: all groups, all states.
create or replace function dead_letter_list(p_grp text, p_state text, p_before bigint, p_limit int)
returns setof dead_letters language sql stable as $$
  select * from dead_letters d
  where (p_grp is null or d.grp = p_grp) and (p_state is null or d.state = p_state) and (p_before is null or d.id < p_before)
  order by d.id desc limit p_limit
$$;

-- Which rows an operator's command is about: those of p_ids, or all dead ones of p_grp. Not what is being tried now.
create or replace function dead_letter_pick(p_ids bigint[], p_grp text)
returns setof bigint
language sql as $$
  select d.id from dead_letters d
  where (d.id = any (p_ids) or p_ids is null and d.grp = p_grp and d.state = 'dead')
    and (d.leased_until is null or d.leased_until <= now())
  order by d.id for update
$$;

-- Whether a record is of this event. One that the group could not read has no event_id, but the event's is in its bytes.
create or replace function dead_letter_is_of(p_row dead_letters, p_event uuid)
returns boolean
language sql immutable as $$
  select coalesce(p_row.event_id = p_event, position(convert_to(p_event::text, 'UTF8') in p_row.value) > 0)
$$;

-- The earned reward that a record of reward-workers is about; null when it could not be read.
create or replace function dead_letter_reward(p_row dead_letters)
returns uuid
language sql immutable as $$
  select case when p_row.event_id is not null
              then (convert_from(p_row.value, 'UTF8')::jsonb #>> '{data,user_reward_id}')::uuid end
$$;

-- Has records tried again, from the first attempt on; a parked one stays behind its key's. What the group's own rows
-- say of the failure is taken back: they would pass for the memory that the event was handled. Returns the ids.
create or replace function dead_letter_retry(p_ids bigint[], p_grp text)
returns setof bigint
language plpgsql
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_ids bigint[];
begin
  select array_agg(p) into v_ids from dead_letter_pick(p_ids, p_grp) p;
  update mails m set status = 'sending', error = null
  from dead_letters d
  where d.id = any (v_ids) and d.grp = 'email-workers' and d.state = 'dead' and m.event_id = d.event_id and m.status = 'failed';
  -- What has been released stays so: the record finds that, and goes.
  update sagas s set state = 'delivering', reason = null, changed_at = clock_timestamp()
  from dead_letters d
  where d.id = any (v_ids) and d.grp = 'reward-workers' and d.state = 'dead' and s.user_reward_id = dead_letter_reward(d)
    and s.event_id = d.event_id and s.state = 'compensating';
  update deliveries v set status = 'sending', error = null
  from dead_letters d
  where d.id = any (v_ids) and d.grp = 'reward-workers' and d.state = 'dead' and v.user_reward_id = dead_letter_reward(d)
    and v.status = 'failed'
    and (select s.state from sagas s where s.user_reward_id = v.user_reward_id) is distinct from 'released';
  return query
    update dead_letters d
    set state = 'retry', attempts = 0, next_at = now(), leased_until = null, failed_at = null, blocked_at = null
    where d.id = any (v_ids) and d.state <> 'parked'
    returning d.id;
end
$$;

-- Forgets records. Their mails and deliveries must not look as if they were under way. Returns the ids.
create or replace function dead_letter_discard(p_ids bigint[], p_grp text)
returns setof bigint
language plpgsql
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_ids bigint[];
begin
  select array_agg(p) into v_ids from dead_letter_pick(p_ids, p_grp) p;
  update mails m set status = 'failed', error = 'discarded by an operator'
  from dead_letters d
  where d.id = any (v_ids) and d.grp = 'email-workers' and m.event_id = d.event_id and m.status = 'sending';
  update sagas s set state = 'compensating', reason = 'discarded by an operator', calling_until = null, changed_at = clock_timestamp()
  from dead_letters d
  where d.id = any (v_ids) and d.grp = 'reward-workers' and s.user_reward_id = dead_letter_reward(d) and s.event_id = d.event_id
    and s.state in ('reserved', 'delivering');
  update deliveries v set status = 'failed', error = 'discarded by an operator'
  from dead_letters d
  where d.id = any (v_ids) and d.grp = 'reward-workers' and v.user_reward_id = dead_letter_reward(d) and v.status = 'sending';
  return query delete from dead_letters d where d.id = any (v_ids) returning d.id;
end
$$;

-- As HTTP shows one, JSON text; p_whole: with its record. What is not JSON comes as base64.
create or replace function dead_letter_item(d dead_letters, p_whole boolean)
returns text
language plpgsql stable as $$
declare
  v_head text;
begin
  select row_to_json(x)::text into v_head
  from (select d.id as dead_letter_id, d.grp as "group", d.state, d.type, d.event_id, d.topic, d.partition, d."offset", d.attempts,
               d.reason, rfc3339(d.created_at) as created_at, rfc3339(d.failed_at) as failed_at, rfc3339(d.tried_at) as tried_at,
               rfc3339(d.next_at) as next_at, coalesce(d.leased_until > now(), false) as being_tried) x;
  if not p_whole then
    return v_head;
  end if;
  return left(v_head, -1) || ',"key_base64":' || coalesce(to_json(translate(encode(d.key, 'base64'), E'\n', ''))::text, 'null')
         || ',"value":' || coalesce(case when d.event_id is not null then convert_from(d.value, 'UTF8') end, 'null')
         || ',"value_base64":'
         || coalesce(case when d.event_id is null then to_json(translate(encode(d.value, 'base64'), E'\n', ''))::text end, 'null')
         || '}';
end
$$;

-- For HTTP, as sql/fn_reads.sql has its functions. No account: these are the operators'.
create or replace function read_dead_letters(p_account int, p_limit int, p_before bigint, p_grp text, p_state text)
returns table (item text, cursor text, rest text, known boolean) language sql stable as $$
  select case when (f.d).id is not null then dead_letter_item(f.d, false) end, (f.d).id::text, null, true
  from (select 1) one
  left join lateral (select d from dead_letter_list(p_grp, p_state, p_before, p_limit + 1) d) f on true
$$;

create or replace function read_dead_letter(p_account int, p_id bigint)
returns table (item text) language sql stable as $$
  select case when d.id is not null then dead_letter_item(d, true) end
  from (select 1) one left join dead_letters d on d.id = p_id
$$;

-- there: it is, but somebody is trying it, or it is parked. item: as it is now, or was.
create or replace function change_dead_letter(p_id bigint, p_retry boolean)
returns table (item text, there boolean)
language plpgsql as $$
declare
  v_row dead_letters;
  v_done bigint;
begin
  select d.* into v_row from dead_letters d where d.id = p_id;
  there := v_row.id is not null;
  if p_retry then
    select r into v_done from dead_letter_retry(array[p_id], null) r;
    select d.* into v_row from dead_letters d where d.id = p_id;
  else
    select r into v_done from dead_letter_discard(array[p_id], null) r;
  end if;
  item := case when v_done is not null then dead_letter_item(v_row, false) end;
  return next;
end
$$;

-- Dead letters of which Kafka has no copy yet, oldest first; none while another process is at it. Until the end of the
-- transaction nobody else is. From the third column on they are headers.
create or replace function dead_letter_unmirrored(p_grp text, p_limit int)
returns table (id bigint, key bytea, value bytea, "tidings-group" text, "tidings-reason" text, "tidings-attempts" text,
               "tidings-topic" text, "tidings-partition" text, "tidings-offset" text, "tidings-event-id" text)
language plpgsql as $$
#variable_conflict use_column
begin
  if not pg_try_advisory_xact_lock(1953064037, hashtext('dead letters of ' || p_grp)) then
    return;
  end if;
  return query
    select d.id, d.key, d.value, d.grp, d.reason, d.attempts::text, d.topic, d.partition::text, d."offset"::text, d.event_id::text
    from dead_letters d
    where d.grp = p_grp and d.state = 'dead' and d.mirrored_at is null
    order by d.id limit p_limit;
end
$$;

create or replace function dead_letter_mirrored(p_ids bigint[])
returns void
language sql as $$
  update dead_letters d set mirrored_at = clock_timestamp() where d.id = any (p_ids) and d.state = 'dead'
$$;
