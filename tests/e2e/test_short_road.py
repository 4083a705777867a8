"""Sign-ups that the lane numbers itself (the short road) and those that the database numbers (the general road): the same
outcomes and the same events, whoever else writes in between. An Idempotency-Key sends a sign-up down the general road."""

import json
import re
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

ROADS = "tidings_lane_batches_total"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

AWKWARD = ["plain@example.com", "UPPER.Case@Example.COM", "o'hara@example.com", 'tab"quote@example.com', "back/slash@example.com",
           "ünïcode@example.com", "plus+tag@example.com", "smile😀@example.com", "a" * 60 + "@example.com"]


def sign_up(api, campaign, email, general, **fields):
    headers = {"Idempotency-Key": uuid.uuid4().hex} if general else None
    return api.signup(campaign, email, expect=None, headers=headers, **fields)


def what_happened(api, campaign, general):
    """A sequence of sign-ups, good and bad; each answer without what differs by nature."""
    answers = [sign_up(api, campaign, email, general) for email in AWKWARD]
    code = next(a["referral_code"] for a in answers if a.status == 201)
    answers += [
        sign_up(api, campaign, "plain@example.com", general),
        sign_up(api, campaign, "PLAIN@example.com", general),
        sign_up(api, campaign, "no-such-code@example.com", general, referral_code="ZZZZZZZ"),
        sign_up(api, campaign, "friend@example.com", general, referral_code=code),
        sign_up(api, campaign, "friend@example.com", general, referral_code=code),
        sign_up(api, campaign, "meta@example.com", general, metadata={"a": [1, "x\n\u0001"], "b": None},
                source={"utm_source": "quo\"te"}),
        sign_up(api, campaign, "friend-2@example.com", general, referral_code=code, metadata={"k": 1}),
    ]
    answers += [sign_up(api, campaign, f"more-{i}@example.com", general) for i in range(5)]
    api.close_campaign(campaign)
    answers.append(sign_up(api, campaign, "late@example.com", general))
    return answers


def plain(answer, campaign):
    """The answer as text, with places instead of ids and times."""
    body = {k: v for k, v in answer.body.items() if k not in ("created_at", "referral_code", "referral_link", "instance", "request_id")}
    seen = {campaign: "campaign"}
    return answer.status, UUID.sub(lambda m: seen.setdefault(m[0], f"id-{len(seen)}"), json.dumps(body, sort_keys=True))


def rows(env, campaign):
    """What is stored, with places instead of ids."""
    seen = {campaign: "campaign"}

    def number(value):
        return UUID.sub(lambda m: seen.setdefault(m[0], f"id-{len(seen)}"), value) if isinstance(value, str) else value

    no = env.value("select no from tidings.campaigns where id = %s", campaign)
    return [[[number(v) for v in row] for row in env.query(sql, no)] for sql in (
        "select place, id::text, email_key, email, metadata, source from tidings.users where campaign = %s order by place",
        "select referred, referrer, id::text from tidings.referrals where campaign = %s order by referred",
        "select version, type, format, data from tidings.events where aggregate = %s order by version")]


def test_both_roads_agree(env, service, api):
    settings = {"milestones": [1, 3, 12, 15], "landing_url": "https://example.com/join?x=1"}
    short, general = (api.create_campaign(name="same", **settings)["campaign_id"] for _ in range(2))
    by_short, by_general = what_happened(api, short, False), what_happened(api, general, True)
    assert [plain(a, short) for a in by_short] == [plain(a, general) for a in by_general]
    assert [a.status for a in by_short].count(201) >= 15
    assert rows(env, short) == rows(env, general)
    assert service.metric(ROADS, road="short") >= 15 and service.metric(ROADS, road="taken") >= 2


def test_ids_are_made_alike(env, api):
    """An event's id is its action's with its number in the last digit; a user's ends with the place, a referral's too."""
    campaign = api.create_campaign(milestones=[2])["campaign_id"]
    code = api.signup(campaign, "one@example.com")["referral_code"]
    user = api.signup(campaign, "two@example.com", referral_code=code)["user_id"]
    assert user.endswith("00000002")
    events = env.query("select e.id::text, e.type, e.data from tidings.events e where type in (1, 3, 6) order by seq desc limit 3")
    (third, _, milestone), (second, _, referral), (first, _, _) = events
    assert {third[:-1], second[:-1]} == {first[:-1]} and [i[-1] for i in (first, second, third)] == ["0", "1", "2"]
    assert json.loads(referral)["referral_id"].endswith("00000002") and json.loads(milestone)["participant_count"] == 2


def test_one_address_many_times_at_once(env, service, api):
    campaign = api.create_campaign()["campaign_id"]
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda i: sign_up(api, campaign, f"same-{i % 4}@example.com", False), range(96)))
    assert [a.status for a in answers].count(201) == 4 and {a.status for a in answers} == {201, 409}
    owners = {a["email"]: a["user_id"] for a in answers if a.status == 201}
    assert {a["user_id"] for a in answers if a.status == 409} <= set(owners.values())


def test_a_friend_in_the_same_moment(env, service, api):
    """A code of a user who is only just there, or one place further than there are users."""
    campaign = api.create_campaign()["campaign_id"]
    codes = [api.signup(campaign, f"u{i}@example.com")["referral_code"] for i in range(3)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: sign_up(api, campaign, f"f{i}@example.com", False, referral_code=codes[i % 3]), range(48)))
    assert {a.status for a in answers} == {201}
    assert sum(a["events"] for a in answers) == 96


def test_another_host_writes_in_between(env, api):
    """What one host knows is out of date after the other's commit: it notices, and numbers stay dense."""
    ours, theirs = env.services[0], env.start()
    other = env.api(theirs)
    campaigns = [api.create_campaign(milestones=[10, 30])["campaign_id"] for _ in range(3)]
    for i in range(12):  # in turn: each commit makes the other's knowledge stale
        for n, client in enumerate((api, other)):
            client.signup(campaigns[i % 3], f"turn-{i}-{n}@example.com")
    assert ours.metric(ROADS, road="stale") > 0 and theirs.metric(ROADS, road="stale") > 0

    stop = threading.Event()

    def flood(client, n):
        i = 0
        while not stop.is_set():
            client.signup(campaigns[i % 3], f"flood-{n}-{i}@example.com")
            i += 1
        return i

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(flood, client, f"{n}{k}") for n, client in enumerate((api, other)) for k in range(4)]
        threading.Timer(3, stop.set).start()
        assert sum(job.result() for job in running) > 20
    # Left alone, a host goes the short road again.
    before = ours.metric(ROADS, road="short")
    for i in range(400):
        api.signup(campaigns[0], f"alone-{i}@example.com")
        if ours.metric(ROADS, road="short") >= before + 5:
            break
    assert ours.metric(ROADS, road="short") >= before + 5


def test_a_campaigns_changes_are_obeyed_at_once(env, api):
    """On the host that made the change and on the other one."""
    other = env.api(env.start())
    campaign = api.create_campaign(landing_url="https://one.example/")["campaign_id"]
    for i, (changer, user) in enumerate(((api, api), (api, other), (other, api)), 1):
        assert user.signup(campaign, f"before-{i}@example.com")["events"] == 1
        place = user.signup(campaign, f"between-{i}@example.com")["position"]
        changer.update_campaign(campaign, landing_url=f"https://{i}.example/", milestones=[place + 1])
        answer = user.signup(campaign, f"after-{i}@example.com")
        assert answer["referral_link"].startswith(f"https://{i}.example/") and answer["events"] == 2
    other.close_campaign(campaign)
    assert api.signup(campaign, "late@example.com", expect=409).problem == "campaign-closed"
    other.delete_campaign(campaign)
    api.signup(campaign, "later@example.com", expect=404)


def test_more_campaigns_than_are_remembered(env):
    service = env.start(CAMPAIGN_CACHE=1, LANE_BATCH=4, LANES=2)
    api = env.api(service)
    campaigns = [api.create_campaign()["campaign_id"] for _ in range(30)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: sign_up(api, campaigns[i % 30], f"u{i}@example.com", False), range(300)))
    assert {a.status for a in answers} == {201}
    assert service.metric(ROADS, road="short") > 0 and service.metric(ROADS, road="load") > 0


def test_taken_addresses_hold_up_nobody_else(env, service, api):
    """Clients that ask for taken addresses as fast as they can, each voiding a batch; sign-ups of others, on both roads, are
    answered all the same."""
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "taken@example.com")
    stop = threading.Event()

    def nag():
        client, asked = env.api(service), 0
        while not stop.is_set():
            assert sign_up(client, campaign, "taken@example.com", False).status == 409
            asked += 1
        return asked

    with ThreadPoolExecutor(24) as pool:
        nagging = [pool.submit(nag) for _ in range(24)]
        try:
            for i in range(20):
                sign_up(api, campaign, f"short-{i}@example.com", False).expect(201)
                sign_up(api, campaign, f"general-{i}@example.com", True).expect(201)
            # One batch that is voided, and one of its own: not one for every other client's address.
            assert service.metric(ROADS, road="taken") <= 6 * (service.metric(ROADS, road="general") + service.metric(ROADS, road="short"))
        finally:
            stop.set()
        assert sum(n.result() for n in nagging) > 20
