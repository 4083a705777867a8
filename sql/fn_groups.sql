-- What the consumer groups' handlers and their machinery call. Look-ups are pinned to the indexes: the sessions' plans
-- must not depend on statistics that were taken when the tables were empty.

-- Claims events for a group. Returns the places (from 1) in the arrays of those that were not handled before; of an event
-- that is there twice, the first. What is older than p_keep_days counts as handled, since its claim may have been trimmed;
-- p_keep_days null: it does not. Rows go in by event id, so that two processes cannot deadlock.
create or replace function handled_claim(p_grp text, p_ids uuid[], p_ats timestamptz[], p_keep_days int)
returns setof int
language plpgsql as $$
declare
  v_new uuid[];
begin
  with given as (select distinct on (id) id, at from unnest(p_ids, p_ats) as g (id, at) order by id),
       added as (insert into handled (grp, event_id, at) select p_grp, id, at from given order by id
                 on conflict do nothing returning event_id)
  select array_agg(event_id) into v_new from added;
  -- By the clock, as it is after the claim: if a trim has taken a row away that was in its way, this is later than the trim.
  return query
    select min(g.place)::int
    from unnest(p_ids, p_ats) with ordinality as g (id, at, place) join unnest(v_new) as n (id) on n.id = g.id
    where p_keep_days is null or g.at >= clock_timestamp() - p_keep_days * interval '24 hours'
    group by g.id;
end
$$;

-- Takes claims back, of events that had no effect after all.
create or replace function handled_release(p_grp text, p_ids uuid[])
returns void
language sql
set enable_seqscan = off
as $$
  delete from handled where grp = p_grp and event_id = any (p_ids)
$$;

-- --- taking away what is old ---

-- A trim goes up an index of the rows' times, a batch at a call, each from where the one before it ended: what lies before is
-- index entries of deleted rows, which stay until a vacuum, and may be as many as there are rows of days. So a call costs what it
-- deletes. Rows that were left (somebody had them locked), or that came in late with an old time, are found by the walk from the very
-- beginning, once a day.
--
-- Why a btree of the times, 66 bytes of WAL and about a microsecond for each row of `handled` (254 and 10 to 13 without it), 23 bytes
-- of its 136 on disk. BRIN, which costs nothing, finds nothing after a while: a range's summary keeps its oldest time when new rows
-- take the place of those that were deleted. The primary key goes by the events' ids, and these have the time of the host
-- that made them, if they are of ours at all: a row whose id is ahead of its time would stay, and one behind it be looked at
-- by every walk. What must be kept is known by `at` alone, since that is what tells whether an event is too old to be handled. And
-- in partitions by day, (grp, event_id) could not be unique.

-- Where the walk stands, '-infinity' when it is to begin anew. Null: another process is at it. Until trim_end, or the transaction's.
create or replace function trim_begin(p_name text)
returns timestamptz
language sql volatile as $$
  select case when t.begun_at between now() - interval '1 day' and now() then t.reached else '-infinity' end
  from trims t where t.name = p_name for update skip locked
$$;

-- p_from: what trim_begin said; p_reached: everything before has been looked at.
create or replace function trim_end(p_name text, p_from timestamptz, p_reached timestamptz)
returns void
language sql volatile as $$
  update trims t
  set reached = p_reached, begun_at = case when p_from = '-infinity' then now() else t.begun_at end
  where t.name = p_name
$$;

-- Deletes at most p_rows claims on events older than p_keep_days; returns how many. Postgres' clock tells, which the events' own
-- times are of: a host whose clock is wrong must not make all hosts forget. Such an event is
-- passed over when it comes again.
create or replace function handled_trim(p_keep_days int, p_rows int)
returns bigint
language plpgsql
set enable_seqscan = off
set enable_bitmapscan = off -- it would gather all that is old, for each batch
set enable_sort = off
as $$
declare
  v_before constant timestamptz := now() - p_keep_days * interval '24 hours';
  v_from constant timestamptz := trim_begin('handled');
  v_count bigint;
  v_last timestamptz;
begin
  if v_from is null then
    return 0;
  end if;
  with old as (select ctid from handled where at >= v_from and at < v_before order by at limit p_rows for update skip locked),
       gone as (delete from handled where ctid = any (array(select ctid from old)) returning at)
  select count(*), max(at) into v_count, v_last from gone;
  perform trim_end('handled', v_from, case when v_count < p_rows then v_before else v_last end);
  return v_count;
end
$$;

-- What mails are made of: one row per element, in order. p_users and p_user_places: who gets it; a null user stands for
-- the account's own address. p_rewards: the reward it is about, or null. campaign_no null: no such campaign; email null: no
-- such user in it; reward null: no such reward. status: of the mail so far, if there is one. own_template: the campaign has
-- one for the kind (mail_templates_of). expired: its event (p_ats) is older than p_max_age_s.
create or replace function mail_read(p_events uuid[], p_kinds text[], p_campaigns uuid[], p_users uuid[], p_user_places bigint[],
                                     p_rewards uuid[], p_ats timestamptz[], p_max_age_s bigint)
returns table (campaign_no int, deleted boolean, campaign_name text, landing_url text, points_per_referral int, email text,
               verified int, reward text, status text, own_template boolean, unsubscribed boolean, expired boolean)
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  select c.no, c.deleted_at is not null, c.name, c.landing_url, c.points_per_referral,
         case when g.user_id is null then (select a.email from accounts a where a.no = c.account)
              else (select coalesce(u.email, u.email_key) from users u
                    where u.campaign = c.no and u.place = g.user_place and u.id = g.user_id) end,
         coalesce((select r.n from verified_referrals r where r.campaign = c.no and r.referrer = g.user_place
                   order by r.campaign desc, r.referrer desc, r.n desc limit 1), 0),
         (select w.name from rewards w where w.campaign = c.no and w.no = number_of(g.reward) and w.id = g.reward),
         (select m.status from mails m where m.event_id = g.event),
         (select true from mail_templates t where t.campaign = c.no and t.kind = g.kind) is not null,
         (select true from mail_unsubscribes s where s.campaign = c.no and s.place = coalesce(g.user_place, 0)) is not null,
         g.at < now() - p_max_age_s * interval '1 s'
  from unnest(p_events, p_kinds, p_campaigns, p_users, p_user_places, p_rewards, p_ats) with ordinality
       as g (event, kind, campaign, user_id, user_place, reward, at, ord)
  left join campaigns c on c.id = g.campaign
  order by g.ord
$$;

-- Enters mails that are not going to be sent: all in one statement, without the facts that only a mail's text needs. Returns
-- the events that now have a row and had none, and what it says: 'expired', 'unsubscribed' (p_wanted: kinds that are wanted all
-- the same), else 'discarded'; mail_read and mail_begin tell what is wrong with the others. The parameters: as with mail_read.
-- The events must be in order, so that two processes cannot deadlock.
create or replace function mail_record(p_events uuid[], p_kinds text[], p_campaigns uuid[], p_users uuid[], p_user_places bigint[],
                                       p_rewards uuid[], p_ats timestamptz[], p_max_age_s bigint, p_id_suffix text,
                                       p_wanted text[])
returns table (event uuid, status text)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  return query
  insert into mails (event_id, campaign, kind, recipient, message_id, status)
  select f.event, f.no, f.kind, f.recipient, f.event || p_id_suffix,
         case when f.at < now() - p_max_age_s * interval '1 s' then 'expired'
              when f.kind <> all (p_wanted)
                   and (select true from mail_unsubscribes s where s.campaign = f.no and s.place = coalesce(f.user_place, 0))
              then 'unsubscribed' else 'discarded' end
  from (select g.*, c.no,
               case when g.user_id is null then (select a.email from accounts a where a.no = c.account)
                    else (select coalesce(u.email, u.email_key) from users u
                          where u.campaign = c.no and u.place = g.user_place and u.id = g.user_id) end as recipient
        from unnest(p_events, p_kinds, p_campaigns, p_users, p_user_places, p_rewards, p_ats)
             as g (event, kind, campaign, user_id, user_place, reward, at)
        join campaigns c on c.id = g.campaign
        where c.deleted_at is null offset 0) f
  where f.recipient is not null
    and (f.reward is null or exists (select from rewards w where w.campaign = f.no and w.no = number_of(f.reward)
                                                             and w.id = f.reward))
  on conflict (event_id) do nothing
  returning event_id, status;
end
$$;

-- Enters mails as p_statuses say, where their events have none yet, and returns each one's status now, in order. One that
-- was 'sending' already becomes 'unsubscribed' if it says so, and counts as new.
create or replace function mail_begin(p_events uuid[], p_campaigns int[], p_kinds text[], p_recipients text[],
                                      p_message_ids text[], p_statuses text[])
returns table (status text, is_new boolean)
language plpgsql
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_new uuid[];
begin
  with added as (
    insert into mails (event_id, campaign, kind, recipient, message_id, status)
    select g.event_id, g.campaign, g.kind, g.recipient, g.message_id, g.status
    from unnest(p_events, p_campaigns, p_kinds, p_recipients, p_message_ids, p_statuses)
         as g (event_id, campaign, kind, recipient, message_id, status)
    order by g.event_id
    on conflict (event_id) do update set status = excluded.status
    where mails.status = 'sending' and excluded.status = 'unsubscribed'
    returning event_id)
  select array_agg(event_id) into v_new from added;
  return query
    select (select m.status from mails m where m.event_id = g.event_id), n.id is not null
    from unnest(p_events) with ordinality as g (event_id, ord) left join unnest(v_new) as n (id) on n.id = g.event_id
    order by g.ord;
end
$$;

-- Records what became of mails that were 'sending'. 'sending' again: the attempt failed and will be repeated.
create or replace function mail_settle(p_events uuid[], p_statuses text[], p_errors text[])
returns void
language sql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  update mails m
  set status = g.status, error = g.error, attempts = m.attempts + 1,
      sent_at = case when g.status = 'sent' then now() end
  from unnest(p_events, p_statuses, p_errors) as g (event_id, status, error)
  where m.event_id = g.event_id and m.status = 'sending'
$$;

-- Mails that are given up outside of mail_settle.
create or replace function mail_give_up(p_events uuid[], p_errors text[])
returns void
language sql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  update mails m set status = 'failed', error = g.error
  from unnest(p_events, p_errors) as g (event_id, error)
  where m.event_id = g.event_id and m.status = 'sending'
$$;

-- What deliveries of rewards are made of: one row per element, in order. campaign_no null: no such campaign; email null: no
-- such user in it; reward_no null: no such reward; earned: the user has it. status: of the delivery so far, if there is one.
create or replace function delivery_read(p_user_rewards uuid[], p_campaigns uuid[], p_users uuid[], p_rewards uuid[])
returns table (campaign_no int, deleted boolean, campaign_name text, email text, reward_no int, reward_name text, kind text,
               url text, secret text, message text, earned boolean, status text)
language sql stable
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
  select c.no, c.deleted_at is not null, c.name,
         (select coalesce(u.email, u.email_key) from users u
          where u.campaign = c.no and u.place = number_of(g.user_id) and u.id = g.user_id),
         w.no, w.name, w.delivery, w.url, w.secret, w.message,
         exists (select from user_rewards e
                 where e.campaign = c.no and e.place = number_of(g.user_id) and e.reward = w.no and e.id = g.user_reward),
         (select d.status from deliveries d where d.user_reward_id = g.user_reward)
  from unnest(p_user_rewards, p_campaigns, p_users, p_rewards) with ordinality
       as g (user_reward, campaign, user_id, reward, ord)
  left join campaigns c on c.id = g.campaign
  left join rewards w on w.campaign = c.no and w.no = number_of(g.reward) and w.id = g.reward
  order by g.ord
$$;

-- Who writes a campaign's leaderboard holds its lock. In one order, so that nobody waits in a circle; a statement that
-- comes after it reads with a snapshot of its own.
create or replace function leaderboard_lock(p_campaigns uuid[])
returns void
language plpgsql as $$
declare
  v_key bigint;
begin
  for v_key in select distinct hashtext(c::text)::bigint from unnest(p_campaigns) as c order by 1 loop
    perform pg_advisory_xact_lock(v_key);
  end loop;
end
$$;

-- Brings the leaderboard up to date for referrers: computed from verified_referrals, whatever the events say. Returns the
-- places (from 1) in the arrays, with the reason, of those for which that cannot be done. A deleted campaign has none.
create or replace function leaderboard_update(p_campaigns uuid[], p_referrers uuid[], p_places bigint[], p_versions bigint[])
returns table (place int, problem text)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
begin
  perform leaderboard_lock(p_campaigns);

  return query
  with given as (
    select g.campaign, g.referrer, g.place as user_place, g.version, g.ord,
           c.no, c.points_per_referral as points, c.deleted_at is not null as deleted,
           (select u.place from users u where u.campaign = c.no and u.place = g.place and u.id = g.referrer) as known,
           (select r.n from verified_referrals r where r.campaign = c.no and r.referrer = g.place
            order by r.campaign desc, r.referrer desc, r.n desc limit 1) as verified
    from unnest(p_campaigns, p_referrers, p_places, p_versions) with ordinality
         as g (campaign, referrer, place, version, ord)
    left join campaigns c on c.id = g.campaign
  ), rows as (
    select no, known, max(verified) as verified, max(points) as points, max(version) as version
    from given where not deleted and known is not null and verified is not null
    group by no, known
  ), written as (
    insert into leaderboard as l (campaign, place, verified, position, version)
    select no, known, verified, greatest(1, known - verified::bigint * points)::int, version
    from rows order by no, known
    on conflict (campaign, place) do update
    set verified = excluded.verified, position = excluded.position, version = excluded.version
    where l.version <= excluded.version
  )
  select g.ord::int,
         case when g.no is null then 'the campaign does not exist'
              when g.known is null then 'the referrer is no user of the campaign'
              else 'the referrer has no verified referral' end
  from given g
  where g.no is null or (not g.deleted and (g.known is null or g.verified is null));
end
$$;

-- Gives a campaign's leaderboard the positions that its present points_per_referral makes, one page of rows by place:
-- last_place is where the next page begins after, null after the last page. Rows that are right are only read. The rows'
-- own counts tell which are right: a count that is out of date has an event on its way.
create or replace function leaderboard_rebuild(p_campaign uuid, p_version bigint, p_after int, p_rows int)
returns table (last_place int, problem text)
language plpgsql
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
as $$
#variable_conflict use_column
declare
  v_campaign campaigns;
  v_last     int;
  v_rows     int;
begin
  perform leaderboard_lock(array[p_campaign]);
  select * into v_campaign from campaigns where id = p_campaign;
  if not found then
    return query select null::int, 'the campaign does not exist';
    return;
  end if;
  if v_campaign.deleted_at is null then
    select max(x.place), count(*) into v_last, v_rows
    from (select place from leaderboard where campaign = v_campaign.no and place > p_after
          order by campaign, place limit p_rows) x;

    with stale as (
      select l.place, coalesce((select r.n from verified_referrals r where r.campaign = l.campaign and r.referrer = l.place
                                order by r.campaign desc, r.referrer desc, r.n desc limit 1), l.verified) as verified
      from leaderboard l
      where l.campaign = v_campaign.no and l.place > p_after and l.place <= v_last
        and l.position <> greatest(1, l.place - l.verified::bigint * v_campaign.points_per_referral)
    )
    update leaderboard l
    set verified = s.verified, version = greatest(l.version, p_version),
        position = greatest(1, l.place - s.verified::bigint * v_campaign.points_per_referral)::int
    from stale s
    where l.campaign = v_campaign.no and l.place = s.place;
  end if;
  return query select case when v_rows = p_rows then v_last end, null::text;
end
$$;
