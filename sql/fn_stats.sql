-- Counts of events per campaign and minute: analytics-workers write them, HTTP reads them. p_names: the types' names by their
-- numbers.

-- The counts of a minute as JSON text, by the types' numbers; null when there are none.
create or replace function stats_text(p_campaign int, p_minute timestamptz, p_names text[]) returns text
language plpgsql stable as $$
begin
  return (
  select '{' || string_agg('"' || coalesce(p_names[s.type], 'type ' || s.type) || '":' || s.count, ',' order by s.type) || '}'
  from campaign_stats s where s.campaign = p_campaign and s.minute = p_minute);
end $$;

-- Counts events, those that p_new says, and returns all minutes that any of them is in, with the counts as they are now. Of a
-- deleted campaign nothing is counted, and counts is null. Rows are written in order, so that two processes cannot deadlock.
create or replace function stats_add(p_campaigns uuid[], p_ats timestamptz[], p_types int[], p_new int[], p_names text[])
returns table (campaign uuid, minute text, counts text)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  insert into campaign_stats as s (campaign, minute, type, count)
  select c.no, date_trunc('minute', g.at, 'UTC'), g.type, count(*)
  from unnest(p_campaigns, p_ats, p_types, p_new) as g (id, at, type, is_new)
  join campaigns c on c.id = g.id
  where g.is_new = 1 and c.deleted_at is null
  group by 1, 2, 3
  order by 1, 2, 3
  on conflict (campaign, minute, type) do update set count = s.count + excluded.count;

  -- A statement of its own: it sees what others have counted before that one got its locks.
  return query
  with touched as (
    select distinct c.no, c.id, c.deleted_at is not null as deleted, date_trunc('minute', g.at, 'UTC') as minute
    from unnest(p_campaigns, p_ats) as g (id, at) join campaigns c on c.id = g.id)
  select t.id, to_char(t.minute at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
         case when not t.deleted then stats_text(t.no, t.minute, p_names) end
  from touched t;
end
$$;

-- Minutes that deleted campaigns have still: of each those after p_after (seconds since 1970), in order, at most p_limit in
-- all. place: the campaign's, from 1; fewer than p_limit: there are no more.
create or replace function stats_gone(p_campaigns uuid[], p_after bigint[], p_limit int)
returns table (place int, campaign uuid, minute text, at bigint)
language plpgsql stable
set enable_seqscan = off
set enable_bitmapscan = off
set enable_hashagg = off
as $$
#variable_conflict use_column
declare
  v_left int := p_limit;
  v_count int;
begin
  for i in 1 .. cardinality(p_campaigns) loop
    return query
      select i, p_campaigns[i], to_char(m.minute at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
             extract(epoch from m.minute)::bigint
      from (select distinct s.campaign, s.minute
            from campaign_stats s
            where s.campaign = (select c.no from campaigns c where c.id = p_campaigns[i] and c.deleted_at is not null)
              and s.minute > to_timestamp(p_after[i])
            order by s.campaign, s.minute limit v_left) m;
    get diagnostics v_count = row_count;
    v_left := v_left - v_count;
    exit when v_left = 0;
  end loop;
end $$;

-- A campaign's counts by minute, hour or day (p_unit), those that lie at least in part between p_from and p_to. The cursor is
-- the minute, since 1970, at which the last one begins. A page looks at 50000 rows, which is a day with all types at least.
create or replace function read_stats(p_account int, p_campaign uuid, p_limit int, p_after int, p_from timestamptz,
                                      p_to timestamptz, p_unit text, p_names text[])
returns table (item text, cursor text, rest text, known boolean)
language plpgsql stable as $$
#variable_conflict use_column
declare
  v_no constant int := (campaign_to_read(p_account, p_campaign)).no;
  v_from constant timestamptz := greatest(date_trunc(p_unit, p_from, 'UTC'),
                                          to_timestamp(p_after * 60.0) + ('1 ' || p_unit)::interval, '-infinity');
begin
  if v_no is null then
    return;
  end if;
  return query
  with looked_at as materialized (
    select s.minute, s.type, s.count
    from campaign_stats s
    where s.campaign = v_no and s.minute >= v_from
      and s.minute < coalesce(date_trunc(p_unit, p_to - interval '1 microsecond', 'UTC') + ('1 ' || p_unit)::interval, 'infinity')
    order by s.campaign, s.minute, s.type limit 50000),
  -- Set when there may be more: the last one is not complete then.
  cut as materialized (
    select date_trunc(p_unit, l.minute, 'UTC') as at from looked_at l offset 49999 limit 1),
  summed as materialized (
    select date_trunc(p_unit, l.minute, 'UTC') as at, l.type, sum(l.count) as n
    from looked_at l
    group by 1, 2),
  found as materialized (
    select x.at,
           '{' || string_agg('"' || coalesce(p_names[x.type], 'type ' || x.type) || '":' || x.n, ',' order by x.type) || '}' as counts
    from summed x
    where x.at < coalesce((select c.at from cut c), 'infinity')
    group by x.at
    order by x.at limit p_limit + 1)
  select '{"from":"' || to_char(f.at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || '","counts":' || f.counts || '}',
         (extract(epoch from f.at)::bigint / 60)::text,
         case when (select count(*) from found) <= p_limit
              then (select (extract(epoch from max(y.at))::bigint / 60)::text from found y where exists (select from cut)) end,
         true
  from (select 1) one left join found f on true
  order by f.at;
end $$;
