-- Processes that serve on this database tell each other that they are there. They do so beside the reads of requests, which must
-- not wait when a synchronous standby is away: nobody needs to know in a failover who was there before.

-- Enters or refreshes this process; returns those that are there now and whose verification links it would refuse, or that
-- would refuse its own. Who has not been seen since this one started may be its predecessor.
create or replace function host_seen(p_id uuid, p_name text, p_signs uuid, p_accepts uuid[])
returns table (name text)
language sql volatile as $$
  select set_config('synchronous_commit', 'local', true);
  with me as (
    insert into hosts as h (id, name, signs, accepts) values (p_id, p_name, p_signs, p_accepts)
    on conflict (id) do update set seen_at = clock_timestamp()),
  gone as (
    delete from hosts h where h.seen_at < clock_timestamp() - interval '1 hour' and h.id <> p_id)
  select h.name from hosts h
  where h.id <> p_id and h.seen_at > clock_timestamp() - interval '15 seconds'
    and h.seen_at > (select m.started_at from hosts m where m.id = p_id)
    and not (h.signs = any (p_accepts) and p_signs = any (h.accepts))
  order by h.name
$$;

-- This process stops.
create or replace function host_gone(p_id uuid) returns table (name text) language sql volatile as $$
  select set_config('synchronous_commit', 'local', true);
  delete from hosts h where h.id = p_id returning h.name
$$;
