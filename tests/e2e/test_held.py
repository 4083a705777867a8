"""Records that cannot be finished yet: held in Postgres across restarts and processes, in the order of their key; given up,
looked at, retried and discarded by operators."""

import json
import time

import pytest
from confluent_kafka import Consumer, TopicPartition

from lib.kafka import TopicReader
from lib.smtp import PERMANENT, TRANSIENT
from lib.util import SLOWNESS, wait_until
from lib.webhook import WebhookTarget

settings = {"MAIL_TRANSPORT": "smtp", "GROUPS_ENABLED": "email-workers", "RETRY_QUICK_ATTEMPTS": 2, "RETRY_BASE_MS": 20,
            "RETRY_MAX_MS": 200, "RETRY_MAX_ATTEMPTS": 1000, "SMTP_TIMEOUT_MS": 2000 * SLOWNESS, "WEBHOOK_TIMEOUT_MS": 1000,
            "DB_STALL_MS": 2000 * SLOWNESS, "VERIFY_RESEND_SECONDS": 0, "VERIFY_RESEND_PER_DAY": 1000}
ADA = "ada@example.com"


@pytest.fixture
def make_held_env(make_env, smtp):
    return lambda **changes: make_env(settings={**settings, "SMTP_URL": smtp.url, **changes})


def execute(env, sql, *args):
    with env.db() as connection:
        connection.execute(sql, args)


def rows(env, group="email-workers"):
    """[(state, attempts)] of the group's rows, in order."""
    return env.query("select state, attempts from dead_letters where grp = %s order by id", group)


def states(env, group="email-workers"):
    return [state for state, _ in rows(env, group)]


def wait_states(env, wanted, seconds=20, group="email-workers"):
    wait_until(lambda: states(env, group) == wanted, seconds, lambda: f"rows are {wanted}; they are {rows(env, group)}")


def statuses(env):
    return dict(env.query("select status, count(*)::int from mails group by 1"))


def lag(env, group="email-workers"):
    """Records that the group has not committed yet, asked of Kafka."""
    consumer = Consumer({"bootstrap.servers": env.kafka.brokers, "group.id": f"{env.name}-{group}"})
    try:
        places = [TopicPartition(env.topic, p) for p in consumer.list_topics(env.topic, 10).topics[env.topic].partitions]
        total = 0
        for place in consumer.committed(places, 10):
            low, high = consumer.get_watermark_offsets(place, 10)
            total += high - max(place.offset, low)
        return total
    finally:
        consumer.close()


def wait_no_lag(env, group="email-workers"):
    wait_until(lambda: lag(env, group) == 0, 20, lambda: f"all is committed; the lag is {lag(env, group)}", 0.2)


def sent_to(smtp, recipient):
    """The events' ids of the mails, in the order in which they were sent."""
    return [m.message_id.strip("<>").split(".")[0] for m in smtp.to(recipient)]


def events_of(env, user):
    return [row[0] for row in env.query("select id::text from events where data like %s order by shard, seq", f"%{user}%")]


def wait_sent(env, smtp, recipient, events, seconds=20):
    wait_until(lambda: len(smtp.to(recipient)) >= len(events), seconds,
               lambda: f"{len(events)} mails; there are {len(smtp.to(recipient))}, rows: {rows(env)}")
    assert sent_to(smtp, recipient) == events


def hold_ada(env, smtp, later=2, api=None):
    """Ada's first mail is refused and held, `later` more wait behind it. (campaign, her id)."""
    api = api or env.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.fail(ADA, TRANSIENT)
    ada = api.signup(campaign, ADA)["user_id"]
    wait_states(env, ["retry"])
    for _ in range(later):
        api.resend_verification(campaign, ada)
    wait_states(env, ["retry"] + ["parked"] * later)
    return campaign, ada


# --- held ---


def test_held_across_kill_9(make_held_env, smtp):
    """The group goes on without it; after kill -9 it is sent in the end, once, and what came after it follows in order."""
    env = make_held_env()
    service = env.start()
    api = env.api()
    campaign, ada = hold_ada(env, smtp, 3)
    for i in range(5):  # of the same partition
        api.signup(campaign, f"u{i}@example.com")
    for i in range(5):
        smtp.wait(f"u{i}@example.com")
    wait_no_lag(env)
    assert service.metric("tidings_group_window_records") == 0
    assert service.metric("tidings_handled_total", group="email-workers", outcome="held") == 1
    assert service.metric("tidings_handled_total", group="email-workers", outcome="parked") == 3
    wait_until(lambda: rows(env)[0][1] >= 5, 20, "attempts are made from the row")
    service.kill9()
    service.start()
    before = rows(env)[0][1]
    wait_until(lambda: rows(env)[0][1] > before, 40, "attempts go on after the restart")
    assert smtp.to(ADA) == []
    smtp.heal()
    wait_sent(env, smtp, ADA, events_of(env, ada))
    wait_states(env, [])
    api.resend_verification(campaign, ada)  # and from now on as ever
    wait_sent(env, smtp, ADA, events_of(env, ada), 60)  # the group waits for the dead member's session
    assert states(env) == [] and statuses(env) == {"sent": 10}


def test_order_on_another_process(make_held_env, smtp):
    """The key's later records are another process's by the time they come."""
    env = make_held_env()
    first = env.start()
    campaign, ada = hold_ada(env, smtp, 1)
    second = env.start()
    first.stop()
    api = env.api(second)
    for _ in range(3):
        api.resend_verification(campaign, ada)
    wait_states(env, ["retry"] + ["parked"] * 4, 40)
    smtp.heal()
    wait_sent(env, smtp, ADA, events_of(env, ada))
    wait_states(env, [])
    assert statuses(env) == {"sent": 5}


def test_two_processes_share_the_work(make_held_env, smtp):
    env = make_held_env(RETRY_QUICK_ATTEMPTS=1)
    services = [env.start(), env.start()]
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.fail(None, TRANSIENT)
    for i in range(100):
        api.signup(campaign, f"u{i}@example.com")
    events = "select count(distinct event_id) from dead_letters"  # two hosts: a record may come twice
    wait_until(lambda: env.value(events) == 101, 40, lambda: f"all are held: {env.value(events)}")  # and a milestone
    wait_no_lag(env)
    counts = [s.metric("tidings_handled_total", group="email-workers", outcome="done") for s in services]
    execute(env, "update dead_letters set next_at = now() + interval '2 seconds' where leased_until is null")
    smtp.heal()
    wait_states(env, [], 60)
    for i in range(100):
        assert len(smtp.to(f"u{i}@example.com")) == 1
    shares = [s.metric("tidings_handled_total", group="email-workers", outcome="done") - n for s, n in zip(services, counts)]
    assert sum(shares) == 101 and min(shares) > 0, shares


def test_kill_9_while_it_is_tried(make_held_env, smtp):
    """The claim of a process that died ends, and another one goes on with it."""
    env = make_held_env()
    service = env.start()
    _, ada = hold_ada(env, smtp, 1)
    smtp.hang(ADA)
    wait_until(lambda: smtp._rules[ADA].hit and env.query("select 1 from dead_letters where leased_until > now()"),
               20, "a try hangs")
    service.kill9()
    other = env.start()
    smtp.heal()
    wait_sent(env, smtp, ADA, events_of(env, ada), 60)
    wait_states(env, [])
    assert other.metric("tidings_handled_total", group="email-workers", outcome="done") >= 2


def test_what_is_known_is_not_done_again(make_held_env, smtp):
    """The effect is there already (a process died, or another one was slow): the row goes."""
    env = make_held_env()
    env.start()
    hold_ada(env, smtp, 0)
    execute(env, "update mails set status = 'sent', sent_at = now()")
    wait_states(env, [])
    assert smtp.to(ADA) == []


def test_a_stall_at_one_held_mail_counts(make_held_env, smtp):
    """The server stalls whenever it gets that mail: it is the mail's attempts, not an outage, and others go through."""
    env = make_held_env(RETRY_MAX_ATTEMPTS=5, SMTP_TIMEOUT_MS=500 * SLOWNESS)
    env.start()
    api = env.api()
    campaign, _ = hold_ada(env, smtp, 0)
    smtp.hang(ADA)
    for i in range(300):
        if states(env) == ["dead"]:
            break
        api.signup(campaign, f"u{i}@example.com")
        smtp.wait(f"u{i}@example.com", seconds=20)
        time.sleep(0.1)
    assert rows(env) == [("dead", 5)]


def test_server_away_costs_held_mails_no_attempt(make_held_env, smtp):
    env = make_held_env(RETRY_MAX_ATTEMPTS=30)
    env.start()
    _, ada = hold_ada(env, smtp, 2)
    smtp.down()
    wait_until(lambda: env.query("select 1 from dead_letters where blocked_at is not null"), 20, "it was noticed")
    attempts = rows(env)[0][1]
    time.sleep(3)
    assert rows(env)[0][1] <= attempts + 1 and states(env) == ["retry", "parked", "parked"]
    smtp.heal()
    wait_sent(env, smtp, ADA, events_of(env, ada), 60)
    wait_states(env, [])


def test_postgres_away(make_env, own_postgres, smtp):
    env = make_env(settings={**settings, "SMTP_URL": smtp.url}, postgres=own_postgres)
    env.start()
    _, ada = hold_ada(env, smtp, 1)
    own_postgres.stop("immediate")
    time.sleep(2)
    smtp.heal()
    own_postgres.start()
    wait_until(lambda: len(smtp.to(ADA)) >= 2, 60, lambda: f"{smtp.mails}")
    wait_states(env, [])
    assert list(dict.fromkeys(sent_to(smtp, ADA))) == events_of(env, ada)


def test_rewards_of_one_target_do_not_hold_the_group(make_held_env, smtp):
    """No order in reward-workers: nothing is parked, and the offset goes on."""
    env = make_held_env(GROUPS_ENABLED="reward-workers", WEBHOOK_ALLOW_PRIVATE="on")
    env.start()
    api = env.api()
    target = WebhookTarget()
    try:
        target.plan("/bad", 500)
        campaign = api.create_campaign()["campaign_id"]
        ada = api.signup(campaign, ADA)["user_id"]
        rewards = [api.create_reward(campaign, n, "webhook", url=target.url(n))["reward_id"] for n in ("/bad", "/good")]
        for reward in rewards:
            api.grant_reward(campaign, ada, reward)
        target.wait("/good")
        wait_states(env, ["retry"], group="reward-workers")
        wait_no_lag(env, "reward-workers")
        target.heal()
        wait_states(env, [], group="reward-workers")
        assert env.query("select distinct status from deliveries") == [("delivered",)]
    finally:
        target.close()


# --- other records at the same coordinates: of a topic that was made anew ---


def test_rows_of_an_old_topic(make_held_env, smtp):
    """A topic made anew begins at offset 0 again: what the old one left is neither taken for the new records nor changed."""
    env = make_held_env()
    service = env.start(GROUPS_ENABLED="none")
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    smtp.fail(ADA, TRANSIENT)
    smtp.fail("bob@example.com", PERMANENT)
    ada = api.signup(campaign, ADA)["user_id"]
    api.resend_verification(campaign, ada)
    api.signup(campaign, "bob@example.com")
    wait_until(lambda: len(env.records()) == 4, 20, "all is in Kafka")
    for record in env.records():
        execute(env, "insert into dead_letters (grp, state, topic, partition, \"offset\", event_id, type, reason, attempts, order_key,"
                " next_at) values ('email-workers', 'retry', %s, %s, %s, gen_random_uuid(), 'user.signed_up', 'of the old topic', 1,"
                " 'x', now() + interval '1 day')", env.topic, record.partition, record.offset)
    new = ("select state, event_id::text, reason from dead_letters where reason not like 'of the old%%'"
           " order by event_id = any (%s::uuid[]), id")
    first, again = events_of(env, ada)
    service.restart(GROUPS_ENABLED="email-workers")
    letters = lambda: env.query(new, [first, again])
    wait_until(lambda: [row[0] for row in letters()] == ["dead", "retry", "parked"], 20, lambda: f"three are new: {letters()}")
    assert "550" in letters()[0][2] and [row[1] for row in letters()[1:]] == [first, again]
    smtp.heal()
    wait_sent(env, smtp, ADA, [first, again])
    assert env.query("select state, attempts from dead_letters where reason = 'of the old topic'") == [("retry", 1)] * 4


def test_unreadable_records_at_the_same_coordinates(env):
    """They are told apart by their bytes; the same one again adds nothing, but may still die."""
    hold = "select held_add('g', %s, 't', 0, 7, 'key', %s, null, null, 'x', 0, null, 5000000, 60000)"
    for state, value in (("retry", b"one"), ("dead", b"two"), ("dead", None), ("dead", b"one"), ("dead", b"two"), ("dead", None)):
        execute(env, hold, state, value)
    found = env.query("select state, value, failed_at between now() - interval '60 s' and now() - interval '5 s' from dead_letters"
                      " order by id")
    assert found == [("dead", b"one", True), ("dead", b"two", True), ("dead", None, True)]


# --- given up ---


def test_attempts_spent_and_retried(make_held_env, smtp):
    env = make_held_env(RETRY_MAX_ATTEMPTS=6)
    service = env.start()
    api = env.api()
    campaign, ada = hold_ada(env, smtp, 0)
    smtp.fail(ADA, TRANSIENT, times=6 - rows(env)[0][1])
    for _ in range(2):
        api.resend_verification(campaign, ada)
    head, *parked = events_of(env, ada)
    wait_sent(env, smtp, ADA, parked)  # dead ones do not hold their key
    wait_states(env, ["dead"])
    [(letter, attempts, reason, event)] = env.query("select id, attempts, reason, event_id::text from dead_letters")
    assert attempts == 6 and reason.startswith("gave up after 6 attempts: ") and event == head
    assert statuses(env) == {"sent": 2, "failed": 1}
    assert service.metric("tidings_handled_total", outcome="dead") == 1
    wait_until(lambda: service.metric("tidings_held_records", group="email-workers", state="dead") == 1, 30, "the gauge")
    # Retried while it still fails: what comes now waits for it.
    smtp.fail(ADA, TRANSIENT)
    assert env.run("dead-letters", "retry", str(letter)) == "1 will be tried again\n"
    wait_until(lambda: states(env) == ["retry"] and rows(env)[0][1] >= 1, 20, lambda: f"it is tried: {rows(env)}")
    for _ in range(2):
        api.resend_verification(campaign, ada)
    wait_states(env, ["retry", "parked", "parked"])
    smtp.heal()
    wait_sent(env, smtp, ADA, [*parked, head, *events_of(env, ada)[3:]])
    wait_states(env, [])
    assert statuses(env) == {"sent": 5}


def test_age_is_spent(make_held_env, smtp):
    env = make_held_env(RETRY_MAX_AGE_SECONDS=2)
    env.start()
    hold_ada(env, smtp, 0)
    wait_states(env, ["dead"])
    assert "gave up after 2 seconds" in env.value("select reason from dead_letters")
    assert statuses(env) == {"failed": 1}


def test_discard_lets_the_parked_ones_go(make_held_env, smtp):
    env = make_held_env(RETRY_QUICK_ATTEMPTS=1, RETRY_BASE_MS=60000, RETRY_MAX_MS=60000)
    env.start()
    campaign, ada = hold_ada(env, smtp, 2)
    smtp.heal()
    [head, *parked] = [row[0] for row in env.query("select id from dead_letters order by id")]
    refused = env.tidings("dead-letters", "retry", str(parked[0]))
    assert refused.returncode == 1 and f"{parked[0]}: " in refused.stderr and "parked" in refused.stderr
    assert env.run("dead-letters", "discard", str(head)) == "1 discarded\n"
    wait_sent(env, smtp, ADA, events_of(env, ada)[1:])
    wait_states(env, [])
    assert statuses(env) == {"sent": 2, "failed": 1}
    assert env.value("select error from mails where status = 'failed'") == "discarded by an operator"


def test_rejected_rewards_are_retried(make_held_env, smtp):
    """A permanent failure, put right and retried before the reward is taken back: the delivery's own row does not pass for the
    memory that it was handled."""
    env = make_held_env(GROUPS_ENABLED="reward-workers", SAGA_POLL_MS=3600000)
    env.start()
    api = env.api()
    smtp.fail(ADA, PERMANENT)
    campaign = api.create_campaign()["campaign_id"]
    ada = api.signup(campaign, ADA)["user_id"]
    api.grant_reward(campaign, ada, api.create_reward(campaign)["reward_id"])
    wait_states(env, ["dead"], group="reward-workers")
    assert env.value("select status from deliveries") == "failed"
    smtp.heal()
    assert "1 will be tried again" in env.run("dead-letters", "retry", "--group", "reward-workers", "--all")
    wait_states(env, [], group="reward-workers")
    assert env.value("select status from deliveries") == "delivered" and len(smtp.to(ADA)) == 1


# --- strict groups: none so far, so their rules are tried on the tables themselves ---


def add(env, state, key, offset, group="strict"):
    execute(env, "select held_add(%s, %s, 't', 0, %s, null, null, null, null, 'x', 0, %s, null, 0)", group, state, offset, key)
    return env.value('select id from dead_letters where grp = %s and "offset" = %s', group, offset)


@pytest.mark.parametrize("strict", [False, True])
def test_dead_ones_hold_the_key_of_strict_groups(env, strict):
    keys = [b"a", b"b", b"c"]
    held = lambda: [r[0] for r in env.query("select held_keys('strict', %s::bytea[], %s) order by 1", keys, strict)]
    claim = lambda: sorted(r[0] for r in env.query("select id from held_claim('strict', 10, 60000, true, %s)", strict))
    any_held = lambda: env.value("select held_any('strict', %s)", strict)
    assert not any_held()
    dead = add(env, "dead", b"a", 1)
    assert any_held() == strict and held() == ([1] if strict else [])
    parked = add(env, "parked", b"a", 2)
    retry = add(env, "retry", b"b", 3)
    assert held() == [1, 2]
    execute(env, "select held_sweep('strict', %s)", strict)
    assert claim() == ([retry] if strict else [parked, retry])
    execute(env, "select held_settle('strict', %s, '{dead}', '{x}', '{0}', true, %s)", [retry], strict)
    add(env, "parked", b"b", 4)
    execute(env, "select held_sweep('strict', %s)", strict)
    assert len(claim()) == (0 if strict else 1)
    execute(env, "select dead_letter_discard(%s, null)", [dead])
    execute(env, "select held_sweep('strict', %s)", strict)
    assert claim() == ([parked] if strict else [])


def test_a_retried_one_comes_before_those_behind_it(env):
    """A dead letter that is retried is its key's first again, whatever was held meanwhile."""
    first, second = add(env, "dead", b"a", 1), add(env, "retry", b"a", 2)
    claim = "select id from held_claim('strict', 10, 60000, true, false)"
    execute(env, "select dead_letter_retry(%s, null)", [first])
    assert env.query(claim) == [(first,)] and env.query(claim) == []
    execute(env, "select held_settle('strict', %s, '{done}', '{x}', '{0}', true, false)", [first])
    assert env.query(claim) == [(second,)]


# --- the command ---


def test_the_command(make_held_env, smtp):
    env = make_held_env(RETRY_QUICK_ATTEMPTS=1, RETRY_BASE_MS=60000, RETRY_MAX_MS=60000)
    service = env.start()
    hold_ada(env, smtp, 1)
    env.produce(b"\xff nonsense", b"k", partition=3)
    wait_states(env, ["retry", "parked", "dead"])
    retry, parked, dead = [row[0] for row in env.query("select id from dead_letters order by id")]
    service.stop()
    lines = lambda *args: [json.loads(line) for line in env.run("dead-letters", "list", "--json", *args).splitlines()]
    assert [x["id"] for x in lines("--state", "all")] == [dead, parked, retry]
    assert [x["id"] for x in lines()] == [dead]
    assert [x["id"] for x in lines("--state", "all", "--limit", "1", "--before", str(dead))] == [parked]
    assert lines("--group", "reward-workers") == []
    [head] = lines("--state", "retry")
    assert head["group"] == "email-workers" and head["attempts"] == 1 and head["next_at"].endswith("Z")
    text = env.run("dead-letters", "list", "--state", "all")
    assert text.splitlines()[0].startswith("id ") and len(text.splitlines()) == 4 and "malformed" in text
    shown = json.loads(env.run("dead-letters", "show", str(retry), "--json"))
    assert shown["value"]["type"] == "user.signed_up" and shown["value"]["data"]["email"] == ADA
    assert "user.signed_up" in env.run("dead-letters", "show", str(retry))
    assert json.loads(env.run("dead-letters", "show", str(dead), "--json"))["value"].startswith("\\xff")
    missing = env.tidings("dead-letters", "show", "999999")
    assert missing.returncode == 1 and "no dead letter 999999" in missing.stderr
    some = env.tidings("dead-letters", "retry", str(dead), "999999")
    assert some.returncode == 1 and "999999: " in some.stderr and some.stdout == "1 will be tried again\n"
    assert env.tidings("dead-letters", "discard", "--group", "email-workers", "--all").returncode == 2, "nobody to ask"
    service.start()
    wait_until(lambda: env.query("select attempts from dead_letters where id = %s and state = 'dead'", dead), 40, "dead again")
    assert env.run("dead-letters", "discard", "--group", "email-workers", "--all", "--yes") == "1 discarded\n"
    assert states(env) == ["retry", "parked"]
    assert env.run("dead-letters", "discard", str(retry), str(parked)) == "2 discarded\n"
    assert statuses(env) == {"failed": 1}


def test_arguments(env):
    for arguments in ((), ("nonsense",), ("list", "1"), ("list", "--state", "odd"), ("list", "--limit", "x"), ("list", "--limit"),
                      ("list", "--group", "odd"), ("list", "--all"), ("show",), ("show", "1", "2"), ("show", "x"), ("retry",),
                      ("retry", "--all"), ("retry", "--group", "email-workers"), ("retry", "1", "--all"), ("retry", "1", "--yes"),
                      ("retry", "1", "--json"), ("discard", "--group", "email-workers"), ("discard", "-1"), ("show", "1", "--limit", "2")):
        done = env.tidings("dead-letters", *arguments)
        assert done.returncode == 2 and "Usage: tidings dead-letters" in done.stderr, arguments
    assert "Usage: tidings dead-letters" in env.run("dead-letters", "--help")
    assert "Usage: tidings dead-letters" in env.run("dead-letters", "list", "--help")


# --- copies in Kafka ---


def test_copies_of_dead_letters(make_held_env, smtp):
    """With the record's own bytes; a topic that is not there yet is waited for, and holds up no other group's."""
    env = make_held_env(DEAD_LETTER_TOPICS="on", GROUPS_ENABLED="email-workers,position-workers")
    topic = f"{env.topic}.position-workers.dlq"
    late = f"{env.topic}.email-workers.dlq"
    env.kafka.create_topic(topic, 1)
    try:
        service = env.start()
        offsets = [env.produce(b"\xff nonsense", b"some key", partition=3), env.produce(None, None, partition=4)]
        wait_states(env, ["dead", "dead"])
        with TopicReader(env.kafka.brokers, topic) as reader:
            wait_until(lambda: reader.poll() is not None and len(reader.records) >= 2, 40, "the copies")
            [first] = [r for r in reader.records if r.value is not None]
            assert (first.key, first.value) == (b"some key", b"\xff nonsense")
            headers = dict(first.headers)
            assert headers["tidings-group"] == b"position-workers" and headers["tidings-reason"].startswith(b"malformed")
            assert headers["tidings-topic"] == env.topic.encode() and headers["tidings-attempts"] == b"1"
            assert (headers["tidings-partition"], headers["tidings-offset"]) == (b"3", str(offsets[0]).encode())
            service.wait_log("cannot be copied to Kafka", 30)
            env.kafka.create_topic(late, 1)
            with TopicReader(env.kafka.brokers, late) as other:
                wait_until(lambda: other.poll() is not None and len(other.records) >= 2, 60, "the late topic's copies")
            wait_until(lambda: env.value("select count(*) from dead_letters where mirrored_at is null") == 0, 20, "noted")
            time.sleep(6)
            assert len(reader.read_to_end()) == 2, "once"
    finally:
        for name in (topic, late):
            if name in env.kafka.admin.list_topics(timeout=10).topics:
                env.kafka.delete_topic(name)
