"""`tidings verify` counts what the tests' own checker counts, beside a busy service too, and sees what is wrong with what the
groups have left behind. Faults of the topic and the events table: test_verify_faults.py."""

import collections
import json
import os
import subprocess
import threading
import uuid

import pytest
from confluent_kafka import TopicPartition

from lib.kafka import hash_class
from lib.load import Load, campaigns_of
from lib.service import BINARY, base_env
from lib.util import SLOWNESS, wait_until
from lib.verify import Copy, execute, faults_of, make_history, run_verify, silent_history, verify_ok, verify_user  # noqa: F401

EMAIL = (1, 2, 4, 5, 6, 11, 13)  # numbers of the types that cause a mail


@pytest.fixture
def history(env, service, api):
    """A small history that all groups have finished. The service has stopped."""
    campaigns = make_history(env, api)
    verify_ok(env, "--wait", "60")
    wait_until(lambda: env.value("select bool_and(state = 'confirmed') from sagas"), 20, "rewards are confirmed")
    service.stop()
    return campaigns


# --- nothing is wrong ---


def test_counts_are_those_of_the_tables_and_the_topic(env, history):
    report = verify_ok(env)
    records = env.records()
    assert report["events"]["committed"] == report["events"]["in_kafka"] == env.value("select count(*) from events")
    assert report["records"]["read"] == len(records)
    assert report["records"]["repeats"] == len(records) - len({(r.key, r.value) for r in records})
    types = collections.Counter(t for t, in env.query("select type from events"))
    groups = report["groups"]
    assert all(g["lag"] == g["dead"] == g["excused"] == 0 and g["found"] == g["expected"] and g["judged"]
               for g in groups.values()), groups
    assert groups["email-workers"]["expected"] == sum(types[t] for t in EMAIL) == env.value("select count(*) from mails")
    assert groups["reward-workers"]["expected"] == types[5] == env.value("select count(*) from deliveries") > 0
    assert groups["position-workers"]["expected"] == types[4] + types[8] == env.value(
        "select count(*) from handled where grp = 'position-workers'") > 0


def test_what_people_read(env, history):
    done = env.tidings("verify")
    assert done.returncode == 0 and "All is right" in done.stdout and "email-workers" in done.stdout, done.stdout
    assert f"{env.value('select count(*) from events'):,}  committed" in done.stdout
    execute(env, "delete from mails where ctid = (select min(ctid) from mails)")
    done = env.tidings("verify")
    assert done.returncode == 1 and "Something is wrong" in done.stdout and "← wrong" in done.stdout, done.stdout


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_beside_a_busy_service(env, service, api):
    """Looked at again and again under load: nothing that is under way is taken for a fault."""
    second = env.start()
    campaigns = campaigns_of(api)
    ada = {c: api.signup(c, "ada@example.com") for c in campaigns}
    stop = threading.Event()

    def refer(number=0):
        while not stop.is_set():
            number += 1
            campaign = campaigns[number % len(campaigns)]
            user = api.signup(campaign, f"r{number}@example.com", referral_code=ada[campaign]["referral_code"])
            verify_user(env, api, campaign, user)

    thread = threading.Thread(target=refer)
    with Load(api, campaigns, 4) as one, Load(env.api(second), campaigns[::-1], 4) as two:
        thread.start()
        try:
            reports = []
            for _ in range(5):
                one.wait_acknowledged(30, 40)
                two.wait_acknowledged(30, 40)
                reports.append(verify_ok(env))
        finally:
            stop.set()
            thread.join()
    committed = [r["events"]["committed"] for r in reports]
    assert committed == sorted(set(committed)), committed
    last = verify_ok(env, "--wait", "60")
    assert last["events"]["waiting"] == 0 and all(g["lag"] == 0 for g in last["groups"].values())
    assert last["events"]["in_kafka"] == env.value("select count(*) from events")


@pytest.mark.settings(GROUPS_ENABLED="none")
def test_repeats_are_no_fault(env, service, silent_history):
    events = env.value("select count(*) from events")
    env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    service.start()
    report = verify_ok(env, "--no-groups", "--wait", "60")
    assert report["events"]["in_kafka"] == events and report["records"]["repeats"] == events


@pytest.mark.settings(UPKEEP_INTERVAL_MS=100, PURGE_DELAY_SECONDS=0)
def test_what_was_purged_is_no_fault(env, service, api):
    kept, gone = make_history(env, api, 2)
    verify_ok(env, "--wait", "60")
    api.close_campaign(gone)
    api.delete_campaign(gone)
    wait_until(lambda: env.value("select bool_or(purged_at is not null) from campaigns"), 30, "the campaign is purged")
    api.signup(kept, "later@example.com")
    purged = env.value("select sum(events)::int from purges")
    report = verify_ok(env, "--wait", "60")
    assert report["records"]["purged"] == purged > 20
    # What is not covered by the purge is found, although the shard has gaps.
    service.stop()
    shard = env.value("select shard from purges")
    campaign = env.value("select no from campaigns where id = %s", gone)
    assert execute(env, "update purges set events = events - 1 where campaign = %s", campaign) == 1
    assert faults_of(run_verify(env)) == {"seq_holes": 1}
    execute(env, "update purges set events = events + 1, last_seq = first_seq where campaign = %s", campaign)
    assert env.value("select count(*) from purges where shard = %s", shard) == 1
    verify_ok(env)
    # As it was, for the tests' checker.
    execute(env, "update purges set last_seq = (select seq - 1 from events where aggregate = %s) where campaign = %s",
            campaign, campaign)


def test_what_kafka_has_deleted_is_no_fault(env, history):
    """Retention: the log begins later; what was before is no longer in Kafka, and not missing."""
    high = collections.Counter(r.partition for r in env.records())
    partition = next(p for p, n in high.most_common())
    request = TopicPartition(env.topic, partition, 7)
    env.kafka.admin.delete_records([request])[request].result(30)
    report = verify_ok(env)
    assert report["events"]["expired"] == 7
    # A hole behind that is seen all the same.
    request = TopicPartition(env.topic, partition, high[partition])
    env.kafka.admin.delete_records([request])[request].result(30)
    report = verify_ok(env)
    assert report["events"]["expired"] == high[partition]
    env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")  # for the checker: the events are sent again


@pytest.mark.settings(GROUPS_ENABLED="none")
def test_one_campaign_and_since(env, silent_history):
    whole = verify_ok(env, "--no-groups")
    campaign = silent_history[1]
    mine = env.value("select count(*) from events e join campaigns c on c.no = e.aggregate where c.id = %s", campaign)
    report = verify_ok(env, "--no-groups", "--campaign", campaign.upper())
    assert report["events"]["in_kafka"] == report["events"]["committed"] == mine < whole["events"]["committed"]
    since, later = env.query("select at, (select count(*) from events x where x.at >= e.at) from events e order by at, seq"
                             " offset 20 limit 1")[0]
    text = since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    report = verify_ok(env, "--no-groups", "--since", text)
    assert report["events"]["in_kafka"] == report["events"]["committed"] == later < whole["events"]["committed"]
    assert run_verify(env, "--no-groups", "--since", "2999-01-01T00:00:00Z")["events"]["committed"] == 0


@pytest.mark.partitions(20)
@pytest.mark.settings(GROUPS_ENABLED="none")
def test_more_partitions_than_shards(env, silent_history):
    assert verify_ok(env, "--no-groups")["partitions"] == 20
    assert verify_ok(env, "--no-groups", "--campaign", silent_history[0])["events"]["in_kafka"] > 20


@pytest.mark.settings(GROUPS_ENABLED="none")
def test_after_the_topic_has_grown(env, silent_history):
    """What was sent before is in partitions by the former number, what came later by the new one."""
    copy = Copy(env, 30)
    for i, (partition, key, value) in enumerate(copy.records):
        if json.loads(value)["version"] > 9:
            copy.records[i] = (hash_class(key.decode(), 30), key, value)
    execute(env, "update installation set partitions = 30")
    assert copy.faults() == {}
    assert copy.faults("--campaign", silent_history[0]) == {}
    execute(env, "update installation set partitions = 10")


# --- faults of the groups ---


@pytest.mark.parametrize("sql, faults", [
    ("delete from mails where event_id = (select event_id from mails order by event_id limit 1)", {"email-workers missing": 1}),
    ("delete from mails", {"email-workers missing": None}),
    ("update mails set status = 'sending' where event_id in (select event_id from mails limit 2)", {"email-workers missing": 2}),
    ("insert into mails select gen_random_uuid(), campaign, kind, recipient, 'x', status from mails limit 1",
     {"email-workers doubled": 1}),
    ("insert into mails select (left(event_id::text, 24) || 'abcdefabcde' || row_number() over ())::uuid, campaign, kind, recipient,"
     " 'x', status from mails limit 3", {"email-workers doubled": 3}),
    ("delete from deliveries where event_id = (select event_id from deliveries limit 1)", {"reward-workers missing": 1}),
    ("update deliveries set status = 'sending'", {"reward-workers missing": None, "reward-workers doubled": None}),
    ("insert into deliveries select gen_random_uuid(), event_id, campaign, reward, place, kind, target, status from deliveries"
     " limit 1", {"reward-workers doubled": 1}),
    ("update sagas set state = 'released', end_event_id = null where user_reward_id = (select user_reward_id from sagas limit 1)",
     {"reward-workers doubled": 2}),  # the row, and the event that says otherwise
    ("update sagas set end_event_id = gen_random_uuid()", {"reward-workers doubled": None}),
    ("insert into reward_releases select campaign, reward, n, n, place, now() from sagas", {"reward-workers doubled": None}),
    ("delete from handled where grp = 'position-workers' and event_id = (select event_id from handled where grp = 'position-workers'"
     " limit 1)", {"position-workers missing": 1}),
    ("delete from leaderboard where campaign = 1", {"position-workers doubled": 1}),
    ("update leaderboard set position = position + 1 where campaign = 1", {"position-workers doubled": 1}),
    ("update leaderboard set verified = verified - 1", {"position-workers doubled": 3}),
    ("insert into leaderboard select campaign, 7, 1, 1, 1 from leaderboard", {"position-workers doubled": 3}),
])
def test_effects(env, history, sql, faults):
    count = execute(env, sql)
    assert count > 0
    report = run_verify(env)
    found = faults_of(report)
    assert found == {name: wanted or count for name, wanted in faults.items()}, report
    assert faults_of(run_verify(env, "--no-groups")) == {}


def test_dead_letters_are_no_fault(env, history):
    """What was given up is shown apart: people know of it."""
    event, = env.query("select m.event_id, r.partition, r.off from mails m, lateral (select 0 as partition, 0 as off) r limit 1")
    record = next(r for r in env.records() if json.loads(r.value)["id"] == str(event[0]))
    execute(env, "delete from mails where event_id = %s", event[0])
    assert faults_of(run_verify(env)) == {"email-workers missing": 1}
    execute(env, "insert into dead_letters (grp, state, topic, partition, \"offset\", event_id, type, reason, attempts)"
            " values ('email-workers', 'dead', %s, %s, %s, %s, 'user.signed_up', 'for a test', 1)",
            env.topic, record.partition, record.offset, event[0])
    assert verify_ok(env)["groups"]["email-workers"]["dead"] == 1
    execute(env, "update dead_letters set event_id = gen_random_uuid()")  # of an old topic: another event was there
    assert faults_of(run_verify(env)) == {"email-workers missing": 1}
    execute(env, "update dead_letters set event_id = null, value = %s", record.value)  # the group could not read it
    assert verify_ok(env)["groups"]["email-workers"]["dead"] == 1
    execute(env, "update dead_letters set event_id = %s", event[0])
    execute(env, "update dead_letters set \"offset\" = 100000")  # of a repeat: known by the event's id
    assert verify_ok(env)["groups"]["email-workers"]["dead"] == 1
    execute(env, "delete from dead_letters")
    execute(env, "update mails set status = 'failed' where event_id = (select event_id from mails limit 1)")
    assert faults_of(run_verify(env)) == {"email-workers missing": 1}
    assert run_verify(env)["groups"]["email-workers"]["dead"] == 1


@pytest.mark.settings(GROUPS_ENABLED="email-workers", MAIL_TRANSPORT="discard")
def test_a_group_that_lags_is_no_fault(env, service, api):
    """Groups that are not there have not finished anything, so nothing is expected of them."""
    make_history(env, api)
    report = verify_ok(env, "--wait", "3")
    assert report["groups"]["email-workers"]["lag"] == 0 < report["groups"]["email-workers"]["expected"]
    position = report["groups"]["position-workers"]
    assert position["lag"] == report["records"]["read"] and position["expected"] == 0 and not position["judged"]


# --- when it cannot look ---


def test_usage(env):
    for args in (["x"], ["--campaign"], ["--campaign", "x"], ["--since", "yesterday"], ["--wait"], ["--wait", "-1"],
                 ["--wait", "soon"], ["--json", "x"]):
        done = env.tidings("verify", *args)
        assert done.returncode == 2 and "Usage: tidings verify" in done.stderr and not done.stdout, args
    done = env.tidings("verify", "--help")
    assert done.returncode == 0 and "Usage: tidings verify" in done.stdout


def test_what_is_not_there_is_said(env):
    """Each with a sentence, and a status of its own."""
    cases = [
        (["--campaign", str(uuid.uuid4())], {}, "there is no campaign"),
        ([], {"DATABASE_URL": "postgresql://127.0.0.1:1/x"}, "cannot reach the database"),
        ([], {"KAFKA_TOPIC": f"{env.topic}-nowhere"}, f"{env.topic}-nowhere"),
        ([], {"KAFKA_BROKERS": "127.0.0.1:1"}, "KAFKA_BROKERS"),
    ]
    for args, settings, words in cases:
        done = env.tidings("verify", *args, timeout=60, **settings)
        assert done.returncode == 3 and words in done.stderr and not done.stdout, (settings, done)
        assert done.stderr.startswith("tidings: ") and done.stderr.count("\n") == 1, done.stderr


def test_a_broker_that_hangs(make_env, own_kafka):
    """It says so within its deadlines, and judges when the broker is back."""
    env = make_env(kafka=own_kafka, settings={"GROUPS_ENABLED": "none", "MAIL_TRANSPORT": "discard"})
    service = env.start()
    make_history(env, env.api(), 2, 4)
    verify_ok(env, "--no-groups", "--wait", "60")
    own_kafka.pause()
    done = env.tidings("verify", "--no-groups", timeout=60)
    assert done.returncode == 3 and "KAFKA_BROKERS" in done.stderr and not done.stdout, done
    own_kafka.resume()
    verify_ok(env, "--no-groups", "--wait", "60")
    assert service.running()


def test_over_tls_with_a_login(make_env, own_tls_kafka):
    """With the rights that a service needs, and not with a wrong password."""
    env = make_env(kafka=own_tls_kafka, settings=own_tls_kafka.settings("sasl_ssl"))
    make_history(env, env.api(env.start()), 1, 4)
    verify_ok(env, "--wait", "60")
    done = env.tidings("verify", timeout=60, KAFKA_SASL_PASSWORD="wrong")
    assert done.returncode == 3 and "authentication failed" in done.stderr and not done.stdout, done
    done = env.tidings("verify", KAFKA_SASL_PASSWORD=None)
    assert done.returncode == 2 and "KAFKA_SASL_PASSWORD" in done.stderr


@pytest.mark.settings(GROUPS_ENABLED="none")
def test_progress_on_a_terminal_and_without(env, silent_history):
    """Nothing but the report on standard output; a bar only where somebody watches."""
    done = env.tidings("verify", "--no-groups", "--json")
    assert done.stderr == "" and json.loads(done.stdout)
    leader, follower = os.openpty()
    settings = {**base_env(env.directory), **env.settings}
    process = subprocess.Popen([BINARY, "verify", "--no-groups", "--json"], env=settings, cwd=env.directory, stderr=follower,
                               stdout=subprocess.PIPE)
    os.close(follower)
    out, _ = process.communicate(timeout=60 * SLOWNESS)
    assert process.returncode == 0 and json.loads(out)["ok"]
    os.close(leader)
