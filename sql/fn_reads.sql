-- Reads for HTTP. `item` is the JSON text of an object as the API shows it; a user's comes with what its referral code and
-- link are made from. What is missing is told apart: no row: the account has no such campaign; item null: no such object.
--
-- Lists: rows in order, one more than p_limit where there are more, each with the cursor that goes on after it. There is
-- always a row; item null: the page is empty. known false: the user whose list it is does not exist. Where a filter fits
-- few, a page looks at 1000 or 2000 rows; `rest` is where that ended, when the page was not full by then.
--
-- Every page is a range of an index, named by its whole order, under a limit; look-ups are scalar subqueries by key. So a
-- page costs the same in a large campaign, and plans do not depend on statistics. Where two indexes would do but one is
-- ruinous, the range is a comparison of rows, which only the right one has.

-- An API key by its hash: no row when unknown or revoked.
create or replace function read_api_key(p_hash bytea)
returns table (key_id uuid, account_no int, account_id uuid, kind text)
language sql stable as $$
  select k.id, a.no, a.id, k.kind
  from api_keys k join accounts a on a.no = k.account
  where k.hash = p_hash and k.revoked_at is null
$$;

-- A campaign of the account, as reads find it; null when there is none.
create or replace function campaign_to_read(p_account int, p_id uuid) returns campaigns language sql stable as $$
  select c from campaigns c where c.id = p_id and c.account = p_account and c.deleted_at is null
$$;

-- A user's place by its id; null when there is no such user.
create or replace function place_of_user(p_campaign int, p_user uuid) returns int language sql stable as $$
  select u.place from users u where u.campaign = p_campaign and u.place = number_of(p_user) and u.id = p_user
$$;

-- --- campaigns -------------------------------------------------------------------------------------------------------

create or replace function read_campaign(p_account int, p_id uuid) returns table (item text) language sql stable as $$
  select left(campaign_item(c), -1) || ',"version":' || campaign_version(c.no) || ',"participants":' || last_place(c.no) || '}'
  from campaigns c
  where c.id = p_id and c.account = p_account and c.deleted_at is null
$$;

-- The account's campaigns, newest first. The cursor is campaigns.no.
create or replace function read_campaigns(p_account int, p_limit int, p_before int, p_status text)
returns table (item text, cursor text, rest text, known boolean) language sql stable as $$
  with looked_at as materialized (
    select c
    from campaigns c
    where (c.account, c.no) > (p_account, 0) and (c.account, c.no) < (p_account, coalesce(p_before, 2147483647))
    order by c.account desc, c.no desc limit 2000),
  found as materialized (
    select l.c
    from looked_at l
    where (l.c).deleted_at is null
      and (p_status is null or p_status = case when (l.c).closed_at is null then 'open' else 'closed' end)
    limit p_limit + 1)
  select case when (f.c).no is not null then campaign_item(f.c) end, (f.c).no::text,
         case when (select count(*) from found) <= p_limit then (select (l.c).no::text from looked_at l offset 1999 limit 1) end,
         true
  from (select 1) one left join found f on true
$$;

-- What has numbers of its own is not counted. The three counts are passes over the campaign's part of an index: the one
-- read whose cost grows with the campaign.
create or replace function read_totals(p_account int, p_id uuid) returns table (item text) language sql stable as $$
  select (select row_to_json(x)::text
          from (select c.id as campaign_id, last_place(c.no) as participants,
                       (select count(*) from verifications v where v.campaign = c.no) as verified,
                       (select count(*) from referrals r where r.campaign = c.no) as referrals,
                       (select count(*) from verified_referrals v where v.campaign = c.no) as verified_referrals,
                       (select coalesce(sum((select e.n from user_rewards e where e.campaign = w.campaign and e.reward = w.no
                                             order by e.campaign desc, e.reward desc, e.n desc limit 1)), 0)
                        from rewards w where w.campaign = c.no) as rewards_earned,
                       campaign_version(c.no) as version) x)
  from campaigns c
  where c.id = p_id and c.account = p_account and c.deleted_at is null
$$;

-- --- users -----------------------------------------------------------------------------------------------------------

create or replace function read_user(p_account int, p_campaign uuid, p_user uuid, p_private boolean)
returns table (item text, place int, landing_url text) language sql stable as $$
  select i.item, u.place, c.landing_url
  from campaigns c
  left join users u on u.campaign = c.no and u.place = number_of(p_user) and u.id = p_user
  left join lateral user_item(c, u, p_private) i on u.place is not null
  where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

-- A campaign's users by place; with p_search those whose address begins so, by address. p_email and p_search are keys as
-- users.email_key. p_after is a place, also with p_search.
create or replace function read_users(p_account int, p_campaign uuid, p_limit int, p_after int, p_email text, p_search text,
                                      p_verified boolean, p_referrer uuid, p_utm_source text)
returns table (item text, cursor text, rest text, known boolean, place int, landing_url text)
language plpgsql stable as $$
#variable_conflict use_column
declare
  c constant campaigns := campaign_to_read(p_account, p_campaign);
  v_no constant int := c.no;
  v_referrer constant int := case when p_referrer is not null then place_of_user(v_no, p_referrer) end;
  v_after_key constant text := case when p_search is not null and p_after is not null then
    (select u.email_key from users u where u.campaign = v_no and u.place = p_after) else '' end;
begin
  if v_no is null then
    return;
  end if;
  if p_referrer is not null and v_referrer is null then
    return query select null::text, null::text, null::text, true, null::int, null::text;
    return;
  end if;
  return query
  -- Only one of the three runs, so its order is the order of the whole, and it goes no further than it is asked to.
  with looked_at as materialized (
    (select u.place, u.source
     from users u
     where p_email is null and p_search is null and u.campaign = v_no and u.place > coalesce(p_after, 0)
     order by u.campaign, u.place limit 1000)
    union all
    (select u.place, u.source
     from users u
     where p_search is not null and u.campaign = v_no and u.email_key >= p_search and u.email_key < p_search || chr(1114111)
       and u.email_key > v_after_key
     order by u.campaign, u.email_key limit 1000)
    union all
    (select u.place, u.source
     from users u
     where p_email is not null and u.campaign = v_no and u.email_key = p_email and u.place > coalesce(p_after, 0)
     order by u.campaign, u.email_key limit 1)),
  found as materialized (
    select l.place
    from looked_at l
    where (p_verified is null or p_verified = ((select v.place from verifications v where v.campaign = v_no and v.place = l.place
                                                order by v.campaign, v.place limit 1) is not null))
      and (p_referrer is null or v_referrer = (select r.referrer from referrals r where r.campaign = v_no and r.referred = l.place
                                               order by r.campaign, r.referred limit 1))
      and (p_utm_source is null or p_utm_source = l.source::json ->> 'utm_source')
    limit p_limit + 1)
  select i.item, f.place::text,
         case when (select count(*) from found) <= p_limit then (select l.place::text from looked_at l offset 999 limit 1) end,
         true, f.place, c.landing_url
  from (select 1) one
  left join found f on true
  left join lateral (select u from users u where u.campaign = v_no and u.place = f.place
                     order by u.campaign, u.place limit 1) u on true
  left join lateral user_item(c, u.u, true) i on f.place is not null;
end $$;

-- Users with verified referrals stand in the leaderboard, all others at their own place; ties by place. The cursor is the
-- last one's position and place. The leaderboard may lag behind: a page shows one state of it, with everybody in it once.
create or replace function read_leaderboard(p_account int, p_campaign uuid, p_limit int, p_position int, p_place int,
                                            p_private boolean)
returns table (item text, cursor text, rest text, known boolean) language plpgsql stable as $$
#variable_conflict use_column
declare
  v_no constant int := (campaign_to_read(p_account, p_campaign)).no;
  v_after constant int := coalesce(p_position, 0);
  v_until constant int := least(v_after::bigint + 2000, 2147483647); -- how far the others are looked for
begin
  if v_no is null then
    return;
  end if;
  return query
  with risen as materialized (
    select l.position, l.place, l.verified
    from leaderboard l
    where l.campaign = v_no and (l.position, l.place) > (v_after, coalesce(p_place, 0))
    order by l.campaign, l.position, l.place limit p_limit + 1),
  others as materialized (
    select u.place as position, u.place, 0 as verified
    from users u
    where u.campaign = v_no and u.place > v_after and u.place <= v_until
      and u.place not in (select b.place from leaderboard b where b.campaign = v_no and b.place > v_after and b.place <= v_until)
    order by u.campaign, u.place limit p_limit + 1),
  -- Set when they are too few, but not all: who stands further down is not known yet.
  ended as materialized (
    select v_until as place where (select count(*) from others) <= p_limit and last_place(v_no) > v_until),
  found as materialized (
    select b.position, b.place, b.verified
    from (select * from risen union all select * from others) b
    where b.position <= coalesce((select e.place from ended e), 2147483647)
    order by b.position, b.place limit p_limit + 1)
  select left(row_to_json(x)::text, -1) || case when p_private then ',"email":' || to_json(u.email) else '' end || '}',
         f.position || '.' || f.place,
         case when (select count(*) from found) <= p_limit then (select e.place || '.2147483647' from ended e) end, true
  from (select 1) one
  left join found f on true
  left join lateral (select u.id, coalesce(u.email, u.email_key) as email from users u
                     where u.campaign = v_no and u.place = f.place order by u.campaign, u.place limit 1) u on true
  left join lateral (select f.position, f.place as original_position, u.id as user_id, f.verified as verified_referrals) x
    on f.place is not null;
end $$;

-- --- referrals -------------------------------------------------------------------------------------------------------

create or replace function read_referral(p_account int, p_campaign uuid, p_referral uuid)
returns table (item text) language sql stable as $$
  select case when r.id is not null then referral_item(c.id, r) end
  from campaigns c
  left join referrals r on r.campaign = c.no and r.referred = number_of(p_referral) and r.id = p_referral
  where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

-- Those whom a user referred, by the referred user's place, which is the cursor too. No index leads from a referrer to all
-- referrals, since sign-ups would pay for it: they are looked for among the campaign's. Verified ones there is an index for.
create or replace function read_user_referrals(p_account int, p_campaign uuid, p_user uuid, p_limit int, p_after int,
                                               p_status text)
returns table (item text, cursor text, rest text, known boolean) language plpgsql stable as $$
#variable_conflict use_column
declare
  v_no constant int := (campaign_to_read(p_account, p_campaign)).no;
  v_place constant int := place_of_user(v_no, p_user);
  -- As many verified ones as this can be sorted; who has more is found often enough among all.
  v_few constant boolean := p_status = 'verified' and coalesce((
    select v.n from verified_referrals v where v.campaign = v_no and v.referrer = v_place
    order by v.campaign desc, v.referrer desc, v.n desc limit 1), 0) <= 2000;
begin
  if v_no is null then
    return;
  end if;
  return query
  with looked_at as materialized (
    (select v.referred, v.referrer
     from (select w.referred, w.referrer
           from verified_referrals w
           where v_few and w.campaign = v_no and w.referrer = v_place
           order by w.campaign, w.referrer, w.n limit 2000) v
     where v.referred > coalesce(p_after, 0)
     order by v.referred)
    union all
    (select r.referred, r.referrer
     from referrals r
     where v_few is not true and v_place is not null and r.campaign = v_no and r.referred > coalesce(p_after, 0)
     order by r.campaign, r.referred limit 2000)),
  found as materialized (
    select l.referred
    from looked_at l
    where l.referrer = v_place
      and (p_status is null
           or (p_status = 'verified') = ((select v.referred from verified_referrals v
                                          where v.campaign = v_no and v.referred = l.referred
                                          order by v.campaign, v.referred limit 1) is not null))
    limit p_limit + 1)
  select (select referral_item(p_campaign, r) from referrals r where r.campaign = v_no and r.referred = f.referred),
         f.referred::text,
         case when v_few is not true and (select count(*) from found) <= p_limit
              then (select l.referred::text from looked_at l offset 1999 limit 1) end,
         v_place is not null
  from (select 1) one left join found f on true;
end $$;

-- --- rewards ---------------------------------------------------------------------------------------------------------

create or replace function read_reward(p_account int, p_campaign uuid, p_reward uuid)
returns table (item text) language sql stable as $$
  select case when w.id is not null then reward_item(c.id, w) end
  from campaigns c
  left join rewards w on w.campaign = c.no and w.no = number_of(p_reward) and w.id = p_reward
  where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

-- The campaign's rewards by number, which is the cursor too.
create or replace function read_rewards(p_account int, p_campaign uuid, p_limit int, p_after int)
returns table (item text, cursor text, rest text, known boolean) language sql stable as $$
  select case when (f.w).no is not null then reward_item(c.id, f.w) end, (f.w).no::text, null, true
  from campaigns c
  left join lateral (select w from rewards w where w.campaign = c.no and w.no > coalesce(p_after, 0)
                     order by w.campaign, w.no limit p_limit + 1) f on true
  where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;

-- What a user has earned, by the rewards' numbers and, of one that was earned again, in that order; both are the cursor.
create or replace function read_user_rewards(p_account int, p_campaign uuid, p_user uuid, p_limit int, p_reward int, p_n int,
                                             p_private boolean)
returns table (item text, cursor text, rest text, known boolean) language sql stable as $$
  select case when (f.e).reward is not null then user_reward_item(c.id, f.e, p_private) end, (f.e).reward || '.' || (f.e).n, null,
         u.place is not null
  from campaigns c
  left join users u on u.campaign = c.no and u.place = number_of(p_user) and u.id = p_user
  left join lateral (select e from user_rewards e
                     where (e.campaign, e.place, e.reward, e.n) > (c.no, u.place, coalesce(p_reward, 0), coalesce(p_n, 0))
                       and (e.campaign, e.place, e.reward, e.n) < (c.no, u.place, 2147483647, 0)
                     order by e.campaign, e.place, e.reward, e.n limit p_limit + 1) f on true
  where c.id = p_campaign and c.account = p_account and c.deleted_at is null
$$;
