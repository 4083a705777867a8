-- The actions of lanes that are applied one by one (see sql/fn_lanes.sql for the outcomes): a function each, all of the same
-- form. They may be rarer than sign-ups, but share their transactions. `extra` is the JSON text that the answer consists of.

create or replace function apply_act(p act) returns lane_row[] language plpgsql volatile as $$
declare
  c campaigns;
begin
  if p.kind = 1 then
    return act_create_campaign(p);
  elsif p.kind = 10 then
    return act_upkeep(p);
  end if;
  c := campaign_of(p);
  if c.no is null then
    return outcome(p, 1);
  end if;
  return case p.kind
    when 2 then act_update_campaign(p, c)
    when 3 then act_close_campaign(p, c)
    when 4 then act_delete_campaign(p, c)
    when 5 then act_request_verification(p, c)
    when 6 then act_create_referral(p, c)
    when 7 then act_verify_referral(p, c)
    when 8 then act_create_reward(p, c)
    when 9 then act_grant_reward(p, c)
    when 11 then act_end_sagas(p, c) end;
end $$;

-- --- what they share -------------------------------------------------------------------------------------------------

-- The campaign of an action; no is null when there is none.
create or replace function campaign_of(p act) returns campaigns language plpgsql volatile as $$
begin
  return (
  select c from campaigns c
  where c.id = p.campaign and c.deleted_at is null and (p.account = 0 or c.account = p.account)
  order by c.id limit 1);
end $$;

create or replace function user_of(p_campaign int, p_user uuid) returns users language plpgsql volatile as $$
begin
  return (
  select u from users u where u.campaign = p_campaign and u.place = number_of(p_user) and u.id = p_user
  order by u.campaign, u.place limit 1);
end $$;

-- An outcome without an event.
create or replace function outcome(p act, p_err int, p_object uuid default null, p_place int default null,
                                   p_version bigint default null, p_extra text default null)
returns lane_row[] language plpgsql immutable as $$
begin
  return (
  select array[row(p.of_action, p_err, p_object, p_place, p_extra, null, null, null, p_version, null, null, null, null, null)::lane_row]);
end $$;

-- Appends the k-th event of an action.
create or replace function happened(p_of int, p_base uuid, p_k int, c campaigns, p_type int, p_data text,
                                    p_object uuid, p_place int default null)
returns lane_row language plpgsql volatile as $$
begin
  return (
  select row(p_of, 0, p_object, p_place, null, c.account_id, a.shard, a.seq, a.version, a.type, a.at, a.id, a.data, null)::lane_row
  from append_events(array[p_of], array[p_k], array[c.shard], array[c.no], array[p_type::smallint],
                     array[event_id_at(p_base, p_k)], array[p_data]) a);
end $$;

create or replace function with_extra(r lane_row, p_extra text) returns lane_row language plpgsql immutable as $$
begin
  r.extra := p_extra;
  return r;
end $$;

-- What the creation answers: the only time that the webhook's secret is shown.
create or replace function reward_answer(p_campaign uuid, w rewards) returns text language plpgsql stable as $$
begin
  return (
  select case when w.secret is null then reward_item(p_campaign, w)
              else left(reward_item(p_campaign, w), -1) || ',"secret":' || to_json(w.secret) || '}' end);
end $$;

-- The JSON text of an answer, by the type of the action's first event.
create or replace function extra_of(p_type smallint, c campaigns, p_object uuid, p_data text) returns text
language plpgsql stable as $$
begin
  return (
  select case
    when p_type in (1) then c.landing_url
    when p_type in (3, 4) then (select referral_item(c.id, r) from referrals r where r.campaign = c.no and r.referred = number_of(p_object))
    when p_type = 5 then (select user_reward_item(c.id, e, true) from user_rewards e
                          where e.campaign = c.no and e.place = number_of(p_object) and e.id = p_object)
    when p_type in (7, 8) then campaign_item(c)
    when p_type = 9 then '{"campaign_id":"' || c.id || '","status":"closed"}'
    when p_type = 10 then '{"campaign_id":"' || c.id || '","status":"deleted"}'
    when p_type = 11 then '{"user_id":"' || p_object || '","campaign_id":"' || c.id || '"}'
    when p_type = 12 then (select reward_answer(c.id, w) from rewards w where w.campaign = c.no and w.no = number_of(p_object)) end);
end $$;

-- --- campaigns -------------------------------------------------------------------------------------------------------

create or replace function campaign_data(c campaigns) returns text language plpgsql immutable as $$
begin
  return (
  select '{"campaign_id":"' || c.id || '","name":' || to_json(c.name) || ',"points_per_referral":' || c.points_per_referral || '}');
end $$;

create or replace function milestones_of(p jsonb) returns int[] language plpgsql immutable as $$
begin
  return (
  select array(select m::int from jsonb_array_elements_text(p) with ordinality as e(m, i) order by i));
end $$;

-- args: the settings, checked by the caller.
create or replace function act_create_campaign(p act) returns lane_row[] language plpgsql volatile as $$
declare
  c campaigns;
  r lane_row;
begin
  c.no := nextval('campaigns_no_seq');
  c.id := p.campaign;
  c.account := p.account;
  c.account_id := p.account_id;
  c.shard := p.shard;
  c.points_per_referral := (p.args ->> 'points_per_referral')::int;
  c.milestones := milestones_of(p.args -> 'milestones');
  c.name := p.args ->> 'name';
  c.landing_url := p.args ->> 'landing_url';
  c.auto_rewards := 0;
  r := happened(p.of_action, p.event, 0, c, 7, campaign_data(c), c.id);
  c.created_at := r.at;
  insert into campaigns overriding system value select c.*;
  return array[with_extra(r, campaign_item(c))];
end $$;

-- Thresholds of rewards, as a list of {reward_id, threshold}: 16 when one is not there, 15 when they get too many.
create or replace function set_reward_rules(inout c campaigns, p_rules jsonb, p_max int, out o_err int, out o_changed boolean)
language plpgsql volatile as $$
declare
  v_given record;
  w rewards;
  v_count int;
begin
  o_err := 0;
  o_changed := false;
  for v_given in select (r ->> 'reward_id')::uuid as id, (r ->> 'threshold')::int as threshold from jsonb_array_elements(p_rules) r loop
    select * into w from rewards x where x.campaign = c.no and x.no = number_of(v_given.id) and x.id = v_given.id;
    if w.no is null then
      o_err := 16;
      return;
    end if;
  end loop;
  select count(*) into v_count
  from rewards x left join (select (r ->> 'reward_id')::uuid as id, (r ->> 'threshold')::int as threshold
                            from jsonb_array_elements(p_rules) r) g on g.id = x.id
  where x.campaign = c.no and case when g.id is null then x.threshold else g.threshold end is not null;
  if v_count > p_max then
    o_err := 15;
    return;
  end if;
  for v_given in select (r ->> 'reward_id')::uuid as id, (r ->> 'threshold')::int as threshold from jsonb_array_elements(p_rules) r loop
    update rewards x set threshold = v_given.threshold
    where x.campaign = c.no and x.no = number_of(v_given.id) and x.threshold is distinct from v_given.threshold;
    o_changed := o_changed or found;
  end loop;
  c.auto_rewards := v_count;
end $$;

-- args: what is to change, and max_rules; expected_version when the campaign must be at it.
create or replace function act_update_campaign(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  v_old campaigns := c;
  v_version bigint;
  v_rules record;
  v_changed boolean := false;
begin
  v_version := campaign_version(c.no);
  if v_version <> (p.args ->> 'expected_version')::bigint then
    return outcome(p, 8, p_version => v_version);
  end if;
  if p.args ? 'reward_rules' then
    select * into v_rules from set_reward_rules(c, p.args -> 'reward_rules', (p.args ->> 'max_rules')::int);
    if v_rules.o_err <> 0 then
      return outcome(p, v_rules.o_err, p_place => 1);
    end if;
    c := v_rules.c;
    v_changed := v_rules.o_changed;
  end if;
  if p.args ? 'name' then
    c.name := p.args ->> 'name';
  end if;
  if p.args ? 'points_per_referral' then
    c.points_per_referral := (p.args ->> 'points_per_referral')::int;
  end if;
  if p.args ? 'milestones' then
    c.milestones := milestones_of(p.args -> 'milestones');
  end if;
  if p.args ? 'landing_url' then
    c.landing_url := p.args ->> 'landing_url';
  end if;
  if c is not distinct from v_old and not v_changed then
    return outcome(p, 5, c.id, p_version => v_version, p_extra => campaign_item(c));
  end if;
  update campaigns x set name = c.name, points_per_referral = c.points_per_referral, milestones = c.milestones,
                         landing_url = c.landing_url, auto_rewards = c.auto_rewards
  where x.id = c.id;
  return array[with_extra(happened(p.of_action, p.event, 0, c, 8, campaign_data(c), c.id), campaign_item(c))];
end $$;

create or replace function act_close_campaign(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  r lane_row;
begin
  if c.closed_at is not null then
    return outcome(p, 5, c.id, p_version => campaign_version(c.no), p_extra => extra_of(9::smallint, c, c.id, null));
  end if;
  r := happened(p.of_action, p.event, 0, c, 9, '{"campaign_id":"' || c.id || '"}', c.id);
  update campaigns x set closed_at = r.at where x.id = c.id;
  return array[with_extra(r, extra_of(9::smallint, c, c.id, null))];
end $$;

-- The campaign is gone for everybody at once; act_upkeep takes its rows away.
create or replace function act_delete_campaign(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  r lane_row;
begin
  if c.closed_at is null then
    return outcome(p, 7);
  end if;
  r := happened(p.of_action, p.event, 0, c, 10, '{"campaign_id":"' || c.id || '"}', c.id);
  update campaigns x set deleted_at = r.at where x.id = c.id;
  return array[with_extra(r, extra_of(10::smallint, c, c.id, null))];
end $$;

-- --- verification mails ----------------------------------------------------------------------------------------------

-- subject: the user. args: interval_s, per_day.
create or replace function act_request_verification(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  u users;
  v_now constant timestamptz := clock_timestamp();
  v_last verification_requests;
  v_free timestamptz;                               -- when the next one is allowed
  r lane_row;
begin
  u := user_of(c.no, p.subject);
  if u.place is null then
    return outcome(p, 4);
  end if;
  if (select v.place from verifications v where v.campaign = c.no and v.place = u.place) is not null then
    return outcome(p, 13);
  end if;
  select * into v_last from verification_requests q where q.campaign = c.no and q.place = u.place
  order by q.campaign desc, q.place desc, q.n desc limit 1;
  v_free := greatest(u.created_at, v_last.at) + make_interval(secs => (p.args ->> 'interval_s')::int);
  v_free := greatest(v_free, (select q.at + interval '1 day' from verification_requests q
                              where q.campaign = c.no and q.place = u.place
                                and q.n = v_last.n - (p.args ->> 'per_day')::int + 1));
  if v_free > v_now then
    return outcome(p, 14, p_place => ceil(extract(epoch from v_free - v_now))::int);
  end if;
  r := happened(p.of_action, p.event, 0, c, 11,
                '{"user_id":"' || u.id || '","campaign_id":"' || c.id || '","email":' || to_json(coalesce(u.email, u.email_key)) || '}',
                u.id, u.place);
  insert into verification_requests (campaign, place, n, at) values (c.no, u.place, coalesce(v_last.n, 0) + 1, r.at);
  return array[with_extra(r, extra_of(11::smallint, c, u.id, null))];
end $$;

-- --- referrals -------------------------------------------------------------------------------------------------------

-- subject: the referred user. args: referrer (an id), or referrer_place (of a code).
create or replace function act_create_referral(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  v_referred users;
  v_referrer users;
  v_known referrals;
  n referrals;
  r lane_row;
begin
  if c.closed_at is not null then
    return outcome(p, 6);
  end if;
  v_referred := user_of(c.no, p.subject);
  if v_referred.place is null then
    return outcome(p, 4, p_place => 0);
  end if;
  if p.args ? 'referrer' then
    v_referrer := user_of(c.no, (p.args ->> 'referrer')::uuid);
  else
    select * into v_referrer from users u where u.campaign = c.no and u.place = (p.args ->> 'referrer_place')::int
    order by u.campaign, u.place limit 1;
  end if;
  if v_referrer.place is null then
    return case when p.args ? 'referrer' then outcome(p, 4, p_place => 1) else outcome(p, 3) end;
  end if;
  if v_referrer.place = v_referred.place then
    return outcome(p, 12);
  end if;
  select * into v_known from referrals x where x.campaign = c.no and x.referred = v_referred.place
  order by x.campaign, x.referred limit 1;
  if v_known.id is not null then
    return outcome(p, 11, v_known.id);
  end if;
  n.id := id_with_place(p.event, v_referred.place);
  r := happened(p.of_action, p.event, 0, c, 3,
                '{"referral_id":"' || n.id || '","referrer_id":"' || v_referrer.id || '","referred_id":"'
                  || v_referred.id || '","campaign_id":"' || c.id || '"}', n.id);
  n.campaign := c.no;
  n.referred := v_referred.place;
  n.referrer := v_referrer.place;
  n.created_at := r.at;
  insert into referrals select n.*;
  return array[with_extra(r, referral_item(c.id, n))];
end $$;

-- subject: the referral.
create or replace function act_verify_referral(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  f referrals;
  r lane_row;
  v_n int;
begin
  select * into f from referrals x where x.campaign = c.no and x.referred = number_of(p.subject) and x.id = p.subject
  order by x.campaign, x.referred limit 1;
  if f.id is null then
    return outcome(p, 19);
  end if;
  if (select v.n from verified_referrals v where v.campaign = c.no and v.referred = f.referred
      order by v.campaign, v.referred limit 1) is not null then
    return outcome(p, 5, f.id, p_version => campaign_version(c.no), p_extra => referral_item(c.id, f));
  end if;
  v_n := coalesce((select v.n from verified_referrals v where v.campaign = c.no and v.referrer = f.referrer
                   order by v.campaign desc, v.referrer desc, v.n desc limit 1), 0) + 1;
  r := happened(p.of_action, p.event, 0, c, 4,
                verified_referral_data(f.id,
                  (select u.id from users u where u.campaign = c.no and u.place = f.referrer order by u.campaign, u.place limit 1),
                  (select u.id from users u where u.campaign = c.no and u.place = f.referred order by u.campaign, u.place limit 1),
                  c.id, c.points_per_referral), f.id);
  insert into verified_referrals (campaign, referrer, n, referred, verified_at) values (c.no, f.referrer, v_n, f.referred, r.at);
  return with_extra(r, referral_item(c.id, f)) || earn_rewards(array[r]);
end $$;

-- --- rewards ---------------------------------------------------------------------------------------------------------

-- args: name, delivery, url, secret, message, stock, threshold; max_rewards, max_rules.
create or replace function act_create_reward(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  w rewards;
  r lane_row;
  v_item text;
begin
  w.campaign := c.no;
  w.no := coalesce((select x.no from rewards x where x.campaign = c.no order by x.campaign desc, x.no desc limit 1), 0) + 1;
  w.threshold := (p.args ->> 'threshold')::int;
  if w.no > (p.args ->> 'max_rewards')::int or (w.threshold is not null and c.auto_rewards >= (p.args ->> 'max_rules')::int) then
    return outcome(p, 15, p_place => case when w.no > (p.args ->> 'max_rewards')::int then 0 else 1 end);
  end if;
  w.id := id_with_place(p.event, w.no);
  w.name := p.args ->> 'name';
  w.delivery := p.args ->> 'delivery';
  w.url := p.args ->> 'url';
  w.secret := p.args ->> 'secret';
  w.message := p.args ->> 'message';
  w.stock := (p.args ->> 'stock')::int;
  r := happened(p.of_action, p.event, 0, c, 12,
                '{"reward_id":"' || w.id || '","campaign_id":"' || c.id || '","name":' || to_json(w.name) || '}', w.id);
  w.created_at := r.at;
  insert into rewards select w.*;
  if w.threshold is not null then
    update campaigns x set auto_rewards = x.auto_rewards + 1 where x.id = c.id;
  end if;
  return array[with_extra(r, reward_answer(c.id, w))];
end $$;

-- A user earns a reward that it does not have and of which something is left: `reward.earned`, and `reward.exhausted` if that
-- was the last of it, as events p_k and after of the action. p_nth: the action's rewards before it.
create or replace function earn(c campaigns, w rewards, u_id uuid, u_place int, p_of int, p_base uuid, p_k int, p_nth int,
                                p_object uuid, p_object_place int)
returns lane_row[] language plpgsql volatile as $$
declare
  -- Several rewards of one action differ before the place.
  v_id constant uuid := overlay(id_with_place(p_base, u_place)::text placing to_hex(p_nth) from 28)::uuid;
  v_n constant int := reward_earned(w) + 1;
  r lane_row;
begin
  r := happened(p_of, p_base, p_k, c, 5,
                '{"user_reward_id":"' || v_id || '","user_id":"' || u_id || '","campaign_id":"' || c.id
                  || '","reward_id":"' || w.id || '"}', coalesce(p_object, v_id), p_object_place);
  insert into user_rewards (campaign, reward, n, place, id, earned_at) values (c.no, w.no, v_n, u_place, v_id, r.at);
  insert into sagas (user_reward_id, campaign, reward, n, place, event_id, state, earned_at, changed_at)
  values (v_id, c.no, w.no, v_n, u_place, r.event_id, 'reserved', r.at, r.at);
  if w.stock is null or in_stock(w) then
    return array[r];
  end if;
  return array[r, happened(p_of, p_base, p_k + 1, c, 14,
                           '{"reward_id":"' || w.id || '","campaign_id":"' || c.id || '","stock":' || w.stock || '}',
                           coalesce(p_object, v_id), p_object_place)];
end $$;

-- How often a reward was earned, what came back since included.
create or replace function reward_earned(w rewards) returns int language plpgsql volatile as $$
begin
  return (
  select coalesce((select e.n from user_rewards e where e.campaign = w.campaign and e.reward = w.no
                   order by e.campaign desc, e.reward desc, e.n desc limit 1), 0));
end $$;

create or replace function in_stock(w rewards) returns boolean language plpgsql volatile as $$
begin
  return w.stock is null or reward_earned(w) - reward_released(w.campaign, w.no) < w.stock;
end $$;

-- The last time that a user earned a reward; id is null if there was none.
create or replace function earned_before(w rewards, p_place int) returns user_rewards language plpgsql volatile as $$
begin
  return (
  select e from user_rewards e where e.campaign = w.campaign and e.place = p_place and e.reward = w.no
  order by e.campaign desc, e.place desc, e.reward desc, e.n desc limit 1);
end $$;

-- Whether it was taken back since.
create or replace function was_released(e user_rewards) returns boolean language plpgsql volatile as $$
begin
  return (
  select r.m from reward_releases r where r.campaign = e.campaign and r.place = e.place and r.reward = e.reward and r.n = e.n
  order by r.campaign, r.place, r.reward, r.n limit 1) is not null;
end $$;

-- Whether a user who has reached the threshold gets it: something is left, and it is the first time. What could not be
-- delivered once is not earned again by itself.
create or replace function can_earn(w rewards, p_place int) returns boolean language plpgsql volatile as $$
begin
  return in_stock(w) and (earned_before(w, p_place)).id is null;
end $$;

-- The rewards that verified referrals bring: p_rows are the events that just happened. A reward is earned when the referrer
-- has reached its threshold, has not earned it and something is left.
create or replace function earn_rewards(p_rows lane_row[]) returns lane_row[] language plpgsql volatile as $$
declare
  v_rows lane_row[] := '{}';
  v_earned lane_row[];
  v_events int;
  v_nth int;
  f record;
  c campaigns;
  w rewards;
begin
  for f in
    select d.*
    from (select r.of_action, r.object_id, r.place, r.event_id,
                 (r.data::json ->> 'campaign_id')::uuid as campaign, (r.data::json ->> 'referrer_id')::uuid as referrer,
                 number_of((r.data::json ->> 'referred_id')::uuid) as referred
          from unnest(p_rows) r where r.type = 4) d
    where (select x.auto_rewards from campaigns x where x.id = d.campaign order by x.id limit 1) > 0
    order by d.of_action
  loop
    select * into c from campaigns x where x.id = f.campaign order by x.id limit 1;
    v_events := (select count(*) from unnest(p_rows) r where r.of_action = f.of_action and r.seq is not null);
    v_nth := 0;
    for w in
      select * from rewards x
      where x.campaign = c.no and x.threshold <= (select v.n from verified_referrals v where v.campaign = c.no and v.referred = f.referred
                                                  order by v.campaign, v.referred limit 1)
      order by x.campaign, x.no
    loop
      continue when not can_earn(w, number_of(f.referrer));
      v_earned := earn(c, w, f.referrer, number_of(f.referrer), f.of_action, f.event_id, v_events, v_nth, f.object_id, f.place);
      v_rows := v_rows || v_earned;
      v_events := v_events + cardinality(v_earned);
      v_nth := v_nth + 1;
    end loop;
  end loop;
  return v_rows;
end $$;

-- subject: the user. args: reward.
create or replace function act_grant_reward(p act, c campaigns) returns lane_row[] language plpgsql volatile as $$
declare
  u users;
  w rewards;
  v_before user_rewards;
  v_rows lane_row[];
  e user_rewards;
begin
  u := user_of(c.no, p.subject);
  if u.place is null then
    return outcome(p, 4);
  end if;
  select * into w from rewards x
  where x.campaign = c.no and x.no = number_of((p.args ->> 'reward')::uuid) and x.id = (p.args ->> 'reward')::uuid
  order by x.campaign, x.no limit 1;
  if w.no is null then
    return outcome(p, 16);
  end if;
  v_before := earned_before(w, u.place);
  if v_before.id is not null and not was_released(v_before) then
    return outcome(p, 18, v_before.id);
  end if;
  if not in_stock(w) then
    return outcome(p, 17);
  end if;
  v_rows := earn(c, w, u.id, u.place, p.of_action, p.event, 0, 0, null, u.place);
  e := earned_before(w, u.place);
  return with_extra(v_rows[1], user_reward_item(c.id, e, true)) || v_rows[2:];
end $$;

-- --- upkeep ----------------------------------------------------------------------------------------------------------

-- Takes away what is no longer needed of a shard, about `rows` rows of a table: rows of deleted campaigns, once all of their
-- events are in Kafka, and answers kept under Idempotency-Keys. The campaign's row and its last event stay, so no number is given
-- twice. args: rows, delay_s, keep_s. The outcome's place is 1 while there is more to do.
create or replace function act_upkeep(p act) returns lane_row[] language plpgsql volatile as $$
declare
  v_rows constant int := (p.args ->> 'rows')::int;
  c campaigns;
  v_gone bigint;
begin
  delete from idempotency_keys k
  where k.ctid = any (array(select i.ctid from idempotency_keys i
                            where i.shard = p.shard
                              and i.created_at < clock_timestamp() - make_interval(secs => (p.args ->> 'keep_s')::int)
                            order by i.shard, i.created_at limit v_rows));
  get diagnostics v_gone = row_count;
  select * into c from campaigns x
  where x.shard = p.shard and x.deleted_at is not null and x.purged_at is null
    and x.deleted_at < clock_timestamp() - make_interval(secs => (p.args ->> 'delay_s')::int)
    and (select e.seq from events e where e.aggregate = x.no order by e.aggregate desc, e.version desc limit 1)
        <= (select r.seq from relay_cursors r where r.shard = p.shard)
  order by x.shard, x.no limit 1;
  if c.no is not null then
    perform purge_campaign(c, v_rows);
  end if;
  return outcome(p, 0, p_place => (v_gone = v_rows or c.no is not null)::int);
end $$;

-- The next page: events by their versions, what belongs to users by their places. How far it is gone is remembered, so that no
-- page passes over what the ones before it deleted.
create or replace function purge_campaign(c campaigns, p_rows int) returns void language plpgsql volatile as $$
declare
  q purges;
  v_head constant bigint := campaign_version(c.no);
  v_events uuid[];
  v_rewards uuid[];
  v_keys bigint;
  v_stats bigint;
begin
  insert into purges (campaign, shard, places)
  values (c.no, c.shard, last_place(c.no))
  on conflict (campaign) do nothing;
  select * into q from purges x where x.campaign = c.no;

  with gone as (
    delete from events e
    where e.aggregate = c.no and e.version > q.version and e.version <= least(q.version + p_rows, v_head - 1)
    returning e.seq, e.id)
  select q.events + count(*), least(q.first_seq, min(g.seq)), greatest(q.last_seq, max(g.seq)), array_agg(g.id)
  into q.events, q.first_seq, q.last_seq, v_events from gone g;
  delete from mails m where m.event_id = any (v_events);

  with gone as (
    delete from user_rewards e where e.campaign = c.no and e.place > q.place and e.place <= q.place + p_rows returning e.id)
  select array_agg(g.id) into v_rewards from gone g;
  delete from sagas s where s.user_reward_id = any (v_rewards); -- before deliveries, as everybody locks them
  delete from deliveries d where d.user_reward_id = any (v_rewards);
  delete from reward_releases r where r.campaign = c.no and r.place > q.place and r.place <= q.place + p_rows;
  delete from users x where x.campaign = c.no and x.place > q.place and x.place <= q.place + p_rows;
  delete from referrals x where x.campaign = c.no and x.referred > q.place and x.referred <= q.place + p_rows;
  delete from verifications x where x.campaign = c.no and x.place > q.place and x.place <= q.place + p_rows;
  delete from verified_referrals x where x.campaign = c.no and x.referred > q.place and x.referred <= q.place + p_rows;
  delete from verification_requests x where x.campaign = c.no and x.place > q.place and x.place <= q.place + p_rows;
  delete from leaderboard x where x.campaign = c.no and x.place > q.place and x.place <= q.place + p_rows;
  delete from mail_unsubscribes x where x.campaign = c.no and x.place > q.place and x.place <= q.place + p_rows;
  delete from campaign_stats s
  where s.ctid = any (array(select x.ctid from campaign_stats x where x.campaign = c.no
                            order by x.campaign, x.minute, x.type limit p_rows));
  get diagnostics v_stats = row_count;

  with page as materialized (
    select i.key from idempotency_keys i
    where (i.shard, i.campaign, i.key) > (c.shard, c.id, coalesce(q.key, '00000000-0000-0000-0000-000000000000'))
      and i.shard = c.shard and i.campaign = c.id
    order by i.shard, i.campaign, i.key limit p_rows),
  gone as (
    delete from idempotency_keys i
    where i.shard = c.shard and i.campaign = c.id and i.key = any (array(select p.key from page p)) returning i.key)
  select count(*), coalesce((array_agg(g.key order by g.key desc))[1], q.key) into v_keys, q.key from gone g;

  q.version := least(q.version + p_rows, v_head - 1);
  q.place := least(q.place + p_rows, q.places);
  update purges x set (first_seq, last_seq, events, version, place, key) = (q.first_seq, q.last_seq, q.events, q.version, q.place, q.key)
  where x.campaign = c.no;
  if q.version >= v_head - 1 and q.place >= q.places and v_keys = 0 and v_stats = 0 then
    delete from rewards x where x.campaign = c.no;
    delete from mail_templates x where x.campaign = c.no;
    delete from mail_unsubscribes x where x.campaign = c.no and x.place = 0;
    update campaigns x set purged_at = clock_timestamp(), name = '', landing_url = null, milestones = '{}' where x.id = c.id;
  end if;
end $$;
