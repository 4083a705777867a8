-- What lanes and reads share: where a campaign stands, and how things look in answers. What statements call one by one is
-- PL/pgSQL: it keeps its plans, where SQL functions are planned each time.

-- The original position of the campaign's last user: how many there are.
create or replace function last_place(p_campaign int) returns int language plpgsql stable as $$
begin
  return coalesce((select u.place from users u where u.campaign = p_campaign order by u.campaign desc, u.place desc limit 1), 0);
end $$;

create or replace function campaign_version(p_campaign int) returns bigint language plpgsql stable as $$
begin
  return coalesce((select e.version from events e where e.aggregate = p_campaign
                   order by e.aggregate desc, e.version desc limit 1), 0);
end $$;

create or replace function rfc3339(p_at timestamptz) returns text language sql stable as $$
  select to_char(p_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- The number that an id carries in its last four bytes.
create or replace function number_of(p_id uuid) returns int language sql immutable as $$
  select ('x' || right(p_id::text, 8))::bit(32)::int
$$;

-- At the end of a transaction whose answer rests on rows that it read: they may be visible without being on the synchronous
-- standby (the session that wrote them was ended while it waited). If nothing was written, something is, so that this commit waits
-- for the standby too, and with that for all that comes before it in the WAL.
create or replace function vouch() returns void language plpgsql volatile as $$
begin
  if pg_current_xact_id_if_assigned() is null and current_setting('synchronous_standby_names') <> '' then
    perform pg_logical_emit_message(true, 'tidings', 'read');
  end if;
end $$;

-- A campaign as the API shows it, JSON text.
create or replace function campaign_item(c campaigns) returns text language plpgsql stable as $$
begin
  return (
  select row_to_json(x)::text
  from (select c.id as campaign_id, c.name, case when c.closed_at is null then 'open' else 'closed' end as status,
               c.points_per_referral, c.milestones, c.landing_url, rfc3339(c.created_at) as created_at,
               rfc3339(c.closed_at) as closed_at,
               array_to_json(array(select row_to_json(r)
                                   from (select w.id as reward_id, w.threshold from rewards w
                                         where w.campaign = c.no and w.threshold is not null
                                         order by w.campaign, w.no) r)) as reward_rules) x);
end $$;

-- A reward as the API shows it, JSON text. The webhook's secret is not in it.
create or replace function reward_item(p_campaign uuid, w rewards) returns text language plpgsql stable as $$
begin
  return (
  select row_to_json(x)::text
  from (select w.id as reward_id, p_campaign as campaign_id, w.name, w.delivery, w.url, w.message, w.stock, w.threshold,
               coalesce((select u.n from user_rewards u where u.campaign = w.campaign and u.reward = w.no
                         order by u.campaign desc, u.reward desc, u.n desc limit 1), 0) as earned,
               reward_released(w.campaign, w.no) as released, rfc3339(w.created_at) as created_at) x);
end $$;

-- A referral as the API shows it, JSON text.
create or replace function referral_item(p_campaign uuid, r referrals) returns text language plpgsql stable as $$
begin
  return (
  select row_to_json(x)::text
  from (select r.id as referral_id, p_campaign as campaign_id,
               (select u.id from users u where u.campaign = r.campaign and u.place = r.referrer
                order by u.campaign, u.place limit 1) as referrer_id,
               (select u.id from users u where u.campaign = r.campaign and u.place = r.referred
                order by u.campaign, u.place limit 1) as referred_id,
               case when v.at is null then 'pending' else 'verified' end as status,
               rfc3339(r.created_at) as created_at, rfc3339(v.at) as verified_at
        from (select (select y.verified_at from verified_referrals y where y.campaign = r.campaign and y.referred = r.referred
                      order by y.campaign, y.referred limit 1) as at) v) x);
end $$;

-- An earned reward as the API shows it, JSON text. Why a delivery failed is for the account alone. What is given up is 'failed'
-- until it is released.
create or replace function user_reward_item(p_campaign uuid, e user_rewards, p_secret boolean) returns text
language plpgsql stable as $$
begin
  return (
  select case when p_secret then left(y.item, -1) || ',"error":' || coalesce(to_json(y.error)::text, 'null') || '}' else y.item end
  from (
    select row_to_json(x)::text as item, coalesce((d.s).reason, (d.d).error) as error
    from (select (select d from deliveries d where d.user_reward_id = e.id order by d.user_reward_id limit 1) as d,
                 (select s from sagas s where s.user_reward_id = e.id order by s.user_reward_id limit 1) as s offset 0) d,
    lateral (
      select e.id as user_reward_id,
             (select u.id from users u where u.campaign = e.campaign and u.place = e.place
              order by u.campaign, u.place limit 1) as user_id,
             p_campaign as campaign_id, w.w_id as reward_id, w.name, w.delivery,
             case when (d.s).state = 'released' then 'released' when (d.s).state = 'compensating' then 'failed'
               else case (d.d).status when 'sending' then 'sending' when 'delivered' then 'delivered' when 'discarded' then 'delivered'
                 when 'failed' then 'failed' when 'expired' then 'failed' else 'pending' end end as status,
             rfc3339(e.earned_at) as earned_at, rfc3339((d.d).delivered_at) as delivered_at,
             case when (d.s).state = 'released' then rfc3339((d.s).changed_at) end as released_at,
             coalesce((d.d).attempts, 0) as attempts
      from (select (w.w).id as w_id, (w.w).name as name, (w.w).delivery as delivery
            from (select (select r from rewards r where r.campaign = e.campaign and r.no = e.reward
                          order by r.campaign, r.no limit 1) as w offset 0) w) w) x) y);
end $$;

-- A user as the API shows it, JSON text, but for the referral code and the link, which are not made here. With p_private
-- also what only the account itself may see: a publishable key is in every visitor's hands. For a from clause: there it is
-- planned with the query around it, and costs a third.
create or replace function user_item(c campaigns, u users, p_private boolean) returns table (item text)
language sql stable as $$
  select left(row_to_json(x)::text, -1) || case when p_private then ',' || substr(row_to_json(y)::text, 2) else '}' end
  from (select u.id as user_id, c.id as campaign_id,
               greatest(1, u.place - v.n::bigint * c.points_per_referral) as position, u.place as original_position,
               v.at is not null as verified, rfc3339(v.at) as verified_at, v.n as verified_referrals,
               rfc3339(u.created_at) as created_at
        from (select (select w.verified_at from verifications w where w.campaign = u.campaign and w.place = u.place
                      order by w.campaign, w.place limit 1) as at,
                     coalesce((select r.n from verified_referrals r where r.campaign = u.campaign and r.referrer = u.place
                               order by r.campaign desc, r.referrer desc, r.n desc limit 1), 0) as n offset 0) v) x,
       (select coalesce(u.email, u.email_key) as email,
               (select a.id from users a
                where a.campaign = u.campaign
                  and a.place = (select r.referrer from referrals r where r.campaign = u.campaign and r.referred = u.place
                                 order by r.campaign, r.referred limit 1)
                order by a.campaign, a.place limit 1) as referred_by,
               u.metadata::json as metadata, u.source::json as source) y
$$;
