-- The short road of lanes: sign-ups that the lane has numbered itself. It knows the head of each shard and where the
-- campaigns of the shard stand; as long as the head is what it knows, nothing was committed in the shard since, so all that
-- it knows of its campaigns holds too. lane_append looks at the heads under the locks; what it finds otherwise changes
-- nothing, and the lane loads anew or takes the general road (lane_apply). Statements are few and simple: starting a large
-- plan costs more than a small batch's work.

-- Heads of the shards (id is null), and the campaigns that there are: all of one snapshot, so of one moment.
create or replace function lane_load(p_shards int[], p_campaigns uuid[])
returns table (shard int, head bigint, id uuid, no int, account int, account_id uuid, version bigint, places int,
               closed boolean, milestones int[], landing_url text)
language plpgsql stable as $$
#variable_conflict use_column
begin
  return query
  select s.shard, coalesce((select e.seq from events e where e.shard = s.shard order by e.shard desc, e.seq desc limit 1), 0),
         null::uuid, null::int, null::int, null::uuid, null::bigint, null::int, null::boolean, null::int[], null::text
  from unnest(p_shards) as s(shard)
  union all
  select (f.c).shard, null, (f.c).id, (f.c).no, (f.c).account, (f.c).account_id,
         coalesce((select e.version from events e where e.aggregate = (f.c).no order by e.aggregate desc, e.version desc limit 1), 0),
         coalesce((select u.place from users u where u.campaign = (f.c).no order by u.campaign desc, u.place desc limit 1), 0),
         (f.c).closed_at is not null, (f.c).milestones, (f.c).landing_url
  from (select (select x from campaigns x where x.id = g.id and x.deleted_at is null order by x.id limit 1) as c
        from unnest(p_campaigns) as g(id) offset 0) f
  where (f.c).no is not null;
end $$;

-- p_shards in ascending order with the heads that the lane knows; …_slot: an element's place in p_shards. u_…: users;
-- e_…: events but for referral.created; r_…: the users among them who were referred, with that event, in whose data the
-- referrer's id is put here, at a place that lane_append.c knows as well.
-- state: 0 appended; 1 stale, a head is another; 2 addresses are taken: `taken` are places in u_…, `taken_by` who has them.
-- times: of the events, by shard; referrers: the ids that were put in, by place in r_….
create or replace function lane_append(
  p_shards int[], p_heads bigint[],
  u_campaign int[], u_place int[], u_id uuid[], u_slot int[], u_email_key text[], u_email text[], u_metadata text[], u_source text[],
  e_slot int[], e_seq bigint[], e_version bigint[], e_aggregate int[], e_type int[], e_id uuid[], e_data text[],
  r_campaign int[], r_referred int[], r_referrer int[], r_id uuid[], r_slot int[], r_seq bigint[], r_version bigint[], r_event uuid[],
  r_data text[],
  out state int, out times timestamptz[], out taken int[], out taken_by uuid[], out referrers uuid[])
language plpgsql volatile as $$
declare
  v_shard int;
  v_seq   bigint;
  v_at    timestamptz;
  v_by    uuid;
begin
  foreach v_shard in array p_shards loop
    perform pg_advisory_xact_lock(1953064037, v_shard);   -- as lock_shards does
  end loop;

  -- Statements of their own, so with a snapshot from after the locks. A sign-up alone: the same as below in fewer ones.
  if cardinality(e_slot) = 1 and cardinality(u_campaign) = 1 and cardinality(r_slot) = 0 and cardinality(p_shards) = 1 then
    select e.seq, e.at, (select u.id from users u where u.campaign = u_campaign[1] and u.email_key = u_email_key[1]
                         order by u.campaign, u.email_key limit 1)
    into v_seq, v_at, v_by
    from events e where e.shard = p_shards[1] order by e.shard desc, e.seq desc limit 1;
    if v_seq is distinct from p_heads[1] then
      state := 1;                                          -- a campaign's shard has events: it was created in it
    elsif v_by is not null then
      state := 2;
      taken := array[1];
      taken_by := array[v_by];
      perform vouch();
    else
      v_at := greatest(v_at, clock_timestamp());
      insert into users (campaign, place, id, created_at, email_key, email, metadata, source)
      values (u_campaign[1], u_place[1], u_id[1], v_at, u_email_key[1], u_email[1], u_metadata[1], u_source[1]);
      insert into events (seq, version, at, shard, aggregate, id, type, format, data)
      values (e_seq[1], e_version[1], v_at, p_shards[1], e_aggregate[1], e_id[1], e_type[1], 1, e_data[1]);
      times := array[v_at];
      state := 0;
    end if;
    return;
  end if;

  for i in 1 .. cardinality(p_shards) loop
    select e.seq, e.at into v_seq, v_at from events e where e.shard = p_shards[i] order by e.shard desc, e.seq desc limit 1;
    if coalesce(v_seq, 0) <> p_heads[i] then
      state := 1;
      return;
    end if;
    times[i] := greatest(v_at, clock_timestamp());
  end loop;

  taken := array(select g.o::int from unnest(u_campaign, u_email_key) with ordinality as g(campaign, email_key, o)
                 where (select u.place from users u where u.campaign = g.campaign and u.email_key = g.email_key
                        order by u.campaign, u.email_key limit 1) is not null);
  if cardinality(taken) > 0 then
    taken_by := array(select (select u.id from users u where u.campaign = u_campaign[g.o] and u.email_key = u_email_key[g.o]
                              order by u.campaign, u.email_key limit 1)
                      from unnest(taken) with ordinality as g(o, i) order by g.i);
    state := 2;
    perform vouch();
    return;
  end if;

  insert into users (campaign, place, id, created_at, email_key, email, metadata, source)
  select g.campaign, g.place, g.id, times[g.slot], g.email_key, g.email, g.metadata, g.source
  from unnest(u_campaign, u_place, u_id, u_slot, u_email_key, u_email, u_metadata, u_source)
    as g(campaign, place, id, slot, email_key, email, metadata, source);

  insert into events (seq, version, at, shard, aggregate, id, type, format, data)
  select g.seq, g.version, times[g.slot], p_shards[g.slot], g.aggregate, g.id, g.type, 1, g.data
  from unnest(e_slot, e_seq, e_version, e_aggregate, e_type, e_id, e_data) as g(slot, seq, version, aggregate, type, id, data);

  if cardinality(r_campaign) > 0 then
    referrers := array(select (select u.id from users u where u.campaign = g.campaign and u.place = g.referrer
                               order by u.campaign, u.place limit 1)
                       from unnest(r_campaign, r_referrer) with ordinality as g(campaign, referrer, i) order by g.i);
    insert into referrals (campaign, referred, referrer, id, created_at)
    select g.campaign, g.referred, g.referrer, g.id, times[g.slot]
    from unnest(r_campaign, r_referred, r_referrer, r_id, r_slot) as g(campaign, referred, referrer, id, slot);
    insert into events (seq, version, at, shard, aggregate, id, type, format, data)
    select g.seq, g.version, times[g.slot], p_shards[g.slot], g.campaign, g.id, 3, 1,
           overlay(g.data placing g.referrer::text from 70 for 36)
    from unnest(r_slot, r_seq, r_version, r_campaign, r_event, r_data, referrers)
      as g(slot, seq, version, campaign, id, data, referrer);
  end if;
  state := 0;
end $$;
