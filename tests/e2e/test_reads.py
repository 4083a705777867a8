"""What can be read: single objects, and lists page by page."""

import re
import uuid

import pytest

from lib.util import wait_until

TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")


def id_with(number):
    """An id that carries a number in its last four bytes."""
    return str(uuid.uuid4())[:-8] + f"{number:08x}"


class Waitlist:
    """A campaign with users 1 … count, put straight into the tables: `referrer` says who referred a place (0: nobody)."""

    def __init__(self, env, api, count, referrer="0", verified="false", points=1, source="null"):
        self.env = env
        self.id = api.create_campaign("Filled", points_per_referral=points)["campaign_id"]
        self.no = env.value("select no from campaigns where id = %s", self.id)
        with_place = "overlay(gen_random_uuid()::text placing lpad(to_hex(p), 8, '0') from 29)::uuid"
        self.run(f"insert into users (campaign, place, id, created_at, email_key, source) "
                 f"select %s, p, {with_place}, now(), 'user' || p || '@example.com', {source} from generate_series(1, {count}) p")
        self.run(f"insert into verifications select %s, p, now() from generate_series(1, {count}) p where {verified}")
        self.run(f"insert into referrals select %s, p, {referrer}, {with_place}, now() from generate_series(1, {count}) p "
                 f"where {referrer} > 0")
        self.run("insert into verified_referrals select r.campaign, r.referrer, "
                 "row_number() over (partition by r.referrer order by r.referred), r.referred, now() "
                 "from referrals r join verifications v on v.campaign = r.campaign and v.place = r.referred where r.campaign = %s")

    def run(self, sql):
        """Here %s stands for the campaign's number."""
        with self.env.db() as db:
            db.execute(sql.replace("%s", str(self.no)))

    def rank(self, where="true"):
        """What position-workers do, for the referrers that they have got to."""
        self.run(f"""insert into leaderboard (campaign, place, verified, position, version)
                     select c.no, v.referrer, count(*), greatest(1, v.referrer - count(*) * c.points_per_referral), 1
                     from verified_referrals v join campaigns c on c.no = v.campaign
                     where c.no = %s and {where} group by c.no, v.referrer""")

    def user(self, place):
        return str(self.env.value("select id from users where campaign = %s and place = %s", self.no, place))


def places(items):
    return [i["original_position"] for i in items]


# --- campaigns ---


def test_campaign(env, api):
    made = api.create_campaign("Café", points_per_referral=3, milestones=[5], landing_url="https://x.example/?a=1#b")
    campaign = made["campaign_id"]
    got = api.get_campaign(campaign)
    assert list(got.body) == ["campaign_id", "name", "status", "points_per_referral", "milestones", "landing_url",
                              "created_at", "closed_at", "reward_rules", "version", "participants"]
    for member in ("campaign_id", "name", "points_per_referral", "milestones", "landing_url", "created_at"):
        assert got[member] == made[member]
    assert (got["status"], got["closed_at"], got["reward_rules"]) == ("open", None, [])
    assert (got["version"], got["participants"]) == (1, 0)
    api.signup(campaign, "a@example.com")
    got = api.get_campaign(campaign)
    assert (got["version"], got["participants"]) == (2, 1)


def test_campaigns(env, api):
    other = env.new_account()
    Waitlist(env, env.api(keys=other), 0)
    made = [Waitlist(env, api, 0) for _ in range(7)]
    env.query("update campaigns set closed_at = now() where no in (%s, %s) returning 1", made[2].no, made[4].no)
    env.query("update campaigns set deleted_at = now() where no = %s returning 1", made[4].no)
    newest_first = [w.id for w in reversed(made) if w is not made[4]]
    items = api.read_all("")
    assert [c["campaign_id"] for c in items] == newest_first
    assert [c["status"] for c in items].count("closed") == 1
    single = api.get_campaign(newest_first[0]).body
    assert items[0] == {k: v for k, v in single.items() if k not in ("version", "participants")}
    for limit in (1, 2, 5, 6, 7):
        assert api.read_all("", limit=limit) == items
    assert len(api.read("", limit=6)["items"]) == 6 and api.read("", limit=6)["next_cursor"] is None
    assert api.read("", limit=5)["next_cursor"] is not None
    assert [c["campaign_id"] for c in api.read_all("", status="closed", limit=1)] == [made[2].id]
    assert [c["campaign_id"] for c in api.read_all("", status="open")] == [i for i in newest_first if i != made[2].id]
    api.read("", key="publishable", expect=403)


def test_totals(env, api):
    w = Waitlist(env, api, 30, referrer="case when p > 20 then p - 20 else 0 end", verified="p % 3 = 0")
    reward = id_with(1)
    env.query("insert into rewards (campaign, no, id, name, delivery, created_at) values (%s, 1, %s, 'R', 'email', now()) returning 1",
              w.no, reward)
    for n, place in enumerate((4, 9), 1):
        env.query("insert into user_rewards values (%s, 1, %s, %s, %s, now()) returning 1", w.no, n, place, id_with(place))
    totals = api.read(f"{w.id}/totals")
    assert totals.body == {"campaign_id": w.id, "participants": 30, "verified": 10, "referrals": 10,
                           "verified_referrals": 4, "rewards_earned": 2, "version": 1}
    empty = api.create_campaign()["campaign_id"]
    assert api.read(f"{empty}/totals").body == {"campaign_id": empty, "participants": 0, "verified": 0, "referrals": 0,
                                                "verified_referrals": 0, "rewards_earned": 0, "version": 1}
    api.read(f"{w.id}/totals", key="publishable", expect=403)


# --- users ---


def test_user(env, api):
    campaign = api.create_campaign(points_per_referral=2, landing_url="https://x.example/w?a=1")["campaign_id"]
    bob = api.signup(campaign, "Bob@Example.com")
    ada = api.signup(campaign, "ada@example.com", referral_code=bob["referral_code"], metadata={"b": 1, "a": [None, "é"]})
    env.query("update users set source = %s where email_key = 'ada@example.com' returning 1", '{"utm_source":"x"}')
    api.verify(campaign, ada["user_id"], env.make_token(campaign, ada["user_id"]))
    public = api.get_user(campaign, ada["user_id"])
    assert set(public.body) == {"user_id", "campaign_id", "referral_code", "referral_link", "position", "original_position",
                                "verified", "verified_at", "verified_referrals", "created_at"}
    full = api.get_user(campaign, ada["user_id"], key="secret")
    assert set(full.body) - set(public.body) == {"email", "referred_by", "metadata", "source"}
    assert {k: full[k] for k in public.body} == public.body
    assert full["email"] == "ada@example.com" and full["referred_by"] == bob["user_id"]
    assert full["metadata"] == {"b": 1, "a": [None, "é"]} and '"metadata":{"b":1,"a":' in full.text
    assert full["source"] == {"utm_source": "x"}
    assert full["verified"] is True and TIME.match(full["verified_at"]) and full["created_at"] == ada["created_at"]
    for member in ("referral_code", "referral_link", "user_id", "campaign_id"):
        assert full[member] == ada[member]
    got = api.get_user(campaign, bob["user_id"], key="secret")
    assert (got["email"], got["referred_by"], got["metadata"], got["source"]) == ("Bob@Example.com", None, None, None)
    assert (got["position"], got["original_position"], got["verified_referrals"]) == (1, 1, 1)
    assert (got["verified"], got["verified_at"]) == (False, None)
    assert api.read_all(f"{campaign}/users") == [got.body, full.body]
    api.read(f"{campaign}/users", key="publishable", expect=403)


def test_users_page_by_page(env, api):
    w = Waitlist(env, api, 130)
    items = api.read_all(f"{w.id}/users", limit=200)
    assert places(items) == list(range(1, 131))
    for limit in (1, 43, 65, 129, 130):
        assert api.read_all(f"{w.id}/users", limit=limit) == items
    first = api.read(f"{w.id}/users")
    assert len(first["items"]) == 50 and first["next_cursor"]
    assert api.read(f"{w.id}/users", limit=130)["next_cursor"] is None
    assert api.read(f"{w.id}/users", cursor=130).body == {"items": [], "next_cursor": None}
    assert api.read(f"{w.id}/users", cursor=2**31 - 1).body == {"items": [], "next_cursor": None}
    empty = api.create_campaign()["campaign_id"]
    assert api.read(f"{empty}/users").body == {"items": [], "next_cursor": None}


def test_users_by_address(env, api):
    campaign = api.create_campaign()["campaign_id"]
    api.ledger.not_accounted(campaign)
    addresses = ["carol@b.example", "Ada.L@example.com", "ada+news@example.com", "bob@example.com", "ADA.B@example.com", "ada@é.example"]
    for address in addresses:
        api.signup(campaign, address)
    by_address = sorted(addresses, key=lambda a: a.lower().encode())

    def emails(**query):
        return [u["email"] for u in api.read_all(f"{campaign}/users", **query)]

    assert emails() == addresses
    assert emails(email="ADA.l@EXAMPLE.com") == ["Ada.L@example.com"]
    assert emails(email="ada+news@example.com") == ["ada+news@example.com"]
    assert emails(email="ADA@É.example") == ["ada@é.example"]
    assert emails(email="nobody@example.com") == []
    assert emails(search="a") == emails(search="A", limit=1) == [a for a in by_address if a[0] in "aA"]
    assert emails(search="ada.", limit=1) == ["ADA.B@example.com", "Ada.L@example.com"]
    assert emails(search="ada@É") == ["ada@é.example"]
    assert emails(search="adb") == emails(search="%") == emails(search="_") == []
    assert emails(search="ada", verified="true") == []
    for query, field in (({"email": "ada"}, "email"), ({"email": "a@b.example", "search": "a"}, "search"),
                         ({"email": "a" * 255}, "email"), ({"search": "a" * 255}, "search")):
        answer = api.read(f"{campaign}/users", expect=422, **query)
        assert (answer.problem, answer["field"]) == ("invalid", field)


def test_rare_users(env, api):
    """A filter that fits few gives short pages, never a wrong list."""
    source = """case when p % 2000 = 1 then '{"utm_source":"rare & new"}' when p % 2 = 0 then '{"utm_medium":"m"}' end"""
    w = Waitlist(env, api, 6001, source=source, verified="p in (1999, 2001, 6000)", referrer="case when p in (2, 2000, 6001) then 1 else 0 end")
    assert places(api.read_all(f"{w.id}/users", utm_source="rare & new")) == [1, 2001, 4001, 6001]
    assert places(api.read_all(f"{w.id}/users", utm_source="rare & new", limit=1)) == [1, 2001, 4001, 6001]
    assert api.read_all(f"{w.id}/users", utm_source="rare") == []
    assert places(api.read_all(f"{w.id}/users", verified="true")) == [1999, 2001, 6000]
    assert len(api.read_all(f"{w.id}/users", verified="false", limit=200)) == 5998
    assert places(api.read_all(f"{w.id}/users", verified="true", utm_source="rare & new")) == [2001]
    assert places(api.read_all(f"{w.id}/users", referred_by=w.user(1))) == [2, 2000, 6001]
    assert places(api.read_all(f"{w.id}/users", referred_by=w.user(1), verified="true")) == []
    assert api.read(f"{w.id}/users", referred_by=w.user(2)).body == {"items": [], "next_cursor": "1000"}
    assert api.read(f"{w.id}/users", referred_by=str(uuid.uuid4())).body == {"items": [], "next_cursor": None}
    assert sorted(places(api.read_all(f"{w.id}/users", search="user", verified="true"))) == [1999, 2001, 6000]
    assert len(api.read_all(f"{w.id}/users", search="user1", limit=200)) == 1111


# --- the leaderboard ---


def board(w):
    """What the leaderboard must show, from its table's rows."""
    risen = {p: (position, verified) for p, position, verified in
             w.env.query("select place, position, verified from leaderboard where campaign = %s", w.no)}
    count = w.env.value("select count(*) from users where campaign = %s", w.no)
    rows = [(*risen.get(p, (p, 0)), p) for p in range(1, count + 1)]
    return sorted(((position, p, verified) for position, verified, p in rows), key=lambda row: row[:2])


def shown(items):
    return [(i["position"], i["original_position"], i["verified_referrals"]) for i in items]


@pytest.mark.parametrize("points", [0, 1, 7, 1000])
def test_leaderboard(env, api, points):
    w = Waitlist(env, api, 150, points=points, referrer="case when p > 3 then (p * 37 % 40) + 1 else 0 end", verified="p % 2 = 0")
    for where in ("false", "v.referrer % 2 = 0", "v.referrer % 2 = 1"):  # the workers catch up
        w.rank(where)
        for limit in (1, 7, 200):
            assert shown(api.read_all(f"{w.id}/leaderboard", limit=limit)) == board(w)
    public, full = api.read(f"{w.id}/leaderboard", key="publishable"), api.read(f"{w.id}/leaderboard")
    assert set(public["items"][0]) == {"position", "original_position", "user_id", "verified_referrals"}
    assert set(full["items"][0]) == set(public["items"][0]) | {"email"}
    assert full["items"][0]["email"] == f"user{full['items'][0]['original_position']}@example.com"
    assert full["items"][9]["user_id"] == w.user(full["items"][9]["original_position"])


def test_leaderboard_with_a_long_row_of_risen(env, api):
    """Nobody is passed over where the others at their own place are further apart than a page looks."""
    w = Waitlist(env, api, 7000, referrer="case when p % 2 = 0 and p < 6990 then p + 1 else 0 end")
    w.run("""insert into leaderboard (campaign, place, verified, position, version)
             select %s, p, 1, greatest(1, p - 6), 1 from generate_series(2, 6500) p where p <> 3000""")
    assert shown(api.read_all(f"{w.id}/leaderboard", limit=200)) == board(w)
    w.run("update leaderboard set position = 1 where campaign = %s and place > 6000")
    assert shown(api.read_all(f"{w.id}/leaderboard", limit=150)) == board(w)


def test_leaderboard_of_the_workers(env, api):
    campaign = api.create_campaign(points_per_referral=2)["campaign_id"]
    users = [api.signup(campaign, f"u{i}@example.com") for i in range(5)]
    friend = api.signup(campaign, "friend@example.com", referral_code=users[4]["referral_code"])
    assert places(api.read_all(f"{campaign}/leaderboard")) == [1, 2, 3, 4, 5, 6]
    api.verify(campaign, friend["user_id"], env.make_token(campaign, friend["user_id"]))
    wait_until(lambda: places(api.read_all(f"{campaign}/leaderboard")) == [1, 2, 3, 5, 4, 6], 15, "the leaderboard has caught up")
    assert api.read_all(f"{campaign}/leaderboard")[3] == {
        "position": 3, "original_position": 5, "user_id": users[4]["user_id"], "verified_referrals": 1, "email": "u4@example.com"}


# --- referrals ---


def test_referrals(env, api):
    w = Waitlist(env, api, 60, referrer="case when p = 1 then 60 when p % 3 = 0 then 2 when p % 3 = 1 then 5 else 0 end", verified="p % 2 = 0")
    two = w.user(2)
    items = api.read_all(f"{w.id}/users/{two}/referrals")
    assert [i["referred_id"] for i in items] == [w.user(p) for p in range(3, 61, 3)]
    assert all(i["referrer_id"] == two and i["campaign_id"] == w.id and TIME.match(i["created_at"]) for i in items)
    assert [i["status"] for i in items] == ["pending", "verified"] * 10
    assert all((i["verified_at"] is None) == (i["status"] == "pending") for i in items)
    for limit in (1, 7, 20):
        assert api.read_all(f"{w.id}/users/{two}/referrals", limit=limit) == items
        for status in ("pending", "verified"):
            assert api.read_all(f"{w.id}/users/{two}/referrals", limit=limit, status=status) == [i for i in items if i["status"] == status]
    for item in items[:3]:
        assert api.read(f"{w.id}/referrals/{item['referral_id']}").body == item
    assert [i["referred_id"] for i in api.read_all(f"{w.id}/users/{w.user(60)}/referrals")] == [w.user(1)]
    assert api.read(f"{w.id}/users/{w.user(3)}/referrals").body == {"items": [], "next_cursor": None}
    api.read(f"{w.id}/users/{two}/referrals", key="publishable", expect=403)
    api.read(f"{w.id}/referrals/{items[0]['referral_id']}", key="publishable", expect=403)


def test_referrals_far_apart_and_many(env, api):
    w = Waitlist(env, api, 9000, referrer="case when p in (2, 2001, 4001, 4002, 9000) then 1 when p > 4500 then 3 else 0 end", verified="p > 4001")
    few, many = (f"{w.id}/users/{w.user(p)}/referrals" for p in (1, 3))

    def referred(path, **query):
        return [int(i["referred_id"][-8:], 16) for i in api.read_all(path, **query)]

    assert referred(few) == referred(few, limit=1) == [2, 2001, 4001, 4002, 9000]
    assert referred(few, status="pending") == [2, 2001, 4001]
    assert referred(few, status="verified") == referred(few, status="verified", limit=1) == [4002, 9000]
    assert referred(many, limit=200) == referred(many, limit=200, status="verified") == list(range(4501, 9000))
    assert referred(many, status="pending") == []


# --- rewards ---


def add_reward(env, w, no, threshold=None, delivery="email"):
    reward = id_with(no)
    env.query("insert into rewards (campaign, no, id, name, delivery, url, secret, threshold, stock, created_at) "
              "values (%s, %s, %s, %s, %s, %s, %s, %s, 50, now()) returning 1",
              w.no, no, reward, f"Reward {no}", delivery, "https://x.example/" if delivery == "webhook" else None,
              "whsec_hidden" if delivery == "webhook" else None, threshold)
    return reward


def earn(env, w, no, n, place):
    earned = id_with(place)
    env.query("insert into user_rewards values (%s, %s, %s, %s, %s, now()) returning 1", w.no, no, n, place, earned)
    return earned


def deliver(env, w, earned, status, error=None):
    env.query("insert into deliveries (user_reward_id, event_id, campaign, reward, place, kind, target, status, attempts, error, delivered_at) "
              "values (%s, gen_random_uuid(), %s, 1, 1, 'email', 'x', %s, 2, %s, case when %s = 'delivered' then now() end) returning 1",
              earned, w.no, status, error, status)


def test_rewards(env, api):
    w = Waitlist(env, api, 3)
    made = [add_reward(env, w, 1), add_reward(env, w, 2, threshold=3, delivery="webhook"), add_reward(env, w, 3, threshold=5)]
    earn(env, w, 2, 1, 1), earn(env, w, 2, 2, 3)
    items = api.read_all(f"{w.id}/rewards")
    assert [i["reward_id"] for i in items] == made and [i["earned"] for i in items] == [0, 2, 0]
    assert list(items[1]) == ["reward_id", "campaign_id", "name", "delivery", "url", "message", "stock", "threshold", "earned", "released", "created_at"]
    assert (items[1]["delivery"], items[1]["url"], items[1]["threshold"], items[1]["stock"]) == ("webhook", "https://x.example/", 3, 50)
    assert api.read_all(f"{w.id}/rewards", limit=1) == items
    assert "hidden" not in api.read(f"{w.id}/rewards").text
    for reward, item in zip(made, items):
        assert api.read(f"{w.id}/rewards/{reward}").body == item
    assert api.get_campaign(w.id)["reward_rules"] == [{"reward_id": made[1], "threshold": 3}, {"reward_id": made[2], "threshold": 5}]
    api.read(f"{w.id}/rewards", key="publishable", expect=403)
    api.read(f"{w.id}/rewards/{made[0]}", key="publishable", expect=403)


def test_user_rewards(env, api):
    w = Waitlist(env, api, 3)
    states = [None, "sending", "delivered", "failed", "expired", "discarded"]
    made = [add_reward(env, w, n) for n in range(1, 7)]
    earned = [earn(env, w, n, 1, 2) for n in range(1, 7)]
    earn(env, w, 3, 2, 1)
    for e, status in zip(earned, states):
        if status:
            deliver(env, w, e, status, error="404 Not Found" if status == "failed" else None)
    path = f"{w.id}/users/{w.user(2)}/rewards"
    items = api.read_all(path)
    assert [i["user_reward_id"] for i in items] == earned and [i["reward_id"] for i in items] == made
    assert [i["status"] for i in items] == ["pending", "sending", "delivered", "failed", "failed", "delivered"]
    assert all(i["user_id"] == w.user(2) and i["campaign_id"] == w.id and TIME.match(i["earned_at"]) for i in items)
    assert TIME.match(items[2]["delivered_at"]) and items[0]["delivered_at"] is None
    assert (items[0]["attempts"], items[3]["attempts"], items[3]["error"]) == (0, 2, "404 Not Found")
    assert api.read_all(path, limit=1) == api.read_all(path, limit=4) == items
    public = api.read(path, key="publishable")
    assert "404 Not Found" not in public.text and all("error" not in i for i in public["items"])
    assert api.read(f"{w.id}/users/{w.user(3)}/rewards").body == {"items": [], "next_cursor": None}


# --- what is not there, and what may not be asked ---


def paths_of(w):
    user, thing = w.user(1), str(uuid.uuid4())
    return ["", "/totals", "/leaderboard", "/users", f"/users/{user}", f"/users/{user}/referrals", f"/users/{user}/rewards",
            f"/referrals/{thing}", "/rewards", f"/rewards/{thing}"]


def test_no_campaign(env, api):
    """Another account's campaign, a deleted one and none at all look the same."""
    w = Waitlist(env, api, 1)
    other = env.api(keys=env.new_account())
    for path in paths_of(w):
        assert other.read(w.id + path, expect=404).problem == "no-campaign", path
        assert api.read(f"{uuid.uuid4()}{path}", expect=404).problem == "no-campaign", path
        assert api.read(f"nonsense{path}", expect=404).problem == "no-campaign", path
    env.query("update campaigns set deleted_at = now() where no = %s returning 1", w.no)
    for path in paths_of(w):
        assert api.read(w.id + path, expect=404).problem == "no-campaign", path


def test_missing_objects(env, api):
    w, strange = Waitlist(env, api, 2, referrer="p - 1"), Waitlist(env, api, 2, referrer="p - 1")
    add_reward(env, w, 1)
    wrong = [str(uuid.uuid4()), id_with(1), id_with(2), id_with(2**32 - 1), id_with(0), "0" * 8 + "-0000-0000-0000-" + "0" * 12,
             strange.user(1), strange.user(2), "nonsense"]
    for thing in wrong:
        for path, problem in ((f"users/{thing}", "no-user"), (f"users/{thing}/referrals", "no-user"), (f"users/{thing}/rewards", "no-user"),
                              (f"referrals/{thing}", "no-referral"), (f"rewards/{thing}", "no-reward")):
            assert api.read(f"{w.id}/{path}", expect=404).problem == problem, path


def test_bad_queries(env, api):
    w = Waitlist(env, api, 1)
    u = f"{w.id}/users/{w.user(1)}"
    lists = ["", f"{w.id}/leaderboard", f"{w.id}/users", f"{u}/referrals", f"{u}/rewards", f"{w.id}/rewards"]
    everywhere = [("limit=0", "limit"), ("limit=201", "limit"), ("limit=x", "limit"), ("limit=", "limit"), ("limit=1&limit=1", "limit"),
                  ("cursor=", "cursor"), ("cursor=x", "cursor"), ("cursor=-1", "cursor"), ("cursor=1.2.3", "cursor"),
                  ("cursor=99999999999", "cursor"), ("cursor=%00", "cursor"), ("cursor=0", "cursor"), ("x=1", "x"), ("LIMIT=1", "LIMIT"),
                  ("limit", "limit"), ("%FF=1", "query"), ("=", "query"), ("limit=%zz", "limit")]
    for path in lists:
        for query, field in everywhere:
            answer = api.request("GET", f"/v1/campaigns{'/' + path if path else ''}?{query}")
            assert (answer.status, answer.problem, answer.get("field")) == (422, "invalid", field), (path, query, answer.text)
    special = [("", "status=deleted", "status"), (f"{w.id}/leaderboard", "cursor=5", "cursor"), (f"{w.id}/users", "cursor=5.5", "cursor"),
               (f"{w.id}/users", "verified=yes", "verified"), (f"{w.id}/users", "verified=TRUE", "verified"),
               (f"{w.id}/users", "referred_by=5", "referred_by"), (f"{w.id}/users", "utm_source=" + "x" * 513, "utm_source"),
               (f"{w.id}/users", "status=open", "status"), (f"{u}/referrals", "status=open", "status"), (f"{u}/rewards", "status=pending", "status"),
               (f"{w.id}/users", "utm_source=%0a", "utm_source"), (f"{w.id}/users", "search=a%ffb", "search")]
    for path, query, field in special:
        answer = api.request("GET", f"/v1/campaigns{'/' + path if path else ''}?{query}")
        assert (answer.status, answer.problem, answer.get("field")) == (422, "invalid", field), (path, query, answer.text)


def test_heads_and_methods(env, api):
    campaign = api.create_campaign()["campaign_id"]
    whole = api.request("GET", f"/v1/campaigns/{campaign}/users")
    head = api.request("HEAD", f"/v1/campaigns/{campaign}/users")
    assert head.status == 200 and head.text == "" and head.headers["content-length"] == str(len(whole.text))
    preflight = api.request("OPTIONS", f"/v1/campaigns/{campaign}", key=None)
    assert {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"} == set(preflight.headers["access-control-allow-methods"].split(", "))
    answer = api.request("DELETE", f"/v1/campaigns/{campaign}/totals")
    assert answer.status == 405 and set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert api.request("GET", f"/v1/campaigns/{campaign}/totals", key=None).status == 401


def test_openapi(api):
    answer = api.request("GET", "/openapi.yaml", key=None)
    assert answer.status == 200 and answer.headers["content-type"] == "application/yaml"
    assert answer.text.startswith("openapi: 3.1") and answer.headers["access-control-allow-origin"] == "*"


# --- the cost ---

# As readers pin their sessions (src/store/reader.c).
PINNED = """set search_path = tidings; set plan_cache_mode = force_generic_plan; set jit = off; set max_parallel_workers_per_gather = 0;
            set enable_seqscan = off; set enable_bitmapscan = off; set enable_hashjoin = off; set enable_mergejoin = off;
            set enable_sort = off; set enable_incremental_sort = off"""

PAGES = {  # every page there is: of a campaign, a user, and a cursor in the middle of it all
    "campaigns": "read_campaigns({account}, 50, null, 'closed')",
    "leaderboard": "read_leaderboard({account}, '{campaign}', 50, null, null, true)",
    "leaderboard-deep": "read_leaderboard({account}, '{campaign}', 50, 15000, 15000, true)",
    "users": "read_users({account}, '{campaign}', 50, 15000, null, null, null, null, null)",
    "users-email": "read_users({account}, '{campaign}', 50, null, 'user77@example.com', null, null, null, null)",
    "users-search": "read_users({account}, '{campaign}', 50, 15000, null, 'u', null, null, null)",
    "users-search-rare": "read_users({account}, '{campaign}', 50, null, null, 'u', true, null, 'rare')",
    "users-verified": "read_users({account}, '{campaign}', 50, 15000, null, null, true, null, null)",
    "users-referred": "read_users({account}, '{campaign}', 50, null, null, null, null, '{user}', null)",
    "users-source": "read_users({account}, '{campaign}', 50, null, null, null, null, null, 'rare')",
    "referrals": "read_user_referrals({account}, '{campaign}', '{user}', 50, null, null)",
    "referrals-verified": "read_user_referrals({account}, '{campaign}', '{user}', 50, null, 'verified')",
    "rewards": "read_rewards({account}, '{campaign}', 50, null)",
    "user-rewards": "read_user_rewards({account}, '{campaign}', '{user}', 50, null, null, true)",
    "sagas": "read_sagas({account}, '{campaign}', 50, null, null, null)",
    "campaign": "read_campaign({account}, '{campaign}')",
    "user": "read_user({account}, '{campaign}', '{user}', true)",
}


def test_pages_cost_the_same_in_a_large_campaign(env, api):
    """Rows that a page looks at, by plans that were made when the tables were empty."""
    with env.db() as db:
        db.execute("alter table users set (autovacuum_enabled = off)")
        account = db.execute("select no from accounts where id = %s", (env.account_id,)).fetchone()[0]
    small = Waitlist(env, api, 1)
    with env.db() as reader:
        reader.autocommit = True
        reader.execute(PINNED)
        names = dict(account=account, campaign=small.id, user=small.user(1))
        for page in PAGES.values():
            reader.execute(f"select * from {page.format(**names)}")  # the functions keep their plans
        large = Waitlist(env, api, 30000, referrer="case when p > 1 then 1 + p * 7919 % (p - 1) else 0 end", verified="p % 50 = 0")
        large.rank()
        large.run("insert into leaderboard select %s, p, 1, p - 1, 1 from generate_series(2, 9000) p on conflict do nothing")
        env.query("insert into campaigns (id, account, account_id, shard, points_per_referral, milestones, name, created_at) "
                  "select gen_random_uuid(), %s, gen_random_uuid(), 0, 1, '{}', 'x', now() from generate_series(1, 9000) returning 1", account)
        names.update(campaign=large.id, user=large.user(4))
        def cost():
            """Rows by index and tables as a whole, of this transaction and earlier ones."""
            return reader.execute("select coalesce(sum(idx_tup_fetch), 0), coalesce(sum(seq_scan), 0) from pg_stat_xact_user_tables "
                                  "where schemaname = 'tidings'").fetchone()

        for name, page in PAGES.items():
            with reader.transaction():
                before = cost()
                reader.execute(f"select * from {page.format(**names)}").fetchall()
                rows, tables = (int(b - a) for a, b in zip(before, cost()))
            assert rows < 5000 and tables == 0, f"{name}: {rows} rows, {tables} tables as a whole"
