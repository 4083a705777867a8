"""What the product promises beyond one sign-up: idempotency keys, closing and deleting, rewards that are earned by themselves,
limits, and two processes whose token secrets differ."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from lib.util import wait_until

QUICK_PURGE = {"UPKEEP_INTERVAL_MS": 100, "PURGE_DELAY_SECONDS": 0}


def key(text):
    return {"Idempotency-Key": text}


def referred_user(api, campaign, referrer, email):
    """A user who came by the referrer's code and has verified; the answer of the verification."""
    code = api.get_user(campaign, referrer)["referral_code"]
    return api.signup(campaign, email, referral_code=code)["user_id"]


def verify(env, api, campaign, user):
    return api.verify(campaign, user, env.make_token(campaign, user))


# --- idempotency keys ---


def test_same_key_same_answer(api):
    campaign = api.create_campaign()["campaign_id"]
    first = api.signup(campaign, "ada@example.com", headers=key("k1"))
    again = api.signup(campaign, "ada@example.com", headers=key("k1"))
    assert again.text == first.text
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert api.signup(campaign, "bob@example.com", headers=key("k1"), expect=422).problem == "idempotency-key-reused"
    assert api.signup(campaign, "bob@example.com", headers=key("k2"))["version"] == first["version"] + 1
    # What was refused under a key stays refused, in the same words but for the request's own id.
    refused = api.signup(campaign, "ada@example.com", headers=key("k3"), expect=409)
    assert api.signup(campaign, "ada@example.com", headers=key("k3"), expect=409)["user_id"] == refused["user_id"]


def test_key_is_of_the_account_and_the_campaign(env, api):
    one, other = (api.create_campaign()["campaign_id"] for _ in range(2))
    a = api.signup(one, "ada@example.com", headers=key("same"))
    b = api.signup(other, "ada@example.com", headers=key("same"))
    assert a["user_id"] != b["user_id"] and "idempotency-replayed" not in b.headers


def test_a_visitors_key_is_not_the_accounts(api):
    """A publishable key is in everybody's hands: what is sent with it must not take the account's keys away."""
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "visitor@example.com", key="publishable", headers=key("order-1"))
    mine = api.signup(campaign, "mine@example.com", key="secret", headers=key("order-1"))
    assert "idempotency-replayed" not in mine.headers


def test_nothing_is_kept_of_a_deleted_campaign(api):
    campaign = api.create_campaign(headers=key("c"))["campaign_id"]
    hook = {"delivery": "webhook", "url": "https://example.com/hook", "headers": key("r")}
    assert api.create_reward(campaign, **hook)["secret"] == api.create_reward(campaign, **hook)["secret"]
    api.signup(campaign, "ada@example.com", headers=key("s"))
    api.close_campaign(campaign)
    api.delete_campaign(campaign)
    assert api.create_reward(campaign, expect=404, **hook).problem == "no-campaign"
    assert api.signup(campaign, "ada@example.com", headers=key("s"), expect=404).problem == "no-campaign"


@pytest.mark.settings(VERIFY_RESEND_SECONDS=1)
def test_too_soon_is_not_for_ever(api):
    """The one refusal that the same request may outlive is not kept under its key."""
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")["user_id"]
    assert api.resend_verification(campaign, ada, headers=key("r"), expect=429).problem == "too-soon"
    time.sleep(1.1)
    assert api.resend_verification(campaign, ada, headers=key("r"))["events"] == 1


def test_creating_a_campaign_twice_under_one_key(api):
    answers = [api.create_campaign(name="Once", headers=key("create")) for _ in range(3)]
    assert len({a.text for a in answers}) == 1
    assert api.create_campaign(name="Other", headers=key("create"), expect=422).problem == "idempotency-key-reused"
    assert [c["name"] for c in api.read_all("")] == ["Once"]


@pytest.mark.parametrize("bad", ["", "a b", "x" * 256, "naïve".encode()])
def test_a_key_that_is_none(api, bad):
    campaign = api.create_campaign()["campaign_id"]
    answer = api.signup(campaign, "ada@example.com", headers=key(bad), expect=422)
    assert (answer.problem, answer["field"]) == ("invalid", "Idempotency-Key")


def test_two_keys_are_none(api):
    campaign = api.create_campaign()["campaign_id"]
    with httpx.Client() as client:
        answer = client.post(f"{api.url}/v1/campaigns/{campaign}/users", json={"email": "ada@example.com"},
                             headers=[("Authorization", f"Bearer {api.keys['secret']}"), ("Idempotency-Key", "a"),
                                      ("Idempotency-Key", "b")])
    assert answer.status_code == 422 and answer.json()["field"] == "Idempotency-Key"


def test_many_at_once_under_one_key(env, api):
    """One of them acts; the others wait for it in the same lane and say the same."""
    campaign = api.create_campaign()["campaign_id"]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: api.signup(campaign, f"u{i % 4}@example.com", headers=key(f"k{i % 4}")), range(128)))
    assert len({a.text for a in answers}) == 4
    assert sum("idempotency-replayed" not in a.headers for a in answers) == 4
    assert env.value("select count(*) from users") == 4


def test_answers_outlive_the_process_and_end_with_time(env, service, api):
    campaign = api.create_campaign()["campaign_id"]
    first = api.signup(campaign, "ada@example.com", headers=key("k"))
    service.stop()
    service.start()
    assert api.signup(campaign, "ada@example.com", headers=key("k")).text == first.text
    env.query("update idempotency_keys set created_at = created_at - interval '25 hours' returning 1")
    assert api.signup(campaign, "ada@example.com", headers=key("k"), expect=409).problem == "email-taken"


@pytest.mark.settings(UPKEEP_INTERVAL_MS=100)
def test_old_keys_are_taken_away(env, api):
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "ada@example.com", headers=key("old"))
    api.signup(campaign, "bob@example.com", headers=key("new"))
    env.query("update idempotency_keys set created_at = created_at - interval '25 hours'"
              " where object_id = (select id from users where place = 1) returning 1")
    wait_until(lambda: env.value("select count(*) from idempotency_keys") == 1, 10, "the old key goes")


# --- closing, deleting ---


def test_a_closed_campaign(env, api):
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")["user_id"]
    assert api.delete_campaign(campaign, expect=409).problem == "campaign-open"
    closed = api.close_campaign(campaign)
    assert (closed["status"], closed["events"]) == ("closed", 1)
    assert api.close_campaign(campaign)["events"] == 0
    assert api.signup(campaign, "bob@example.com", expect=409).problem == "campaign-closed"
    assert verify(env, api, campaign, ada)["verified"]  # who is in can go on
    assert api.get_campaign(campaign)["status"] == "closed"


@pytest.mark.settings(**QUICK_PURGE)
def test_a_deleted_campaign_is_purged_and_nothing_else(env, service, api):
    kept, gone = (api.create_campaign()["campaign_id"] for _ in range(2))
    users = {}
    for campaign in (kept, gone):
        reward = api.create_reward(campaign, threshold=1)["reward_id"]
        ada = api.signup(campaign, "ada@example.com")["user_id"]
        for i in range(12):
            users[campaign] = referred_user(api, campaign, ada, f"u{i}@example.com")
            verify(env, api, campaign, users[campaign])
        api.grant_reward(campaign, users[campaign], reward)
    api.close_campaign(gone)
    assert api.delete_campaign(gone)["status"] == "deleted"
    for answer in (api.get_campaign(gone, expect=404), api.get_user(gone, users[gone], expect=404),
                   api.signup(gone, "new@example.com", expect=404), api.close_campaign(gone, expect=404),
                   api.delete_campaign(gone, expect=404), api.read(f"{gone}/users", expect=404)):
        assert answer.problem == "no-campaign"
    no = env.value("select no from campaigns where id = %s", gone)
    wait_until(lambda: env.value("select purged_at is not null from campaigns where no = %s", no), 20, "the campaign is purged")
    for table in ("users", "referrals", "verifications", "verified_referrals", "rewards", "user_rewards", "leaderboard", "mails",
                  "deliveries"):
        assert env.value(f"select count(*) from {table} where campaign = %s", no) == 0, table
    assert env.query("select type from events where aggregate = %s", no) == [(10,)]  # the last one stays
    assert api.get_campaign(kept)["participants"] == 13
    # A restart takes its cursors and reads on over what is gone.
    service.kill9()
    service.start()
    api.signup(kept, "later@example.com")
    env.check()


@pytest.mark.settings(**QUICK_PURGE)
def test_purging_while_events_wait_for_kafka(make_env, own_kafka):
    """What Kafka has not acknowledged is not purged."""
    env = make_env(kafka=own_kafka, settings=QUICK_PURGE)
    api = env.api(env.start())
    campaign = api.create_campaign()["campaign_id"]
    wait_until(lambda: env.value("select max(seq) from relay_cursors") > 0, 10, "the relay works")
    own_kafka.pause()
    for i in range(20):
        api.signup(campaign, f"u{i}@example.com")
    api.close_campaign(campaign)
    api.delete_campaign(campaign)
    time.sleep(1)  # several rounds of upkeep
    assert env.value("select count(*) from users") == 20
    own_kafka.resume()
    wait_until(lambda: env.value("select bool_and(purged_at is not null) from campaigns"), 30, "the campaign is purged")
    assert len({r.value for r in env.records()}) == 23


@pytest.mark.settings(**QUICK_PURGE)
def test_another_host_is_behind_what_was_purged(env):
    """A relay whose past was purged by another process steps over it."""
    first, second = env.start(), env.start()
    api, other = env.api(first), env.api(second)
    campaigns = [api.create_campaign()["campaign_id"] for _ in range(20)]
    for i, campaign in enumerate(campaigns):
        (api, other)[i % 2].signup(campaign, "ada@example.com")
    wait_until(lambda: env.value("select sum(seq) from relay_cursors") == 40, 20, "all is in Kafka")
    second.pause()
    for campaign in campaigns[:15]:
        api.signup(campaign, "bob@example.com")
        api.close_campaign(campaign)
        api.delete_campaign(campaign)
    wait_until(lambda: env.value("select count(*) from campaigns where purged_at is not null") == 15, 30, "15 are purged")
    second.resume()
    for campaign in campaigns[15:]:
        other.signup(campaign, "carl@example.com")
        api.signup(campaign, "dora@example.com")
    env.check()


# --- changes ---


def test_expected_version(api):
    campaign = api.create_campaign()
    answer = api.update_campaign(campaign["campaign_id"], name="New", expected_version=campaign["version"])
    assert (answer["name"], answer["version"], answer["events"]) == ("New", 2, 1)
    assert api.update_campaign(campaign["campaign_id"], name="New")["events"] == 0
    conflict = api.update_campaign(campaign["campaign_id"], name="Newer", expected_version=1, expect=409)
    assert (conflict.problem, conflict["version"]) == ("version-conflict", 2)


def test_new_points_move_the_leaderboard(env, api):
    campaign = api.create_campaign(points_per_referral=1)["campaign_id"]
    first = [api.signup(campaign, f"u{i}@example.com")["user_id"] for i in range(9)]
    verify(env, api, campaign, referred_user(api, campaign, first[8], "friend@example.com"))
    api.update_campaign(campaign, points_per_referral=5)

    def positions():
        return {i["user_id"]: i["position"] for i in api.read_all(f"{campaign}/leaderboard")}

    wait_until(lambda: positions()[first[8]] == 4, 20, "the ninth is fourth")
    assert api.get_user(campaign, first[8])["position"] == 4


# --- rewards ---


def test_thresholds(env, api):
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")["user_id"]
    one = api.create_reward(campaign, name="One", threshold=1)["reward_id"]
    two = api.create_reward(campaign, name="Two", threshold=2, stock=1)["reward_id"]
    late = api.create_reward(campaign, name="Late")["reward_id"]
    answers = [verify(env, api, campaign, referred_user(api, campaign, ada, f"u{i}@example.com")) for i in range(3)]
    # Verified, referral verified, and a reward twice, of which the second is the last one.
    assert [a["events"] for a in answers] == [3, 4, 2]
    # A rule that comes later counts at the next verified referral.
    api.update_campaign(campaign, reward_rules=[{"reward_id": late, "threshold": 2}])
    assert verify(env, api, campaign, referred_user(api, campaign, ada, "u3@example.com"))["events"] == 3
    earned = api.read_all(f"{campaign}/users/{ada}/rewards")
    assert [e["reward_id"] for e in earned] == [one, two, late]
    # Out of stock: Bob gets nothing for his second.
    bob = api.signup(campaign, "bob@example.com")["user_id"]
    answers = [verify(env, api, campaign, referred_user(api, campaign, bob, f"b{i}@example.com")) for i in range(2)]
    assert [a["events"] for a in answers] == [3, 3]  # One; Late
    assert [e["name"] for e in api.read_all(f"{campaign}/users/{bob}/rewards")] == ["One", "Late"]
    assert api.grant_reward(campaign, bob, two, expect=409).problem == "out-of-stock"
    assert api.grant_reward(campaign, bob, one, expect=409).problem == "already-earned"


def test_many_want_the_last_ones(env, api):
    """Stock is not sold twice, whatever comes at the same time."""
    campaign = api.create_campaign()["campaign_id"]
    reward = api.create_reward(campaign, stock=7)["reward_id"]
    users = [api.signup(campaign, f"u{i}@example.com")["user_id"] for i in range(40)]
    with ThreadPoolExecutor(20) as pool:
        statuses = list(pool.map(lambda user: api.grant_reward(campaign, user, reward, expect=None).status, users))
    assert sorted(statuses) == [201] * 7 + [409] * 33
    assert api.read(f"{campaign}/rewards/{reward}")["earned"] == 7


def test_limits(api):
    campaign = api.create_campaign()["campaign_id"]
    for i in range(10):
        api.create_reward(campaign, threshold=i + 1)
    answer = api.create_reward(campaign, threshold=1, expect=409)
    assert (answer.problem, answer["field"]) == ("limit-reached", "threshold")
    plain = [api.create_reward(campaign)["reward_id"] for _ in range(90)]
    assert api.create_reward(campaign, expect=409).problem == "limit-reached"
    rule = {"reward_id": plain[0], "threshold": 3}
    assert api.update_campaign(campaign, reward_rules=[rule], expect=409).problem == "limit-reached"


# --- verification mails ---


@pytest.mark.settings(VERIFY_RESEND_SECONDS=1, VERIFY_RESEND_PER_DAY=2)
def test_the_verification_mail_again(env, api):
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")["user_id"]
    soon = api.resend_verification(campaign, ada, expect=429)
    assert soon.problem == "too-soon" and int(soon.headers["retry-after"]) == 1
    for _ in range(2):
        time.sleep(1.1)
        assert api.resend_verification(campaign, ada)["events"] == 1
    time.sleep(1.1)
    assert 80000 < int(api.resend_verification(campaign, ada, expect=429).headers["retry-after"]) <= 86400
    mails = env.wait_mail("ada@example.com", count=3)
    assert api.verify(campaign, ada, mails[-1].token)["verified"]
    assert api.resend_verification(campaign, ada, expect=409).problem == "already-verified"


# --- hosts ---


def test_two_token_secrets_are_noticed(env):
    old, new = "o" * 32, "n" * 32
    first = env.start(TOKEN_SECRET=old)
    second = env.start(TOKEN_SECRET=new)

    def differing(service):
        text = httpx.get(f"{service.url}/metrics").text
        return [line for line in text.splitlines() if line.startswith("tidings_token_secret_mismatch_hosts ")][0].split()[1]

    for service in (first, second):
        wait_until(lambda: differing(service) == "1", 15, f"{service.name} notices")
        assert "TOKEN_SECRET is not the same on all hosts" in service.log.read_text()
    # The way to rotate: everybody accepts both before anybody signs with the new one.
    second.stop()
    second.start(TOKEN_SECRET=f"{new},{old}")
    first.stop()
    first.start(TOKEN_SECRET=f"{old},{new}")
    for service in (first, second):
        wait_until(lambda: differing(service) == "0", 40, f"{service.name} agrees")


def test_rounds_of_everything_under_a_kill(env, service, api):
    """Acknowledged actions of every kind survive kill -9; what was not answered may or may not have been done."""
    campaign = api.create_campaign()["campaign_id"]
    reward = api.create_reward(campaign, threshold=1)["reward_id"]
    stop = threading.Event()

    def work(number):
        i = 0
        while not stop.is_set():
            i += 1
            try:
                a = api.signup(campaign, f"a{number}-{i}@example.com", headers=key(f"s{number}-{i}"))["user_id"]
                b = api.signup(campaign, f"b{number}-{i}@example.com")["user_id"]
                referral = api.create_referral(campaign, b, referrer_id=a)["referral_id"]
                api.verify_referral(campaign, referral, headers=key(f"v{number}-{i}"))
                api.grant_reward(campaign, b, reward)
                api.update_campaign(campaign, points_per_referral=i % 5)
            except (httpx.TransportError, AssertionError):
                time.sleep(0.05)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for worker in workers:
        worker.start()
    for _ in range(2):
        time.sleep(1.5)
        service.kill9()
        service.start()
    time.sleep(1)
    stop.set()
    for worker in workers:
        worker.join()
    assert env.value("select count(*) from user_rewards") > 0


def test_lost_answers_of_every_action_are_found(make_env, make_proxy, stack):
    """The commit happens, its answer is swallowed by the network: the answer that is made from the log has the same members,
    and the same values where they do not depend on the moment; a repeat under the same key says the same again."""
    proxy = make_proxy(stack.postgres.port)
    # No upkeep, no look-up of a key: what hangs when the answers are swallowed must be the action, not what is before it.
    env = make_env(settings={"DB_STALL_MS": 1000, "MAIL_TRANSPORT": "discard", "VERIFY_RESEND_SECONDS": 0, "KEY_CACHE_MS": 600000,
                             "UPKEEP_INTERVAL_MS": 3600000}, postgres_port=proxy.port)
    env.start().wait_keys_stay()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    ada, bob, carl, dora = (api.signup(campaign, f"{name}@example.com")["user_id"] for name in ("ada", "bob", "carl", "dora"))
    reward = api.create_reward(campaign, threshold=1)["reward_id"]
    other = api.create_reward(campaign)["reward_id"]
    referral = api.create_referral(campaign, bob, referrer_id=ada)["referral_id"]
    closed = api.create_campaign()["campaign_id"]
    api.close_campaign(closed)
    code, token_of_ada = api.get_user(campaign, ada)["referral_code"], env.make_token(campaign, ada)
    hook = {"delivery": "webhook", "url": "https://example.com/hook"}
    actions = [
        (201, 2, lambda **o: api.signup(campaign, "eve@example.com", referral_code=code, **o)),
        (200, 1, lambda **o: api.verify(campaign, ada, token_of_ada, **o)),
        (202, 1, lambda **o: api.resend_verification(campaign, dora, **o)),
        (201, 1, lambda **o: api.create_referral(campaign, carl, referrer_id=ada, **o)),
        (200, 2, lambda **o: api.verify_referral(campaign, referral, **o)),
        (201, 1, lambda **o: api.create_reward(campaign, name="Hook", **hook, **o)),
        (201, 1, lambda **o: api.grant_reward(campaign, carl, other, **o)),
        (200, 1, lambda **o: api.update_campaign(campaign, points_per_referral=7, **o)),
        (200, 1, lambda **o: api.close_campaign(campaign, **o)),
        (200, 1, lambda **o: api.delete_campaign(closed)),
        (201, 1, lambda **o: api.create_campaign(name="New", **o)),
    ]
    assert reward
    for number, (status, events, act) in enumerate(actions):
        env.services[0].wait_ready()
        head = env.value("select sum(n) from (select max(seq) n from events group by shard) s")
        with ThreadPoolExecutor(1) as pool:
            token = {"headers": key(f"lost-{number}")}
            proxy.swallow()
            waiting = pool.submit(act, expect=None, **token) if number != 9 else pool.submit(act)
            wait_until(lambda: env.value("select sum(n) from (select max(seq) n from events group by shard) s") == head + events, 10,
                       lambda: f"action {number} is committed")
            proxy.heal()
            answer = waiting.result()
        assert (answer.status, answer.get("events")) == (status, events), (number, answer)
        env.services[0].wait_ready()
        if status != 200 or number in (1, 4, 8):  # a POST
            again = act(**token)
            assert again.headers["idempotency-replayed"] == "true"
            different = {k for k in answer.body if again.body.get(k) != answer.body[k]} | set(again.body) - set(answer.body)
            assert not different, (number, answer.text, again.text)
