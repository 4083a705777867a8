"""The actions over HTTP: what they answer, what they cause, who may do them."""

import concurrent.futures
import json
import random
import uuid

import pytest

from lib.util import wait_until


@pytest.fixture
def campaign(api):
    return api.create_campaign()["campaign_id"]


def types_of(env, campaign):
    rows = env.query(
        "select e.type, e.data::json from events e join campaigns c on c.no = e.aggregate where c.id = %s order by e.version",
        campaign,
    )
    return rows


def records_of(env, campaign):
    """The campaign's events as they are in Kafka, once all are there."""
    count = env.value("select count(*) from events e join campaigns c on c.no = e.aggregate where c.id = %s", campaign)

    def all_there():
        found = [json.loads(r.value) for r in env.records() if r.key == campaign.encode()]
        return found if len(found) >= count else None

    return wait_until(all_there, 15, "the campaign's events are in Kafka")


def test_campaign(api):
    made = api.create_campaign("Café “Launch”", points_per_referral=5, milestones=[2, 10], landing_url="https://x.example/w?a=1")
    got = api.get_campaign(made["campaign_id"])
    for member in ("campaign_id", "name", "points_per_referral", "milestones", "landing_url", "created_at"):
        assert made[member] == got[member], member
    assert made["name"] == "Café “Launch”"
    assert (made["version"], made["events"]) == (1, 1)
    assert got["participants"] == 0
    assert uuid.UUID(made["campaign_id"]).version == 7


def test_campaign_defaults(api):
    made = api.create_campaign()
    assert made["points_per_referral"] == 1
    assert made["milestones"][:3] == [100, 1000, 10000]
    assert made["landing_url"] is None


def test_referred_signup_to_verification(env, api):
    """The whole thread: two sign-ups, one through the other, mails, a verification, a moved referrer."""
    campaign = api.create_campaign(points_per_referral=2)["campaign_id"]
    bob = api.signup(campaign, "bob@example.com")
    ada = api.signup(campaign, "ada@example.com")
    carol = api.signup(campaign, "carol@example.com", referral_code=ada["referral_code"], metadata={"utm": "x"})
    assert [u["position"] for u in (bob, ada, carol)] == [1, 2, 3]
    assert (bob["version"], ada["version"], carol["version"], carol["events"]) == (2, 3, 5, 2)

    token = env.wait_token("carol@example.com")
    verified = api.verify(campaign, carol["user_id"], token)
    assert (verified["verified"], verified["version"], verified["events"]) == (True, 7, 2)
    again = api.verify(campaign, carol["user_id"], token)
    assert (again["verified"], again["version"], again["events"]) == (True, 7, 0)

    status = api.get_user(campaign, ada["user_id"])
    assert (status["position"], status["original_position"], status["verified_referrals"]) == (1, 2, 1)
    assert "email" not in status.body, "a publishable key sees no address"
    full = api.get_user(campaign, carol["user_id"], key="secret")
    assert full["email"] == "carol@example.com" and full["metadata"] == {"utm": "x"}
    assert full["referred_by"] == ada["user_id"] and full["verified"] and full["verified_at"]
    assert full["created_at"] == carol["created_at"]

    events = records_of(env, campaign)
    assert [(e["version"], e["type"]) for e in events] == [
        (1, "campaign.created"), (2, "user.signed_up"), (3, "user.signed_up"), (4, "user.signed_up"),
        (5, "referral.created"), (6, "user.verified"), (7, "referral.verified"),
    ]
    assert all(set(e) == {"id", "type", "account_id", "campaign_id", "data", "timestamp", "version"} for e in events)
    assert all(e["account_id"] == env.account_id and e["campaign_id"] == campaign for e in events)
    assert events[3]["data"] == {"user_id": carol["user_id"], "campaign_id": campaign, "email": "carol@example.com"}
    referral = events[4]["data"]
    assert referral == {"referral_id": referral["referral_id"], "referrer_id": ada["user_id"],
                        "referred_id": carol["user_id"], "campaign_id": campaign}
    assert events[6]["data"] == {**referral, "points_per_referral": 2}

    env.wait_mail("carol@example.com", 2)  # welcome, and verified
    env.wait_mail("ada@example.com", 2)  # welcome, and a friend has confirmed
    wait_until(lambda: env.query("select place, verified, position from leaderboard") == [(2, 1, 1)], 10, "the leaderboard")


def test_headers_of_records(env, api, campaign):
    api.signup(campaign, "a@example.com")
    records_of(env, campaign)
    record = next(r for r in env.records() if json.loads(r.value)["type"] == "user.signed_up")
    value = json.loads(record.value)
    assert record.header("ce_specversion") == "1.0"
    assert record.header("ce_id") == value["id"]
    assert record.header("ce_type") == "user.signed_up"
    assert record.header("ce_time") == value["timestamp"]
    assert record.header("content-type") == "application/json"
    assert len(record.header("traceparent")) == 55


def test_position_never_below_one(env, api):
    campaign = api.create_campaign(points_per_referral=1000)["campaign_id"]
    api.signup(campaign, "first@example.com")
    ada = api.signup(campaign, "ada@example.com")
    for i in range(3):
        friend = api.signup(campaign, f"friend{i}@example.com", referral_code=ada["referral_code"].lower())
        api.verify(campaign, friend["user_id"], env.make_token(campaign, friend["user_id"]))
    assert api.get_user(campaign, ada["user_id"])["position"] == 1
    assert api.get_user(campaign, ada["user_id"])["verified_referrals"] == 3


def test_address_taken_whatever_the_case(api, campaign):
    first = api.signup(campaign, "Ada.Lovelace@Example.com")
    assert first["email"] == "Ada.Lovelace@Example.com"
    for other in ("ada.lovelace@example.com", "ADA.LOVELACE@EXAMPLE.COM"):
        taken = api.signup(campaign, other, expect=409)
        assert taken.problem == "email-taken" and taken["user_id"] == first["user_id"]
    other = api.create_campaign()["campaign_id"]
    api.signup(other, "ada.lovelace@example.com")  # another campaign is another list


def test_address_taken_beyond_ascii(api, campaign):
    first = api.signup(campaign, "ÉLODIE@exämple.org")
    assert api.signup(campaign, "élodie@EXÄMPLE.org", expect=409)["user_id"] == first["user_id"]
    assert api.get_user(campaign, first["user_id"], key="secret")["email"] == "ÉLODIE@exämple.org"


def test_unknown_referral_code(api, campaign):
    ada = api.signup(campaign, "ada@example.com")
    other = api.create_campaign()["campaign_id"]
    for code in ("ZZZZZZZZ", "0", "", "x" * 9, ada["referral_code"]):  # the last is another campaign's
        where = other if code == ada["referral_code"] else campaign
        answer = api.signup(where, f"{uuid.uuid4()}@example.com", referral_code=code, expect=422)
        assert answer["field"] == "referral_code", answer.text


def test_milestones(env, api):
    campaign = api.create_campaign(milestones=[2, 3])["campaign_id"]
    counts = [api.signup(campaign, f"u{i}@example.com")["events"] for i in range(4)]
    assert counts == [1, 2, 2, 1]
    reached = [e["data"] for e in records_of(env, campaign) if e["type"] == "campaign.milestone_reached"]
    assert reached == [
        {"campaign_id": campaign, "milestone": "2_participants", "participant_count": 2},
        {"campaign_id": campaign, "milestone": "3_participants", "participant_count": 3},
    ]
    env.wait_mail("owner@example.com", 2)


def test_default_milestone_under_load(env, api, campaign):
    """The hundredth participant is announced once, whoever it is, from the transaction that crosses it."""
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: api.signup(campaign, f"u{i}@example.com"), range(150)))
    assert sorted(a["position"] for a in answers) == list(range(1, 151))
    assert [a["position"] for a in answers if a["events"] == 2] == [100]


def test_concurrent_same_address(api, campaign):
    """Of many sign-ups with one address exactly one wins; the others name the winner."""
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda i: api.signup(campaign, "same@example.com", expect=None), range(64)))
    won = [a for a in answers if a.status == 201]
    assert len(won) == 1
    assert all(a.status == 409 and a["user_id"] == won[0]["user_id"] for a in answers if a.status != 201)


def test_concurrent_verifications_of_one_referrer(env, api, campaign):
    """All referrals of one referrer count, also when they are verified in one batch; each once."""
    ada = api.signup(campaign, "ada@example.com")
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        friends = list(pool.map(lambda i: api.signup(campaign, f"f{i}@example.com", referral_code=ada["referral_code"]), range(40)))
        tokens = {f["user_id"]: env.make_token(campaign, f["user_id"]) for f in friends}
        twice = [f["user_id"] for f in friends] * 2
        answers = list(pool.map(lambda user: api.verify(campaign, user, tokens[user]), twice))
    assert sum(a["events"] for a in answers) == 80
    assert api.get_user(campaign, ada["user_id"])["verified_referrals"] == 40
    wait_until(lambda: env.query("select verified from leaderboard") == [(40,)], 15, "the leaderboard")


@pytest.mark.settings(LANES=3)
@pytest.mark.partitions(20)
def test_mix_over_campaigns_and_partitions(env, api):
    """Many campaigns, more partitions than shards, three lanes: order and answers are checked after the test."""
    campaigns = [api.create_campaign(f"c{i}")["campaign_id"] for i in range(30)]
    rng = random.Random(5)
    jobs = [(rng.choice(campaigns), i) for i in range(600)]
    with concurrent.futures.ThreadPoolExecutor(48) as pool:
        users = list(pool.map(lambda j: (j[0], api.signup(j[0], f"u{j[1]}@example.com")), jobs))
        list(pool.map(lambda u: api.verify(u[0], u[1]["user_id"], env.make_token(u[0], u[1]["user_id"])), users[::3]))


# --- verification ---


def test_bad_tokens(env, api, campaign):
    ada = api.signup(campaign, "ada@example.com")
    bob = api.signup(campaign, "bob@example.com")
    user = ada["user_id"]
    good = env.make_token(campaign, user)
    for token in ("", "x", good[:-1], good[1:], good + "A", good.swapcase(), "ä" * 75, "A" * 75):
        answer = api.verify(campaign, user, token, expect=422)
        assert (answer.problem, answer["field"]) in (("bad-token", "token"), ("invalid", "token")), (token, answer.text)
    assert api.verify(campaign, bob["user_id"], good, expect=422).problem == "bad-token"
    assert api.verify(campaign, user, env.make_token(campaign, user, expires_s=1), expect=422).problem == "token-expired"
    assert api.verify(campaign, user, env.make_token(campaign, user, secret="x" * 32), expect=422).problem == "bad-token"
    nobody = str(uuid.uuid4())
    assert api.verify(campaign, nobody, env.make_token(campaign, nobody), expect=404).problem == "no-user"
    assert api.get_user(campaign, user)["verified"] is False
    assert api.verify(campaign, user, good)["events"] == 1


def test_rotated_secret(env, api, campaign):
    """An old secret still verifies, the new one signs."""
    ada, bob = api.signup(campaign, "ada@example.com"), api.signup(campaign, "bob@example.com")
    old = env.make_token(campaign, ada["user_id"])
    env.services[0].restart(TOKEN_SECRET="n" * 32 + "," + env.settings["TOKEN_SECRET"])
    api.verify(campaign, ada["user_id"], old)
    api.verify(campaign, bob["user_id"], env.make_token(campaign, bob["user_id"], secret="n" * 32))


def test_link_in_the_mail(env, api, campaign):
    """Looking at the link verifies nobody (scanners do that); its button does."""
    ada = api.signup(campaign, "ada@example.com")
    token = env.wait_token("ada@example.com")
    page = api.request("GET", f"/v1/verify?token={token}", key=None)
    assert page.status == 200 and "<form" in page.text and page.headers["content-type"].startswith("text/html")
    assert api.get_user(campaign, ada["user_id"])["verified"] is False
    api.ledger.not_accounted(campaign)  # the page does not say which version it caused
    posted = api.request("POST", "/v1/verify", key=None, content=f"token={token}".encode(),
                         headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert posted.status == 200
    assert api.get_user(campaign, ada["user_id"])["verified"] is True
    assert api.request("GET", "/v1/verify?token=nonsense", key=None).status in (200, 422)


# --- keys and accounts ---


def test_keys(api, campaign):
    for key in (None, "nonsense", "tk_sec_" + "A" * 43, "tk_pub_" + "A" * 43):
        answer = api.request("POST", f"/v1/campaigns/{campaign}/users", json={"email": "a@example.com"}, key=key)
        assert answer.status == 401 and answer.problem == "unauthorized" and "www-authenticate" in answer.headers
    assert api.create_campaign(key="publishable", expect=403).problem == "forbidden"
    assert api.get_campaign(campaign, key="publishable", expect=403).problem == "forbidden"
    api.signup(campaign, "secret@example.com", key="secret")


def test_another_accounts_campaign_is_not_there(env, api, campaign):
    ada = api.signup(campaign, "ada@example.com")
    other = env.api(keys=env.new_account())
    token = env.make_token(campaign, ada["user_id"])
    for answer in (
        other.get_campaign(campaign, expect=404),
        other.signup(campaign, "x@example.com", expect=404),
        other.signup(campaign, "ada@example.com", expect=404),
        other.get_user(campaign, ada["user_id"], expect=404),
        other.verify(campaign, ada["user_id"], token, expect=404),
    ):
        assert answer.problem == "no-campaign"
        assert ada["user_id"] not in answer.text.replace(answer.path, "")


def test_revoked_key(env, api, campaign):
    made = dict(line.split("=", 1) for line in
                env.run("keys", "create", "--account", env.account_id, "--kind", "publishable").splitlines())
    assert api.request("GET", f"/v1/campaigns/{campaign}/users/{uuid.uuid4()}", key=made["api_key"]).status == 404
    env.run("keys", "revoke", made["key_id"])
    wait_until(lambda: api.request("GET", f"/v1/campaigns/{campaign}/users/{uuid.uuid4()}", key=made["api_key"]).status == 401,
               10, "the key is refused within KEY_CACHE_MS")


def test_missing_things(api, campaign):
    nobody, nowhere = str(uuid.uuid4()), str(uuid.uuid4())
    assert api.get_campaign(nowhere, expect=404).problem == "no-campaign"
    assert api.signup(nowhere, "a@example.com", expect=404).problem == "no-campaign"
    assert api.get_user(campaign, nobody, expect=404).problem == "no-user"
    assert api.get_user(nowhere, nobody, expect=404).problem == "no-campaign"


def test_cors(api, campaign):
    preflight = api.request("OPTIONS", f"/v1/campaigns/{campaign}/users", key=None, headers={
        "Origin": "https://shop.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type"})
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    for expect, email in ((201, "a@example.com"), (422, "nonsense")):
        assert api.signup(campaign, email, expect=expect).headers["access-control-allow-origin"] == "*"


def test_request_ids(env, service, api, campaign):
    answer = api.signup(campaign, "a@example.com", headers={"X-Request-Id": "my-own-id.1"})
    assert answer.headers["x-request-id"] == "my-own-id.1"
    made = api.signup(campaign, "b@example.com").headers["x-request-id"]
    assert len(made) >= 16
    assert api.signup(campaign, "nonsense", expect=422).headers["x-request-id"]


def test_metrics(env, service, api, campaign):
    ada = api.signup(campaign, "ada@example.com")
    friend = api.signup(campaign, "f@example.com", referral_code=ada["referral_code"])
    api.verify(campaign, friend["user_id"], env.make_token(campaign, friend["user_id"]))
    env.wait_mail("ada@example.com", 2)
    assert service.metric("tidings_events_committed_total", type="user.signed_up") == 2
    assert service.metric("tidings_messages_total", group="email-workers", type="user.signed_up") == 2
    assert service.metric("tidings_handled_total", group="email-workers", outcome="done") >= 2
    assert service.metric("tidings_relay_acknowledged_total") >= 6
    wait_until(lambda: service.metric("tidings_relay_lag_events") == 0, 5, "no relay lag")
    wait_until(lambda: service.metric("tidings_group_lag_records", group="email-workers") == 0, 10, "no group lag")
    text = service.metrics()
    for name in ("tidings_http_request_duration_seconds_count", "tidings_lane_batch_actions_count", "tidings_loop_lag_seconds_count",
                 "tidings_lane_queue_actions", "tidings_relay_lag_seconds", "tidings_handler_seconds_count"):
        assert any(series.startswith(name) for series in text), name
    assert service.metric("tidings_relay_events_total", source="memory") > 0
