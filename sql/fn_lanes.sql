-- What lanes call: one call of lane_apply is one transaction. The first statement locks the shards; the later ones, with a
-- fresh snapshot, read and write. Reading in the locking statement would number from a snapshot taken before the lock.
--
-- Plans must not depend on statistics (a plan made while tables are tiny is ruinous later), so each look-up is a scalar
-- subquery that names a whole index order; joins are only between the small sets of the batch itself.
--
-- err: 0 done; 1 no such campaign; 2 address taken (object_id: who has it); 3 no such referral code; 4 no such user (place: 1
--      when it is the referrer); 5 done before (version: the campaign's now); 6 campaign closed; 7 campaign open;
--      8 other version (version: the present one); 9 again: depends on an action of the same batch, comes back in the next;
--      10 Idempotency-Key used for another request; 11 has a referrer (object_id: the referral); 12 refers itself;
--      13 verified already; 14 too soon (place: seconds to wait); 15 as many as there may be; 16 no such reward;
--      17 out of stock; 18 earned before (object_id: the user reward); 19 no such referral.

-- The only function that appends events. Rows come in order; numbers follow it. p_of and p_k are given back untouched, so
-- that the caller can tell whose event it is.
create or replace function append_events(p_of int[], p_k int[], p_shard int[], p_aggregate int[], p_type smallint[],
                                         p_id uuid[], p_data text[])
returns table (of_action int, k int, shard int, seq bigint, version bigint, type smallint, at timestamptz, id uuid, data text)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := clock_timestamp();
begin
  return query
  with given as materialized (
    select * from unnest(p_of, p_k, p_shard, p_aggregate, p_type, p_id, p_data)
      with ordinality as g(of_action, k, shard, aggregate, type, id, data, i)),
  heads as materialized (
    select d.shard, (select e from events e where e.shard = d.shard order by e.shard desc, e.seq desc limit 1) as last
    from (select distinct g.shard from given g) d),
  aggregates as materialized (
    select d.aggregate, coalesce((select e.version from events e where e.aggregate = d.aggregate
                                  order by e.aggregate desc, e.version desc limit 1), 0) as version
    from (select distinct g.aggregate from given g) d),
  numbered as materialized (
    select g.of_action, g.k, g.shard, g.aggregate, g.type, g.id, g.data,
           coalesce((h.last).seq, 0) + row_number() over (partition by g.shard order by g.i) as seq,
           a.version + row_number() over (partition by g.aggregate order by g.i) as version,
           greatest((h.last).at, v_now) as at
    from given g join heads h on h.shard = g.shard join aggregates a on a.aggregate = g.aggregate),
  appended as (
    insert into events (seq, version, at, shard, aggregate, id, type, format, data)
    select n.seq, n.version, n.at, n.shard, n.aggregate, n.id, n.type, 1, n.data from numbered n)
  select n.of_action, n.k, n.shard, n.seq, n.version, n.type, n.at, n.id, n.data from numbered n;
end $$;

-- The first statement of every lane transaction. Shards come in ascending order, so lanes of other hosts cannot deadlock.
create or replace function lock_shards(p_shards int[]) returns void language plpgsql volatile as $$
declare
  s int;
begin
  foreach s in array p_shards loop
    perform pg_advisory_xact_lock(1953064037, s);   -- the class is "tide" in ASCII, ours alone in this database
  end loop;
end $$;

-- The k-th event of an action: the base id with k in its last byte. Where that begins with 0 it is left as it is: before there
-- were actions with more than 16 events, only the last four bits were free.
create or replace function event_id_at(p_base uuid, p_k int) returns uuid language sql immutable as $$
  select overlay(p_base::text placing to_hex(p_k) from case when p_k < 16 then 36 else 35 end)::uuid
$$;

-- An id that carries a number in its last four bytes.
create or replace function id_with_place(p_id uuid, p_place int) returns uuid language sql immutable as $$
  select (left(p_id::text, 28) || lpad(to_hex(p_place), 8, '0'))::uuid
$$;

-- --- sign-ups and verifications: many at once ------------------------------------------------------------------------

-- p_skip: numbers of actions that are answered already.
create or replace function apply_sign_ups(
  p_skip int[], p_account int[], p_campaign uuid[], p_id uuid[], p_event uuid[], p_referrer int[], p_email_key text[],
  p_email text[], p_metadata text[], p_source text[])
returns setof lane_row
language plpgsql volatile as $$
begin
  return query
  with given as materialized (
    select g.o::int as o, g.account, g.cid, g.id, g.event, g.referrer, g.email_key, g.email, g.metadata, g.source
    from unnest(p_account, p_campaign, p_id, p_event, p_referrer, p_email_key, p_email, p_metadata, p_source)
      with ordinality as g(account, cid, id, event, referrer, email_key, email, metadata, source, o)
    where g.o <> all (p_skip)),
  found as materialized (
    select d.cid, (select x from campaigns x where x.id = d.cid and x.deleted_at is null order by x.id limit 1) as x
    from (select distinct g.cid from given g) d),
  campaign as materialized (
    select f.cid, (f.x).no as no, (f.x).account as account, (f.x).account_id as account_id, (f.x).shard as shard,
           (f.x).milestones as milestones, (f.x).landing_url as landing_url, (f.x).closed_at is not null as closed,
           (f.x).no is null as missing,
           coalesce((select u.place from users u where u.campaign = (f.x).no
                     order by u.campaign desc, u.place desc limit 1), 0) as last_place
    from found f),
  checked as materialized (
    select g.o, g.cid, g.id, g.event, g.referrer, g.email_key, g.email, g.metadata, g.source,
           c.no, c.account_id, c.shard, c.milestones, c.landing_url, c.last_place,
           (select u.id from users u where u.campaign = c.no and u.email_key = g.email_key
            order by u.campaign, u.email_key limit 1) as taken_by,
           case when c.missing or (g.account <> 0 and g.account <> c.account) then 1
                when c.closed then 6
                -- Places are dense and users are not deleted, so a referrer exists when its place is not past the last.
                -- One past it can still come into being, but only by the actions before it in this batch.
                when g.referrer > c.last_place then
                  case when g.referrer < c.last_place + row_number() over (partition by g.cid order by g.o) then 9 else 3 end
                else 0 end as err
    from given g join campaign c on c.cid = g.cid),
  -- An address that an earlier action of the batch may take is looked at again when that is settled.
  decided as materialized (
    select k.*, case when k.err in (1, 6) then k.err
                     when k.taken_by is not null then 2
                     when count(*) filter (where k.err in (0, 9))
                       over (partition by k.cid, k.email_key order by k.o rows between unbounded preceding and 1 preceding) > 0
                       then 9
                     else k.err end as outcome
    from checked k),
  placed as materialized (
    select d.*, (d.last_place + row_number() over (partition by d.cid order by d.o))::int as place
    from decided d where d.outcome = 0),
  fresh as materialized (select p.*, id_with_place(p.id, p.place) as user_id from placed p),
  referred as materialized (
    select f.o, f.no, f.shard, f.cid, f.place, f.referrer, f.user_id, f.event,
           id_with_place(f.event, f.place) as referral_id,
           (select u.id from users u where u.campaign = f.no and u.place = f.referrer
            order by u.campaign, u.place limit 1) as referrer_id
    from fresh f where f.referrer > 0),
  staged as materialized (
    select array_agg(q.o) as o, array_agg(q.k) as k, array_agg(q.shard) as shard, array_agg(q.no) as no,
           array_agg(q.type) as type, array_agg(q.id) as id, array_agg(q.data) as data
    from (
      select f.o, 0 as k, f.shard, f.no, 1::smallint as type, f.event as id,
             '{"user_id":"' || f.user_id || '","campaign_id":"' || f.cid || '","email":'
               || to_json(coalesce(f.email, f.email_key)) || '}' as data
      from fresh f
      union all
      select r.o, 1, r.shard, r.no, 3::smallint, event_id_at(r.event, 1),
             '{"referral_id":"' || r.referral_id || '","referrer_id":"' || r.referrer_id || '","referred_id":"'
               || r.user_id || '","campaign_id":"' || r.cid || '"}'
      from referred r
      union all
      select f.o, 2, f.shard, f.no, 6::smallint, event_id_at(f.event, 2),
             '{"campaign_id":"' || f.cid || '","milestone":"' || f.place || '_participants","participant_count":'
               || f.place || '}'
      from fresh f where f.place = any (f.milestones)
      order by 1, 2) q),
  appended as materialized (
    select a.* from staged s, append_events(s.o, s.k, s.shard, s.no, s.type, s.id, s.data) a),
  signed_up as (
    insert into users (campaign, place, id, created_at, email_key, email, metadata, source)
    select f.no, f.place, f.user_id, a.at, f.email_key, f.email, f.metadata, f.source
    from fresh f join appended a on a.of_action = f.o and a.k = 0),
  linked as (
    insert into referrals (campaign, referred, referrer, id, created_at)
    select r.no, r.place, r.referrer, r.referral_id, a.at
    from referred r join appended a on a.of_action = r.o and a.k = 1)
  select d.o, d.outcome, case d.outcome when 2 then d.taken_by else f.user_id end, f.place, d.landing_url, d.account_id,
         a.shard, a.seq, a.version, a.type, a.at, a.id, a.data, null::smallint
  from decided d left join fresh f on f.o = d.o left join appended a on a.of_action = d.o;
end $$;

-- Verifications (by their places) that may earn somebody a reward: they are applied one by one, because an action's events are
-- consecutive, and what one earns bears on what the next can. Those are few: a referrer earns each reward once.
create or replace function may_earn(p_campaign uuid[], p_place int[]) returns int[] language plpgsql volatile as $$
begin
  return array(
    with rewarding as materialized (
      select d.id, (select x.no from campaigns x where x.id = d.id and x.auto_rewards > 0 order by x.id limit 1) as no
      from (select distinct unnest(p_campaign) as id) d),
    given as materialized (
      select g.o::int as o, c.no, g.place,
             (select r.referrer from referrals r where r.campaign = c.no and r.referred = g.place
              order by r.campaign, r.referred limit 1) as referrer
      from unnest(p_campaign, p_place) with ordinality as g(campaign, place, o) join rewarding c on c.id = g.campaign
      where c.no is not null),
    -- No more than that many, should all of them count.
    counted as materialized (
      select g.o, g.no, g.referrer,
             coalesce((select v.n from verified_referrals v where v.campaign = g.no and v.referrer = g.referrer
                       order by v.campaign desc, v.referrer desc, v.n desc limit 1), 0)
               + row_number() over (partition by g.no, g.referrer order by g.o) as n
      from given g where g.referrer is not null)
    select k.o from counted k
    where exists (select from rewards w
                  where w.campaign = k.no and w.threshold <= k.n and can_earn(w, k.referrer))
    order by k.o);
end $$;

-- p_skip: numbers of actions that are answered already; p_alone: places of those that are applied alone; p_base: actions
-- that came before in the batch.
create or replace function apply_verifications(
  p_skip int[], p_alone int[], p_base int, p_account int[], p_campaign uuid[], p_user uuid[], p_place int[], p_event uuid[])
returns setof lane_row
language plpgsql volatile as $$
begin
  return query
  with given as materialized (
    select g.o::int + p_base as o, g.account, g.cid, g.user_id, g.place, g.event
    from unnest(p_account, p_campaign, p_user, p_place, p_event)
      with ordinality as g(account, cid, user_id, place, event, o)
    where g.o + p_base <> all (p_skip) and g.o <> all (p_alone)),
  found as materialized (
    select d.cid, (select x from campaigns x where x.id = d.cid and x.deleted_at is null order by x.id limit 1) as x
    from (select distinct g.cid from given g) d),
  campaign as materialized (
    select f.cid, (f.x).no as no, (f.x).account as account, (f.x).account_id as account_id, (f.x).shard as shard,
           (f.x).points_per_referral as points, (f.x).no is null as missing
    from found f),
  looked_up as materialized (
    select g.o, g.account as by_account, g.cid, g.user_id, g.place, g.event, c.no, c.account, c.account_id, c.shard, c.points,
           c.missing,
           (select u from users u where u.campaign = c.no and u.place = g.place
            order by u.campaign, u.place limit 1) as u,
           (select v.place from verifications v where v.campaign = c.no and v.place = g.place
            order by v.campaign, v.place limit 1) as done_before,
           row_number() over (partition by g.cid, g.place order by g.o) as nth
    from given g join campaign c on c.cid = g.cid),
  decided as materialized (
    select l.*, case when l.missing or (l.by_account <> 0 and l.by_account <> l.account) then 1
                     when (l.u).id is null or (l.u).id <> l.user_id then 4
                     when l.done_before is not null then 5
                     when l.nth > 1 then 9
                     else 0 end as outcome
    from looked_up l),
  fresh as materialized (
    select d.*, (select r from referrals r where r.campaign = d.no and r.referred = d.place
                 order by r.campaign, r.referred limit 1) as r,
           (select v.n from verified_referrals v where v.campaign = d.no and v.referred = d.place
            order by v.campaign, v.referred limit 1) as counted_before
    from decided d where d.outcome = 0),
  -- Several users of one referrer in one batch are numbered one after the other.
  referred as materialized (
    select f.o, f.no, f.shard, f.cid, f.place, f.user_id, f.event, f.points, (f.r).referrer as referrer, (f.r).id as referral_id,
           (select u.id from users u where u.campaign = f.no and u.place = (f.r).referrer
            order by u.campaign, u.place limit 1) as referrer_id,
           (coalesce((select v.n from verified_referrals v where v.campaign = f.no and v.referrer = (f.r).referrer
                      order by v.campaign desc, v.referrer desc, v.n desc limit 1), 0)
            + row_number() over (partition by f.no, (f.r).referrer order by f.o))::int as n
    from fresh f where (f.r).referrer is not null and f.counted_before is null),
  staged as materialized (
    select array_agg(q.o) as o, array_agg(q.k) as k, array_agg(q.shard) as shard, array_agg(q.no) as no,
           array_agg(q.type) as type, array_agg(q.id) as id, array_agg(q.data) as data
    from (
      select f.o, 0 as k, f.shard, f.no, 2::smallint as type, f.event as id,
             '{"user_id":"' || f.user_id || '","campaign_id":"' || f.cid || '","email":'
               || to_json(coalesce((f.u).email, (f.u).email_key)) || '}' as data
      from fresh f
      union all
      select r.o, 1, r.shard, r.no, 4::smallint, event_id_at(r.event, 1),
             verified_referral_data(r.referral_id, r.referrer_id, r.user_id, r.cid, r.points)
      from referred r
      order by 1, 2) q),
  appended as materialized (
    select a.* from staged s, append_events(s.o, s.k, s.shard, s.no, s.type, s.id, s.data) a),
  verified as (
    insert into verifications (campaign, place, verified_at)
    select f.no, f.place, a.at from fresh f join appended a on a.of_action = f.o and a.k = 0),
  counted as (
    insert into verified_referrals (campaign, referrer, n, referred, verified_at)
    select r.no, r.referrer, r.n, r.place, a.at
    from referred r join appended a on a.of_action = r.o and a.k = 1)
  select d.o, d.outcome, d.user_id, d.place, null::text, d.account_id, a.shard, a.seq,
         case when d.outcome = 5 then campaign_version(d.no) else a.version end,
         a.type, a.at, a.id, a.data, null::smallint
  from decided d left join appended a on a.of_action = d.o;
end $$;

create or replace function verified_referral_data(p_referral uuid, p_referrer uuid, p_referred uuid, p_campaign uuid, p_points int)
returns text language sql stable as $$
  select '{"referral_id":"' || p_referral || '","referrer_id":"' || p_referrer || '","referred_id":"' || p_referred
         || '","campaign_id":"' || p_campaign || '","points_per_referral":' || p_points || '}'
$$;

-- --- idempotency keys ------------------------------------------------------------------------------------------------

-- Of a batch's actions with keys, those that are not to be applied now: answered before (err and the rest as then), of a
-- campaign that is gone (1), used for another request (10), the same key as an earlier action of the batch (9). The look-up
-- names the whole primary key as a range, so that no other index will do.
create or replace function keys_find(k_of int[], k_shard int[], k_campaign uuid[], k_key uuid[], k_request uuid[], k_keep_s int[])
returns setof lane_row
language plpgsql volatile as $$
begin
  return query
  with given as materialized (
    select g.*, row_number() over (partition by g.shard, g.campaign, g.key order by g.o) as nth,
           (select i from idempotency_keys i where (i.shard, i.campaign, i.key) >= (g.shard, g.campaign, g.key)
            order by i.shard, i.campaign, i.key limit 1) as i
    from unnest(k_of, k_shard, k_campaign, k_key, k_request, k_keep_s) as g(o, shard, campaign, key, request, keep_s)),
  known as materialized (
    select g.*, coalesce((g.i).shard = g.shard and (g.i).campaign = g.campaign and (g.i).key = g.key
                         and (g.i).created_at > clock_timestamp() - make_interval(secs => g.keep_s), false) as valid
    from given g),
  decided as materialized (
    select k.*, case when not k.valid then 9
                     when (k.i).request <> k.request then 10
                     when (select x.deleted_at from campaigns x
                           where x.id = case when k.campaign = '00000000-0000-0000-0000-000000000000' then (k.i).object_id
                                             else k.campaign end
                           order by x.id limit 1) is not null then 1
                     else (k.i).err::int end as outcome
    from known k
    where k.valid or k.nth > 1)
  select d.o, d.outcome, (d.i).object_id, (d.i).place, (d.i).extra, null::uuid, null::int, null::bigint, (d.i).version,
         null::smallint, (d.i).at, null::uuid, null::text, case when d.valid and d.outcome = (d.i).err then (d.i).events end
  from decided d;
end $$;

-- Keeps the outcomes of actions with keys, but for those that will be another when the request comes again (14: later).
create or replace function keys_store(p_rows lane_row[], k_of int[], k_shard int[], k_campaign uuid[], k_key uuid[],
                                      k_request uuid[])
returns void language plpgsql volatile as $$
begin
  with outcome as materialized (
    select r.of_action, max(r.err) as err, (array_agg(r.object_id))[1] as object_id, max(r.place) as place,
           max(r.extra) as extra, max(r.version) as version, count(r.seq) as events, max(r.at) as at
    from unnest(p_rows) r where r.err not in (9, 14)
    group by r.of_action)
  insert into idempotency_keys as i (shard, campaign, key, request, err, object_id, place, extra, version, events, at, created_at)
  select k.shard, k.campaign, k.key, k.request, o.err, o.object_id, o.place, o.extra, o.version, o.events, o.at, clock_timestamp()
  from unnest(k_of, k_shard, k_campaign, k_key, k_request) as k(o, shard, campaign, key, request)
  join outcome o on o.of_action = k.o
  order by k.shard, k.campaign, k.key
  on conflict (shard, campaign, key) do update      -- one that was kept for long enough
  set request = excluded.request, err = excluded.err, object_id = excluded.object_id, place = excluded.place,
      extra = excluded.extra, version = excluded.version, events = excluded.events, at = excluded.at,
      created_at = excluded.created_at;
end $$;

-- --- the call --------------------------------------------------------------------------------------------------------

-- A batch: sign-ups (s_…), then verifications (v_…, those that may earn a reward last), then other actions (a_…, one by one),
-- in arrival order otherwise; k_…: Idempotency-Keys of some of them, k_of being an action's place in this order, from 1. One
-- row per event, and one per action without events. A referrer or account of 0 means: none, not checked.
create or replace function lane_apply(
  p_shards int[],
  s_account int[], s_campaign uuid[], s_id uuid[], s_event uuid[], s_referrer int[], s_email_key text[], s_email text[],
  s_metadata text[], s_source text[],
  v_account int[], v_campaign uuid[], v_user uuid[], v_place int[], v_event uuid[],
  a_kind int[], a_shard int[], a_account int[], a_account_id uuid[], a_campaign uuid[], a_subject uuid[], a_event uuid[], a_args text[],
  k_of int[], k_shard int[], k_campaign uuid[], k_key uuid[], k_request uuid[], k_keep_s int[])
returns setof lane_row
language plpgsql volatile as $$
declare
  MAX_ALONE constant int := 50;                     -- one by one costs a millisecond each, under the locks
  v_keyed  constant boolean := cardinality(k_of) > 0;
  v_base   int := cardinality(s_campaign);
  v_skip   int[] := '{}';
  v_alone  int[];
  v_rows   lane_row[];
  v_kept   lane_row[] := '{}';
  i        int;
begin
  perform lock_shards(p_shards);

  if v_keyed then
    v_rows := array(select r from keys_find(k_of, k_shard, k_campaign, k_key, k_request, k_keep_s) r);
    v_skip := array(select r.of_action from unnest(v_rows) r);
    return query select * from unnest(v_rows);
  end if;

  if v_base > 0 and not v_keyed then
    return query select * from apply_sign_ups(v_skip, s_account, s_campaign, s_id, s_event, s_referrer, s_email_key, s_email,
                                              s_metadata, s_source);
  elsif v_base > 0 then
    v_kept := array(select r from apply_sign_ups(v_skip, s_account, s_campaign, s_id, s_event, s_referrer, s_email_key, s_email,
                                                 s_metadata, s_source) r);
    return query select * from unnest(v_kept);
  end if;

  if cardinality(v_campaign) > 0 then
    v_alone := may_earn(v_campaign, v_place);
    v_rows := array(select r from apply_verifications(v_skip, v_alone, v_base, v_account, v_campaign, v_user, v_place, v_event) r);
    foreach i in array v_alone loop
      continue when v_base + i = any (v_skip);
      v_rows := v_rows || case when i = any (v_alone[MAX_ALONE + 1:]) then comes_again(v_base + i)
                               else verify_alone(v_base + i, v_account[i], v_campaign[i], v_user[i], v_place[i], v_event[i]) end;
    end loop;
    if v_keyed then
      v_kept := v_kept || v_rows;
    end if;
    return query select * from unnest(v_rows);
    v_base := v_base + cardinality(v_campaign);
  end if;

  for i in 1 .. cardinality(a_kind) loop
    continue when v_base + i = any (v_skip);
    v_rows := apply_act(row(v_base + i, a_kind[i], a_shard[i], a_account[i], a_account_id[i], a_campaign[i], a_subject[i], a_event[i],
                            a_args[i]::jsonb)::act);
    if v_keyed then
      v_kept := v_kept || v_rows;
    end if;
    return query select * from unnest(v_rows);
  end loop;

  if v_keyed then
    perform keys_store(v_kept, k_of, k_shard, k_campaign, k_key, k_request);
  end if;
  perform vouch();
end $$;

create or replace function comes_again(p_of int) returns lane_row[] language plpgsql immutable as $$
begin
  return array[row(p_of, 9, null, null, null, null, null, null, null, null, null, null, null, null)::lane_row];
end $$;

-- A verification with the rewards that it brings.
create or replace function verify_alone(p_of int, p_account int, p_campaign uuid, p_user uuid, p_place int, p_event uuid)
returns lane_row[] language plpgsql volatile as $$
declare
  v_rows lane_row[] := array(select r from apply_verifications('{}', '{}', p_of - 1, array[p_account], array[p_campaign],
                                                               array[p_user], array[p_place], array[p_event]) r);
begin
  return v_rows || earn_rewards(v_rows);
end $$;

-- The last seq of every shard, 0 where there is none. Also what the relay polls for other hosts' commits.
create or replace function shard_heads() returns table (shard int, seq bigint) language sql stable as $$
  select s, coalesce((select e.seq from events e where e.shard = s order by e.shard desc, e.seq desc limit 1), 0)
  from installation i, generate_series(0, i.shards - 1) s
$$;

-- --- a lost batch ----------------------------------------------------------------------------------------------------

-- What became of a batch whose answer was lost: the events that its actions caused, as lane_apply would have returned
-- them, but for `extra`: it is what is kept under the action's Idempotency-Key or, without one, how things are now. Looks past p_after of each shard. Called when the old backend is known to be gone.
create or replace function lane_outcome(p_shard int[], p_after bigint[], p_event uuid[], p_key_shard int[], p_key_campaign uuid[],
                                        p_key uuid[])
returns setof lane_row
language plpgsql stable as $$
begin
  return query
  -- One range read per shard, from where the lane last knew it, whatever the statistics say; then the small sets meet.
  with later as materialized (
    select e.*
    from (select g.shard, min(g.after) as after from unnest(p_shard, p_after) as g(shard, after) group by g.shard) d
    cross join lateral (select x.* from events x where x.shard = d.shard and x.seq > d.after
                        order by x.shard, x.seq offset 0) e),
  found as (
    select g.o::int as o, e.*, first_value(e.type) over w as first_type, first_value(e.data) over w as first_data
    from unnest(p_event) with ordinality as g(event, o)
    join later e on left(e.id::text, 34) = left(g.event::text, 34)
    window w as (partition by g.o order by e.seq)),
  about as materialized (
    select f.*, (select x from campaigns x where x.no >= f.aggregate order by x.no limit 1) as c, -- its own: campaigns stay
           (select i from idempotency_keys i
            where (i.shard, i.campaign, i.key) >= (p_key_shard[f.o], p_key_campaign[f.o], p_key[f.o])
            order by i.shard, i.campaign, i.key limit 1) as kept,
           case when f.first_type in (1, 2, 11) then (f.first_data::json ->> 'user_id')::uuid
                     when f.first_type in (3, 4) then (f.first_data::json ->> 'referral_id')::uuid
                     when f.first_type = 5 then (f.first_data::json ->> 'user_reward_id')::uuid
                     when f.first_type = 12 then (f.first_data::json ->> 'reward_id')::uuid
                     else (f.first_data::json ->> 'campaign_id')::uuid end as object_id
    from found f)
  select f.o, 0, f.object_id, number_of(f.object_id), case when (f.kept).key = p_key[f.o] and (f.kept).campaign = p_key_campaign[f.o] then (f.kept).extra
                                                     else extra_of(f.first_type, f.c, f.object_id, f.first_data) end, (f.c).account_id,
         f.shard, f.seq, f.version, f.type, f.at, f.id, f.data, null::smallint
  from about f;
end $$;

-- Ends sessions that hold one of the shards' locks while their client has been silent for over 5 s: a host that hangs
-- between statements must not hold the others up. Returns how many.
create or replace function free_shards(p_shards int[]) returns bigint language sql volatile as $$
  select count(*) filter (where pg_terminate_backend(a.pid))
  from pg_locks l join pg_stat_activity a on a.pid = l.pid
  where l.locktype = 'advisory' and l.granted and l.classid = 1953064037 and l.objsubid = 2
    and l.objid::bigint = any (p_shards::bigint[])
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
    and a.wait_event = 'ClientRead' and a.state_change < clock_timestamp() - interval '5 seconds'
$$;

-- Ends whatever session of this database holds a lane's own lock (a random key), and returns how many there were.
create or replace function end_lane_session(p_key bigint) returns bigint language sql volatile as $$
  select count(*) filter (where pg_terminate_backend(l.pid))
  from pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 1 and l.pid <> pg_backend_pid()
    and (l.classid::bigint << 32 | l.objid::bigint) = p_key
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
$$;

-- Ends sessions that wait for a standby only to vouch for what was read, and whose caller has given up: it waits for 5 s, and tries
-- again in a new session. However long the standby is away, they do not use up the connections. Nothing hangs on their commits.
create or replace function end_old_barriers() returns bigint language sql volatile as $$
  select count(*) filter (where pg_terminate_backend(a.pid))
  from pg_stat_activity a
  where a.datname = current_database() and a.usename = current_user and a.wait_event = 'SyncRep'
    and a.query ~ 'pg_logical_emit_message|relay_read' and a.query_start < clock_timestamp() - interval '6 seconds'
$$;
