-- What the relay reads and saves.

create or replace function relay_cursors_read() returns table (shard int, seq bigint) language sql stable as $$
  select c.shard, c.seq from relay_cursors c
$$;

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

-- Saves cursors with the event at each; never backwards, never past what is there.
create or replace function relay_save(p_shard int[], p_seq bigint[]) returns bigint language sql volatile as $$
  with given as (select * from unnest(p_shard, p_seq) as g(shard, seq)),
  saved as (
    update relay_cursors c set seq = g.seq, event_id = e.id, saved_at = clock_timestamp()
    from given g, events e
    where c.shard = g.shard and c.seq < g.seq and e.shard = g.shard and e.seq = g.seq
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

-- Processes that relay now, as far as they have said so: a rewind would be overwritten by their saves.
create or replace function relays_running() returns table (name text) language sql stable as $$
  select h.name from hosts h where h.seen_at > clock_timestamp() - interval '15 seconds' order by h.name
$$;

-- Moves cursors back: to p_to, or to before the first event that is not older than p_since; of one shard, or all (null). Never
-- forwards, and never to events older than p_keep_days, which groups might not know as handled any more.
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
      set seq = v_seq, saved_at = clock_timestamp(),
          event_id = (select e.id from events e where e.shard = c.shard and e.seq = v_seq order by e.shard, e.seq limit 1)
      where x.shard = c.shard;
    end if;
    return query select c.shard, c.seq, least(v_seq, c.seq);
  end loop;
end $$;
