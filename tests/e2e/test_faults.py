"""Parts that are away, die or hang: what is answered, what is kept, what comes back by itself. After each test the checker
holds every answer against the events table and Kafka."""

import concurrent.futures
import random
import time

import psycopg
import pytest

from lib.kafka import hash_class
from lib.load import Load, assert_all_mailed, assert_users, campaigns_of
from lib.util import SLOWNESS, wait_until


# --- the process itself ---


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_kill_9_under_load(env, service, api):
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        for _ in range(3):
            load.wait_acknowledged(150)
            service.kill9()
            service.start(ready=False).wait_listening()
        load.wait_acknowledged(100, 40)
    assert_users(env, load)
    assert_all_mailed(env)


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_stop_under_load(env, service, api):
    """SIGTERM: what is in flight is answered, nothing that was answered is lost, and it ends in time."""
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        load.wait_acknowledged(200)
        service.stop()
    assert_users(env, load)
    assert not any(isinstance(k, tuple) and k[1] == "outcome-unknown" for k in load.statuses), load.statuses
    service.start()
    assert_all_mailed(env)


def test_sigint_stops_too(service):
    import signal

    assert service.stop(signal.SIGINT) < 10 * SLOWNESS


@pytest.mark.settings(MAIL_TRANSPORT="discard", RELAY_POLL_MS=50)
def test_two_hosts(env, service, api):
    """Two processes on one database and one Kafka: versions stay dense and in order."""
    second = env.start()
    campaigns = campaigns_of(api)
    with Load(api, campaigns, 8) as one, Load(env.api(second), campaigns[::-1], 8) as two:
        # The same addresses: each is taken by whoever comes first.
        one.wait_acknowledged(100, 40)
        two.wait_acknowledged(100, 40)
        second.kill9()
        one.wait_acknowledged(100, 40)
    assert_users(env, one)
    assert_users(env, two)
    assert_all_mailed(env, 60)  # the dead host's partitions come over when its session ends


# --- Postgres ---


def test_postgres_absent_at_start(make_env, own_postgres):
    env = make_env(postgres=own_postgres)
    own_postgres.stop()
    service = env.start(ready=False).wait_listening().wait_not_ready()
    assert "postgres" in service.ready()[1]
    api = env.api()
    assert api.create_campaign(expect=503).problem == "database-unavailable"
    service.wait_log("waiting for Postgres")
    own_postgres.start()
    service.wait_ready(30)
    api.signup(api.create_campaign()["campaign_id"], "ada@example.com")
    env.wait_token("ada@example.com", 20)


def test_schema_is_waited_for(env):
    """A service that comes before its migration says so, and goes on when it is done."""
    env.postgres.execute(f"create database {env.database}_empty owner tidings")
    try:
        url = env.postgres.url_for(f"{env.database}_empty")
        service = env.start(ready=False, DATABASE_URL=url).wait_listening()
        wait_until(lambda: "tidings migrate" in (service.ready()[1] or ""), 10, lambda: f"/readyz says why: {service.ready()}")
        env.run("migrate", DATABASE_URL=url)
        service.wait_ready(30)
        service.stop()
    finally:
        env.postgres.execute(f"drop database {env.database}_empty with (force)")
        env.services.clear()


def test_postgres_goes_and_comes_back(make_env, own_postgres):
    env = make_env(postgres=own_postgres, settings={"MAIL_TRANSPORT": "discard"})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        load.wait_acknowledged(100)
        own_postgres.stop("immediate")
        service.wait_not_ready()
        begin = time.monotonic()
        answer = api.signup(campaigns[0], "at-once@example.com", expect=503)
        assert time.monotonic() - begin < 1 * SLOWNESS, "503 comes at once"
        assert answer.problem == "database-unavailable" and "retry-after" in answer.headers
        own_postgres.start()
        service.wait_ready(30)
        load.wait_acknowledged(100, 30)
    assert_users(env, load)
    assert_all_mailed(env)


def test_postgres_killed(make_env, own_postgres):
    env = make_env(postgres=own_postgres, settings={"MAIL_TRANSPORT": "discard"})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        load.wait_acknowledged(100)
        own_postgres.kill9()
        own_postgres.start()
        service.wait_ready(40)
        load.wait_acknowledged(100, 40)
    assert_users(env, load)
    assert_all_mailed(env)


def test_backends_killed_under_load(env, service, api):
    """Connections that end in the middle of a batch: every answer is still the truth."""
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        for _ in range(8):
            load.wait_acknowledged(40, 30)
            env.query("select count(pg_terminate_backend(pid)) from pg_stat_activity"
                      " where application_name like 'tidings%%' and datname = %s", env.database)
    assert_users(env, load)
    assert not any(isinstance(k, tuple) and k[1] == "outcome-unknown" for k in load.statuses), load.statuses


@pytest.mark.settings(DB_STALL_MS=1000, MAIL_TRANSPORT="discard")
def test_lost_answer_is_found(make_env, make_proxy, stack):
    """The commit happens, its answer is swallowed by the network: the service finds out and answers 201 all the same."""
    proxy = make_proxy(stack.postgres.port)
    env = make_env(settings={"DB_STALL_MS": 1000, "MAIL_TRANSPORT": "discard"}, postgres_port=proxy.port)
    env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "before@example.com")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        proxy.swallow()
        waiting = [pool.submit(api.signup, campaign, f"u{i}@example.com", expect=None) for i in range(20)]
        time.sleep(0.3)
        wait_until(lambda: env.value("select count(*) from users") > 1, 10, "the batch is committed")
        proxy.heal()
        answers = [w.result() for w in waiting]
    # Those of the batch in flight are found; those that waited behind it were never sent, and know it.
    assert {(a.status, a.problem) for a in answers} <= {(201, None), (503, "database-unavailable")}
    committed = env.value("select count(*) from users") - 1
    assert committed >= 1
    assert sum(a.status == 201 for a in answers) == committed


@pytest.mark.no_invariants(reason="the commit stays unknown to the client on purpose; the end is checked here")
def test_outcome_unknown_is_said(make_env, make_proxy, stack):
    proxy = make_proxy(stack.postgres.port)
    env = make_env(settings={"DB_STALL_MS": 1000, "HTTP_ANSWER_TIMEOUT_MS": 2000, "GROUPS_ENABLED": "none"},
                   postgres_port=proxy.port)
    env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "before@example.com")
    proxy.swallow()
    answer = api.signup(campaign, "ada@example.com", expect=503)
    assert answer.problem == "outcome-unknown"
    proxy.heal()
    env.services[0].wait_ready()
    assert api.signup(campaign, "ada@example.com", expect=None).status in (201, 409)


@pytest.mark.settings(LANES=1)
def test_one_bad_action_leaves_the_others_alone(env, service, api):
    """An error that one action's data causes: the batch is halved until the culprit is alone and gets a 4xx."""
    campaign = api.create_campaign()["campaign_id"]
    with env.db() as db:
        db.execute("alter table users add constraint no_poison check (email_key not like 'poison%')")
    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        addresses = [f"poison{i}@example.com" if i % 20 == 7 else f"u{i}@example.com" for i in range(120)]
        answers = list(pool.map(lambda a: api.signup(campaign, a, expect=None), addresses))
    for address, answer in zip(addresses, answers):
        assert answer.status == (422 if address.startswith("poison") else 201), (address, answer.text)
    assert env.value("select count(*) from users") == 114


@pytest.mark.settings(LANES=1)
def test_refused_transaction_changes_nothing(env, service, api):
    """A failure that is nobody's fault (here: no room, as on a full disk) answers 503 and leaves no trace; a deadlock is
    tried again."""
    campaign = api.create_campaign()["campaign_id"]
    raising = ("create or replace function fail() returns trigger language plpgsql as $$ begin"
               " raise exception 'on purpose' using errcode = '%s'; end $$")
    with env.db() as db:
        db.execute(raising % "53100")
        db.execute("create trigger fail before insert on users for each row execute function fail()")
    answer = api.signup(campaign, "ada@example.com", expect=503)
    assert answer.problem == "database-unavailable"
    with env.db() as db:
        db.execute(raising % "40P01")
        # The third attempt gets through.
        db.execute("create sequence attempts")
        db.execute("create or replace function fail() returns trigger language plpgsql as $$ begin"
                   " if nextval('attempts') < 3 then raise exception 'on purpose' using errcode = '40P01'; end if;"
                   " return new; end $$")
        db.execute("grant all on sequence attempts to tidings")
    assert api.signup(campaign, "ada@example.com")["version"] == 2


@pytest.mark.settings(LANE_LOCK_TIMEOUT_MS=300)
def test_shard_held_by_a_hung_client(env, service, api):
    """Whoever holds a shard's lock and says nothing for 5 s is ended; until then 503, with nothing done."""
    campaign = api.create_campaign()["campaign_id"]
    shard = env.value("select shard from campaigns")
    with psycopg.connect(env.settings["DATABASE_URL"]) as holder:
        holder.execute("select pg_advisory_xact_lock(1953064037, %s)", (shard,))
        answer = api.signup(campaign, "ada@example.com", expect=503)
        assert answer.problem == "overloaded"
        wait_until(lambda: api.signup(campaign, "ada@example.com", expect=None).status == 201, 15, "the lock is freed")
        with pytest.raises(psycopg.OperationalError):
            holder.execute("select 1")
        holder.close()


@pytest.mark.no_invariants(reason="the database is damaged on purpose")
@pytest.mark.settings(RELAY_POLL_MS=50, GROUPS_ENABLED="none")
def test_database_that_went_back_in_time(env, service, api):
    """An event that Kafka has is no longer in the database: the relay stops with an alarm and sends nothing more."""
    campaign = api.create_campaign()["campaign_id"]
    for i in range(3):
        api.signup(campaign, f"u{i}@example.com")
    wait_until(lambda: service.metric("tidings_relay_lag_events") == 0 and len(env.records()) == 4, 10, "all is in Kafka")
    env.query("with gone as (delete from events where version >= 3 returning 1) select count(*) from gone")
    wait_until(lambda: service.metric("tidings_relay_alarm") == 1, 10, "the alarm")
    assert "went back in time" in service.ready()[1]
    assert len(env.records()) == 4


# --- Kafka ---


def test_kafka_absent_at_start(make_env, own_kafka):
    env = make_env(kafka=own_kafka)
    own_kafka.stop()
    service = env.start(ready=False).wait_listening().wait_not_ready()
    api = env.api()
    wait_until(lambda: "postgres" not in service.ready()[1] and "kafka" in service.ready()[1], 20, lambda: f"{service.ready()}")
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "ada@example.com")  # sign-ups need Postgres alone
    own_kafka.start()
    service.wait_ready(60)
    env.wait_token("ada@example.com", 30)


def test_topic_absent_at_start(env):
    env.kafka.delete_topic(env.topic)
    service = env.start(ready=False).wait_listening().wait_not_ready()
    wait_until(lambda: env.topic in service.ready()[1], 20, lambda: f"/readyz names the topic: {service.ready()}")
    env.kafka.create_topic(env.topic, 10)
    service.wait_ready(60)


@pytest.mark.partitions(7)
@pytest.mark.no_invariants(reason="nothing reaches this topic")
def test_topic_with_a_wrong_number_of_partitions(env):
    service = env.start(ready=False).wait_listening().wait_not_ready()
    wait_until(lambda: "multiple of the 10 shards" in service.ready()[1], 20, lambda: f"/readyz says why: {service.ready()}")


def test_kafka_killed_under_load(make_env, own_kafka):
    """Sign-ups go on without Kafka; when it is back the relay catches up, in order."""
    env = make_env(kafka=own_kafka, settings={"MAIL_TRANSPORT": "discard", "RELAY_WINDOW": 100})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        load.wait_acknowledged(100)
        own_kafka.kill9()
        load.wait_acknowledged(1500, 60)
        assert all(status == 201 for status in load.statuses), load.statuses
        own_kafka.start()
        load.wait_acknowledged(100)
    assert_users(env, load)
    wait_until(lambda: service.metric("tidings_relay_lag_events") == 0, 60, "the relay has caught up")
    assert_all_mailed(env, 60)


def test_kafka_paused_under_load(make_env, own_kafka):
    env = make_env(kafka=own_kafka, settings={"MAIL_TRANSPORT": "discard"})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        load.wait_acknowledged(50)
        own_kafka.pause()
        load.wait_acknowledged(300, 30)
        own_kafka.resume()
        load.wait_acknowledged(50)
    wait_until(lambda: service.metric("tidings_relay_lag_events") == 0, 60, "the relay has caught up")
    assert_all_mailed(env, 60)


def test_stop_while_kafka_is_away(make_env, own_kafka):
    """It ends in time although nothing can be flushed; the next start sends what is left."""
    env = make_env(kafka=own_kafka, settings={"MAIL_TRANSPORT": "discard", "SHUTDOWN_TIMEOUT_MS": 3000 * SLOWNESS})
    service = env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    own_kafka.kill9()
    for i in range(20):
        api.signup(campaign, f"u{i}@example.com")
    service.stop()
    own_kafka.start()
    service.start(ready=False).wait_ready(60)
    assert_all_mailed(env, 60)


# --- the loop ---


@pytest.mark.settings(MAIL_TRANSPORT="discard")
def test_nothing_holds_the_loop(env, service, api):
    """Under load, with Postgres backends dying, no timer of the loop comes late by more than a little."""
    campaigns = campaigns_of(api)
    with Load(api, campaigns) as load:
        load.wait_acknowledged(200)
        env.query("select count(pg_terminate_backend(pid)) from pg_stat_activity"
                  " where application_name like 'tidings%%' and datname = %s", env.database)
        load.wait_acknowledged(200, 30)
    metrics = service.metrics()
    total = metrics["tidings_loop_lag_seconds_count"]
    late = total - next(v for k, v in metrics.items() if k.startswith("tidings_loop_lag_seconds_bucket") and 'le="0.1' in k)
    assert total > 20 and late <= 0.02 * total * SLOWNESS, f"{late} of {total} timers came late by over 0.1 s"


@pytest.mark.no_invariants(reason="one event cannot get to Kafka")
def test_event_that_can_never_be_delivered(env):
    """An event larger than the topic takes stops its own partition, with an alarm; it is not skipped, and the other
    partitions go on."""
    env.kafka.delete_topic(env.topic)
    wait_until(lambda: env.topic not in env.kafka.admin.list_topics(timeout=10).topics, 20, "the topic is gone")
    env.kafka.create_topic(env.topic, 10, max_message_bytes=1300)
    service = env.start(GROUPS_ENABLED="none")
    api = env.api()
    rng = random.Random(1)
    incompressible = "".join(chr(rng.randint(0x20000, 0x2A000)) for _ in range(200))
    large = api.create_campaign(incompressible)["campaign_id"]
    others = [c for c in campaigns_of(api, 12) if hash_class(c, 10) != hash_class(large, 10)]
    wait_until(lambda: service.metric("tidings_relay_alarm") == 1, 30, lambda: f"the alarm; {service.ready()}")
    resets = service.metric("tidings_relay_resets_total")
    assert resets <= 8
    for i, campaign in enumerate(others):
        api.signup(campaign, f"u{i}@example.com")
    api.signup(large, "behind@example.com")
    wait_until(lambda: sum(r.key.decode() in others for r in env.records()) == 2 * len(others), 20, "the others go on")
    assert not any(r.key.decode() == large for r in env.records()), "nothing of that partition is sent past the large one"
    assert service.metric("tidings_relay_resets_total") == resets
    assert "cannot be delivered" in service.ready()[1]
