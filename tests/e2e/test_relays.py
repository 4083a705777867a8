"""Several processes on one database: they divide the shards among them, and divide anew when one comes, goes, hangs or loses
its session or its way to Kafka. The checker, after each test, sees that what shows first in Kafka is in order and that
repeats have the same bytes; the tests see that there are few of those, and how long it takes."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from confluent_kafka.admin import NewPartitions

from lib.kafka import hash_class
from lib.load import Load, assert_users, campaigns_of
from lib.util import SLOWNESS, wait_until

SHARDS = 10
pytestmark = pytest.mark.settings(GROUPS_ENABLED="none")


def shards_of(services):
    """How many each relays; -1: it does not answer now."""
    def count(service):
        try:
            return int(service.metric("tidings_relay_shards"))
        except httpx.TransportError:
            return -1

    return [count(s) for s in services]


def wait_shares(services, wanted, seconds=10):
    """wanted: the numbers of shards, in any order."""
    begin = time.monotonic()
    wait_until(lambda: sorted(shards_of(services)) == sorted(wanted), seconds,
               lambda: f"shards are divided {wanted}; they are {shards_of(services)}")
    return time.monotonic() - begin


def lock_owners(env):
    """shard → backend of the session that relays it."""
    with env.postgres.connect() as connection:
        return dict(connection.execute(
            "select objid::int, pid from pg_locks where locktype = 'advisory' and classid::bigint = 1953064050 and granted "
            "and database = (select oid from pg_database where datname = %s)", [env.database]).fetchall())


def caught_up(env):
    return env.value("""select not exists (select 1 from relay_cursors c
                        where c.seq < coalesce((select max(seq) from events e where e.shard = c.shard), 0))""")


def wait_caught_up(env, seconds=20):
    wait_until(lambda: caught_up(env), seconds, "all events are acknowledged by Kafka")


def repeats(env):
    values = [r.value for r in env.records()]
    return len(values) - len(set(values))


def test_shares_follow_who_is_there(env, service, api):
    """One has all; with each that comes the shares get smaller, with each that goes larger, and nothing is sent twice."""
    wait_shares([service], [SHARDS])
    campaigns = campaigns_of(api, 12)
    with Load(api, campaigns, 6) as load:
        second = env.start()
        took = wait_shares([service, second], [5, 5])
        third = env.start()
        wait_shares([service, second, third], [4, 4, 2])
        load.wait_acknowledged(150, 40)
        second.stop()
        wait_shares([service, third], [5, 5])
        load.wait_acknowledged(100, 40)
        third.stop()
        wait_shares([service], [SHARDS])
        load.wait_acknowledged(50, 40)
    wait_caught_up(env)
    assert_users(env, load)
    print(f"a second process had its share after {took:.1f} s")
    # Shards were handed over with nothing in flight.
    assert repeats(env) == 0


def test_all_start_at_once_on_an_empty_database(env):
    """Three processes wait for a schema that three migrations bring at the same time; one of them fixes the partitions."""
    database = f"{env.database}_empty"
    env.postgres.execute(f"create database {database} owner tidings")
    try:
        url = env.postgres.url_for(database)
        services = [env.start(ready=False, DATABASE_URL=url) for _ in range(3)]
        with ThreadPoolExecutor(3) as pool:
            for done in pool.map(lambda _: env.tidings("migrate", DATABASE_URL=url), range(3)):
                assert done.returncode == 0, done.stderr
        for service in services:
            service.wait_ready(40)
        wait_shares(services, [4, 4, 2])
        for service in services:
            service.stop()
    finally:
        env.postgres.execute(f"drop database {database} with (force)")
        env.services.clear()


def test_others_commits_are_relayed_at_once(env, service, api):
    """What this process commits and another one relays is found by asking for the heads, not by luck."""
    second = env.start()
    wait_shares([service, second], [5, 5])
    campaigns = campaigns_of(api, 12)
    took = []
    for i in range(60):
        campaign = campaigns[i % len(campaigns)]
        answer = (api if i % 2 else env.api(second)).signup(campaign, f"u{i}@example.com")
        assert answer.status == 201
    wait_caught_up(env)
    at = {e[0]: e[1] for e in env.query("select id::text, extract(epoch from at)::float8 from events where type = 1")}
    for record in env.records():
        found = next((at[i] for i in at if i.encode() in record.value), None)
        if found:
            took.append(record.timestamp_ms / 1000 - found)
    assert len(took) == 60
    print(f"from the event's time to the record's: median {1000 * statistics.median(took):.0f} ms, "
          f"longest {1000 * max(took):.0f} ms")
    # The record's own time is when it was given to the client: half of them after a look at the heads.
    assert statistics.median(took) < 0.1 * SLOWNESS and max(took) < 1 * SLOWNESS


def test_a_killed_process_is_replaced(env, service, api):
    second = env.start()
    wait_shares([service, second], [5, 5])
    with Load(api, campaigns_of(api, 12), 6) as load:
        load.wait_acknowledged(100, 40)
        second.kill9()
        took = wait_shares([service], [SHARDS])
        load.wait_acknowledged(50, 40)
    wait_caught_up(env)
    assert_users(env, load)
    print(f"its shards were relayed again after {took:.1f} s")
    assert took < 4 * SLOWNESS


def test_a_hung_process_loses_its_shards(env, service, api):
    """It stands still with its connections open; when it wakes up it goes on as if nothing had been, but with a new session."""
    second = env.start()
    wait_shares([service, second], [5, 5])
    # Of their own: an address signs up once.
    with Load(api, campaigns_of(api, 12), 4) as load, Load(env.api(second), campaigns_of(api, 12), 2) as theirs:
        load.wait_acknowledged(60, 40)
        theirs.wait_acknowledged(20, 40)
        second.pause()
        took = wait_shares([service], [SHARDS], 20)
        load.wait_acknowledged(40, 40)
        second.resume()
        wait_shares([service, second], [5, 5], 20)
        load.wait_acknowledged(40, 40)
    wait_caught_up(env)
    assert_users(env, load)
    print(f"its shards were relayed by the other one after {took:.1f} s")
    assert took < 9 * SLOWNESS


def test_a_lost_session_is_replaced(env, service, api):
    """The backend is ended; and, harder, its connection hangs: then the new session ends the old one, which has the locks."""
    wait_shares([service], [SHARDS])
    with Load(api, campaigns_of(api, 12), 4) as load:
        load.wait_acknowledged(30, 40)
        for _ in range(3):
            before = set(lock_owners(env).values())
            env.postgres.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tidings-relay' "
                                 f"and datname = '{env.database}'")
            wait_until(lambda: len(lock_owners(env)) == SHARDS and not before & set(lock_owners(env).values()), 10,
                       "another session has the locks")
            load.wait_acknowledged(30, 40)
    wait_caught_up(env)
    assert_users(env, load)


def test_a_held_connection_is_replaced(make_env, stack, make_proxy):
    """The network swallows the session: neither side hears of an end. Nobody else is there, and still the shards come back
    before the server would have ended the idle session by itself."""
    proxy = make_proxy(stack.postgres.port)
    env = make_env(postgres_port=proxy.port, settings={"GROUPS_ENABLED": "none", "DB_STALL_MS": 1000})
    service = env.start()
    api = env.api(service)
    campaign = api.create_campaign()["campaign_id"]
    wait_shares([service], [SHARDS])
    proxy.swallow()
    service.wait_not_ready()
    proxy.heal()
    service.wait_ready(30)
    assert api.signup(campaign, "ada@example.com").status == 201
    wait_caught_up(env)


def test_rewind_while_processes_run(env, service, api):
    """They let go, the cursors are moved, they go on from there: each event shows exactly once more."""
    second = env.start()
    wait_shares([service, second], [5, 5])
    campaigns = campaigns_of(api, 12)
    for i in range(60):
        assert (api if i % 2 else env.api(second)).signup(campaigns[i % 12], f"u{i}@example.com").status == 201
    wait_caught_up(env)
    events = env.value("select count(*) from events")
    assert f"{events} events will be sent again" in env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    wait_shares([service, second], [5, 5])
    wait_until(lambda: len(env.records()) >= 2 * events, 20, "all show again")
    wait_caught_up(env)
    assert repeats(env) == events


def test_rewind_while_kafka_hangs(make_env, own_kafka):
    """What is in flight is not acknowledged, so the rewound cursors do not count yet when the process is told to stop. Its last word
    on cursors is of the time before the rewind, and must not undo it."""
    env = make_env(kafka=own_kafka, settings={"GROUPS_ENABLED": "none"})
    service = env.start()
    api = env.api(service)
    campaigns = campaigns_of(api, 12)
    for i in range(24):
        assert api.signup(campaigns[i % 12], f"u{i}@example.com").status == 201
    wait_caught_up(env)
    before = env.value("select count(*) from events")
    own_kafka.pause()
    for i in range(24):  # one in each shard at least
        assert api.signup(campaigns[i % 12], f"late{i}@example.com").status == 201
    assert f"{before} events will be sent again" in env.run("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
    wait_until(lambda: len(lock_owners(env)) == SHARDS, 20, "the process has taken the shards back")
    service.stop()
    own_kafka.resume()
    service.start()
    wait_caught_up(env)
    wait_until(lambda: repeats(env) >= before, 20, lambda: f"{before} events show again; {repeats(env)} do")


def test_two_commands_do_not_hold_the_relays_at_once(env, service):
    wait_shares([service], [SHARDS])
    with psycopg.connect(env.settings["DATABASE_URL"], autocommit=True, options="-c search_path=tidings") as other:
        while other.execute("select relay_hold()").fetchone()[0] != 0:
            time.sleep(0.05)
        wait_shares([service], [0])
        refused = env.tidings("relay", "rewind", "--since", "2020-01-01T00:00:00Z")
        assert refused.returncode == 1 and "another command holds the relays" in refused.stderr
    wait_shares([service], [SHARDS])


# --- a database that went back in time ---


@pytest.mark.no_invariants(reason="the test takes an event away that Kafka has")
def test_a_restart_on_a_database_that_lost_events(env, service, api):
    """As after a backup was restored: Kafka's last event of a campaign is not there any more. Nothing is sent, and /readyz says
    why; the process that comes next does not send either."""
    campaign = api.create_campaign()["campaign_id"]
    for i in range(5):
        assert api.signup(campaign, f"u{i}@example.com").status == 201
    wait_caught_up(env)
    service.stop()
    shard = hash_class(campaign, SHARDS)
    env.query(f"delete from events where shard = {shard} and seq = (select max(seq) from events where shard = {shard}) returning 1")
    env.query(f"delete from users where place = 5 returning 1")
    env.query(f"update relay_cursors set seq = seq - 1 where shard = {shard} returning 1")
    for _ in range(2):
        service.start(ready=False).wait_listening().wait_not_ready()
        wait_until(lambda: "went back in time" in (service.ready()[1] or ""), 10, lambda: f"/readyz says why: {service.ready()}")
        assert service.metric("tidings_relay_alarm") == 1
        before = len(env.records())
        api.signup(campaign, f"late-{time.time_ns()}@example.com")
        time.sleep(1)  # what must not happen cannot be waited for
        assert len(env.records()) == before
        service.stop()
    shown = env.run("relay", "accept")
    assert f"{campaign} version 6, event " in shown and "with --yes" in shown
    service.start(ready=False).wait_listening().wait_not_ready()
    service.stop()
    assert "noted as lost" in env.run("relay", "accept", "--yes")
    service.start()
    assert "nothing to accept" in env.run("relay", "accept")
    wait_caught_up(env)
    assert len(env.records()) == before + 2


def test_a_topic_with_records_of_others(env, service, api):
    """Only events that say that they are ours can tell that the database lost something."""
    campaign = api.create_campaign()["campaign_id"]
    wait_caught_up(env)
    service.stop()
    shard = hash_class(campaign, SHARDS)
    for value in (b"\x00garbage", b"", None, b'{"id": 7}',
                  b'{"id":"01a1fd5a-c779-7eca-8d2d-f24d00000002","type":"campaign.created","account_id":"01a1fd5a-c779-7eca-8d2d-f24d00000002",'
                  b'"campaign_id":"' + campaign.encode() + b'","data":{},"timestamp":"2026-01-01T00:00:00Z","version":99}'):
        env.produce(value, campaign, shard)
        service.start()
        service.stop()
    service.start()


# --- a topic that grows ---


def grow_topic(env, partitions):
    env.kafka.admin.create_partitions([NewPartitions(env.topic, partitions)])[env.topic].result(20)
    env.former_partitions = [10]


@pytest.mark.settings(GROUPS_ENABLED="all", MAIL_TRANSPORT="discard")
def test_partitions_set_under_load(env, service, api):
    """A topic that grows changes nothing until the command: then keys go to their new places, no event before the older ones of
    its key were handled."""
    second = env.start()
    wait_shares([service, second], [5, 5])
    campaigns = campaigns_of(api, 24)
    with Load(api, campaigns, 4) as load:
        load.wait_acknowledged(60, 40)
        grow_topic(env, 20)
        load.wait_acknowledged(40, 40)
        assert "partitions in use: 10" in env.run("partitions")
        old_ends = max(r.partition for r in env.records())
        assert old_ends < 10
        assert "partitions in use: 20, before 10" in env.run("partitions", "set", "20", timeout=60)
        wait_shares([service, second], [5, 5])
        load.wait_acknowledged(100, 40)
    wait_caught_up(env, 30)
    assert_users(env, load)
    records = env.records()
    assert max(r.partition for r in records) >= 10
    for process in (service, second):
        process.restart()
    api.signup(campaigns[0], "after@example.com")
    wait_caught_up(env)


def test_partitions_arguments(env, service):
    for arguments in (("set",), ("set", "x"), ("set", "0"), ("set", "-10"), ("grow", "20"), ("set", "20", "--timeout"),
                      ("set", "20", "--timeout", "0"), ("set", "20", "--now", "1"), ("set", "999999999999")):
        done = env.tidings("partitions", *arguments)
        assert done.returncode == 2 and "Usage: tidings partitions" in done.stderr, arguments
    assert env.tidings("partitions", "--help").returncode == 0
    shown = env.run("partitions")
    assert "shards: 10" in shown and "partitions of the topic: 10" in shown and "partitions in use: 10" in shown
    for number, sentence in (("15", "not a multiple"), ("5", "not a multiple"), ("20", "let it grow first")):
        done = env.tidings("partitions", "set", number)
        assert done.returncode == 1 and sentence in done.stderr, (number, done.stderr)
    assert "in use already" in env.run("partitions", "set", "10")
    assert env.tidings("partitions", KAFKA_BROKERS="127.0.0.1:1").returncode == 1


@pytest.mark.settings(GROUPS_ENABLED="all", MAIL_TRANSPORT="smtp", SMTP_URL="smtp://127.0.0.1:1")
def test_partitions_wait_for_the_groups(env, service, api):
    """A mail that cannot go yet: its event is not finished, so nothing changes, and relaying goes on."""
    api.signup(api.create_campaign()["campaign_id"], "ada@example.com")
    wait_caught_up(env)
    wait_until(lambda: service.metric("tidings_group_lag_records", group="position-workers") == 0, 20, "the others are done")
    grow_topic(env, 20)
    done = env.tidings("partitions", "set", "20", "--timeout", "2")
    assert done.returncode == 1 and "email-workers still has 1 records to handle; nothing was changed" in done.stderr
    wait_shares([service], [SHARDS])
    api.signup(api.create_campaign()["campaign_id"], "bob@example.com")
    wait_caught_up(env)
