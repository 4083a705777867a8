-- A database that has been in use for long, written straight into the tables: what sign-ups, referrals, requested mails and
-- verifications would have left, with the numbers that they would have got. psql, in schema tidings; :users in all, half of
-- them in the campaign named 'Big', the others spread over all campaigns named 'Small …'.
--
-- Everybody but a campaign's first user is referred: place p by place (p - 2) / 10 + 1, as its (p - 2) % 10 + 1st. Everybody
-- asks for the verification mail again, and is verified. So the first user causes 3 events, and every other one 5.

-- What is where in the tables: one row a campaign.
create table fill as
  with wanted as (
    select c.no, c.id, c.shard,
           case when c.name = 'Big' then :users / 2
                else (:users - :users / 2) / s.n + ((row_number() over (partition by c.name = 'Big' order by c.no)
                                                     <= (:users - :users / 2) % s.n)::int) end as users
    from campaigns c, (select count(*) as n from campaigns where name like 'Small %') s
    where c.name = 'Big' or c.name like 'Small %'),
  sized as (select w.*, 5::bigint * w.users - 2 as events from wanted w where w.users > 0)
  select z.no, z.id, z.shard, z.users::int as users,
         coalesce((select max(e.version) from events e where e.aggregate = z.no), 0) as version,       -- of its last event
         coalesce((select max(e.seq) from events e where e.shard = z.shard), 0)                        -- of the event before its first
           + (sum(z.events) over (partition by z.shard order by z.users desc, z.no))::bigint - z.events as seq,
         (select max(e.at) from events e) as at, z.id::text as id_text,
         overlay('0190' || lpad(to_hex(z.no), 8, '0') placing '-' from 9 for 0) || '-700' as prefix
  from sized z order by z.shard, z.users desc, z.no;

-- An id of its own for every campaign, kind and place, with the place in the last four bytes. Put together as text, which is
-- what most of the time goes into. Kinds: 1 user, 2 referral, 3 and up events.
create function fill_id(prefix text, kind text, place int) returns text language sql immutable as $$
  select prefix || kind || '-8000-0000' || lpad(to_hex(place), 8, '0')
$$;

-- Of different lengths: were all rows as long as each other, new ones that are a little shorter would find room everywhere.
create function fill_address(campaign int, place int) returns text language sql immutable as $$
  select left(md5(campaign::text || '.' || place::text), 1 + place % 16) || '-f' || place::text || '@example.com'
$$;

-- One procedure a table.
create procedure fill_users() language sql as $$
  insert into users (campaign, place, id, created_at, email_key)
  select f.no, p, fill_id(f.prefix, '1', p)::uuid, f.at, fill_address(f.no, p) from fill f, generate_series(1, f.users) p
$$;

create procedure fill_referrals() language sql as $$
  insert into referrals (campaign, referred, referrer, id, created_at)
  select f.no, p, (p - 2) / 10 + 1, fill_id(f.prefix, '2', p)::uuid, f.at from fill f, generate_series(2, f.users) p
$$;

create procedure fill_verification_requests() language sql as $$
  insert into verification_requests (campaign, place, n, at)
  select f.no, p, 1, f.at from fill f, generate_series(1, f.users) p
$$;

create procedure fill_verifications() language sql as $$
  insert into verifications (campaign, place, verified_at)
  select f.no, p, f.at from fill f, generate_series(1, f.users) p
$$;

create procedure fill_verified_referrals() language sql as $$
  insert into verified_referrals (campaign, referrer, n, referred, verified_at)
  select f.no, (p - 2) / 10 + 1, (p - 2) % 10 + 1, p, f.at from fill f, generate_series(2, f.users) p
$$;

-- What a user causes, in this order: signed up, referral made, mail requested, verified, referral verified. A
-- campaign's first user has no referral.
create procedure fill_events() language sql as $$
  insert into events (seq, version, at, shard, aggregate, id, type, format, data)
  select f.seq + n.i, f.version + n.i, f.at, f.shard, f.no, fill_id(f.prefix, k.kind, p)::uuid, k.type, 1,
         case when k.type in (3, 4) then
           '{"referral_id":"' || fill_id(f.prefix, '2', p) || '","referrer_id":"' || fill_id(f.prefix, '1', (p - 2) / 10 + 1)
             || '","referred_id":"' || fill_id(f.prefix, '1', p) || '","campaign_id":"' || f.id_text
             || case k.type when 4 then '","points_per_referral":1}' else '"}' end
         else
           '{"user_id":"' || fill_id(f.prefix, '1', p) || '","campaign_id":"' || f.id_text || '","email":"'
             || fill_address(f.no, p) || '"}' end
  from fill f, generate_series(1, f.users) p,
       (values (1, 1::smallint, '3'), (2, 3::smallint, '4'), (3, 11::smallint, '5'), (4, 2::smallint, '6'),
               (5, 4::smallint, '7')) k(nth, type, kind),
       lateral (select case when p = 1 then k.nth - (k.nth > 1)::int else 5::bigint * (p - 1) - 2 + k.nth end as i) n
  where p > 1 or k.type not in (3, 4)
$$;
