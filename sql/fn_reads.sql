-- Reads for HTTP. One row at most; what is missing is told apart by null columns.

-- An API key by its hash: no row when unknown or revoked.
create or replace function read_api_key(p_hash bytea)
returns table (key_id uuid, account_no int, account_id uuid, kind text)
language sql stable as $$
  select k.id, a.no, a.id, k.kind
  from api_keys k join accounts a on a.no = k.account
  where k.hash = p_hash and k.revoked_at is null
$$;

-- A campaign of the account: no row when there is none, or when it is another account's.
create or replace function read_campaign(p_account int, p_id uuid)
returns table (id uuid, name text, points_per_referral int, milestones text, landing_url text, created_at_us bigint,
               participants int, version bigint)
language sql stable as $$
  select c.id, c.name, c.points_per_referral, to_json(c.milestones)::text, c.landing_url,
         (extract(epoch from c.created_at) * 1000000)::bigint,
         coalesce((select u.place from users u where u.campaign = c.no order by u.campaign desc, u.place desc limit 1), 0),
         coalesce((select e.version from events e where e.aggregate = c.no order by e.aggregate desc, e.version desc limit 1), 0)
  from campaigns c
  where c.id = p_id and c.account = p_account
$$;

-- A user, by its id and the place within the id. No row: no such campaign in the account. user_id null: no such user.
create or replace function read_user(p_account int, p_campaign uuid, p_user uuid, p_place int)
returns table (user_id uuid, place int, email text, metadata text, created_at_us bigint, verified_at_us bigint,
               verified_referrals int, points_per_referral int, landing_url text, referrer_id uuid)
language sql stable as $$
  select u.id, u.place, coalesce(u.email, u.email_key), u.metadata,
         (extract(epoch from u.created_at) * 1000000)::bigint,
         (select (extract(epoch from v.verified_at) * 1000000)::bigint from verifications v
           where v.campaign = c.no and v.place = u.place),
         coalesce((select r.n from verified_referrals r where r.campaign = c.no and r.referrer = u.place
                   order by r.campaign desc, r.referrer desc, r.n desc limit 1), 0),
         c.points_per_referral, c.landing_url,
         (select ru.id from referrals r join users ru on ru.campaign = r.campaign and ru.place = r.referrer
           where r.campaign = c.no and r.referred = u.place)
  from campaigns c
  left join users u on u.campaign = c.no and u.place = p_place and u.id = p_user
  where c.id = p_campaign and c.account = p_account
$$;
