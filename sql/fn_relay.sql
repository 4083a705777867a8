-- What the relay reads and saves.

-- --- who relays what ---------------------------------------------------------------------------------------------------
-- Sessions hold advisory locks, which end with them, whatever ends them: of class 1953064045 ("tidm") under a random key above 0
-- "a relay is here", and of class 1953064050 ("tidr") under a shard's number "this one relays it". A command that moves cursors
-- or changes the partitions holds "tidm" under key 0, and relays let go of everything. All that is only to avoid repeats: order
-- does not depend on it.

create or replace function relay_locks(p_class int) returns table (key int, mine bool, pid int) language sql volatile as $$
  select l.objid::bigint::int, l.pid = pg_backend_pid(), l.pid
  from pg_locks l
  where l.locktype = 'advisory' and l.granted and l.objsubid = 2 and l.classid::bigint = p_class
    and l.database = (select d.oid from pg_database d where d.datname = current_database())
$$;

-- Takes shards that are free until p_count are this session's. Returns its shards.
create or replace function relay_take(p_count int) returns int[] language plpgsql volatile as $$
declare
  v_mine int[] := array(select l.key from relay_locks(1953064050) l where l.mine);
  v_shard int;
begin
  if cardinality(v_mine) < p_count then
    for v_shard in
      select s from installation i, generate_series(0, i.shards - 1) s
      where s not in (select l.key from relay_locks(1953064050) l) order by random()
    loop
      exit when cardinality(v_mine) >= p_count;
      if pg_try_advisory_lock(1953064050, v_shard) then
        v_mine := v_mine || v_shard;
      end if;
    end loop;
  end if;
  return v_mine;
end $$;

-- Ends the session that had this relay's key before: a lost connection's backend keeps its locks until it notices.
create or replace function relay_replace(p_key int) returns bigint language sql volatile as $$
  select count(*) filter (where pg_terminate_backend(l.pid)) from relay_locks(1953064045) l where l.key = p_key and not l.mine
$$;

-- What each relay asks every second. p_key: its own; 0: it cannot reach Kafka and wants no shards. First a row without a shard:
-- how many relays there are, how many shards each shall have at most, the partitions in use, and how many events of all
-- shards lie past the saved cursors. Then this session's shards and their cursors, after it took what is free up to its share.
create or replace function relay_share(p_key int)
returns table (shard int, seq bigint, rewinds int, relays int, share int, partitions int, waiting bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_shards constant int := (select i.shards from installation i);
  v_keys int[] := array(select l.key from relay_locks(1953064045) l where not l.mine);
  v_here constant bool := exists (select 1 from relay_locks(1953064045) l where l.mine);
  v_relays int;
  v_share int;
  v_mine int[];
begin
  if p_key = 0 and v_here then
    perform pg_advisory_unlock(1953064045, l.key) from relay_locks(1953064045) l where l.mine;
    perform pg_advisory_unlock(1953064050, l.key) from relay_locks(1953064050) l where l.mine;
  elsif p_key > 0 and not v_here then
    if not pg_try_advisory_lock(1953064045, p_key) then
      raise 'the key of this relay is in use by another session';
    end if;
  end if;
  v_relays := (p_key > 0)::int + (select count(*) from unnest(v_keys) k where k <> 0);
  v_share := case when p_key = 0 or 0 = any (v_keys) then 0 else ceil(v_shards::numeric / v_relays) end;
  v_mine := relay_take(v_share);
  -- A statement of its own: the cursors as they are now that the locks are held, as the former holders saved them.
  return query
  select null::int, null::bigint, null::int, v_relays, v_share, i.partitions,
         (select sum(h.seq - c.seq)::bigint from shard_heads() h join relay_cursors c on c.shard = h.shard)
  from installation i
  union all
  select c.shard, c.seq, c.rewinds, null, null, null, null from relay_cursors c where c.shard = any (v_mine);
end $$;

-- Gives shards up, after their cursors were saved.
create or replace function relay_leave(p_shard int[]) returns bigint language sql volatile as $$
  select count(*) filter (where pg_advisory_unlock(1953064050, s)) from unnest(p_shard) s
$$;

-- For a command: makes all relays let go, and takes what they have let go of. Returns how many shards others still have;
-- null: another command holds the relays. To be called again until it says 0. Ends with the session.
create or replace function relay_hold() returns int language plpgsql volatile as $$
begin
  if not exists (select 1 from relay_locks(1953064045) l where l.mine) and not pg_try_advisory_lock(1953064045, 0) then
    return null;
  end if;
  return (select i.shards from installation i) - cardinality(relay_take((select i.shards from installation i)));
end $$;

-- The last seq of each of these shards, 0 where there is none.
create or replace function relay_heads(p_shard int[]) returns table (shard int, seq bigint) language sql stable as $$
  select s, coalesce((select e.seq from events e where e.shard = s order by e.shard desc, e.seq desc limit 1), 0)
  from unnest(p_shard) s
$$;

-- Of events that Kafka has, those that the database does not: it went back in time. What was purged was there; what was accepted
-- as lost is known.
create or replace function relay_unknown(p_aggregate uuid[], p_version bigint[], p_id uuid[])
returns table (aggregate uuid, version bigint, id uuid) language sql stable as $$
  select g.aggregate, g.version, g.id
  from unnest(p_aggregate, p_version, p_id) as g(aggregate, version, id)
  left join lateral (select c.no from campaigns c where c.id = g.aggregate limit 1) c on true
  left join lateral (select a.no from accounts a where a.id = g.aggregate limit 1) a on c.no is null
  where g.id is distinct from (select e.id from events e where e.aggregate = coalesce(c.no, -a.no) and e.version = g.version
                               order by e.aggregate, e.version limit 1)
    and not exists (select 1 from purges p where p.campaign = c.no and g.version <= p.version)
    and not exists (select 1 from relay_lost l where l.id = g.id)
$$;

-- Accepts them as lost. Returns how many.
create or replace function relay_accept(p_aggregate uuid[], p_version bigint[], p_id uuid[]) returns bigint language sql volatile as $$
  with accepted as (
    insert into relay_lost (id, aggregate, version)
    select u.id, u.aggregate, u.version from relay_unknown(p_aggregate, p_version, p_id) u
    on conflict do nothing
    returning 1)
  select count(*) from accepted
$$;

-- --- what is read and saved --------------------------------------------------------------------------------------------

-- The events of a shard from p_from on, in order. The row at p_from itself is the last one acknowledged: it tells whether
-- the database still has the past that the relay saw. Where events were purged, a row with nothing but its seq stands for
-- each: only what Kafka has acknowledged is purged, so a relay that is that far behind (another host's) steps over it.
-- Rows that are visible may not be replicated yet (their session was ended while it waited for the standby). Where there is
-- a synchronous standby, the reading transaction writes to the WAL too, so that its own commit vouches for what it read.
create or replace function relay_read(p_shard int, p_from bigint, p_limit int)
returns table (seq bigint, version bigint, type smallint, format smallint, at timestamptz, id uuid, account_id uuid,
               campaign_id uuid, data text)
language plpgsql stable as $$ -- stable: one snapshot for all of it, so that a purge meanwhile is not seen by half
#variable_conflict use_column
declare
  v_purged_to constant bigint := (select max(p.last_seq) from purges p where p.shard = p_shard and p.last_seq >= p_from);
begin
  -- The campaign: >= and limit, so that only the primary key will do, whatever the statistics say. Campaigns stay, so it is
  -- the one. A page has few, so it is looked up once for each (the plan's Memoize).
  if v_purged_to is null then
    return query
    select e.seq, e.version, e.type, e.format, e.at, e.id,
           coalesce(c.account_id, (select a.id from accounts a where a.no = -e.aggregate)), c.id, e.data
    from events e
    left join lateral (select x.account_id, x.id from campaigns x where x.no >= e.aggregate order by x.no limit 1) c
      on e.aggregate > 0
    where e.shard = p_shard and e.seq >= p_from
    order by e.shard, e.seq
    limit p_limit;
  else
    return query
    with given as materialized (
      select e.seq, e.version, e.type, e.format, e.at, e.id, e.aggregate, e.data
      from events e where e.shard = p_shard and e.seq >= p_from
      order by e.shard, e.seq
      limit p_limit),
    purged as (
      select s from generate_series(p_from, least(v_purged_to, p_from + p_limit - 1)) s
      where (select e.seq from events e where e.shard = p_shard and e.seq = s order by e.shard, e.seq limit 1) is null
        and exists (select 1 from purges p where p.shard = p_shard and s between p.first_seq and p.last_seq)),
    every as (
      select g.seq, g.version, g.type, g.format, g.at, g.id,
             coalesce(c.account_id, (select a.id from accounts a where a.no = -g.aggregate)) as account_id,
             c.id as campaign_id, g.data
      from given g
      left join lateral (select x.account_id, x.id from campaigns x where x.no >= g.aggregate order by x.no limit 1) c
        on g.aggregate > 0
      union all
      select p.s, null, null, null, null, null, null, null, null from purged p)
    select * from every v order by v.seq limit p_limit;
  end if;
  if current_setting('synchronous_standby_names') <> '' then
    perform pg_logical_emit_message(true, 'tidings', 'relay');
  end if;
end $$;

-- Saves cursors with the event at each; never backwards, never past what is there, and not after a rewind that the relay does
-- not know of. It does not wait for a standby: a cursor that is lost only means that events are sent again.
create or replace function relay_save(p_shard int[], p_seq bigint[], p_rewinds int[]) returns bigint language sql volatile as $$
  select set_config('synchronous_commit', 'local', true);
  with given as (select * from unnest(p_shard, p_seq, p_rewinds) as g(shard, seq, rewinds)),
  saved as (
    update relay_cursors c set seq = g.seq, event_id = e.id, saved_at = clock_timestamp()
    from given g, events e
    where c.shard = g.shard and c.seq < g.seq and c.rewinds = g.rewinds and e.shard = g.shard and e.seq = g.seq
    returning 1)
  select count(*) from saved
$$;

-- The last seq of a shard whose event is older than p_at, 0 when none is: times never go back with the seqs, so it is looked
-- for by halves. What was purged counts as older.
create or replace function seq_before(p_shard int, p_at timestamptz) returns bigint language plpgsql stable as $$
declare
  v_low bigint := 0;
  v_high bigint := coalesce((select e.seq from events e where e.shard = p_shard order by e.shard desc, e.seq desc limit 1), 0);
  v_middle bigint;
begin
  while v_low < v_high loop
    v_middle := (v_low + v_high + 1) / 2;
    if (select e.at from events e where e.shard = p_shard and e.seq <= v_middle order by e.shard desc, e.seq desc limit 1) >= p_at then
      v_high := v_middle - 1;
    else
      v_low := v_middle;
    end if;
  end loop;
  return v_low;
end $$;

-- Moves cursors back: to p_to, or to before the first event that is not older than p_since; of one shard, or all (null). Never
-- forwards, and never to events older than p_keep_days, which groups might not know as handled any more. The
-- session must hold the relays.
create or replace function relay_rewind(p_shard int, p_to bigint, p_since timestamptz, p_keep_days int)
returns table (shard int, was bigint, now bigint)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_oldest constant timestamptz := clock_timestamp() - make_interval(days => p_keep_days);
  c relay_cursors;
  v_seq bigint;
begin
  for c in select * from relay_cursors x where p_shard is null or x.shard = p_shard order by x.shard for update loop
    v_seq := greatest(coalesce(p_to, seq_before(c.shard, p_since)), seq_before(c.shard, v_oldest), 0);
    if v_seq < c.seq then
      update relay_cursors x
      set seq = v_seq, rewinds = x.rewinds + 1, saved_at = clock_timestamp(),
          event_id = (select e.id from events e where e.shard = c.shard and e.seq = v_seq order by e.shard, e.seq limit 1)
      where x.shard = c.shard;
    end if;
    return query select c.shard, c.seq, least(v_seq, c.seq);
  end loop;
end $$;
