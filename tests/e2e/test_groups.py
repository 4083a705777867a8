"""The consumer groups on real Kafka, Postgres and SMTP: what they do, once; what they do with what cannot be done."""

import json
import time
import uuid

import pytest

from lib.clock import ahead as clock_ahead
from lib.clock import clock_can_be_set
from lib.kafka import hash_class
from lib.smtp import PERMANENT, TRANSIENT
from lib.stats import counted, kept
from lib.util import SLOWNESS, wait_until
from lib.webhook import WebhookTarget

smtp_settings = {"MAIL_TRANSPORT": "smtp", "RETRY_BASE_MS": 20, "RETRY_MAX_MS": 200, "SMTP_TIMEOUT_MS": 2000 * SLOWNESS}


@pytest.fixture
def by_smtp(make_env, smtp):
    """An env whose service sends to the sink."""
    env = make_env(settings={**smtp_settings, "SMTP_URL": smtp.url})
    env.start()
    return env


def statuses(env):
    return dict(env.query("select status, count(*)::int from mails group by 1"))


def wait_statuses(env, wanted, seconds=20):
    wait_until(lambda: statuses(env) == wanted, seconds, lambda: f"mails are {wanted}; they are {statuses(env)}")


def dead_letters(env):
    return env.query("select grp, partition, \"offset\", event_id::text, type, reason, attempts from dead_letters order by id")


def produce_event(env, kind, campaign, data, version=1000):
    """An event of the test's own in the campaign's partition; the checker passes over it. Its id."""
    event_id = str(uuid.uuid4())
    value = {"id": event_id, "type": kind, "account_id": env.account_id, "campaign_id": campaign,
             "data": {"campaign_id": campaign, **data}, "timestamp": "2026-01-01T12:00:00Z", "version": version}
    env.produce(json.dumps(value).encode(), campaign.encode(), partition=hash_class(campaign, 10))
    return event_id


def execute(env, sql, *args):
    with env.db() as connection:
        connection.execute(sql, args)


# --- email ---


def test_mails_by_smtp(by_smtp, smtp):
    api = by_smtp.api()
    campaign = api.create_campaign("Laun\u00e7h \u2713", milestones=[2], landing_url="https://shop.example/w?x=1")["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")
    bob = api.signup(campaign, "bob@example.com", referral_code=ada["referral_code"])
    welcome = smtp.wait("bob@example.com")[0]
    assert "Laun\u00e7h \u2713" in welcome.subject
    assert bob["referral_link"] == f"https://shop.example/w?x=1&ref={bob['referral_code']}"
    assert bob["referral_link"] in welcome.text
    assert welcome.message["From"] and welcome.message["Date"] and welcome.message["Auto-Submitted"] == "auto-generated"
    api.verify(campaign, bob["user_id"], welcome.token)
    assert len(smtp.wait("bob@example.com", 2)) == 2
    moved = smtp.wait("ada@example.com", 2)[-1]
    assert "1" in moved.text
    milestone = smtp.wait("owner@example.com")[0]
    assert "2" in milestone.text
    wait_statuses(by_smtp, {"sent": 5})
    events = {row[0]: row[1] for row in by_smtp.query("select event_id::text, message_id from mails")}
    assert sorted(events.values()) == sorted(m.message_id.strip("<>") if not next(iter(events.values())).startswith("<")
                                             else m.message_id for m in smtp.mails), "one row, one mail, one Message-ID"


def test_transient_failure_is_retried(by_smtp, smtp):
    api = by_smtp.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.fail("ada@example.com", TRANSIENT, times=3)
    api.signup(campaign, "ada@example.com")
    api.signup(campaign, "bob@example.com")  # another key does not wait
    smtp.wait("bob@example.com")
    smtp.wait("ada@example.com")
    wait_statuses(by_smtp, {"sent": 2})
    assert dead_letters(by_smtp) == []
    assert by_smtp.services[0].metric("tidings_handler_errors_total", group="email-workers") >= 3


def test_permanent_failure_is_a_dead_letter(by_smtp, smtp):
    api = by_smtp.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.fail("ada@example.com", PERMANENT)
    api.signup(campaign, "ada@example.com")
    api.signup(campaign, "bob@example.com")
    smtp.wait("bob@example.com")
    wait_statuses(by_smtp, {"sent": 1, "failed": 1})
    [(group, _, _, event_id, kind, reason, _)] = dead_letters(by_smtp)
    assert (group, kind) == ("email-workers", "user.signed_up")
    assert "550" in reason or "no such mailbox" in reason
    assert by_smtp.value("select event_id::text from mails where status = 'failed'") == event_id
    assert smtp.to("ada@example.com") == []


def test_attempts_are_spent(make_env, smtp):
    env = make_env(settings={**smtp_settings, "SMTP_URL": smtp.url, "RETRY_MAX_ATTEMPTS": 3})
    env.start()
    api = env.api()
    smtp.fail("ada@example.com", TRANSIENT)
    api.signup(api.create_campaign()["campaign_id"], "ada@example.com")
    wait_until(lambda: len(dead_letters(env)) == 1, 20, "a dead letter")
    assert dead_letters(env)[0][6] == 3
    wait_statuses(env, {"failed": 1})


def test_server_away_is_waited_for(make_env, smtp):
    """A mail server that is down costs no attempts: everything goes out when it is back."""
    env = make_env(settings={**smtp_settings, "SMTP_URL": smtp.url, "RETRY_MAX_ATTEMPTS": 2})
    smtp.down()
    env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    for i in range(5):
        api.signup(campaign, f"u{i}@example.com")
    time.sleep(1)
    assert dead_letters(env) == []
    smtp.up()
    for i in range(5):
        smtp.wait(f"u{i}@example.com", seconds=30)
    wait_statuses(env, {"sent": 5})


def test_server_hangs(by_smtp, smtp):
    """A server that stalls in the middle of a dialogue holds up neither the other mails nor the service."""
    api = by_smtp.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.hang("ada@example.com", times=1)
    api.signup(campaign, "ada@example.com")
    for i in range(20):
        api.signup(campaign, f"u{i}@example.com")
    for i in range(20):
        smtp.wait(f"u{i}@example.com", seconds=20)
    smtp.wait("ada@example.com", seconds=30)
    wait_statuses(by_smtp, {"sent": 21})


def test_unknown_delivery_keeps_its_message_id(by_smtp, smtp):
    """The server takes the mail and the connection breaks before it says so: the mail goes out again, under the same id."""
    api = by_smtp.api()
    smtp.drop("ada@example.com", times=1)
    api.signup(api.create_campaign()["campaign_id"], "ada@example.com")
    first, second = smtp.wait("ada@example.com", 2, 30)[:2]
    assert first.message_id == second.message_id
    wait_statuses(by_smtp, {"sent": 1})


def test_kill_9_between_mail_and_record(by_smtp, smtp):
    """Killed while mails are under way: each is sent, its row knows it, a repeat has the same Message-ID."""
    api = by_smtp.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.hang("u3@example.com")
    for i in range(10):
        api.signup(campaign, f"u{i}@example.com")
    wait_until(lambda: statuses(by_smtp).get("sending", 0) >= 1, 10, "a mail is under way")
    by_smtp.services[0].kill9()
    smtp.heal()
    by_smtp.services[0].start()
    wait_statuses(by_smtp, {"sent": 10}, 60)  # the group waits for the dead member's session
    for i in range(10):
        assert len({m.message_id for m in smtp.wait(f"u{i}@example.com")}) == 1


def test_old_events_are_not_mailed(env):
    env.start()
    campaign = env.api().create_campaign()["campaign_id"]
    value = {
        "id": str(uuid.uuid4()), "type": "user.signed_up", "account_id": env.account_id, "campaign_id": campaign,
        "data": {"user_id": str(uuid.uuid4()), "campaign_id": campaign, "email": "old@example.com"},
        "timestamp": "2020-01-01T12:00:00Z", "version": 1,
    }
    env.produce(json.dumps(value).encode(), campaign.encode())
    wait_until(lambda: statuses(env).get("expired") == 1 or dead_letters(env), 15, lambda: f"expired: {statuses(env)}")
    assert env.mails("old@example.com") == []


@pytest.mark.skipif(clock_can_be_set() is not None, reason=str(clock_can_be_set()))
def test_a_host_whose_clock_is_days_ahead(make_env, smtp):
    """Postgres' clock, which the events' times are of, says what is old: mails are sent, events counted, what is remembered
    stays, what another host holds is tried on, and who gets a webhook takes it."""
    target = WebhookTarget()
    env = make_env(settings={**smtp_settings, "SMTP_URL": smtp.url, "RETRY_QUICK_ATTEMPTS": 1, "RETRY_MAX_ATTEMPTS": 1000,
                             "WEBHOOK_ALLOW_PRIVATE": "on"})
    env.settings["STATS_TOPIC"] = f"{env.name}-stats"
    held = "select state from dead_letters"
    try:
        service = env.start(GROUPS_ENABLED="email-workers")
        api = env.api()
        campaign = api.create_campaign()["campaign_id"]
        smtp.fail("held@example.com", TRANSIENT)
        api.signup(campaign, "held@example.com")
        wait_until(lambda: env.query(held) == [("retry",)], 20, "one is held")
        service.restart(GROUPS_ENABLED="none")
        hook = api.request("POST", "/v1/webhooks", json={"url": target.url("/hook")}).expect(201)
        for i in range(5):
            api.signup(campaign, f"u{i}@example.com")
        wait_until(lambda: len(env.records()) == 7, 20, "all is in Kafka")
        service.stop()
        execute(env, "insert into handled select 'x', gen_random_uuid(), now() - i * interval '1 day' from unnest('{13,15}'::int[]) i")
        attempts = env.value("select attempts from dead_letters")
        ahead = env.start(**clock_ahead(env.directory, 30 * 86400))
        day = time.strftime("time=%Y-%m-%d", time.gmtime(time.time() + 30 * 86400 - 3600))
        assert max(line[:15] for line in ahead.log_text().splitlines() if line.startswith("time=")) >= day, "its clock is ahead"
        for i in range(5):
            smtp.wait(f"u{i}@example.com", seconds=40)
        wait_until(lambda: env.value("select max(attempts) from dead_letters") > attempts, 40, "it has been tried again")
        smtp.heal()
        wait_statuses(env, {"sent": 6}, 40)
        wait_until(lambda: counted(env) == kept(env), 40, lambda: f"all is counted: {counted(env)}, {kept(env)}")
        wait_until(lambda: len(target.requests) >= 5, 40, "webhooks are called")
        for request in target.requests:
            request.verify(hook["secret"])  # its timestamp, too
        wait_until(lambda: env.value("select count(*) from handled where grp = 'x'") == 1, 60, "what is old is forgotten")
        assert env.value("select count(*) from handled where grp = 'analytics-workers'") == 7
        assert dead_letters(env) == [] and ahead.metric("tidings_handled_total", outcome="dead") == 0
    finally:
        target.close()


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_mails_recorded_in_runs(env):
    """One statement for many mails, with some among them that were there already, that are about nobody, that Postgres
    refuses; and the process is killed in the middle of it."""
    service = env.start(GROUPS_ENABLED="none")
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    for i in range(60):
        api.signup(campaign, f"u{i}@example.com")
    wait_until(lambda: len(env.records()) >= 61, 15, "all is in Kafka")
    for record in env.records()[11:21]:
        env.produce(record.value, record.key, partition=record.partition)
    nobody = produce_event(env, "user.signed_up", campaign, {"user_id": str(uuid.uuid4()), "email": "x@example.com"})
    waiting = ("select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
               " and application_name = 'tidings worker'")
    with env.db() as other:  # its row holds the run up between the first of its rows and the last
        other.execute("begin")
        other.execute("insert into mails (event_id, kind, recipient, message_id, status)"
                      " select id, 'x', 'x', 'x', 'discarded' from events where type = 1 order by seq offset 30 limit 1")
        service.restart(GROUPS_ENABLED="all")
        wait_until(lambda: env.value(waiting) == 1, 20, "a run is under way")
        service.kill9()
        other.execute("rollback")
    wait_until(lambda: env.value(waiting) == 0, 20, "its session has ended")
    assert statuses(env) == {}, "a run is all or nothing"
    execute(env, "alter table mails add constraint not_seven check (recipient <> 'u7@example.com')")
    service.start()
    wait_until(lambda: len(dead_letters(env)) == 2, 40, lambda: f"{dead_letters(env)}")  # the dead member's session ends first
    wait_until(lambda: service.metric("tidings_group_lag_records", group="email-workers") == 0, 20, "all is handled")
    seven = env.value("select e.id::text from events e where e.data like '%%\"u7@example.com\"%%'")
    reasons = {row[3]: row[5] for row in dead_letters(env)}
    assert "not_seven" in reasons[seven] and "no such user" in reasons[nobody]
    mails = env.query("select recipient from mails where kind = 'user.signed_up' order by 1")
    assert mails == sorted((f"u{i}@example.com",) for i in range(60) if i != 7)
    assert env.value("select count(*) from mails m join events e on e.id = m.event_id"
                     " where m.message_id = m.event_id || '.email@127.0.0.1' and m.status = 'discarded'") == statuses(env)["discarded"]
    done, skipped = (service.metric("tidings_handled_total", group="email-workers", outcome=o) for o in ("done", "skipped"))
    assert (done, skipped) == (statuses(env)["discarded"], 10)
    runs = service.metric("tidings_handler_run_records_count", group="email-workers")
    assert runs <= 12, f"72 records took {runs} runs"


def test_templates_of_ones_own(make_env, directory):
    templates = directory / "templates"
    templates.mkdir()
    (templates / "user.signed_up.txt").write_text("Subject: Hi {{email}}\n\nOwn text {{verify_link}}\n")
    env = make_env(settings={"TEMPLATES_DIR": templates})
    env.start()
    api = env.api()
    api.signup(api.create_campaign()["campaign_id"], "ada@example.com")
    mail = env.wait_mail("ada@example.com")[0]
    assert mail.subject == "Hi ada@example.com" and "Own text http" in mail.text


@pytest.mark.settings(MAIL_MAX_AGE_SECONDS=31536000)
def test_verification_mail_on_request(env, service, api):
    """The link that a user asks for again is a fresh one."""
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")["user_id"]
    first = env.wait_mail("ada@example.com")[0]
    time.sleep(1)  # a token's life is counted in seconds
    event = produce_event(env, "user.verification_requested", campaign, {"user_id": ada, "email": "ada@example.com"})
    again = env.wait_mail("ada@example.com", subject="please confirm", count=2)
    [second] = [m for m in again if m.message_id != first.message_id]
    assert event in second.message_id and second.token and second.token != first.token
    assert api.verify(campaign, ada, second.token)["verified"] is True


def test_events_of_a_deleted_campaign_have_no_effect(env):
    service = env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")["user_id"]
    env.wait_mail("ada@example.com")
    execute(env, "update campaigns set closed_at = now(), deleted_at = now()")
    user = {"user_id": ada, "email": "ada@example.com"}
    produce_event(env, "user.signed_up", campaign, user)
    produce_event(env, "user.verification_requested", campaign, user)
    produce_event(env, "referral.verified", campaign, {"referral_id": str(uuid.uuid4()), "referrer_id": ada,
                                                       "referred_id": str(uuid.uuid4()), "points_per_referral": 1})
    produce_event(env, "campaign.updated", campaign, {"name": "x", "points_per_referral": 2})
    wait_until(lambda: service.metric("tidings_messages_total", group="position-workers") >= 6, 15, "all is taken")
    wait_until(lambda: service.metric("tidings_group_lag_records") == 0, 15, "all is handled")
    assert dead_letters(env) == []
    assert len(env.mails("ada@example.com")) == 1 and env.query("select * from leaderboard") == []
    # One that never was is a mistake.
    produce_event(env, "campaign.updated", str(uuid.uuid4()), {"name": "x", "points_per_referral": 2})
    produce_event(env, "user.signed_up", str(uuid.uuid4()), user)
    wait_until(lambda: len(dead_letters(env)) == 2, 15, lambda: f"two dead letters: {dead_letters(env)}")
    assert all("does not exist" in d[5] for d in dead_letters(env))


def test_a_mail_that_goes_missing_has_failed(by_smtp, smtp):
    """Given up before it is tried again: its row does not look as if it were under way for ever."""
    api = by_smtp.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.fail("ada@example.com", TRANSIENT)
    api.signup(campaign, "ada@example.com")
    wait_until(lambda: by_smtp.query("select 1 from mails where attempts > 0"), 15, "an attempt")
    execute(by_smtp, "delete from users")
    wait_statuses(by_smtp, {"failed": 1})
    assert "no such user" in dead_letters(by_smtp)[0][5]
    assert "no such user" in by_smtp.value("select error from mails")


# --- position ---


def positions(env):
    return env.query("select place, verified, position from leaderboard order by position, place")


def test_change_of_points_rebuilds_the_leaderboard(env):
    service = env.start(MAIL_TRANSPORT="discard")
    api = env.api()
    campaign, other = (api.create_campaign(points_per_referral=1)["campaign_id"] for _ in range(2))
    for c in (campaign, other):
        users = [api.signup(c, f"r{i}@example.com") for i in range(8)]
        for i, times in ((4, 1), (5, 1), (7, 3)):
            for n in range(times):
                friend = api.signup(c, f"f{i}-{n}@example.com", referral_code=users[i]["referral_code"])
                api.verify(c, friend["user_id"], env.make_token(c, friend["user_id"]))
    before = [(5, 1, 4), (6, 1, 5), (8, 3, 5)]
    wait_until(lambda: len(positions(env)) == 6 and env.value("select sum(verified)::int from leaderboard") == 10, 15,
               lambda: f"{positions(env)}")
    of_campaign = ("select l.place, verified, position from leaderboard l join campaigns c on c.no = l.campaign "
                   "where c.id = %s order by position, place")
    assert env.query(of_campaign, campaign) == before
    execute(env, "update campaigns set points_per_referral = 2 where id = %s", campaign)
    produce_event(env, "campaign.updated", campaign, {"name": "Launch", "points_per_referral": 2})
    after = [(8, 3, 2), (5, 1, 3), (6, 1, 4)]
    wait_until(lambda: env.query(of_campaign, campaign) == after, 15, lambda: f"{env.query(of_campaign, campaign)}")
    assert env.query(of_campaign, other) == before
    # Nothing changes: nothing is written, whatever the event says.
    rows = "select xmin::text, * from leaderboard order by campaign, place"
    written = env.query(rows)
    produce_event(env, "campaign.updated", campaign, {"name": "Another", "points_per_referral": 7}, version=1001)
    wait_until(lambda: service.metric("tidings_handled_total", group="position-workers", outcome="done") == 12, 15, "handled")
    assert env.query(rows) == written
    assert dead_letters(env) == []


def test_rebuild_of_a_large_campaign(env):
    """Page by page: 45,000 rows, with places that are far apart."""
    service = env.start(MAIL_TRANSPORT="discard")
    api = env.api()
    campaign = api.create_campaign(points_per_referral=1)["campaign_id"]
    execute(env, "insert into verified_referrals select 1, p * 3, 1, p * 3 + 1, now() from generate_series(1, 45000) p")
    execute(env, "insert into leaderboard select 1, p * 3, 1, p * 3 - 1, 5 from generate_series(1, 45000) p")
    execute(env, "update campaigns set points_per_referral = 10")
    produce_event(env, "campaign.updated", campaign, {"name": "Launch", "points_per_referral": 10})
    wait_until(lambda: service.metric("tidings_handled_total", group="position-workers", outcome="done") == 1, 60, "handled")
    wrong = "select count(*) from leaderboard where position <> greatest(1, place - 10) or version <> 1000"
    assert env.value(wrong) == 0
    assert env.value("select count(*) from leaderboard") == 45000


def test_burst_of_one_campaign_is_few_updates(env):
    service = env.start(GROUPS_ENABLED="email-workers", MAIL_TRANSPORT="discard")
    api = env.api()
    campaign = api.create_campaign(points_per_referral=3)["campaign_id"]
    users = [api.signup(campaign, f"r{i}@example.com") for i in range(10)]
    for i in range(60):
        friend = api.signup(campaign, f"f{i}@example.com", referral_code=users[i % 10]["referral_code"])
        api.verify(campaign, friend["user_id"], env.make_token(campaign, friend["user_id"]))
    service.restart(GROUPS_ENABLED="all")
    wait_until(lambda: env.query("select sum(verified)::int from leaderboard") == [(60,)], 20, "the leaderboard is complete")
    rows = env.query("select place, verified, position from leaderboard order by position, place")
    assert rows == [(p, 6, 1) for p in range(1, 11)]
    assert env.value("select count(*) from handled where grp = 'position-workers'") == 60
    runs = service.metric("tidings_handler_run_records_count", group="position-workers")
    assert runs <= 30, f"60 records of one campaign took {runs} runs"
    for user in users:
        assert api.get_user(campaign, user["user_id"])["position"] == 1


# --- records that are none ---


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_malformed_records_become_dead_letters(env, service, api):
    campaign = api.create_campaign()["campaign_id"]
    good = {"id": str(uuid.uuid4()), "type": "user.signed_up", "account_id": env.account_id, "campaign_id": campaign,
            "data": {"user_id": str(uuid.uuid4()), "campaign_id": campaign, "email": "x@example.com"},
            "timestamp": "2025-01-01T12:00:00Z", "version": 1}
    bad = [
        b"", b"nonsense", b"\xff\xfe", b"[1,2]", b"{}", b"null", b'{"id":1}', b"[" * 10000, b"x" * 200000,
        json.dumps({**good, "id": "x"}).encode(),
        json.dumps({**good, "version": 0}).encode(),
        json.dumps({**good, "timestamp": "yesterday"}).encode(),
        json.dumps({**good, "data": {**good["data"], "user_id": 7}}).encode(),
        json.dumps({k: v for k, v in good.items() if k != "campaign_id"}).encode(),
    ]
    offsets = {env.produce(value, b"k", partition=3) for value in bad} | {env.produce(None, b"k", partition=3)}
    unknown = env.produce(json.dumps({**good, "type": "user.renamed"}).encode(), b"k", partition=3)
    user = api.signup(campaign, "after@example.com")  # and on it goes
    wait_until(lambda: env.value("select count(*) from mails where recipient = 'after@example.com'") == 1, 15, "a mail")
    assert user["events"] == 1
    groups = ("email-workers", "position-workers", "reward-workers", "webhook-workers")
    for group in groups:
        wait_until(lambda: {d[2] for d in dead_letters(env) if d[0] == group} == offsets, 15,
                   lambda: f"{group}: {dead_letters(env)}")
    assert all(d[5] for d in dead_letters(env)), "each says why"
    assert unknown not in {d[2] for d in dead_letters(env)}, "an unknown type is a newer host's, not a dead letter"
    service.restart()
    api.signup(campaign, "later@example.com")
    wait_until(lambda: env.value("select count(*) from mails where recipient = 'later@example.com'") == 1, 15, "a mail")
    assert len(dead_letters(env)) == len(groups) * len(offsets), "a restart adds nothing"


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_repeats_have_one_effect(env, service, api):
    """The same events again (as after a relay's crash): no second mail, no second count."""
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, "ada@example.com")
    bob = api.signup(campaign, "bob@example.com", referral_code=ada["referral_code"])
    api.verify(campaign, bob["user_id"], env.make_token(campaign, bob["user_id"]))
    wait_until(lambda: env.query("select verified from leaderboard") == [(1,)], 15, "the leaderboard")
    wait_until(lambda: statuses(env) == {"discarded": 4}, 15, lambda: f"4 mails: {statuses(env)}")
    for record in env.records():
        env.produce(record.value, record.key, partition=record.partition)
    before = service.metric("tidings_messages_total")
    wait_until(lambda: service.metric("tidings_group_lag_records") == 0 and service.metric("tidings_messages_total") >= before,
               15, "the repeats are taken")
    time.sleep(0.5)
    assert statuses(env) == {"discarded": 4}
    assert env.query("select verified from leaderboard") == [(1,)]
    assert env.value("select count(*) from handled where grp = 'position-workers'") == 1
    assert dead_letters(env) == []


@pytest.mark.settings(MAIL_TRANSPORT="discard", KAFKA_WORKER_POOL_SIZE=3, GROUP_WINDOW=16)
def test_small_window_and_pool(env, service, api):
    """Back-pressure loses nothing: more records than the window holds."""
    campaign = api.create_campaign()["campaign_id"]
    for i in range(150):
        api.signup(campaign, f"u{i}@example.com")
    wait_until(lambda: statuses(env) == {"discarded": 151}, 30, lambda: f"{statuses(env)}")  # and a milestone
