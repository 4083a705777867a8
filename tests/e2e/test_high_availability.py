"""Several brokers, a standby: what is lost with one of them (nothing that was acknowledged), and how soon work goes on. Run
with -s to see the times. After each test the checker holds every answer against the events table and Kafka."""

import concurrent.futures
import time

import pytest

from lib.load import Load, assert_users, campaigns_of, longest_silence, p99
from lib.replicas import KafkaCluster, ReplicatedPostgres
from lib.util import SLOWNESS, unique, wait_until

SETTINGS = {"MAIL_TRANSPORT": "discard", "GROUPS_ENABLED": "none"}


def say(text, begin):
    print(f"\n    {text}: {time.monotonic() - begin:.1f} s")


# --- Kafka ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(stack):
    cluster = KafkaCluster(stack.directory / f"own-kafka-cluster-{unique()}")
    try:
        yield cluster.start()
    finally:
        cluster.destroy()


def lag(service):
    return service.metric("tidings_relay_lag_events")


def acknowledged(service):
    return service.metric("tidings_relay_acknowledged_total")


def wait_relayed(service, more, seconds):
    goal = acknowledged(service) + more
    wait_until(lambda: acknowledged(service) >= goal, seconds,
               lambda: f"the relay goes on; lag {lag(service)}, {service.ready()}")


@pytest.mark.timeout(300 * SLOWNESS)
def test_each_broker_killed_in_turn(cluster, make_env):
    """Sign-ups do not notice; the partitions that it led go to another broker, and their events after what was sent."""
    env = make_env(kafka=cluster.start(), settings=SETTINGS)
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api, 20)
    with Load(api, campaigns, 4) as load:
        for node in (1, 2, 3):
            cluster.wait_in_sync(env.topic)
            wait_relayed(service, 100, 30)
            led = sum(leader == node for leader in cluster.leaders(env.topic).values())
            begin = time.monotonic()
            cluster.kill9_node(node)
            wait_until(lambda: node not in cluster.leaders(env.topic).values(), 30, "its partitions are led by others", 0.2)
            wait_until(lambda: lag(service) < 100, 30, lambda: f"the relay has caught up; lag {lag(service)}", 0.1)
            say(f"broker {node} killed, leader of {led} of 10 partitions; all events in Kafka again after", begin)
            wait_relayed(service, 100, 30)
            cluster.start()
    assert set(load.statuses) == {201}, load.statuses
    assert_users(env, load)
    assert service.metric("tidings_relay_alarm") == 0


@pytest.mark.timeout(300 * SLOWNESS)
def test_two_of_three_brokers_down(cluster, make_env):
    """No majority, no two replicas in sync: nothing is acknowledged. Sign-ups are; their events wait and go when a broker is
    back."""
    env = make_env(kafka=cluster.start(), settings={**SETTINGS, "RELAY_WINDOW": 100})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api, 20)
    cluster.wait_in_sync(env.topic)
    with Load(api, campaigns, 4) as load:
        wait_relayed(service, 100, 30)
        for node in (1, 2):
            cluster.kill9_node(node)
        down = time.monotonic()
        load.wait_acknowledged(300, 30)
        stood = acknowledged(service)
        load.wait_acknowledged(300, 30)
        # What the one broker that is left took alone was not acknowledged to the relay, so not by it either.
        assert acknowledged(service) == stood and lag(service) >= 300
        assert service.metric("tidings_relay_alarm") == 0
        while time.monotonic() < down + 5:
            load.wait_acknowledged(1)
    assert set(load.statuses) == {201} and p99(load.between(down)) < 1 * SLOWNESS, load.statuses
    begin = time.monotonic()
    cluster.start()
    wait_until(lambda: lag(service) == 0, 90, lambda: f"the relay has caught up; lag {lag(service)}, {service.ready()}", 0.1)
    say("brokers started again; all events in Kafka after", begin)
    assert_users(env, load)
    cluster.wait_in_sync(env.topic)


# --- Postgres ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def make_pair(stack):
    made = []

    def make(mode="sync"):
        made.append(ReplicatedPostgres(stack.directory / f"own-postgres-{unique()}", mode))
        return made[-1].start()

    yield make
    for pair in made:
        pair.destroy()


@pytest.fixture
def pair(make_pair):
    return make_pair()


def probe(api, campaign, number):
    """A sign-up's answer and how long it took."""
    begin = time.monotonic()
    return api.signup(campaign, f"probe{number}@example.com", expect=None), time.monotonic() - begin


def test_primary_lost_standby_promoted(pair, make_env):
    """All that was acknowledged is on the standby; the process finds the new primary by itself, by its DATABASE_URL."""
    env = make_env(postgres=pair, settings=SETTINGS)
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    with Load(api, campaigns, 8) as load:
        load.wait_acknowledged(300)
        killed = time.monotonic()
        pair.kill9()
        service.wait_not_ready()
        for number in range(5):  # what comes now is refused at once, with nothing done
            answer, seconds = probe(api, campaigns[0], number)
            assert (answer.status, answer.problem) == (503, "database-unavailable") and seconds < 1 * SLOWNESS, answer.text
            assert "retry-after" in answer.headers
        pair.standby.promote()
        promoted = time.monotonic()
        load.wait_acknowledged(1, 30)
        say("standby promoted; sign-ups again after", promoted)
        service.wait_ready(30)
        say("standby promoted; ready, relay included, after", promoted)
        load.wait_acknowledged(300, 30)
    assert_users(env, load)
    assert p99(load.between(killed)) < 1 * SLOWNESS, load.statuses
    print(f"    longest time without a sign-up: {longest_silence(load.samples, killed, time.monotonic()):.1f} s")
    wait_until(lambda: lag(service) == 0, 30, "all is in Kafka")
    assert service.metric("tidings_relay_alarm") == 0, service.ready()


def test_primary_hangs_standby_promoted(pair, make_env):
    """As with a machine whose disk hangs: connections stay open and say nothing. They are given up after DB_STALL_MS."""
    env = make_env(postgres=pair, settings={**SETTINGS, "DB_STALL_MS": 1000, "DB_CONNECT_TIMEOUT_SECONDS": 2})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    with Load(api, campaigns, 8) as load:
        load.wait_acknowledged(200)
        pair.pause()
        time.sleep(2)
        pair.standby.promote()
        promoted = time.monotonic()
        load.wait_acknowledged(1, 40)
        say("standby promoted; sign-ups again after", promoted)
        # The old one is fenced: it must not come back as a second primary.
        pair.kill9()
        load.wait_acknowledged(200, 30)
    assert_users(env, load)
    service.wait_ready(30)
    wait_until(lambda: lag(service) == 0, 30, "all is in Kafka")
    assert service.metric("tidings_relay_alarm") == 0, service.ready()


def test_standby_away(pair, make_env):
    """No commit counts: after the first ones, which cannot know, actions are refused at once with nothing done. Reads go on.
    Sessions that wait for the standby in vain do not pile up."""
    env = make_env(postgres=pair, settings={**SETTINGS, "DB_STALL_MS": 1000, "HTTP_ANSWER_TIMEOUT_MS": 4000})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    slowest = 0
    with Load(api, campaigns, 8) as load, pair.connect_primary(env.database) as db:
        load.wait_acknowledged(100)
        pair.standby.pause()
        away = time.monotonic()
        refused = wait_until(lambda: load.statuses.get((503, "database-unavailable")), 20, lambda: f"refusals; {load.statuses}")
        settled = time.monotonic()
        while time.monotonic() < away + 22:
            begin = time.monotonic()
            api.get_campaign(campaigns[0])
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.05)
        waiting = db.execute("select extract(epoch from clock_timestamp() - query_start), application_name, query"
                             " from pg_stat_activity where wait_event = 'SyncRep'").fetchall()
        end = time.monotonic()
        pair.standby.resume()
        back = time.monotonic()
        load.wait_acknowledged(1, 30)
        say("standby back; sign-ups again after", back)
        load.wait_acknowledged(100, 30)
    samples = load.between(settled, end)
    print(f"    while it was away: {len(waiting)} sessions waited for it at last; {len(samples)} answers, p99 {p99(samples):.2f} s; the"
          f" slowest read {slowest:.2f} s; the first refusal after {settled - away:.1f} s ({refused}); {load.statuses}")
    assert p99(samples) < 1 * SLOWNESS and slowest < 1 * SLOWNESS
    assert waiting and all(seconds < 17 for seconds, *_ in waiting), waiting
    assert_users(env, load)
    service.wait_ready(30)
    assert service.metric("tidings_relay_alarm") == 0, service.ready()


def test_standby_away_with_groups_and_changes(pair, make_env):
    """What writes besides the lanes: workers, and small changes over HTTP. Their sessions do not pile up either, and reads do not wait
    behind them."""
    env = make_env(postgres=pair, settings={"DB_STALL_MS": 1000, "MAIL_TRANSPORT": "discard", "WORKER_DB_CONNECTIONS": 4})
    service = env.start()
    api = env.api()
    campaigns = campaigns_of(api)
    hook = api.request("POST", "/v1/webhooks", {"url": "https://hooks.example.com/x"}).expect(201)["webhook_id"]
    statuses, slowest = {}, 0
    with Load(api, campaigns, 4) as load, pair.connect_primary(env.database) as db:
        load.wait_acknowledged(50)
        pair.standby.pause()
        end = time.monotonic() + 25
        while time.monotonic() < end:
            changed = api.request("PATCH", f"/v1/webhooks/{hook}", {"description": unique()})
            kind = (changed.status, changed.problem)
            statuses[kind] = statuses.get(kind, 0) + 1
            begin = time.monotonic()
            api.get_campaign(campaigns[0])
            slowest = max(slowest, time.monotonic() - begin)
            time.sleep(0.1)
        waiting = db.execute("select application_name, left(query, 60) from pg_stat_activity where datname = current_database()"
                             " and wait_event = 'SyncRep'").fetchall()
        pair.standby.resume()
        load.wait_acknowledged(20, 30)
    print(f"\n    {len(waiting)} sessions waited at last; changes: {statuses}; the slowest read {slowest:.2f} s")
    # Of each worker's connection one, of the changes' one or two, of lanes and relay, and those that look whether it is back.
    assert len(waiting) <= 4 + 8, waiting
    assert slowest < 1 * SLOWNESS
    assert set(statuses) <= {(200, None), (503, "outcome-unknown"), (503, "database-unavailable")}, statuses
    assert_users(env, load)
    service.wait_ready(30)
    wait_until(lambda: api.request("PATCH", f"/v1/webhooks/{hook}", {"description": "back"}).status == 200, 20, "changes go on")


# --- a commit whose wait for the standby was ended --------------------------------------------------------------------


def waiting_for_standby(pair, env):
    """Sessions of lanes that do; asked in a session that does not."""
    with pair.connect_primary(env.database) as db:
        return [row[0] for row in db.execute("select pid from pg_stat_activity where datname = current_database()"
                                             " and wait_event = 'SyncRep' and query like '%%lane_%%'").fetchall()]


def end_wait(pair, env, function):
    """By an administrator, say."""
    pids = wait_until(lambda: waiting_for_standby(pair, env), 10, "a commit waits for the standby")
    with pair.connect_primary(env.database) as db:
        db.execute(f"select {function}(pid) from unnest(%s::int[]) pid", (pids,))


def unreplicated(service):
    return service.metric("tidings_lane_errors_total", **{"class": "unreplicated"})


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_wait_for_standby_ended(pair, make_env, function):
    """Postgres then lets the commit be seen, though nobody else has it. That is no success: it is answered when the standby
    has it, or as unknown; and what the promoted standby lacks was never a 201, nor in Kafka."""
    env = make_env(postgres=pair, settings={**SETTINGS, "HTTP_ANSWER_TIMEOUT_MS": 4000, "RELAY_POLL_MS": 50})
    service = env.start()
    api, other = env.api(), env.api(env.start())
    campaign = api.create_campaign()["campaign_id"]
    keys = iter(range(100))

    def sign_up(email, key=None, api=api):
        return api.signup(campaign, email, expect=None, headers={"Idempotency-Key": key or f"k{next(keys)}"})

    assert sign_up("before@example.com").status == 201
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        # The standby comes back in time: the true answer.
        pair.standby.pause()
        waiting = pool.submit(sign_up, "ada@example.com")
        end_wait(pair, env, function)
        time.sleep(0.5)
        assert not waiting.done(), waiting.result().text
        pair.standby.resume()
        answer = waiting.result()
        assert (answer.status, answer.get("version"), answer.get("events")) == (201, 3, 1), answer.text

        # It does not, and takes over later without that commit.
        wait_until(lambda: service.ready()[0] == 200 and sign_up("ada@example.com").status == 409, 20, "the lane works again")
        pair.standby.stop("immediate")
        waiting = pool.submit(sign_up, "bob@example.com", "bobs-key")
        end_wait(pair, env, function)
        answer = waiting.result()
        assert (answer.status, answer.problem) == (503, "outcome-unknown"), answer.text
    with pair.connect_primary(env.database) as db:
        assert db.execute("select count(*) from tidings.users").fetchone()[0] == 3, "Postgres shows it all the same"
    for host in (api, other):  # the other one's lane is connected, and finds the key
        retry = sign_up("bob@example.com", "bobs-key", host)
        assert retry.status == 503, f"answered from what the standby has not got: {retry.text}"
    if function == "pg_cancel_backend":
        assert unreplicated(service) >= 2, "counted: commits that may be seen here and nowhere else"
    assert len(env.records()) == 3, "what is not replicated is not sent"

    pair.kill9()
    pair.standby.start()
    pair.standby.promote()
    service.wait_ready(30)
    assert env.value("select count(*) from users") == 2
    retry = sign_up("bob@example.com", "bobs-key")
    assert (retry.status, retry["version"]) == (201, 4) and "idempotency-replayed" not in retry.headers, retry.text
    assert service.metric("tidings_relay_alarm") == 0, service.ready()


# --- a failover that loses something ----------------------------------------------------------------------------------


@pytest.mark.no_invariants(reason="Kafka has events that the database has lost")
@pytest.mark.parametrize("when", ["running", "restarted"])
def test_asynchronous_standby_behind(make_pair, make_env, when):
    """Events that are in Kafka are not on the standby that was promoted. Numbers would be given twice: the relay stops with an
    alarm, in the process that saw them and in one that starts afterwards."""
    pair = make_pair("async")
    env = make_env(postgres=pair, settings=SETTINGS)
    service = env.start()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    api.signup(campaign, "kept@example.com")
    wait_until(lambda: lag(service) == 0, 10, "all is in Kafka")
    # Its cursors too: a service that starts begins where they are.
    with env.db() as db:
        at = db.execute("select pg_current_wal_lsn()").fetchone()[0]
        wait_until(lambda: db.execute("select bool_or(replay_lsn >= %s) from pg_stat_replication", (at,)).fetchone()[0], 10,
                   "the standby has all of it")
    pair.standby.kill9()  # paused, it would still get what its socket has taken
    for i in range(5):
        api.signup(campaign, f"lost{i}@example.com")
    wait_until(lambda: len(env.records()) == 7, 10, "all is in Kafka")
    if when == "restarted":
        service.stop()
    pair.kill9()
    pair.standby.start()
    pair.standby.promote()
    if when == "restarted":
        service.start(ready=False).wait_listening()
    wait_until(lambda: service.metric("tidings_relay_alarm") == 1, 30, lambda: f"the alarm; {service.ready()}")
    status, body = service.ready()
    assert status == 503 and "went back in time" in body, body
    assert env.value("select count(*) from users") == 1
    # A second process, and the one after the next crash, notice as well.
    second = env.start(ready=False).wait_listening()
    service.kill9()
    service.start(ready=False).wait_listening()
    for process in (second, service):
        wait_until(lambda: process.metric("tidings_relay_alarm") == 1, 30, lambda: f"the alarm; {process.ready()}")
    for i in range(8):  # whether they are taken or not
        api.signup(campaign, f"after{i}@example.com", expect=None)
    time.sleep(2)
    assert len(env.records()) == 7, "nothing is sent any more"
