"""analytics-workers: counts per campaign and minute, exact in Postgres and, for readers of committed records, in Kafka, whatever
happens on the way."""

import json
import signal

import pytest
from confluent_kafka import Producer

from lib.kafka import hash_class
from lib.load import campaigns_of
from lib.stats import counted, kept, last_values, wait_exact
from lib.util import SLOWNESS, unique, wait_until
from lib.verify import execute, faults_of, run_verify, verify_ok, verify_user


@pytest.fixture
def stats_env(make_env):
    def make(**settings):
        env = make_env(settings={"MAIL_TRANSPORT": "discard", **settings})
        env.settings["STATS_TOPIC"] = f"{env.name}-stats"
        return env

    return make


def total(counts, kind):
    return sum(c.get(kind, 0) for c in counts.values())


def some_events(env, api, campaign, users=6):
    first = api.signup(campaign, f"{unique()}@example.com")
    for _ in range(users - 1):
        user = api.signup(campaign, f"{unique()}@example.com", referral_code=first["referral_code"])
        verify_user(env, api, campaign, user)


def test_counts_in_table_topic_and_answers(stats_env):
    env = stats_env()
    service = env.start()
    api = env.api()
    campaigns = [api.create_campaign()["campaign_id"] for _ in range(3)]
    for campaign in campaigns:
        some_events(env, api, campaign)
    found = wait_exact(env)
    assert total(found, "user.signed_up") == 18 and total(found, "referral.verified") == 15
    for unit in ("minute", "hour", "day"):
        items = api.read_all(f"{campaigns[0]}/stats", resolution=unit)
        mine = [c for key, c in found.items() if key.startswith(campaigns[0])]
        for kind in {k for c in mine for k in c}:
            assert sum(i["counts"].get(kind, 0) for i in items) == sum(c.get(kind, 0) for c in mine), (unit, kind, items)
    minutes = {f"{campaigns[0]}/{i['from']}": i["counts"] for i in api.read_all(f"{campaigns[0]}/stats")}
    assert minutes == {k: c for k, c in found.items() if k.startswith(campaigns[0])}
    assert service.metric("tidings_output_transactions_total", outcome="committed") >= 1
    assert "analytics-workers (1 worker; processes: all events)" in service.log_text()
    verify_sees_what_is_wrong(env, service, campaigns[0])


def verify_sees_what_is_wrong(env, service, campaign):
    report = verify_ok(env, "--wait", "60")["groups"]["analytics-workers"]
    assert report["expected"] == report["found"] == env.value("select count(*) from events") and report["judged"], report
    service.stop()
    minute = env.value("select to_char(minute at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') from campaign_stats s"
                       " join campaigns c on c.no = s.campaign where c.id = %s order by minute limit 1", campaign)
    execute(env, "update campaign_stats set count = count + 1 where campaign = 2 and type = 1")
    many = len({m for m, in env.query("select minute from campaign_stats where campaign = 2 and type = 1")})
    # Neither the events nor the topic say so.
    assert faults_of(run_verify(env)) == {"analytics-workers doubled": 2 * many}
    execute(env, "update campaign_stats set count = count - 1 where campaign = 2 and type = 1")
    verify_ok(env, "--campaign", campaign)
    publish(env, f"{campaign}/{minute}", {"user.signed_up": 1})
    assert faults_of(run_verify(env)) == faults_of(run_verify(env, "--campaign", campaign)) == {"analytics-workers doubled": 1}
    publish(env, f"{campaign}/{minute}", counted(env)[f"{campaign}/{minute}"])
    verify_ok(env)
    publish(env, f"{campaign}/2037-01-01T00:00:00Z", {"user.signed_up": 1})
    assert faults_of(run_verify(env)) == {"analytics-workers doubled": 1}
    publish(env, f"{campaign}/2037-01-01T00:00:00Z", None)
    execute(env, "delete from handled where event_id = (select id from events where aggregate = 1 and version = 1)")
    assert faults_of(run_verify(env)) == {"analytics-workers missing": 1, "analytics-workers doubled": 1}


def publish(env, key, counts):
    campaign, minute = key.split("/")
    value = counts and json.dumps({"campaign_id": campaign, "minute": minute, "counts": counts}, separators=(",", ":"))
    producer = Producer({"bootstrap.servers": env.kafka.brokers, "partitioner": "murmur2_random"})
    producer.produce(env.settings["STATS_TOPIC"], value, key)
    assert producer.flush(20) == 0


@pytest.mark.settings(GROUPS_ENABLED="none")
def test_reading(env, service, api):
    campaign = api.create_campaign()["campaign_id"]
    path = f"{campaign}/stats"
    assert api.read(path).body == {"items": [], "next_cursor": None}
    execute(env, """insert into campaign_stats select 1, timestamptz '2026-01-01T00:00:00Z' + m * interval '1 minute', t, m + t
                    from generate_series(0, 4319) m, unnest(array[1, 2, 99]) t""")
    minute = {"from": "2026-01-01T00:00:00Z", "counts": {"user.signed_up": 1, "user.verified": 2, "type 99": 99}}
    assert api.read(path, limit=1)["items"] == [minute]
    every = api.read_all(path, limit=200)
    assert len(every) == 4320 and every == sorted(every, key=lambda i: i["from"])
    days = api.read_all(path, resolution="day", limit=2)
    assert [d["from"] for d in days] == [f"2026-01-0{n}T00:00:00Z" for n in (1, 2, 3)]
    assert sum(d["counts"]["user.signed_up"] for d in days) == sum(range(1, 4321))
    hours = api.read_all(path, resolution="hour", **{"from": "2026-01-01T05:59:59Z", "to": "2026-01-01T08:00:00Z"})
    assert [h["from"][11:13] for h in hours] == ["05", "06", "07"]  # what they touch is shown whole
    assert hours[0]["counts"]["user.verified"] == sum(range(302, 362))
    assert api.read(path, **{"from": "2026-01-03T23:59:00+00:00"})["items"][0]["from"] == "2026-01-03T23:59:00Z"
    assert api.read(path, to="2026-01-01T00:00:00Z")["items"] == []
    # More rows than a page looks at: it ends early, and says where the next one begins.
    execute(env, """insert into campaign_stats select 1, timestamptz '2026-02-01T00:00:00Z' + m * interval '1 minute', t, 1
                    from generate_series(0, 4319) m, generate_series(20, 39) t""")
    assert len(api.read(path, resolution="day")["items"]) < 6
    assert len(api.read_all(path, resolution="day")) == 6
    for query, field in (({"from": "yesterday"}, "from"), ({"to": "2026-13-01T00:00:00Z"}, "to"), ({"resolution": "week"}, "resolution"),
                         ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"), ({"limit": "201"}, "limit"),
                         ({"cursor": "x"}, "cursor"), ({"since": "1"}, "since")):
        answer = api.read(path, expect=422, **query)
        assert answer["field"] == field, (query, answer.text)
    api.read("01900000-0000-7000-8000-000000000000/stats", expect=404)
    api.read(path, key="publishable", expect=403)


def test_killed_at_every_point(stats_env):
    """Of five processes each dies at another point of its first transaction; when they are back, everything is exact."""
    env = stats_env()
    env.start(GROUPS_ENABLED="none")  # takes the requests, and relays when the others are gone
    api = env.api()
    points = ("applied", "begun", "produced", "offsets", "committed")
    dying = [env.start(ready=False, GROUPS_ENABLED="analytics-workers", TIDINGS_BREAK=f"die-{point}") for point in points]
    for service in dying:
        service.wait_ready()
    wait_until(lambda: all(s.metric("tidings_group_partitions") == 2 for s in dying), 30,
               lambda: f"each has two partitions: {[s.metric('tidings_group_partitions') for s in dying]}")
    campaigns = []
    while len({hash_class(c, 10) for c in campaigns}) < 10:  # so that each of them has something to do
        campaigns.append(api.create_campaign()["campaign_id"])
    for service, point in zip(dying, points):
        wait_until(lambda: not service.running(), 20, f"the one that dies {point} is dead")
        assert service.process.returncode == -signal.SIGKILL
    for service in dying:
        service.start(ready=False, TIDINGS_BREAK=None)
    for campaign in campaigns[:8]:
        some_events(env, api, campaign, 2)
    wait_exact(env, 40)
    assert env.value("select count(*) from handled where grp = 'analytics-workers'") == env.value("select count(*) from events")


def test_a_process_that_hangs_is_fenced(stats_env):
    """It stands still in a transaction, with counts that another process makes larger once it has the partitions. What it does
    then comes to nothing, and it takes part again."""
    env = stats_env(GROUPS_ENABLED="analytics-workers")
    first, second = env.start(ready=False, TIDINGS_BREAK="hang-begun"), env.start(ready=False)
    for service in (first, second):
        service.wait_ready()
    api = env.api(second)
    wait_until(lambda: [s.metric("tidings_group_partitions") for s in (first, second)] == [5, 5], 30, "each has half of the partitions")
    campaigns = campaigns_of(api)
    while not stands_still(first):
        campaigns.append(api.create_campaign()["campaign_id"])
    wait_until(lambda: second.metric("tidings_group_partitions") == 10, 30, "the other has all", 0.2)
    for campaign in campaigns:
        some_events(env, api, campaign, 2)
    wait_exact(env, 30)
    first.resume()
    wait_until(lambda: first.metric("tidings_output_transactions_total", outcome="failed") >= 1, 30, "its transaction has failed")
    wait_exact(env, 30)
    wait_until(lambda: [s.metric("tidings_group_partitions") for s in (first, second)] == [5, 5], 30, "each has half of the partitions")
    for campaign in campaigns:
        api.signup(campaign, f"{unique()}@example.com")
    wait_exact(env, 30)


def stands_still(service):
    with open(f"/proc/{service.pid}/stat") as file:
        return file.read().rsplit(")", 1)[1].split()[0] == "T"


def test_rebalances_under_load(stats_env):
    env = stats_env()
    first = env.start()
    api = env.api(first)
    campaigns = campaigns_of(api)
    second = env.start(GROUPS_ENABLED="analytics-workers")
    for _ in range(2):
        for campaign in campaigns:
            api.signup(campaign, f"{unique()}@example.com")
        second.stop()
        for campaign in campaigns:
            api.signup(campaign, f"{unique()}@example.com")
        second.start()
    wait_exact(env, 30)


def test_broker_away_and_back(own_kafka, make_env):
    env = make_env(settings={"MAIL_TRANSPORT": "discard", "GROUPS_ENABLED": "analytics-workers"}, kafka=own_kafka)
    env.settings["STATS_TOPIC"] = f"{env.name}-stats"
    service = env.start().wait_keys_stay()
    api = env.api()
    campaign = api.create_campaign()["campaign_id"]
    some_events(env, api, campaign)
    wait_exact(env)
    own_kafka.pause()
    some_events(env, api, campaign)
    wait_until(lambda: service.metric("tidings_cache_invalidations_live") == 0, 20, "the service takes the broker for lost")
    own_kafka.resume()
    some_events(env, api, campaign)
    wait_exact(env, 40)
    assert service.running() and counted(env) == kept(env)


def test_deleted_campaigns_go(stats_env):
    env = stats_env(UPKEEP_INTERVAL_MS=100, PURGE_DELAY_SECONDS=3600)
    service = env.start()
    api = env.api()
    kept_one, gone = (api.create_campaign()["campaign_id"] for _ in range(2))
    for campaign in (kept_one, gone):
        some_events(env, api, campaign)
    wait_exact(env)
    api.close_campaign(gone)
    api.delete_campaign(gone)
    api.read(f"{gone}/stats", expect=404)
    found = wait_exact(env)  # the topic has tombstones for it
    assert found and all(key.startswith(kept_one) for key in found)
    service.restart(PURGE_DELAY_SECONDS=0)
    wait_until(lambda: env.value("select count(*) from campaign_stats s join campaigns c on c.no = s.campaign where c.id = %s", gone) == 0,
               20, "the rows are purged", 0.1)


MINUTES = 400_000 // SLOWNESS  # nine months
RECORDS_MAX = 12_000  # of one transaction, when they are tombstones


def test_a_campaign_that_lived_long_is_deleted(stats_env):
    """All its minutes leave the topic, in transactions of a bounded size, with little in memory, although the process dies in the
    middle; other campaigns' counts go on meanwhile, and so does the loop."""
    env = stats_env(GROUPS_ENABLED="analytics-workers", PURGE_DELAY_SECONDS=3600)
    service = env.start()
    api = env.api()
    other, gone = (api.create_campaign()["campaign_id"] for _ in range(2))
    for campaign in (other, gone):
        some_events(env, api, campaign, 2)
    minutes = set(wait_exact(env))
    execute(env, """insert into campaign_stats select c.no, timestamptz '2020-01-01T00:00:00Z' + m * interval '1 minute', t, 1
                    from campaigns c, generate_series(0, %s) m, generate_series(1, 1 + (m %% 2)) t where c.id = %s""", MINUTES - 1, gone)
    api.close_campaign(gone)
    api.delete_campaign(gone)
    wait_until(lambda: service.metric("tidings_output_records_total") >= MINUTES / 20, 30, "some have gone")
    service.kill9()
    service.start()
    before, waiting, memory = service.metrics(), 0, service.rss_bytes()

    def all_went():
        nonlocal waiting
        now = service.metric("tidings_output_waiting_records")
        waiting = max(waiting, now)
        return not now and env.value(
            """select count(*) from handled h join events e on e.id = h.event_id where e.type = 10 and h.grp = 'analytics-workers'""")

    api = env.api()
    api.signup(other, f"{unique()}@example.com")
    wait_until(all_went, 60, "the deletion is handled", 0.05)
    memory = service.rss_bytes() - memory
    api.signup(other, f"{unique()}@example.com")
    wait_exact(env, 40)
    after = service.metrics()
    name = 'tidings_loop_lag_seconds'
    in_time = next(k for k in after if k.startswith(f"{name}_bucket") and 'le="2"' in k)
    count, good = (after[k] - before.get(k, 0) for k in (f"{name}_count", in_time))
    sent, transactions = (sum(after[k] for k in after if k.startswith(f"tidings_output_{k2}"))
                          for k2 in ("records_total", "transactions_total"))
    print(f"\n    {sent:.0f} records in {transactions:.0f} transactions; at most {waiting:.0f} waited; {memory / 1e6:.0f} MB more")
    assert count == good, "the loop never stood for seconds"
    assert sent >= MINUTES and sent / transactions < RECORDS_MAX
    assert waiting < 100_000
    assert SLOWNESS > 1 or memory < 80_000_000  # a sanitizer keeps what was freed
    values = last_values(env)
    ours = {k for k, v in values.items() if k.startswith(gone)}
    assert len(ours) >= MINUTES and all(values[k] is None for k in ours)
    assert {k for k in minutes if k.startswith(gone)} <= ours



def test_a_deletion_that_was_a_dead_letter(stats_env):
    """Its record comes from Postgres, which does not say how far it is: it goes from page to page all the same."""
    env = stats_env(GROUPS_ENABLED="analytics-workers", PURGE_DELAY_SECONDS=3600)
    service = env.start()
    api = env.api()
    gone = api.create_campaign()["campaign_id"]
    api.close_campaign(gone)
    api.delete_campaign(gone)
    wait_exact(env)
    record = next(r for r in env.records() if json.loads(r.value)["type"] == "campaign.deleted")
    execute(env, """insert into campaign_stats select no, timestamptz '2020-01-01T00:00:00Z' + m * interval '1 minute', 1, 1
                    from campaigns, generate_series(0, 11999) m""")
    execute(env, """insert into dead_letters (grp, state, topic, partition, "offset", key, value, event_id, type, reason, attempts, next_at)
                    values ('analytics-workers', 'retry', %s, %s, %s, %s, %s, %s, 'campaign.deleted', 'a test', 0, now())""",
            env.settings["KAFKA_TOPIC"], record.partition, record.offset, record.key, record.value, json.loads(record.value)["id"])
    wait_until(lambda: not env.value("select count(*) from dead_letters"), 20, lambda: f"it is done: {env.query('select state, reason from dead_letters')}")
    wait_until(lambda: service.metric("tidings_output_records_total") >= 12000, 20, "all went to Kafka")
    wait_until(lambda: sum(k.startswith(f"{gone}/2020-") for k in last_values(env)) == 12000, 20, "a null value for each minute", 0.2)
    assert not any(last_values(env).values())
