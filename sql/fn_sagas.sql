-- The saga of an earned reward (docs/saga.md).
--
--   reserved ──▶ delivering ──▶ delivered ──▶ confirmed          the first two moves and the last but one are reward-workers',
--      └────────────┴──▶ compensating ──▶ released              those into the last column an action of the campaign's lane
--
-- Who moves a saga names the states that it may be in and updates its row in the transaction of what the move means. So of
-- two that would move it one comes first, and the other finds that it did. Rows are locked before those of `deliveries`, and no
-- lane ever waits for one: it passes over what somebody else has locked.

-- --- what reward-workers do ------------------------------------------------------------------------------------------

-- Begins an attempt at each delivery that is still wanted, and returns each one's status now, in order: 'sending' is to be
-- sent. An attempt ends within half of p_lease_ms. None is begun after twice p_deadline_s (0: none), so that sagas_due can end those
-- whose turn never comes.
create or replace function delivery_begin(p_user_rewards uuid[], p_events uuid[], p_campaigns int[], p_rewards int[],
                                          p_places bigint[], p_kinds text[], p_targets text[], p_lease_ms bigint default 60000,
                                          p_deadline_s int default 0)
returns setof text
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
declare
  v_lease constant interval := p_lease_ms * interval '1 ms';
  v_oldest constant timestamptz := case when p_deadline_s = 0 then '-infinity'
                                        else clock_timestamp() - 2 * make_interval(secs => p_deadline_s) end;
begin
  -- What was earned before there were sagas.
  insert into sagas (user_reward_id, campaign, reward, n, place, event_id, state, earned_at, changed_at)
  select e.id, e.campaign, e.reward, e.n, e.place, g.event, 'reserved', e.earned_at, e.earned_at
  from unnest(p_user_rewards, p_events, p_campaigns, p_rewards, p_places) as g (user_reward, event, campaign, reward, place)
  join user_rewards e on e.campaign = g.campaign and e.place = g.place and e.reward = g.reward and e.id = g.user_reward
  where not exists (select from sagas s where s.user_reward_id = g.user_reward)
  order by e.id
  on conflict do nothing;
  -- The fence: one that is being released is not delivered any more. Those whose turn it is not come back again and again; they
  -- need not write each time.
  update sagas s
  set state = 'delivering', calling_until = clock_timestamp() + v_lease,
      changed_at = case when s.state = 'reserved' then clock_timestamp() else s.changed_at end
  where s.user_reward_id = any (p_user_rewards) and s.earned_at > v_oldest
    and (s.state = 'reserved'
         or s.state = 'delivering' and coalesce(s.calling_until < clock_timestamp() + v_lease / 2, true));
  insert into deliveries (user_reward_id, event_id, campaign, reward, place, kind, target, status)
  select g.user_reward, g.event, g.campaign, g.reward, g.place::int, g.kind, g.target, 'sending'
  from unnest(p_user_rewards, p_events, p_campaigns, p_rewards, p_places, p_kinds, p_targets)
       as g (user_reward, event, campaign, reward, place, kind, target)
  where (select s.state from sagas s where s.user_reward_id = g.user_reward) = 'delivering'
  order by g.user_reward
  on conflict (user_reward_id) do nothing;
  return query
    select case when s.state = 'delivering' and s.earned_at <= v_oldest then 'late'
                when s.state = 'delivering' then (select d.status from deliveries d where d.user_reward_id = g.user_reward)
                else coalesce(s.state, 'unknown') end
    from unnest(p_user_rewards) with ordinality as g (user_reward, ord)
    left join sagas s on s.user_reward_id = g.user_reward
    order by g.ord;
end
$$;

-- Records what became of deliveries that were 'sending'. 'sending' again: the attempt failed and will be repeated. Returns how
-- many were delivered although they had been released meanwhile: none, unless an attempt outlived its lease.
create or replace function delivery_settle(p_user_rewards uuid[], p_statuses text[], p_http_statuses int[], p_errors text[])
returns int
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  update sagas s
  set state = case g.status when 'delivered' then 'delivered' when 'failed' then 'compensating' else s.state end,
      reason = case g.status when 'failed' then g.error end,
      calling_until = null,
      changed_at = case when g.status = 'sending' then s.changed_at else clock_timestamp() end
  from unnest(p_user_rewards, p_statuses, p_errors) as g (user_reward, status, error)
  where s.user_reward_id = g.user_reward
    and (s.state = 'delivering' or s.state = 'compensating' and g.status = 'delivered');
  update deliveries d
  set status = g.status, http_status = g.http_status, error = g.error, attempts = d.attempts + 1,
      delivered_at = case when g.status = 'delivered' then now() end
  from unnest(p_user_rewards, p_statuses, p_http_statuses, p_errors) as g (user_reward, status, http_status, error)
  where d.user_reward_id = g.user_reward
    and (d.status = 'sending'
         or d.status in ('expired', 'failed') and g.status = 'delivered' and (select s.state from sagas s where s.user_reward_id = g.user_reward) = 'delivered');
  return (select count(*) from unnest(p_user_rewards, p_statuses) as g (user_reward, status)
          join sagas s on s.user_reward_id = g.user_reward
          where g.status = 'delivered' and s.state = 'released');
end
$$;

-- Deliveries that are given up outside of delivery_settle. The events tell: a record that only names somebody's earned reward
-- takes nothing away from them.
create or replace function delivery_give_up(p_user_rewards uuid[], p_events uuid[], p_errors text[])
returns void
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  update sagas s set state = 'compensating', reason = g.error, calling_until = null, changed_at = clock_timestamp()
  from unnest(p_user_rewards, p_events, p_errors) as g (user_reward, event, error)
  where s.user_reward_id = g.user_reward and s.event_id = g.event and s.state in ('reserved', 'delivering');
  update deliveries d set status = 'failed', error = g.error
  from unnest(p_user_rewards, p_events, p_errors) as g (user_reward, event, error)
  where d.user_reward_id = g.user_reward and d.event_id = g.event and d.status = 'sending';
end
$$;

-- --- what the driver does --------------------------------------------------------------------------------------------

-- Gives up what has not been delivered for p_deadline_s (0: none), and returns at most p_limit campaigns whose lanes have
-- sagas to end. An attempt whose outcome nobody knows may have got through: it puts the deadline off by as much again, so that
-- it is repeated first; but not for ever (delivery_begin).
create or replace function sagas_due(p_deadline_s int, p_limit int) returns setof uuid
language plpgsql
as $$
declare
  v_late uuid[];
  v_reason constant text := 'not delivered within ' || p_deadline_s || ' seconds';
begin
  if p_deadline_s > 0 then
    v_late := array(
      select s.user_reward_id from sagas s
      where s.state in ('reserved', 'delivering') and s.earned_at < clock_timestamp() - make_interval(secs => p_deadline_s)
        and (s.calling_until is null or s.calling_until < clock_timestamp() - make_interval(secs => p_deadline_s)
             or s.calling_until < clock_timestamp() and s.earned_at < clock_timestamp() - 2 * make_interval(secs => p_deadline_s))
      order by s.earned_at limit 1000 for update skip locked);
  end if;
  if cardinality(v_late) > 0 then
    update sagas s set state = 'compensating', reason = v_reason, calling_until = null, changed_at = clock_timestamp()
    where s.user_reward_id = any (v_late);
    update deliveries d set status = 'expired', error = v_reason where d.user_reward_id = any (v_late) and d.status = 'sending';
  end if;
  return query
  with recursive due as (
    (select s.campaign from sagas s where s.state in ('delivered', 'compensating') order by s.campaign, s.changed_at limit 1)
    union all
    select (select s.campaign from sagas s where s.state in ('delivered', 'compensating') and s.campaign > d.campaign
            order by s.campaign, s.changed_at limit 1)
    from due d where d.campaign is not null),
  campaign as (
    select (select c from campaigns c where c.no = d.campaign order by c.no limit 1) as c from due d where d.campaign is not null)
  select (x.c).id from campaign x where (x.c).id is not null and (x.c).deleted_at is null limit p_limit;
end
$$;

-- --- what lanes do ---------------------------------------------------------------------------------------------------

-- Ends at most args.rows sagas of the campaign: what was delivered is confirmed, what was given up is released and may be earned
-- again. The outcome's place is 1 while there may be more to do.
create or replace function act_end_sagas(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  v_rows constant int := (p.args ->> 'rows')::int;
  v_due uuid[];
  v_events lane_row[];
begin
  v_due := array(
    select s.user_reward_id from sagas s
    where s.campaign = c.no and s.state in ('delivered', 'compensating')
    order by s.campaign, s.changed_at limit v_rows for update skip locked);
  if cardinality(v_due) = 0 then
    return outcome(p, 0, c.id, p_place => 0);
  end if;
  v_events := saga_ends_happened(p, c, v_due, (cardinality(v_due) = v_rows)::int);

  update sagas s
  set state = case s.state when 'delivered' then 'confirmed' else 'released' end, changed_at = v_events[1].at,
      end_event_id = v_events[array_position(v_due, s.user_reward_id)].event_id
  where s.user_reward_id = any (v_due);
  insert into reward_releases (campaign, reward, m, n, place, released_at)
  select s.campaign, s.reward, reward_released(s.campaign, s.reward) + row_number() over (partition by s.reward order by g.ord),
         s.n, s.place, s.changed_at
  from unnest(v_due) with ordinality as g (id, ord)
  join lateral (select x.* from sagas x where x.user_reward_id = g.id order by x.user_reward_id limit 1) s on s.state = 'released';
  return v_events;
end $$;

-- Appends the events of sagas that end, one for each, in order.
create or replace function saga_ends_happened(p act, c campaigns, p_due uuid[], p_place int) returns lane_row[]
language plpgsql volatile as $$
begin
  return (
  with ending as materialized (
    select g.ord, (select s from sagas s where s.user_reward_id = g.id order by s.user_reward_id limit 1) as s
    from unnest(p_due) with ordinality as g (id, ord)),
  told as materialized (
    select array_agg(p.of_action order by e.ord) as o, array_agg(e.ord::int order by e.ord) as k,
           array_agg(c.shard order by e.ord) as shard, array_agg(c.no order by e.ord) as no,
           array_agg(case (e.s).state when 'delivered' then 15 else 13 end::smallint order by e.ord) as type,
           array_agg(event_id_at(p.event, e.ord::int - 1) order by e.ord) as id,
           array_agg(earned_data(c, e.s, (e.s).state <> 'delivered') order by e.ord) as data
    from ending e)
  select array_agg(row(a.of_action, 0, c.id, p_place, null, c.account_id, a.shard, a.seq, a.version, a.type, a.at, a.id, a.data,
                       null)::lane_row order by a.seq)
  from told t, append_events(t.o, t.k, t.shard, t.no, t.type, t.id, t.data) a);
end $$;

create or replace function earned_data(c campaigns, s sagas, p_reason boolean) returns text language plpgsql stable as $$
begin
  return (
  select '{"user_reward_id":"' || s.user_reward_id || '","user_id":"'
         || (select u.id from users u where u.campaign = s.campaign and u.place = s.place order by u.campaign, u.place limit 1)
         || '","campaign_id":"' || c.id || '","reward_id":"'
         || (select w.id from rewards w where w.campaign = s.campaign and w.no = s.reward order by w.campaign, w.no limit 1)
         || case when p_reason then '","reason":' || to_json(coalesce(s.reason, ''))::text else '"' end || '}');
end $$;

-- How many units of a reward came back.
create or replace function reward_released(p_campaign int, p_reward int) returns int language plpgsql stable as $$
begin
  return coalesce((select r.m from reward_releases r where r.campaign = p_campaign and r.reward = p_reward
                   order by r.campaign desc, r.reward desc, r.m desc limit 1), 0);
end $$;

-- --- what reads show -------------------------------------------------------------------------------------------------

create or replace function saga_item(p_campaign uuid, s sagas) returns text language plpgsql stable as $$
begin
  return (
  select row_to_json(x)::text
  from (select s.user_reward_id,
               (select u.id from users u where u.campaign = s.campaign and u.place = s.place
                order by u.campaign, u.place limit 1) as user_id,
               p_campaign as campaign_id,
               (select w.id from rewards w where w.campaign = s.campaign and w.no = s.reward
                order by w.campaign, w.no limit 1) as reward_id,
               s.state, coalesce((select d.attempts from deliveries d where d.user_reward_id = s.user_reward_id
                                  order by d.user_reward_id limit 1), 0) as attempts,
               s.reason, rfc3339(s.earned_at) as earned_at, rfc3339(s.changed_at) as changed_at) x);
end $$;

-- A campaign's sagas, by reward and the order in which it was earned; both are the cursor (see sql/fn_reads.sql).
create or replace function read_sagas(p_account int, p_campaign uuid, p_limit int, p_reward int, p_n int, p_state text)
returns table (item text, cursor text, rest text, known boolean) language plpgsql stable as $$
#variable_conflict use_column
declare
  v_no constant int := (campaign_to_read(p_account, p_campaign)).no;
begin
  if v_no is null then
    return;
  end if;
  return query
  with looked_at as materialized (
    select s.user_reward_id as id, s.reward, s.n, s.state
    from sagas s
    where (s.campaign, s.reward, s.n) > (v_no, coalesce(p_reward, 0), coalesce(p_n, 0))
      and (s.campaign, s.reward, s.n) < (v_no, 2147483647, 0)
    order by s.campaign, s.reward, s.n limit 2000),
  found as materialized (
    select l.id, l.reward, l.n from looked_at l where p_state is null or l.state = p_state limit p_limit + 1)
  select (select saga_item(p_campaign, s) from sagas s where s.user_reward_id = f.id), f.reward || '.' || f.n,
         case when (select count(*) from found) <= p_limit
              then (select l.reward || '.' || l.n from looked_at l offset 1999 limit 1) end,
         true
  from (select 1) one left join found f on true;
end $$;
