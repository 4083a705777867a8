-- What `tidings verify` reads. A call is one page in one snapshot of its own: none is held for long, and each looks at the
-- present. Look-ups are pinned to the indexes: plans must not depend on statistics that were taken when tables were empty.

-- Per shard: up to which seq Kafka has acknowledged everything, and the last seq that there is.
create or replace function verify_shards() returns table (shard int, acked bigint, head bigint) language sql stable as $$
  select c.shard, c.seq,
         coalesce((select e.seq from events e where e.shard = c.shard order by e.shard desc, e.seq desc limit 1), 0)
  from relay_cursors c order by c.shard
$$;

-- Up to which seq a shard's events are older than p_since; null: 0.
create or replace function verify_since(p_shard int, p_since timestamptz) returns bigint language sql stable as $$
  select case when p_since is null then 0 else seq_before(p_shard, p_since) end
$$;

-- The next events of a shard, in order, or of one aggregate. What an event's owner is missing of is null.
create or replace function verify_rows(p_shard int, p_after bigint, p_to bigint, p_limit int, p_aggregate int)
returns table (seq bigint, version bigint, type smallint, format smallint, at timestamptz, id uuid, account_id uuid,
               campaign_id uuid, data text, shard int, aggregate int)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  -- The campaign: >= and limit, so that only the primary key will do; a page has few, each is looked up once (Memoize).
  if p_aggregate = 0 then
    return query
    select e.seq, e.version, e.type, e.format, e.at, e.id,
           case when e.aggregate < 0 then (select a.id from accounts a where a.no = -e.aggregate)
                when c.no = e.aggregate then c.account_id end,
           case when c.no = e.aggregate then c.id end, e.data, e.shard, e.aggregate
    from events e
    left join lateral (select x.no, x.account_id, x.id from campaigns x where x.no >= e.aggregate order by x.no limit 1) c
      on e.aggregate > 0
    where e.shard = p_shard and e.seq > p_after and e.seq <= p_to
    order by e.shard, e.seq
    limit p_limit;
  else -- in the order of versions, which must be that of seqs: p_after is a version here
    return query
    select e.seq, e.version, e.type, e.format, e.at, e.id, c.account_id, c.id, e.data, e.shard, e.aggregate
    from events e, (select x.account_id, x.id from campaigns x where x.no = p_aggregate) c
    where e.aggregate = p_aggregate and e.version > p_after
    order by e.aggregate, e.version
    limit p_limit;
  end if;
end $$;

-- The events that records name, by their aggregates' ids and their versions. Where there is none, seq is null; then purged
-- tells whether there was one, whose campaign has been deleted.
create or replace function verify_find(p_aggregates uuid[], p_versions bigint[])
returns table (seq bigint, version bigint, type smallint, format smallint, at timestamptz, id uuid, account_id uuid,
               campaign_id uuid, data text, shard int, aggregate int, ord int, purged boolean)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  select e.seq, e.version, e.type, e.format, e.at, e.id, coalesce(c.account_id, a.id), c.id, e.data, e.shard, e.aggregate,
         g.ord::int,
         e.seq is null and exists (select from purges p where p.campaign = c.no and p.version >= g.version)
  from unnest(p_aggregates, p_versions) with ordinality as g (aggregate, version, ord)
  left join lateral (select x.no, x.id, x.account_id from campaigns x where x.id = g.aggregate) c on true
  left join lateral (select x.no, x.id from accounts x where x.id = g.aggregate) a on c.no is null
  left join lateral (select x.* from events x
                     where x.aggregate = coalesce(c.no, -a.no) and x.version = g.version
                     order by x.aggregate, x.version limit 1) e on true
  order by g.ord;
end $$;

-- Of these events of a shard those that do not come after the version before theirs: it is missing, or later: the shard has it
-- behind. What was purged was there; what is in another shard is wrong in another way.
create or replace function verify_before(p_shard int, p_aggregates int[], p_versions bigint[], p_seqs bigint[])
returns table (ord int, later boolean)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  select g.ord::int, e.seq is not null
  from unnest(p_aggregates, p_versions, p_seqs) with ordinality as g (aggregate, version, seq, ord)
  left join lateral (select x.shard, x.seq from events x
                     where x.aggregate = g.aggregate and x.version = g.version - 1
                     order by x.aggregate, x.version limit 1) e on true
  where e.shard = p_shard and e.seq > g.seq
     or e.seq is null and not exists (select from purges p where p.campaign = g.aggregate and p.version >= g.version - 1);
end $$;

-- How many seqs of a shard up to its last are neither there nor purged: exact, because a purge takes events away and counts them
-- in one transaction.
create or replace function verify_holes(p_shard int) returns bigint language sql stable
set enable_seqscan = off
as $$
  select coalesce((select e.seq from events e where e.shard = p_shard order by e.shard desc, e.seq desc limit 1), 0)
         - (select count(*) from events e where e.shard = p_shard)
         - (select coalesce(sum(p.events), 0)::bigint from purges p where p.shard = p_shard)
$$;

-- How many seqs between two events of a shard lie outside of all that was purged.
create or replace function verify_uncovered(p_shard int, p_after bigint, p_before bigint) returns bigint language sql stable
set enable_seqscan = off
as $$
  with r as (
    select greatest(p.first_seq, p_after + 1) as a, least(p.last_seq, p_before - 1) as b
    from purges p where p.shard = p_shard and p.last_seq > p_after and p.first_seq < p_before),
  s as (
    select r.a, r.b, coalesce(max(r.b) over (order by r.a, r.b rows between unbounded preceding and 1 preceding), 0) as reach
    from r)
  select p_before - p_after - 1 - coalesce(sum(greatest(0, s.b - greatest(s.a, s.reach + 1) + 1)), 0)::bigint from s
$$;

-- --- effects ---------------------------------------------------------------------------------------------------------

-- Of events that a group has finished, those whose effect is not simply there: 'dead' (given up, a person knows), 'excused'
-- (the campaign was deleted: nobody does anything any more), 'unfinished' or 'missing'. p_subjects: the earned rewards.
create or replace function verify_effects(p_group text, p_events uuid[], p_subjects uuid[], p_aggregates int[], p_topic text,
                                          p_partitions int[], p_offsets bigint[])
returns table (ord int, state text)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  with given as materialized (
    select g.*,
           case p_group
             when 'email-workers' then (select m.status from mails m where m.event_id = g.event)
             when 'reward-workers' then coalesce(
               (select case when s.state in ('compensating', 'released') then 'failed' end from sagas s
                where s.user_reward_id = g.subject and s.event_id = g.event),
               (select d.status from deliveries d where d.user_reward_id = g.subject and d.event_id = g.event))
             else (select 'handled' from handled h where h.grp = p_group and h.event_id = g.event) end as status
    from unnest(p_events, p_subjects, p_aggregates, p_partitions, p_offsets) with ordinality
         as g (event, subject, aggregate, partition, "offset", ord))
  select g.ord::int,
         case when g.status = 'failed' then 'dead'
              when exists (select from dead_letters d where d.grp = p_group and d.topic = p_topic
                                                        and d.partition = g.partition and d."offset" = g."offset"
                                                        and dead_letter_is_of(d, g.event)) then 'dead'
              when exists (select from campaigns c where c.no = g.aggregate and c.deleted_at is not null) then 'excused'
              when exists (select from dead_letters d where d.grp = p_group and d.event_id = g.event) then 'dead'
              when g.status = 'sending' then 'unfinished'
              else 'missing' end
  from given g
  where g.status is null or g.status in ('sending', 'failed')
  order by g.ord;
end $$;

-- The next page of mails, and those of it whose event is not to be found among the events of the time that the page's event
-- ids carry, p_slack seconds around it.
create or replace function verify_mails(p_after uuid, p_limit int, p_campaign int, p_slack int)
returns table (last uuid, mails int, strays uuid[])
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_ids uuid[];
  v_from timestamptz;
  v_to timestamptz;
begin
  select array_agg(x.event_id order by x.event_id) into v_ids
  from (select m.event_id from mails m where m.event_id > p_after and (p_campaign is null or m.campaign = p_campaign)
        order by m.event_id limit p_limit) x;
  if v_ids is null then
    return query select p_after, 0, '{}'::uuid[];
    return;
  end if;
  v_from := verify_time_of(v_ids[1]) - make_interval(secs => p_slack);
  v_to := verify_time_of(v_ids[cardinality(v_ids)]) + make_interval(secs => p_slack);
  return query
  with bounds as materialized (
    select c.shard, seq_before(c.shard, v_from) as low, seq_before(c.shard, v_to) as high from relay_cursors c),
  known as materialized (
    select e.id from bounds b cross join lateral (select x.id from events x
                                                  where x.shard = b.shard and x.seq > b.low and x.seq <= b.high) e)
  select v_ids[cardinality(v_ids)], cardinality(v_ids),
         array(select i from unnest(v_ids) i where not exists (select from known k where k.id = i));
end $$;

-- The time in a UUIDv7; in any other UUID some time or other.
create or replace function verify_time_of(p_id uuid) returns timestamptz language sql immutable as $$
  select to_timestamp(('x' || left(replace(p_id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
$$;

-- Which of these mails are of no event at all. Reads the whole table.
create or replace function verify_unknown(p_ids uuid[]) returns setof uuid language sql stable as $$
  select m.event_id from mails m where m.event_id = any (p_ids)
  except select e.id from events e where e.id = any (p_ids)
$$;

-- The next page of deliveries, and those of it that are for nothing that was earned.
create or replace function verify_deliveries(p_after uuid, p_limit int, p_campaign int)
returns table (last uuid, deliveries int, strays uuid[])
language plpgsql stable
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select d.user_reward_id as id, d.campaign, d.reward, d.place from deliveries d
    where d.user_reward_id > p_after and (p_campaign is null or d.campaign = p_campaign)
    order by d.user_reward_id limit p_limit)
  select coalesce((select p.id from page p order by p.id desc limit 1), p_after), (select count(*)::int from page),
         array(select p.id from page p
               where not exists (select from user_rewards e where e.campaign = p.campaign and e.place = p.place
                                                              and e.reward = p.reward and e.id = p.id));
end $$;

-- The next page of sagas, and those of it that contradict the other tables: of nothing that was earned; delivered, and the delivery
-- is not; released, and the delivery was made; released, and the unit is not back, or the other way round.
create or replace function verify_sagas(p_after uuid, p_limit int, p_campaign int)
returns table (last uuid, sagas int, strays uuid[])
language plpgsql stable
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select s.user_reward_id as id, s.campaign, s.reward, s.place, s.n, s.state from sagas s
    where s.user_reward_id > p_after and (p_campaign is null or s.campaign = p_campaign)
    order by s.user_reward_id limit p_limit),
  seen as materialized (
    select p.id, p.state,
           (select e.id from user_rewards e where e.campaign = p.campaign and e.reward = p.reward and e.n = p.n
            order by e.campaign, e.reward, e.n limit 1) as earned,
           (select d.status in ('delivered', 'discarded') from deliveries d where d.user_reward_id = p.id
            order by d.user_reward_id limit 1) as delivered,
           (select r.m from reward_releases r
            where r.campaign = p.campaign and r.place = p.place and r.reward = p.reward and r.n = p.n
            order by r.campaign, r.place, r.reward, r.n limit 1) is not null as back
    from page p)
  select coalesce((select p.id from page p order by p.id desc limit 1), p_after), (select count(*)::int from page),
         array(select x.id from seen x
               where x.earned is distinct from x.id or x.state in ('delivered', 'confirmed') and not x.delivered
                  or x.state in ('compensating', 'released') and x.delivered or (x.state = 'released') <> x.back);
end $$;

-- Of these events that end sagas (reward.delivered, reward.released), those that are not the one end of theirs.
create or replace function verify_saga_ends(p_events uuid[], p_types int[], p_subjects uuid[], p_aggregates int[])
returns setof int
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
begin
  return query
  select g.ord::int
  from unnest(p_events, p_types, p_subjects, p_aggregates) with ordinality as g (event, type, subject, aggregate, ord)
  where not coalesce((select s.end_event_id = g.event and s.state = case g.type when 15 then 'confirmed' else 'released' end
                      from sagas s where s.user_reward_id = g.subject), false)
    and not exists (select from campaigns c where c.no = g.aggregate and c.deleted_at is not null)
  order by g.ord;
end $$;

-- Of a user: how many verified referrals there are (null: none), and whether the row of the leaderboard is what they make of
-- it. A deleted campaign's rows are right as they are.
create or replace function verify_position(p_campaign int, p_place int)
returns table (verified int, points int, listed int, is_right boolean)
language plpgsql stable
set enable_seqscan = off
as $$
declare
  c campaigns;
  l leaderboard;
begin
  select * into c from campaigns x where x.no = p_campaign;
  select * into l from leaderboard x where x.campaign = p_campaign and x.place = p_place;
  verified := (select r.n from verified_referrals r where r.campaign = p_campaign and r.referrer = p_place
               order by r.campaign desc, r.referrer desc, r.n desc limit 1);
  points := c.points_per_referral;
  listed := l.verified;
  is_right := c.deleted_at is not null
              or l.verified is not distinct from verified
                 and l.position is not distinct from greatest(1, p_place - verified::bigint * points);
  return next;
end $$;

-- The next page of users who have, or (p_board) are listed with, verified referrals, and those of it whose row is wrong, with
-- what it should be made of; with p_board those alone who should not be listed. p_only: of this campaign alone; null: of all.
create or replace function verify_positions(p_board boolean, p_campaign int, p_place int, p_limit int, p_only int)
returns table (last_campaign int, last_place int, users int, campaigns int[], places int[], verified int[], points int[])
language plpgsql stable
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    (select r.campaign, r.referrer as place from verified_referrals r
     where not p_board and r.n = 1 and (r.campaign, r.referrer) > (p_campaign, p_place)
       and (p_only is null or r.campaign = p_only)
     order by r.campaign, r.referrer limit p_limit)
    union all
    (select l.campaign, l.place from leaderboard l
     where p_board and (l.campaign, l.place) > (p_campaign, p_place) and (p_only is null or l.campaign = p_only)
     order by l.campaign, l.place limit p_limit)),
  wrong as materialized (
    select p.campaign, p.place, coalesce(v.verified, 0) as verified, v.points
    from page p, lateral verify_position(p.campaign, p.place) v
    where not v.is_right and (not p_board or v.verified is null))
  select coalesce(z.campaign, p_campaign), coalesce(z.place, p_place), (select count(*)::int from page),
         array(select w.campaign from wrong w order by w.campaign, w.place),
         array(select w.place from wrong w order by w.campaign, w.place),
         array(select w.verified from wrong w order by w.campaign, w.place),
         array(select w.points from wrong w order by w.campaign, w.place)
  from (select 1) one left join (select p.* from page p order by p.campaign desc, p.place desc limit 1) z on true;
end $$;

-- Those of them whose rows are wrong still, after the group has finished what there was: they do not even have what they should
-- have had then. Newer events may be on their way.
create or replace function verify_positions_again(p_campaigns int[], p_places int[], p_verified int[], p_points int[])
returns table (campaign uuid, place int)
language sql stable
set enable_seqscan = off
as $$
  select (select c.id from campaigns c where c.no = g.campaign), g.place
  from unnest(p_campaigns, p_places, p_verified, p_points) as g (campaign, place, verified, points),
  lateral verify_position(g.campaign, g.place) v
  where not v.is_right
    and (v.listed is null or v.verified is null or v.listed < g.verified or v.listed > v.verified
         or v.points = g.points
            and (select l.position from leaderboard l where l.campaign = g.campaign and l.place = g.place)
                <> greatest(1, g.place - v.listed::bigint * g.points))
$$;

-- --- counts of events ------------------------------------------------------------------------------------------------

-- Of the next p_campaigns campaigns, the minutes whose counts are not what the events make that analytics-workers have claimed:
-- both are of one transaction, so they agree at any moment. last: the last campaign looked at, null when there was none.
create or replace function verify_counts(p_after int, p_campaigns int, p_campaign int, p_from timestamptz)
returns table (last int, looked int, campaigns uuid[], minutes text[])
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  with page as materialized (
    select c.no, c.id, c.deleted_at is not null as deleted from campaigns c
    where c.no > p_after and (p_campaign is null or c.no = p_campaign) order by c.no limit p_campaigns),
  claimed as materialized (
    select p.no, date_trunc('minute', e.at, 'UTC') as minute, e.type, count(*) as n
    from page p cross join lateral (select e.at, e.type, e.id from events e where e.aggregate = p.no and e.at >= p_from offset 0) e
    where not p.deleted and exists (select from handled h where h.grp = 'analytics-workers' and h.event_id = e.id)
    group by 1, 2, 3),
  counted as materialized (
    select p.no, s.minute, s.type, s.count as n
    from page p cross join lateral (select x.* from campaign_stats x where x.campaign = p.no and x.minute >= p_from offset 0) s
    where not p.deleted),
  wrong as materialized (
    select b.no, b.minute from (select * from claimed union all select * from counted) b
    group by b.no, b.minute, b.type having count(*) <> 2 or min(b.n) <> max(b.n)),
  minutes as (
    select distinct (select p.id from page p where p.no = w.no) as id, w.minute from wrong w)
  select (select max(p.no) from page p), (select count(*)::int from page p),
         array(select m.id from minutes m order by m.id, m.minute),
         array(select rfc3339(m.minute) from minutes m order by m.id, m.minute);
end $$;

-- The next minutes that have counts, by campaign and minute, with them as text.
create or replace function verify_stats(p_after int, p_minute timestamptz, p_limit int, p_campaign int, p_from timestamptz,
                                        p_names text[])
returns table (no int, campaign uuid, minute text, counts text)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  with recursive page as (
    select f.campaign, f.minute, 1 as i
    from (select s.campaign, s.minute from campaign_stats s
          where (s.campaign, s.minute) > (p_after, coalesce(p_minute, '-infinity')) and (p_campaign is null or s.campaign = p_campaign)
          order by s.campaign, s.minute limit 1) f
    union all
    select f.campaign, f.minute, p.i + 1
    from page p cross join lateral (
      select s.campaign, s.minute from campaign_stats s
      where (s.campaign, s.minute) > (p.campaign, p.minute) and (p_campaign is null or s.campaign = p_campaign)
      order by s.campaign, s.minute limit 1) f
    where p.i < p_limit)
  select p.campaign, (select c.id from campaigns c where c.no = p.campaign and c.deleted_at is null), rfc3339(p.minute),
         case when p.minute >= p_from then stats_text(p.campaign, p.minute, p_names) end
  from page p order by p.i;
end $$;

-- The counts of some minutes as they are now; null: there are none. gone: of no campaign, or a deleted one.
create or replace function verify_stats_again(p_campaigns uuid[], p_minutes timestamptz[], p_names text[])
returns table (ord int, gone boolean, counts text)
language plpgsql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  select g.ord::int, c.no is null or c.deleted_at is not null, stats_text(c.no, g.minute, p_names)
  from unnest(p_campaigns, p_minutes) with ordinality as g (campaign, minute, ord)
  left join campaigns c on c.id = g.campaign
  order by g.ord;
end $$;
