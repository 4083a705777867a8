-- What lanes call: one function call is one transaction. The first statement locks the shards; the later ones, with a
-- fresh snapshot, read and write. Reading in the locking statement would number from a snapshot taken before the lock.
--
-- Plans must not depend on statistics (a plan made while tables are tiny is ruinous later), so each look-up is a scalar
-- subquery that names a whole index order; joins are only between the small sets of the batch itself.
--
-- err: 0 done; 1 no such campaign; 2 address taken (id: who has it); 3 no such referrer; 4 no such user;
--      5 done before (version: the campaign's now); 9 again: depends on an action of the same batch, comes back in the next.

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
    select n.seq, n.version, n.at, n.shard, n.aggregate, n.id, n.type, 1, n.data from numbered n order by n.shard, n.seq)
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

-- The k-th event of an action: the base id with k in its last four bits.
create or replace function event_id_at(p_base uuid, p_k int) returns uuid language sql immutable as $$
  select overlay(p_base::text placing to_hex(p_k) from 36)::uuid
$$;

-- An id that carries a place in its last four bytes.
create or replace function id_with_place(p_id uuid, p_place int) returns uuid language sql immutable as $$
  select (left(p_id::text, 28) || lpad(to_hex(p_place), 8, '0'))::uuid
$$;

-- A batch of sign-ups (s_…) and verifications (v_…), in arrival order within each kind; sign-ups come first. One row per
-- event, and one row per action without events. A referrer or account of 0 means: none, not checked.
create or replace function lane_apply(
  p_shards int[],
  s_account int[], s_campaign uuid[], s_id uuid[], s_event uuid[], s_referrer int[], s_email_key text[], s_email text[],
  s_metadata text[],
  v_account int[], v_campaign uuid[], v_user uuid[], v_place int[], v_event uuid[])
returns table (of_action int, err int, object_id uuid, place int, landing_url text, account_id uuid,
               shard int, seq bigint, version bigint, type smallint, at timestamptz, event_id uuid, data text)
language plpgsql volatile as $$
#variable_conflict use_column
begin
  perform lock_shards(p_shards);

  if cardinality(s_campaign) > 0 then
    return query
    with given as materialized (
      select g.o::int as o, g.account, g.cid, g.id, g.event, g.referrer, g.email_key, g.email, g.metadata
      from unnest(s_account, s_campaign, s_id, s_event, s_referrer, s_email_key, s_email, s_metadata)
        with ordinality as g(account, cid, id, event, referrer, email_key, email, metadata, o)),
    found as materialized (
      select d.cid, (select x from campaigns x where x.id = d.cid order by x.id limit 1) as x
      from (select distinct g.cid from given g) d),
    campaign as materialized (
      select f.cid, (f.x).no as no, (f.x).account as account, (f.x).account_id as account_id, (f.x).shard as shard,
             (f.x).milestones as milestones, (f.x).landing_url as landing_url,
             coalesce((select u.place from users u where u.campaign = (f.x).no
                       order by u.campaign desc, u.place desc limit 1), 0) as last_place
      from found f),
    checked as materialized (
      select g.o, g.cid, g.id, g.event, g.referrer, g.email_key, g.email, g.metadata,
             c.no, c.account_id, c.shard, c.milestones, c.landing_url, c.last_place,
             (select u.id from users u where u.campaign = c.no and u.email_key = g.email_key
              order by u.campaign, u.email_key limit 1) as taken_by,
             case when c.no is null or (g.account <> 0 and g.account <> c.account) then 1
                  -- Places are dense and users are not deleted, so a referrer exists when its place is not past the last.
                  -- One past it can still come into being, but only by the actions before it in this batch.
                  when g.referrer > c.last_place then
                    case when g.referrer < c.last_place + row_number() over (partition by g.cid order by g.o) then 9 else 3 end
                  else 0 end as err
      from given g join campaign c on c.cid = g.cid),
    -- An address that an earlier action of the batch may take is looked at again when that is settled.
    decided as materialized (
      select k.*, case when k.err <> 1 and k.taken_by is not null then 2
                       when k.err <> 1 and count(*) filter (where k.err in (0, 9))
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
      insert into users (campaign, place, id, created_at, email_key, email, metadata)
      select f.no, f.place, f.user_id, a.at, f.email_key, f.email, f.metadata
      from fresh f join appended a on a.of_action = f.o and a.k = 0 order by f.no, f.place),
    linked as (
      insert into referrals (campaign, referred, referrer, id, created_at)
      select r.no, r.place, r.referrer, r.referral_id, a.at
      from referred r join appended a on a.of_action = r.o and a.k = 1 order by r.no, r.place)
    select d.o, d.outcome, case d.outcome when 2 then d.taken_by else f.user_id end, f.place, d.landing_url, d.account_id,
           a.shard, a.seq, a.version, a.type, a.at, a.id, a.data
    from decided d left join fresh f on f.o = d.o left join appended a on a.of_action = d.o;
  end if;

  if cardinality(v_campaign) > 0 then
    return query
    with given as materialized (
      select g.o::int + coalesce(cardinality(s_campaign), 0) as o, g.account, g.cid, g.user_id, g.place, g.event
      from unnest(v_account, v_campaign, v_user, v_place, v_event)
        with ordinality as g(account, cid, user_id, place, event, o)),
    found as materialized (
      select d.cid, (select x from campaigns x where x.id = d.cid order by x.id limit 1) as x
      from (select distinct g.cid from given g) d),
    campaign as materialized (
      select f.cid, (f.x).no as no, (f.x).account as account, (f.x).account_id as account_id, (f.x).shard as shard,
             (f.x).points_per_referral as points
      from found f),
    looked_up as materialized (
      select g.o, g.account as by_account, g.cid, g.user_id, g.place, g.event, c.no, c.account, c.account_id, c.shard, c.points,
             (select u from users u where u.campaign = c.no and u.place = g.place
              order by u.campaign, u.place limit 1) as u,
             (select v.place from verifications v where v.campaign = c.no and v.place = g.place
              order by v.campaign, v.place limit 1) as done_before,
             row_number() over (partition by g.cid, g.place order by g.o) as nth
      from given g join campaign c on c.cid = g.cid),
    decided as materialized (
      select l.*, case when l.no is null or (l.by_account <> 0 and l.by_account <> l.account) then 1
                       when (l.u).id is null or (l.u).id <> l.user_id then 4
                       when l.done_before is not null then 5
                       when l.nth > 1 then 9
                       else 0 end as outcome
      from looked_up l),
    fresh as materialized (
      select d.*, (select r from referrals r where r.campaign = d.no and r.referred = d.place
                   order by r.campaign, r.referred limit 1) as r
      from decided d where d.outcome = 0),
    -- Several users of one referrer in one batch are numbered one after the other.
    referred as materialized (
      select f.o, f.no, f.shard, f.cid, f.place, f.user_id, f.event, f.points, (f.r).referrer as referrer, (f.r).id as referral_id,
             (select u.id from users u where u.campaign = f.no and u.place = (f.r).referrer
              order by u.campaign, u.place limit 1) as referrer_id,
             (coalesce((select v.n from verified_referrals v where v.campaign = f.no and v.referrer = (f.r).referrer
                        order by v.campaign desc, v.referrer desc, v.n desc limit 1), 0)
              + row_number() over (partition by f.no, (f.r).referrer order by f.o))::int as n
      from fresh f where (f.r).referrer is not null),
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
               '{"referral_id":"' || r.referral_id || '","referrer_id":"' || r.referrer_id || '","referred_id":"'
                 || r.user_id || '","campaign_id":"' || r.cid || '","points_per_referral":' || r.points || '}'
        from referred r
        order by 1, 2) q),
    appended as materialized (
      select a.* from staged s, append_events(s.o, s.k, s.shard, s.no, s.type, s.id, s.data) a),
    verified as (
      insert into verifications (campaign, place, verified_at)
      select f.no, f.place, a.at from fresh f join appended a on a.of_action = f.o and a.k = 0 order by f.no, f.place),
    counted as (
      insert into verified_referrals (campaign, referrer, n, referred, verified_at)
      select r.no, r.referrer, r.n, r.place, a.at
      from referred r join appended a on a.of_action = r.o and a.k = 1 order by r.no, r.referrer, r.n)
    select d.o, d.outcome, d.user_id, d.place, null::text, d.account_id, a.shard, a.seq,
           case when d.outcome = 5 then (select e.version from events e where e.aggregate = d.no
                                         order by e.aggregate desc, e.version desc limit 1) else a.version end,
           a.type, a.at, a.id, a.data
    from decided d left join appended a on a.of_action = d.o;
  end if;
end $$;

-- A new campaign, alone in its transaction. p_settings was checked by the caller.
create or replace function lane_create_campaign(p_shard int, p_account int, p_account_id uuid, p_campaign uuid,
                                                p_event uuid, p_settings json)
returns table (of_action int, err int, object_id uuid, place int, landing_url text, account_id uuid,
               shard int, seq bigint, version bigint, type smallint, at timestamptz, event_id uuid, data text)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_no constant int := nextval('campaigns_no_seq');
  v_name constant text := p_settings ->> 'name';
  v_points constant int := (p_settings ->> 'points_per_referral')::int;
begin
  perform lock_shards(array[p_shard]);
  return query
  with appended as materialized (
    select a.* from append_events(array[1], array[0], array[p_shard], array[v_no], array[7::smallint], array[p_event],
      array['{"campaign_id":"' || p_campaign || '","name":' || to_json(v_name) || ',"points_per_referral":' || v_points || '}']) a),
  created as (
    insert into campaigns (no, id, account, account_id, shard, points_per_referral, milestones, name, landing_url, created_at)
    overriding system value
    select v_no, p_campaign, p_account, p_account_id, p_shard, v_points,
           array(select m::int from json_array_elements_text(p_settings -> 'milestones') m), v_name,
           p_settings ->> 'landing_url', a.at
    from appended a)
  select 1, 0, p_campaign, null::int, null::text, p_account_id, a.shard, a.seq, a.version, a.type, a.at, a.id, a.data
  from appended a;
end $$;

-- The last seq of every shard, 0 where there is none. Also what the relay polls for other hosts' commits.
create or replace function shard_heads() returns table (shard int, seq bigint) language sql stable as $$
  select s, coalesce((select e.seq from events e where e.shard = s order by e.shard desc, e.seq desc limit 1), 0)
  from installation i, generate_series(0, i.shards - 1) s
$$;

-- What became of a batch whose answer was lost: the events that its actions caused, as lane_apply would have returned
-- them. Looks past p_after of each shard. Called when the old backend is known to be gone.
create or replace function lane_outcome(p_shard int[], p_after bigint[], p_event uuid[])
returns table (of_action int, err int, object_id uuid, place int, landing_url text, account_id uuid,
               shard int, seq bigint, version bigint, type smallint, at timestamptz, event_id uuid, data text)
language sql stable as $$
  -- One range read per shard, from where the lane last knew it, whatever the statistics say; then the small sets meet.
  with later as materialized (
    select e.*
    from (select g.shard, min(g.after) as after from unnest(p_shard, p_after) as g(shard, after) group by g.shard) d
    cross join lateral (select x.* from events x where x.shard = d.shard and x.seq > d.after
                        order by x.shard, x.seq offset 0) e),
  found as (
    select g.o::int as o, e.*,
           first_value((e.data::json ->> case e.type when 7 then 'campaign_id' else 'user_id' end)::uuid)
             over (partition by g.o order by e.seq) as object_id
    from unnest(p_event) with ordinality as g(event, o)
    join later e on left(e.id::text, 35) = left(g.event::text, 35))
  select f.o, 0, f.object_id, ('x' || right(f.object_id::text, 8))::bit(32)::int, c.landing_url, c.account_id,
         f.shard, f.seq, f.version, f.type, f.at, f.id, f.data
  from found f join campaigns c on c.no = f.aggregate
$$;

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
